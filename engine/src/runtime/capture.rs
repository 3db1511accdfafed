//! `omni capture`: one at a time, from its beginning to its end.
//!
//! ```text
//!  control socket --request--> begin: the ring, workers are told
//!       |                        |
//!       +--> a thread takes from the ring and writes pcapng to the connection
//!                                |
//!            end: workers are told, and the log has it
//! ```
//!
//! It ends with its connection, its count or its time.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use omni_control::message::{PeerId, PortId};
use omni_wire::Now;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Node;
use crate::capture::pcapng::{Packet, Writer};
use crate::capture::{CaptureBegun, CaptureRequest, Captured, Direction, Place, Ring, Wanted};
use crate::clock;
use crate::datapath::TableCommand;
use crate::io::Port;
use crate::switch::Audience;

/// How long the thread sleeps when nothing was captured.
const PAUSE: Duration = Duration::from_millis(5);
/// How long it waits for a reader that takes nothing before it looks at the time.
const PATIENCE: Duration = Duration::from_secs(1);
/// Frames taken before it looks at the time again.
const BURST: usize = 256;
/// The longest that one may be asked to run, in seconds.
const DAY: u64 = 86_400;
/// Octets of a comment at most: names are not bounded by the format.
const COMMENT_MAX: usize = 1024;

/// What is called how in a capture.
#[derive(Debug, Default)]
struct Names {
    node: String,
    underlay: String,
    ports: Vec<String>,
    /// Name and public key.
    peers: BTreeMap<PeerId, (String, String)>,
}

impl Names {
    fn peer(&self, id: PeerId) -> String {
        match self.peers.get(&id) {
            Some((name, _)) => name.clone(),
            // It became one while the capture was running.
            None => format!("peer {}", id.0),
        }
    }

    /// Name and description of an interface.
    fn interface(&self, place: Place) -> (String, String) {
        match place {
            Place::Underlay => (
                self.underlay.clone(),
                format!("{}: sealed messages at the underlay", self.node),
            ),
            Place::Port(PortId(port)) => {
                let name = self.ports.get(usize::from(port));
                let name = name.map_or("?", String::as_str);
                let what = format!("{}: frames of hosts at an access port", self.node);
                (name.to_owned(), what)
            }
            Place::Peer(id) => {
                let key = self.peers.get(&id).map_or("", |(_, key)| key);
                let what = format!("{}: frames in the session with {key}", self.node);
                (format!("peer:{}", self.peer(id)), what)
            }
        }
    }

    /// What is said of a frame.
    fn comment(&self, frame: &Captured) -> String {
        let whose = match (frame.place, frame.peer) {
            (Place::Port(_), _) => "hosts".to_owned(),
            (_, Some(peer)) => self.peer(peer),
            (_, None) => "unknown".to_owned(),
        };
        let way = match frame.direction {
            Direction::In => "from",
            Direction::Out => "to",
        };
        let mut comment = format!("{way} {whose}");
        if let Some(reason) = frame.drop {
            comment += &format!(
                "; dropped: {} ({})",
                reason.as_str(),
                reason.describe().trim().trim_end_matches('.')
            );
        }
        if comment.len() > COMMENT_MAX {
            comment = comment.chars().take(COMMENT_MAX / 4).collect();
        }
        comment
    }
}

/// A capture that has begun.
#[derive(Debug)]
pub(super) struct Session {
    ring: Arc<Ring>,
    names: Names,
    began: Now,
    snaplen: u32,
    count: Option<u64>,
    span: Option<Duration>,
}

/// How one ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ended {
    frames: u64,
    why: &'static str,
}

impl Ended {
    /// Before it wrote anything.
    pub(super) const UNSEEN: Self = Self {
        frames: 0,
        why: "nobody listened",
    };
}

