//! `GET /metrics` over HTTP/1.1, and nothing else: one request a connection, and few connections.
//!
//! What is read of a request has its bound, and so has the time that one takes, to read the answer
//! included. Whoever asks more often than a few times a second waits.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::debug;

use super::{Families, Form, protobuf};
use crate::service::socket;

/// The longest request, in octets, and the most of its headers.
const REQUEST_MAX: usize = 8192;
const HEADERS_MAX: usize = 64;
/// How long a request and its answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most connections at once.
const CONNECTIONS: usize = 16;
/// After a connection for so long none is taken: the most that asking can cost whoever answers.
const PAUSE: Duration = Duration::from_millis(20);

/// Somebody wants to know everything.
pub type Scrape = oneshot::Sender<Families>;

/// Where metrics are asked for. Dropped, a socket's file goes.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Of a UNIX socket.
    file: Option<PathBuf>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Nobody is hurt if it is gone already.
            let _ = std::fs::remove_file(file);
        }
    }
}

impl Listener {
    /// At an address.
    ///
    /// # Errors
    /// When it is in use, or none of this machine's.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        // The standard library allows addresses that a connection of before lingers at.
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            socket: Socket::Tcp(TcpListener::from_std(listener)?),
            file: None,
        })
    }

    /// At a UNIX socket, for its owner only.
    ///
    /// # Errors
    /// When another program answers there, or the file cannot be made.
    pub fn unix(path: &Path) -> io::Result<Self> {
        Ok(Self {
            socket: Socket::Unix(socket::listen(path).map_err(io::Error::other)?),
            file: Some(path.to_owned()),
        })
    }
}

/// Answers whoever asks, until the task is aborted. What there is to tell, `scrapes` asks for.
#[must_use]
pub fn serve(listener: Listener, scrapes: mpsc::Sender<Scrape>) -> JoinHandle<()> {
    tokio::spawn(accept(listener, scrapes))
}

async fn accept(listener: Listener, scrapes: mpsc::Sender<Scrape>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // With nobody let in, others wait in the kernel's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let scrapes = scrapes.clone();
        let taken = match &listener.socket {
            Socket::Tcp(socket) => socket.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    serve_one(stream, &scrapes).await;
                    drop(place);
                });
            }),
            Socket::Unix(socket) => socket.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    serve_one(stream, &scrapes).await;
                    drop(place);
                });
            }),
        };
        if let Err(error) = taken {
            debug!(%error, "cannot accept a connection for metrics");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn serve_one<S: AsyncRead + AsyncWrite + Unpin>(stream: S, scrapes: &mpsc::Sender<Scrape>) {
    match tokio::time::timeout(PATIENCE, respond(stream, scrapes)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection for metrics"),
        Err(_) => debug!("a connection for metrics took too long"),
    }
}

async fn respond<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    scrapes: &mpsc::Sender<Scrape>,
) -> io::Result<()> {
    let mut request = Vec::with_capacity(1024);
    let asked = loop {
        if (&mut stream)
            .take((REQUEST_MAX - request.len()) as u64)
            .read_buf(&mut request)
            .await?
            == 0
        {
            break Err(Refusal::Malformed);
        }
        match Asked::parse(&request) {
            Ok(Some(asked)) => break Ok(asked),
            Ok(None) if request.len() >= REQUEST_MAX => break Err(Refusal::TooLong),
            Ok(None) => {}
            Err(refusal) => break Err(refusal),
        }
    };
    let answer = match asked {
        Ok(asked) => match scrape(scrapes).await {
            Some(families) => asked.answer(&families),
            None => Refusal::NotNow.answer(),
        },
        Err(refusal) => refusal.answer(),
    };
    stream.write_all(&answer).await?;
    stream.shutdown().await
}

/// Asks for everything. `None`: whoever knows it is about to end.
async fn scrape(scrapes: &mpsc::Sender<Scrape>) -> Option<Families> {
    let (reply, answer) = oneshot::channel();
    scrapes.send(reply).await.ok()?;
    answer.await.ok()
}

