//! A connection of a node: the handshake, and then messages both ways.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use omni_control::PublicKey;
use omni_control::channel::{Channel, ChannelError, FIRST_LEN, Welcoming};
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::clock;
use super::door::Place;
use super::frames::{Incoming, framed};
use super::hub::{Hub, Link};
use crate::protocol::{FromNode, Malformed};
use crate::server::core::{Closed, Conn};

/// For a handshake, the first sealed message included.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Without a message for so long a connection is closed. Nodes send one every 10 s.
const IDLE: Duration = Duration::from_secs(30);

/// What begins to arrive, or to be sent, has so long to do so as a whole.
const TRANSFER: Duration = Duration::from_secs(10);

/// Octets that are sealed before they are written.
const OUTGOING: usize = 128 << 10;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Channel(#[from] ChannelError),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("a first message of {0} octets, allowed are 96")]
    FirstLen(usize),
    #[error("the handshake took longer than 5 s")]
    Handshake,
    #[error("nothing was heard for 30 s")]
    Idle,
    #[error("a message took longer than 10 s to arrive")]
    SlowToSend,
    #[error("what was sent was not taken for 10 s")]
    SlowToTake,
    #[error("closed here: {}", .0.as_str())]
    Closed(Closed),
    #[error("the other side closed it")]
    Other,
    #[error("the server ends")]
    Stopping,
}

/// Serves a connection to its end.
pub(super) async fn serve(hub: Rc<Hub>, stream: TcpStream, source: SocketAddr, place: Place) {
    // Small messages are answers that somebody waits for.
    let _ = stream.set_nodelay(true);
    let end = match timeout(HANDSHAKE, Session::open(&hub, stream)).await {
        Ok(Ok((session, first))) => {
            drop(place);
            session.run(&hub, source, &first).await
        }
        Ok(Err(end)) => end,
        Err(_) => End::Handshake,
    };
    debug!(%source, "a connection ended: {end}");
}

/// A channel on its stream.
struct Session {
    stream: TcpStream,
    channel: Channel,
    node: PublicKey,
    incoming: Incoming,
    outgoing: Vec<u8>,
    /// How much of it was written.
    written: usize,
}

impl Session {
    /// The handshake, and the first sealed message: before it, all may be a copy.
    async fn open(hub: &Hub, mut stream: TcpStream) -> Result<(Self, Vec<u8>), End> {
        let len = usize::from(stream.read_u16().await?);
        if len != FIRST_LEN {
            return Err(End::FirstLen(len));
        }
        let mut first = [0; FIRST_LEN];
        stream.read_exact(&mut first).await?;
        let ephemeral = clock::fresh_key();
        let (welcoming, node) = Welcoming::read(&hub.fabric, &hub.private, &ephemeral, &first)?;
        let (channel, second) = welcoming.respond()?;
        stream.write_all(&framed(&second)).await?;
        let mut session = Self {
            stream,
            channel,
            node,
            incoming: Incoming::default(),
            outgoing: Vec::new(),
            written: 0,
        };
        loop {
            if let Some(sealed) = session.incoming.next() {
                let first = session.channel.open(sealed)?;
                return Ok((session, first));
            }
            if session.stream.read_buf(session.incoming.room()).await? == 0 {
                return Err(End::Other);
            }
        }
    }

    async fn run(mut self, hub: &Rc<Hub>, source: SocketAddr, first: &[u8]) -> End {
        let (conn, link) = hub.link();
        let key = self.node;
        hub.core
            .borrow_mut()
            .connect(clock::now(), conn, key, source);
        debug!(%source, node = %key, "a node connected");
        let end = match self.take(hub, conn, first) {
            Ok(()) => self.exchange(hub, conn, &link).await,
            Err(end) => Err(end),
        };
        hub.unlink(conn);
        // Whoever is closed here may still read what was said before.
        let _ = self.stream.shutdown().await;
        end.err().unwrap_or(End::Other)
    }

    /// Messages both ways, whatever comes first.
    async fn exchange(&mut self, hub: &Rc<Hub>, conn: Conn, link: &Link) -> Result<(), End> {
        let mut heard = Instant::now();
        let mut begun = heard;
        let mut filled = heard;
        loop {
            if let Some(why) = link.closed.get() {
                return Err(End::Closed(why));
            }
            let stopping = hub.stopping.get();
            let mut may_read = !stopping && hub.core.borrow().may_read(conn);
            while may_read && self.take_next(hub, conn)? {
                heard = Instant::now();
                begun = heard;
                may_read = link.closed.get().is_none() && hub.core.borrow().may_read(conn);
            }
            if self.fill(hub, conn)? {
                filled = Instant::now();
            }
            let writes = self.written < self.outgoing.len();
            if stopping && !writes && hub.core.borrow().is_settled() {
                return Err(End::Stopping);
            }
            let partial = self.incoming.is_partial();
            let deadline = match (may_read, partial) {
                // It is not heard because nobody listens.
                (false, _) => {
                    heard = Instant::now();
                    begun = heard;
                    heard + IDLE
                }
                (true, true) => (begun + TRANSFER).min(heard + IDLE),
                (true, false) => heard + IDLE,
            };
            let deadline = if writes {
                deadline.min(filled + TRANSFER)
            } else {
                deadline
            };
            let (mut reader, mut writer) = self.stream.split();
            tokio::select! {
                read = reader.read_buf(self.incoming.room()), if may_read => {
                    if read? == 0 {
                        return Err(End::Other);
                    }
                    if !partial {
                        begun = Instant::now();
                    }
                }
                wrote = writer.write(&self.outgoing[self.written..]), if writes => {
                    self.written += wrote?;
                }
                () = link.wake.notified() => {}
                () = sleep_until(deadline) => {
                    let now = Instant::now();
                    return Err(if writes && now >= filled + TRANSFER {
                        End::SlowToTake
                    } else if now >= heard + IDLE {
                        End::Idle
                    } else {
                        End::SlowToSend
                    });
                }
            }
        }
    }

    /// Takes the next whole message, if there is one.
    fn take_next(&mut self, hub: &Hub, conn: Conn) -> Result<bool, End> {
        let Some(sealed) = self.incoming.next() else {
            return Ok(false);
        };
        let opened = self.channel.open(sealed)?;
        self.take(hub, conn, &opened)?;
        Ok(true)
    }

    fn take(&self, hub: &Hub, conn: Conn, opened: &[u8]) -> Result<(), End> {
        let what = FromNode::read(opened)?;
        let len = opened.len();
        let core = &mut *hub.core.borrow_mut();
        match what {
            Some(what) => core.handle_message(clock::now(), conn, what, len),
            None => core.handle_unknown(clock::now(), conn, len),
        }
        Ok(())
    }

    /// Seals what is to be said once what was sealed is written. Says whether there is anything.
    fn fill(&mut self, hub: &Hub, conn: Conn) -> Result<bool, End> {
        // The core may want something done since it was told what came in.
        hub.turn();
        if self.written < self.outgoing.len() {
            return Ok(false);
        }
        self.outgoing.clear();
        self.written = 0;
        while self.outgoing.len() < OUTGOING {
            let message = hub.core.borrow_mut().poll_message(conn);
            let Some(message) = message else { break };
            let sealed = self.channel.seal(&message.encode_to_vec())?;
            self.outgoing.extend((sealed.len() as u16).to_be_bytes());
            self.outgoing.extend(sealed);
        }
        if self.outgoing.is_empty() {
            self.outgoing.shrink_to(0);
        }
        Ok(!self.outgoing.is_empty())
    }
}