impl Session {
    /// The line that it begins with.
    pub(super) fn first_line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(&CaptureBegun {
            capturing: self.names.node.clone(),
        })?;
        line.push(b'\n');
        Ok(line)
    }

    /// Writes to a connection, on a thread of its own, until the end.
    pub(super) async fn run(self, stream: UnixStream) -> Ended {
        let (tell, told) = oneshot::channel();
        let spawned = thread::Builder::new()
            .name("omni-capture".to_owned())
            .spawn(move || {
                // Who waits for it may be gone with the node.
                let _ = tell.send(self.write(stream));
            });
        match spawned {
            Ok(_) => told.await.unwrap_or(Ended::UNSEEN),
            Err(error) => {
                warn!(%error, "cannot start a capture's thread");
                Ended::UNSEEN
            }
        }
    }

    fn write(&self, stream: UnixStream) -> Ended {
        let until = self.span.map(|span| std::time::Instant::now() + span);
        let mut output = Output {
            names: &self.names,
            began: self.began,
            snaplen: self.snaplen,
            interfaces: BTreeMap::new(),
            frames: 0,
        };
        let why = match output.follow(self, stream, until) {
            Ok(why) => why,
            Err(error) if error.kind() == ErrorKind::TimedOut => "its time was over",
            Err(error) if error.kind() == ErrorKind::BrokenPipe => "its reader went away",
            Err(_) => "its reader cannot be written to",
        };
        self.ring.close();
        Ended {
            frames: output.frames,
            why,
        }
    }
}

/// A file that is being written.
struct Output<'a> {
    names: &'a Names,
    began: Now,
    snaplen: u32,
    /// Number of each, and frames in it.
    interfaces: BTreeMap<Place, (u32, u64)>,
    frames: u64,
}

impl Output<'_> {
    fn follow(
        &mut self,
        session: &Session,
        stream: UnixStream,
        until: Option<std::time::Instant>,
    ) -> io::Result<&'static str> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut reader = stream.try_clone()?;
        let patient = Patient { stream, until };
        let program = concat!("omni-engine ", env!("CARGO_PKG_VERSION"));
        let mut writer = Writer::new(BufWriter::with_capacity(1 << 16, patient), program)?;
        writer.flush()?;
        let ring = &session.ring;
        let why = loop {
            let mut taken = 0;
            while taken < BURST
                && session.count.is_none_or(|count| self.frames < count)
                && let Some(frame) = ring.take()
            {
                taken += 1;
                self.frame(&mut writer, &frame)?;
            }
            if session.count.is_some_and(|count| self.frames >= count) {
                break "it has its frames";
            }
            if until.is_some_and(|until| std::time::Instant::now() >= until) {
                break "its time was over";
            }
            if taken < BURST {
                writer.flush()?;
            }
            let pause = if taken == 0 { PAUSE } else { Duration::ZERO };
            if is_left(&mut reader, pause)? {
                break "its reader had enough";
            }
        };
        ring.close();
        while session.count.is_none_or(|count| self.frames < count)
            && let Some(frame) = ring.take()
        {
            self.frame(&mut writer, &frame)?;
        }
        self.statistics(&mut writer, ring)?;
        writer.flush()?;
        Ok(why)
    }

    fn frame(&mut self, writer: &mut Writer<impl Write>, frame: &Captured) -> io::Result<()> {
        let interface = self.interface(writer, frame.place)?;
        let packet = Packet {
            interface,
            at: self.wall(frame.at.0),
            octets: &frame.octets,
            len: frame.len,
            inbound: frame.direction == Direction::In,
            comment: &self.names.comment(frame),
        };
        writer.packet(packet)?;
        self.frames += 1;
        if let Some((_, frames)) = self.interfaces.get_mut(&frame.place) {
            *frames += 1;
        }
        Ok(())
    }

    /// The number of a place, which is described before its first frame.
    fn interface(&mut self, writer: &mut Writer<impl Write>, place: Place) -> io::Result<u32> {
        if let Some(&(number, _)) = self.interfaces.get(&place) {
            return Ok(number);
        }
        let number = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        let (name, description) = self.names.interface(place);
        writer.interface(&name, &description, self.snaplen)?;
        self.interfaces.insert(place, (number, 0));
        Ok(number)
    }

    fn statistics(&mut self, writer: &mut Writer<impl Write>, ring: &Ring) -> io::Result<()> {
        let at = self.wall(clock::instant().0);
        // What was lost where nothing was seen is told where the first frame was.
        let mut strays = ring.all_lost();
        for &place in self.interfaces.keys() {
            strays = strays.saturating_sub(ring.lost(place));
        }
        for (&place, &(number, frames)) in &self.interfaces {
            let lost = ring.lost(place) + if number == 0 { strays } else { 0 };
            writer.statistics(number, at, frames + lost, lost)?;
        }
        Ok(())
    }

    /// A monotonic time on the wall's clock, as both were at the beginning.
    fn wall(&self, instant: u64) -> u64 {
        let Now {
            instant: then,
            wall,
        } = self.began;
        wall.0.saturating_add(instant).saturating_sub(then.0)
    }
}

