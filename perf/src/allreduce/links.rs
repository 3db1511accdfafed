//! Connections to the ranks that a plan needs: one for each pair, which the higher rank opens.
//!
//! ```text
//!  magic    rank      setup
//!  [0..8]   [8..12]   [12..20]      little endian; both say it, who connects first
//! ```

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Failure;

/// What a rank says first, so that nobody else is taken for one.
const MAGIC: [u8; 8] = *b"omni-ar1";
/// Octets of what ranks say first.
const HELLO_LEN: usize = 20;
/// The rest after a peer refused a connection: it has not begun yet.
const REST: Duration = Duration::from_millis(20);
/// The longest that connecting is left alone. The kernel asks ever less often, and a fabric that
/// just came up would be asked late.
const TRY: Duration = Duration::from_secs(1);
/// Who connects says who it is within this.
const HELLO_TIME: Duration = Duration::from_secs(5);

/// Who this rank is, and where the others are.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// This rank.
    pub(super) rank: usize,
    /// Where each rank listens.
    pub(super) addresses: &'a [SocketAddr],
    /// Stands for all that the ranks have to agree on.
    pub(super) setup: u64,
    /// How long the others have to appear.
    pub(super) timeout: Duration,
}

/// Connections by rank; none to ranks that are not needed.
pub(super) type Links = Vec<Option<TcpStream>>;

impl Place<'_> {
    /// Connects with all `peers`. Lower ones are connected to, higher ones connect; as rank 0 only
    /// waits, and each rank for lower ones only, nobody waits in a circle.
    ///
    /// # Errors
    /// When a peer does not answer in time or does something else; it is named.
    pub(super) fn connect(
        &self,
        listener: &TcpListener,
        peers: &BTreeSet<usize>,
    ) -> Result<Links, Failure> {
        let end = Instant::now() + self.timeout;
        let mut links: Links = self.addresses.iter().map(|_| None).collect();
        for &peer in peers.range(..self.rank) {
            links[peer] = Some(self.reach(peer, end)?);
        }
        let mut missing: BTreeSet<usize> = peers.range(self.rank + 1..).copied().collect();
        listener.set_nonblocking(true)?;
        while !missing.is_empty() {
            let Some(stream) = accept(listener, end)? else {
                let (missing, seconds) = (list(&missing), self.timeout.as_secs_f64());
                return Err(format!("{missing} did not connect within {seconds} s").into());
            };
            if let Some((peer, stream)) = self.welcome(stream)? {
                if !missing.remove(&peer) {
                    return Err(format!("rank {peer} connected twice, or was not to").into());
                }
                links[peer] = Some(stream);
            }
        }
        for stream in links.iter().flatten() {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
        }
        Ok(links)
    }

    fn reach(&self, peer: usize, end: Instant) -> Result<TcpStream, Failure> {
        let address = self.addresses[peer];
        let named = |error: &dyn std::fmt::Display| {
            Failure::from(format!("rank {peer} at {address} did not answer: {error}"))
        };
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let patience = left.clamp(Duration::from_millis(1), TRY);
            let tried = TcpStream::connect_timeout(&address, patience);
            match tried {
                // On one machine, a port that nobody listens at can be given to who connects.
                Ok(stream) if stream.local_addr()? == address => {}
                Ok(mut stream) => {
                    let left = end.saturating_duration_since(Instant::now());
                    stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
                    let said = stream.write_all(&self.hello());
                    let answer = said.and_then(|()| read_hello(&mut stream));
                    let answer = answer.map_err(|error| named(&error))?;
                    self.check(answer, Some(peer))?;
                    return Ok(stream);
                }
                Err(error) if left.is_zero() => return Err(named(&error)),
                Err(_) => {}
            }
            thread::sleep(REST);
        }
    }

    /// Hears who connected; `None` when that is no rank of any run.
    fn welcome(&self, mut stream: TcpStream) -> Result<Option<(usize, TcpStream)>, Failure> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(HELLO_TIME))?;
        let Ok(hello) = read_hello(&mut stream) else {
            return Ok(None);
        };
        // It is told who this is even where it is refused, so that both say the same.
        if stream.write_all(&self.hello()).is_err() {
            return Ok(None);
        }
        Ok(self.check(hello, None)?.map(|peer| (peer, stream)))
    }

    fn hello(&self) -> [u8; HELLO_LEN] {
        let mut hello = [0; HELLO_LEN];
        hello[..8].copy_from_slice(&MAGIC);
        hello[8..12].copy_from_slice(&(self.rank as u32).to_le_bytes());
        hello[12..].copy_from_slice(&self.setup.to_le_bytes());
        hello
    }

    /// Which rank said this; `None` when it was none.
    fn check(
        &self,
        hello: [u8; HELLO_LEN],
        wanted: Option<usize>,
    ) -> Result<Option<usize>, Failure> {
        let (Some((magic, rest)), Some(setup)) = (
            hello.split_first_chunk::<8>(),
            hello
                .last_chunk::<8>()
                .map(|setup| u64::from_le_bytes(*setup)),
        ) else {
            return Ok(None);
        };
        let rank = rest.first_chunk().map(|rank| u32::from_le_bytes(*rank));
        match (magic == &MAGIC, rank.map(|rank| rank as usize), wanted) {
            (true, Some(rank), _) if setup != self.setup => {
                Err(format!("rank {rank} was started with other arguments").into())
            }
            (true, Some(rank), None) => Ok(Some(rank)),
            (true, Some(rank), Some(wanted)) if rank == wanted => Ok(Some(rank)),
            (true, Some(rank), Some(wanted)) => {
                Err(format!("rank {rank} answers where rank {wanted} should be").into())
            }
            (_, _, Some(wanted)) => Err(format!("what answers for rank {wanted} is none").into()),
            (_, _, None) => Ok(None),
        }
    }
}

fn read_hello(stream: &mut TcpStream) -> io::Result<[u8; HELLO_LEN]> {
    let mut hello = [0; HELLO_LEN];
    stream.read_exact(&mut hello)?;
    Ok(hello)
}

/// The next who connects, if one does before the end.
fn accept(listener: &TcpListener, end: Instant) -> io::Result<Option<TcpStream>> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => return Ok(Some(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ranks as words.
pub(super) fn list(ranks: &BTreeSet<usize>) -> String {
    let numbers: Vec<String> = ranks.iter().map(ToString::to_string).collect();
    match numbers.as_slice() {
        [one] => format!("rank {one}"),
        many => format!("ranks {}", many.join(", ")),
    }
}