/// A request for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    encoding: Encoding,
    /// Whether the metrics themselves are wanted, not only their length.
    body: bool,
}

/// How metrics are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Encoding {
    Text(Form),
    Protobuf,
}

impl Encoding {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Text(form) => form.content_type(),
            Self::Protobuf => protobuf::CONTENT_TYPE,
        }
    }

    fn write(self, families: &Families) -> Vec<u8> {
        match self {
            Self::Text(form) => form.write(families).into_bytes(),
            Self::Protobuf => protobuf::write(families),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    Malformed,
    NotFound,
    NotAllowed,
    TooLong,
    NotNow,
}

impl Asked {
    /// What is asked. `None` while the request is not whole.
    fn parse(octets: &[u8]) -> Result<Option<Self>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(octets) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLong),
            Err(_) => return Err(Refusal::Malformed),
        }
        let (method, target) = (request.method, request.path.unwrap_or_default());
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        if path != "/metrics" {
            return Err(Refusal::NotFound);
        }
        let body = match method {
            Some("GET") => true,
            Some("HEAD") => false,
            _ => return Err(Refusal::NotAllowed),
        };
        let accepted = request.headers.iter();
        let accepted = accepted.filter(|header| header.name.eq_ignore_ascii_case("accept"));
        let accepted = accepted.filter_map(|header| std::str::from_utf8(header.value).ok());
        let encoding = encoding_of(accepted.flat_map(|value| value.split(',')));
        Ok(Some(Self { encoding, body }))
    }

    fn answer(self, families: &Families) -> Vec<u8> {
        let body = self.encoding.write(families);
        let head = head("200 OK", self.encoding.content_type(), body.len(), "");
        let mut answer = head.into_bytes();
        if self.body {
            answer.extend(body);
        }
        answer
    }
}

impl Refusal {
    fn answer(self) -> Vec<u8> {
        let (status, more) = match self {
            Self::Malformed => ("400 Bad Request", ""),
            Self::NotFound => ("404 Not Found", ""),
            Self::NotAllowed => ("405 Method Not Allowed", "Allow: GET, HEAD\r\n"),
            Self::TooLong => ("431 Request Header Fields Too Large", ""),
            Self::NotNow => ("503 Service Unavailable", ""),
        };
        let body = "metrics are at /metrics\n";
        let head = head(status, "text/plain; charset=utf-8", body.len(), more);
        (head + body).into_bytes()
    }
}

fn head(status: &str, content_type: &str, len: usize, more: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\n\
         Cache-Control: no-store\r\nVary: Accept\r\n{more}Connection: close\r\n\r\n"
    )
}

/// The one that is accepted most gladly (RFC 9110 s.12.5.1); the one that tells more where two are
/// as welcome, and the older form of text where none is named.
fn encoding_of<'a>(accepted: impl Iterator<Item = &'a str>) -> Encoding {
    let (mut plain, mut open, mut delimited) = (0.0_f64, 0.0_f64, 0.0_f64);
    for range in accepted {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1.0_f64, None);
        let (mut message, mut framing) = (None, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = value.parse().unwrap_or(0.0),
                "version" => version = Some(value),
                "proto" => message = Some(value),
                "encoding" => framing = Some(value),
                _ => {}
            }
        }
        match (kind.as_str(), version) {
            ("application/openmetrics-text", None | Some("1.0.0")) => open = quality.max(open),
            ("text/plain", None | Some("0.0.4")) => plain = quality.max(plain),
            ("application/vnd.google.protobuf", _)
                if message == Some(protobuf::MESSAGE) && framing == Some("delimited") =>
            {
                delimited = quality.max(delimited);
            }
            _ => {}
        }
    }
    if delimited > 0.0 && delimited >= open.max(plain) {
        Encoding::Protobuf
    } else if open > 0.0 && open >= plain {
        Encoding::Text(Form::OpenMetrics)
    } else {
        Encoding::Text(Form::Plain)
    }
}

#[cfg(test)]
mod tests;
