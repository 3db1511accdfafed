//! A channel to the Nucleus on its stream.
//!
//! Nothing here waits for one direction alone: who only writes to a Nucleus that waits to be read
//! would wait for ever.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use omni_control::Random as _;
use omni_control::channel::{Channel, MESSAGE_MAX, Opening, SECOND_LEN};
use omni_engine::random::SystemRandom;
use omni_membership::{PrivateKey, PublicKey, SymmetricKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::Failure;

/// Whom to call, and as whom.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) fabric: String,
    pub(super) private: PrivateKey,
    pub(super) remote: PublicKey,
    pub(super) endpoint: SocketAddr,
    pub(super) source: Ipv4Addr,
}

/// A channel that is open.
pub(super) struct Line {
    stream: TcpStream,
    channel: Channel,
    incoming: Vec<u8>,
    taken: usize,
    outgoing: Vec<u8>,
    written: usize,
}

/// Connects, and says nothing.
///
/// # Errors
/// Those of the system.
pub(super) async fn connect(source: Ipv4Addr, endpoint: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let stream = socket.connect(endpoint).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Line {
    /// Connects and opens a channel. It does not end by itself while the other side is silent.
    ///
    /// # Errors
    /// When the connection ends, or is not answered with the expected key.
    pub(super) async fn open(call: &Call) -> Result<Self, Failure> {
        let mut stream = connect(call.source, call.endpoint).await?;
        let mut ephemeral = SymmetricKey([0; 32]);
        SystemRandom.fill(&mut ephemeral.0);
        let (opening, first) =
            Opening::start(&call.fabric, &call.private, &call.remote, &ephemeral)?;
        stream.write_all(&framed(&first)).await?;
        let len = stream.read_u16().await?;
        let mut second = vec![0; usize::from(len)];
        stream.read_exact(&mut second).await?;
        if second.len() != SECOND_LEN {
            return Err("an answer of another length than a handshake's".into());
        }
        Ok(Self {
            channel: opening.finish(&second)?,
            stream,
            incoming: Vec::new(),
            taken: 0,
            outgoing: Vec::new(),
            written: 0,
        })
    }

    /// Seals a message, to be written while something is heard, or by [`Line::flush`].
    ///
    /// # Errors
    /// When it is too long.
    pub(super) fn queue(&mut self, plaintext: &[u8]) -> Result<(), Failure> {
        let sealed = self.channel.seal(plaintext)?;
        self.outgoing.extend(framed(&sealed));
        Ok(())
    }

    /// Octets that are not written yet.
    pub(super) fn waiting(&self) -> usize {
        self.outgoing.len() - self.written
    }

    /// The next message. Writes what waits meanwhile. May be given up at any time: nothing of it
    /// is lost then.
    ///
    /// # Errors
    /// When the connection ends, or a message does not verify.
    pub(super) async fn hear(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(message) = self.next()? {
                return Ok(message);
            }
            self.exchange().await?;
        }
    }

    /// Writes what waits until less than `most` octets do. What comes is kept for
    /// [`Line::next`].
    ///
    /// # Errors
    /// When the connection ends.
    pub(super) async fn flush(&mut self, most: usize) -> Result<(), Failure> {
        while self.waiting() > most {
            self.exchange().await?;
        }
        Ok(())
    }

    /// A message that came already, if there is one.
    ///
    /// # Errors
    /// When it does not verify.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let waiting = &self.incoming[self.taken..];
        let Some((len, rest)) = waiting.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let Some(sealed) = rest.get(..usize::from(u16::from_be_bytes(*len))) else {
            return Ok(None);
        };
        let message = self.channel.open(sealed)?;
        self.taken += 2 + sealed.len();
        Ok(Some(message))
    }

    /// Reads and writes, whatever is possible first.
    async fn exchange(&mut self) -> Result<(), Failure> {
        self.incoming.drain(..self.taken);
        self.taken = 0;
        self.incoming.reserve(4096);
        let writes = self.waiting() > 0;
        let (mut reader, mut writer) = self.stream.split();
        tokio::select! {
            read = reader.read_buf(&mut self.incoming) => {
                if read? == 0 {
                    return Err("the Nucleus closed the connection".into());
                }
            }
            wrote = writer.write(&self.outgoing[self.written..]), if writes => {
                self.written += wrote?;
                if self.written == self.outgoing.len() {
                    self.outgoing.clear();
                    self.written = 0;
                }
            }
        }
        Ok(())
    }

    /// Writes what waits and reads nothing.
    ///
    /// # Errors
    /// When the connection ends.
    pub(super) async fn push(&mut self) -> Result<(), Failure> {
        self.stream
            .write_all(&self.outgoing[self.written..])
            .await?;
        self.outgoing.clear();
        self.written = 0;
        Ok(())
    }
}

/// A message with its length before it, two octets, the higher one first.
fn framed(message: &[u8]) -> Vec<u8> {
    // No message is longer than MESSAGE_MAX.
    let len = message.len().min(MESSAGE_MAX) as u16;
    [&len.to_be_bytes(), message].concat()
}
