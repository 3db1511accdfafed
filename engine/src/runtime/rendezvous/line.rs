//! The line to one Nucleus: a task that connects, opens a channel, carries messages both ways, and
//! begins again when that ends.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use omni_control::channel::{Channel, ChannelError, MESSAGE_MAX, Opening, SECOND_LEN};
use omni_control::{PrivateKey, PublicKey, Random, SymmetricKey};
use omni_nucleus::agent::Pauses;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::random::SystemRandom;

/// How long a connection and its channel may take to open.
const OPENS_WITHIN: Duration = Duration::from_secs(5);
/// A Nucleus that says nothing for this long is gone: it is asked every ten seconds.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a message may take to be written.
const WRITES_WITHIN: Duration = Duration::from_secs(10);
/// Messages that wait to be written, and that wait to be read by the node.
pub(super) const WAITING: usize = 64;

/// What a line tells the node.
#[derive(Debug)]
pub(crate) enum Told {
    /// There is a channel.
    Open,
    /// A message came.
    Message(Vec<u8>),
    /// There is none any more, or none could be opened: why.
    Closed(String),
}

/// Who is called, and by whom.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) fabric: String,
    pub(super) private_key: PrivateKey,
    pub(super) remote: PublicKey,
    pub(super) endpoint: SocketAddr,
}

/// A line. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Line {
    task: JoinHandle<()>,
    outgoing: mpsc::Sender<Vec<u8>>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// Begins to call. What comes is told under `number`.
    pub(super) fn open(call: Call, number: usize, told: mpsc::Sender<(usize, Told)>) -> Self {
        let (outgoing, queue) = mpsc::channel(WAITING);
        Self {
            task: tokio::spawn(run(call, number, told, queue)),
            outgoing,
        }
    }

    /// Room for one message; `None` when too many wait.
    pub(super) fn room(&self) -> Option<mpsc::Permit<'_, Vec<u8>>> {
        self.outgoing.try_reserve().ok()
    }
}

/// Why a channel ended.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it does not answer within 5 s")]
    TooSlow,
    #[error("it has another key than the configured one, or another fabric")]
    Stranger,
    #[error("it has said nothing for 30 s")]
    Silent,
    #[error("{0}")]
    Channel(#[from] ChannelError),
}

async fn run(
    call: Call,
    number: usize,
    told: mpsc::Sender<(usize, Told)>,
    mut queue: mpsc::Receiver<Vec<u8>>,
) {
    let mut pauses = Pauses::default();
    loop {
        let opened = tokio::time::Instant::now();
        let ended = match timeout(OPENS_WITHIN, open(&call)).await {
            Err(_) => LineError::TooSlow,
            Ok(Err(error)) => error,
            Ok(Ok((stream, channel))) => {
                // What waits was meant for the channel before.
                while queue.try_recv().is_ok() {}
                if told.send((number, Told::Open)).await.is_err() {
                    return;
                }
                carry(stream, channel, number, &told, &mut queue).await
            }
        };
        let pause = pauses.after(opened.elapsed(), &mut SystemRandom);
        let why = ended.to_string();
        if told.send((number, Told::Closed(why))).await.is_err() {
            return;
        }
        sleep(pause).await;
    }
}

async fn open(call: &Call) -> Result<(TcpStream, Channel), LineError> {
    let mut stream = TcpStream::connect(call.endpoint).await?;
    stream.set_nodelay(true)?;
    let mut ephemeral = SymmetricKey([0; 32]);
    SystemRandom.fill(&mut ephemeral.0);
    let (opening, first) =
        Opening::start(&call.fabric, &call.private_key, &call.remote, &ephemeral)?;
    write(&mut stream, &first).await?;
    // Who cannot read the first message says nothing to it.
    let second = read(&mut stream)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => LineError::Stranger,
            _ => LineError::Io(error),
        })?;
    if second.len() != SECOND_LEN {
        return Err(LineError::Stranger);
    }
    let channel = opening.finish(&second).map_err(|_| LineError::Stranger)?;
    Ok((stream, channel))
}

/// Carries messages until something ends that.
async fn carry(
    stream: TcpStream,
    mut channel: Channel,
    number: usize,
    told: &mpsc::Sender<(usize, Told)>,
    queue: &mut mpsc::Receiver<Vec<u8>>,
) -> LineError {
    let (incoming, mut outgoing) = stream.into_split();
    let (sender, mut received) = mpsc::channel(1);
    let reader = Reader(tokio::spawn(read_all(incoming, sender)));
    loop {
        tokio::select! {
            message = received.recv() => {
                let message = match message {
                    Some(Ok(message)) => message,
                    Some(Err(error)) => return error,
                    None => return LineError::Silent,
                };
                match channel.open(&message) {
                    Ok(plaintext) => {
                        if told.send((number, Told::Message(plaintext))).await.is_err() {
                            drop(reader);
                            return LineError::Silent;
                        }
                    }
                    Err(error) => return error.into(),
                }
            }
            Some(plaintext) = queue.recv() => {
                if let Err(error) = send(&mut outgoing, &mut channel, &plaintext).await {
                    return error;
                }
            }
        }
    }
}

/// A task that ends with its owner.
struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads in a task of its own: a message that has been read in part must not be lost because
/// there is something to send.
async fn read_all(mut incoming: OwnedReadHalf, sender: mpsc::Sender<Result<Vec<u8>, LineError>>) {
    loop {
        let message = match timeout(SILENCE, read(&mut incoming)).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(LineError::Silent),
        };
        let is_over = message.is_err();
        if sender.send(message).await.is_err() || is_over {
            return;
        }
    }
}

async fn send(
    outgoing: &mut OwnedWriteHalf,
    channel: &mut Channel,
    plaintext: &[u8],
) -> Result<(), LineError> {
    let message = channel.seal(plaintext)?;
    match timeout(WRITES_WITHIN, write(outgoing, &message)).await {
        Ok(written) => Ok(written?),
        Err(_) => Err(LineError::Silent),
    }
}

/// Writes a message and its length, two octets, the higher one first.
async fn write(stream: &mut (impl AsyncWriteExt + Unpin), message: &[u8]) -> io::Result<()> {
    let mut framed = Vec::with_capacity(2 + message.len());
    // No message is longer than MESSAGE_MAX.
    framed.extend((message.len().min(MESSAGE_MAX) as u16).to_be_bytes());
    framed.extend(message);
    stream.write_all(&framed).await
}

async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let len = stream.read_u16().await?;
    let mut message = vec![0; usize::from(len)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