/// Whether whoever reads has gone, or says that it is enough by saying no more; waits so long.
fn is_left(reader: &mut UnixStream, pause: Duration) -> io::Result<bool> {
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: pause.subsec_nanos().into(),
    };
    let mut polled = [PollFd::new(reader, PollFlags::IN)];
    match poll(&mut polled, Some(&pause)) {
        Ok(0) => return Ok(false),
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    // Nothing more is expected: what is said means nothing.
    match reader.read(&mut [0; 64]) {
        Ok(0) => Ok(true),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits for a reader that takes nothing: as long as it is there and there is time.
#[derive(Debug)]
struct Patient {
    stream: UnixStream,
    until: Option<std::time::Instant>,
}

impl Write for Patient {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(octets) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if self
                        .until
                        .is_some_and(|at| std::time::Instant::now() >= at + PATIENCE)
                    {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Node {
    /// Begins a capture for whoever asks.
    ///
    /// # Errors
    /// What is wrong with the request, in words for the operator.
    pub(super) fn begin_capture(
        &mut self,
        request: &CaptureRequest,
        who: &str,
    ) -> Result<Session, String> {
        if self.capture.is_some() {
            return Err("a capture is running: one at a time".to_owned());
        }
        if !request.inner && !request.outer && !request.drops {
            return Err("nothing is to be captured".to_owned());
        }
        let peer = match &request.peer {
            Some(peer) => Some(self.find_peer(peer)?.id),
            None => None,
        };
        let wanted = Wanted {
            inner: request.inner,
            outer: request.outer,
            drops: request.drops,
            peer,
            vlan: request.vlan,
            snaplen: request.snaplen.max(1) as usize,
        };
        let names = self.names();
        let peers = names.peers.keys().next_back();
        let peers = peers.map_or(0, |last| usize::from(last.0) + 1);
        let ring = Arc::new(Ring::new(wanted, names.ports.len(), peers));
        self.capture = Some(Arc::clone(&ring));
        self.tell(Audience::All, TableCommand::SetTap(Some(Arc::clone(&ring))));
        warn!(
            who,
            inner = request.inner,
            outer = request.outer,
            drops = request.drops,
            peer = request.peer,
            vlan = request.vlan,
            "a capture begins: who asked reads what goes through"
        );
        Ok(Session {
            ring,
            names,
            began: clock::now(),
            snaplen: request.snaplen,
            count: request.count,
            span: request
                .seconds
                .map(|seconds| Duration::from_secs(seconds.min(DAY))),
        })
    }

    /// Ends the capture.
    pub(super) fn end_capture(&mut self, ended: Ended) {
        let Some(ring) = self.capture.take() else {
            return;
        };
        ring.close();
        self.tell(Audience::All, TableCommand::SetTap(None));
        let Ended { frames, why } = ended;
        info!(frames, lost = ring.all_lost(), why, "the capture has ended");
    }

    fn names(&self) -> Names {
        let peers = self.plane.ganglion.peers();
        Names {
            node: self.config.node.name.clone(),
            underlay: self.ports.name_of(Port::Underlay).to_owned(),
            ports: self
                .ports
                .access_ids()
                .map(|port| self.ports.access_name(port).to_owned())
                .collect(),
            peers: peers
                .map(|peer| {
                    let name = self.peer_name(peer.id).to_owned();
                    (peer.id, (name, peer.public_key.to_string()))
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use omni_wire::{DropReason, Instant, WallTime};

    use super::*;
    use crate::capture::Seen;
    use crate::capture::pcapng::Block;

    const BETA: PeerId = PeerId(3);

    fn session(count: Option<u64>, span: Option<Duration>) -> Session {
        let wanted = Wanted {
            inner: true,
            outer: false,
            drops: false,
            peer: None,
            vlan: None,
            snaplen: 100,
        };
        Session {
            ring: Arc::new(Ring::new(wanted, 1, 4)),
            names: Names {
                node: "a".to_owned(),
                ports: vec!["omni0".to_owned()],
                peers: BTreeMap::from([(BETA, ("beta".to_owned(), "KEY=".to_owned()))]),
                ..Names::default()
            },
            began: Now {
                instant: Instant(1_000),
                wall: WallTime(5_000_000_000),
            },
            snaplen: 100,
            count,
            span,
        }
    }

    fn offer(session: &Session, drop: Option<DropReason>) {
        session.ring.offer(&Seen {
            at: Instant(1_500),
            place: Place::Peer(BETA),
            direction: Direction::Out,
            peer: Some(BETA),
            drop,
            untagged: 0,
            octets: &[7; 60],
            len: 60,
        });
    }

    fn blocks(mut stream: UnixStream) -> Vec<Block> {
        let read = || Block::read(&mut stream).expect("a block");
        std::iter::from_fn(read).collect()
    }

    #[test]
    fn a_capture_ends_with_its_count_and_says_what_was_dropped_and_why() {
        let session = session(Some(2), None);
        offer(&session, None);
        offer(&session, Some(DropReason::NoEndpoint));
        offer(&session, None);
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let ended = session.write(ours);
        assert_eq!((ended.frames, ended.why), (2, "it has its frames"));
        let blocks = blocks(theirs);
        let comments: Vec<String> = blocks.iter().filter_map(Block::comment).collect();
        assert_eq!(comments[0], "to beta");
        assert!(
            comments[1].starts_with("to beta; dropped: no_endpoint ("),
            "{comments:?}"
        );
        assert_eq!(
            (comments.len(), blocks.last().and_then(Block::lost)),
            (2, Some(0))
        );
        offer(&session, None);
        assert_eq!(
            session.ring.all_lost(),
            0,
            "it is closed, and copies nothing"
        );
    }

    #[test]
    fn a_capture_ends_when_its_reader_had_enough_or_is_gone_or_its_time_is_over() {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        theirs
            .shutdown(std::net::Shutdown::Write)
            .expect("a socket");
        assert_eq!(session(None, None).write(ours).why, "its reader had enough");
        // That it may have more to read is no reason to stay.
        assert!(blocks(theirs).len() == 1);
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        drop(theirs);
        assert_eq!(session(None, None).write(ours).why, "its reader went away");
        let (ours, _theirs) = UnixStream::pair().expect("sockets");
        let short = session(None, Some(Duration::from_millis(20)));
        assert_eq!(short.write(ours).why, "its time was over");
    }

    #[test]
    fn time_is_the_walls() {
        let session = session(None, None);
        let output = Output {
            names: &session.names,
            began: session.began,
            snaplen: 0,
            interfaces: BTreeMap::new(),
            frames: 0,
        };
        assert_eq!(output.wall(1_500), 5_000_000_500);
    }
}
