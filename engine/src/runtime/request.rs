//! The control socket: the operator's tool asks here, its owner only.
//!
//! One request a connection: a line of JSON, `{"command":"show"}`, and a line of JSON back, which
//! is an object with the member `error` when the engine refuses.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use omni_control::service::socket::{ListenError, listen};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::debug;

use super::EngineError;
use super::capture::{Ended, Session};
use super::echo::Begun;
use crate::capture::CaptureRequest;
use crate::echo::EchoRequest;
use crate::show::{Reloaded, Show};
use crate::stages::NodeStages;
use crate::trace::{Trace, TraceRequest};

/// The longest request line, in octets.
const REQUEST_MAX: usize = 4096;
/// How long a connection may take to ask and to read.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests that wait for the control thread.
const REQUESTS: usize = 16;

/// What can be asked, as one line of JSON such as `{"command":"show"}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// The node's state.
    Show,
    /// How long frames take, stage by stage.
    Stages,
    /// Read the configuration again and follow it.
    Reload,
    /// One echo of a peer.
    Ping(EchoRequest),
    /// The way that a frame would take.
    Trace(TraceRequest),
    /// Frames as pcapng, until the connection is shut down.
    Capture(CaptureRequest),
}

/// A request on its way to the control thread.
#[derive(Debug)]
pub(super) enum Request {
    Show(oneshot::Sender<Show>),
    Stages(oneshot::Sender<NodeStages>),
    Reload(oneshot::Sender<Result<Reloaded, String>>),
    Ping(EchoRequest, oneshot::Sender<Result<Begun, String>>),
    Trace(TraceRequest, oneshot::Sender<Result<Trace, String>>),
    /// For whom, in words.
    Capture(
        CaptureRequest,
        String,
        oneshot::Sender<Result<Session, String>>,
    ),
    CaptureEnded(Ended),
}

/// The listening socket. Dropping it removes its file.
#[derive(Debug)]
pub(super) struct ControlSocket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
        // Nobody is hurt if it is gone already.
        let _ = fs::remove_file(&self.path);
    }
}

impl ControlSocket {
    /// Listens at `path`, taking over what a killed engine left there.
    pub(super) fn bind(path: &Path) -> Result<(Self, mpsc::Receiver<Request>), EngineError> {
        let listener = listen(path).map_err(|error| match error {
            ListenError::InUse => EngineError::AlreadyRunning {
                path: path.to_owned(),
            },
            ListenError::System(source) => EngineError::ControlSocket {
                path: path.to_owned(),
                source,
            },
        })?;
        let (sender, receiver) = mpsc::channel(REQUESTS);
        let task = tokio::spawn(accept(listener, sender));
        Ok((
            Self {
                path: path.to_owned(),
                task,
            },
            receiver,
        ))
    }
}

async fn accept(listener: UnixListener, requests: mpsc::Sender<Request>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                tokio::spawn(async move {
                    let served = tokio::time::timeout(PATIENCE, serve(stream, requests)).await;
                    if let Ok(Err(error)) = served {
                        debug!(%error, "control connection");
                    }
                });
            }
            Err(error) => {
                debug!(%error, "cannot accept a control connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(mut stream: UnixStream, requests: mpsc::Sender<Request>) -> io::Result<()> {
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < REQUEST_MAX {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    let answer = match serde_json::from_slice(&line) {
        Ok(Command::Show) => ask(&requests, Request::Show)
            .await
            .map(|show| serde_json::to_vec(&show)),
        Ok(Command::Stages) => ask(&requests, Request::Stages)
            .await
            .map(|stages| serde_json::to_vec(&stages)),
        Ok(Command::Reload) => ask(&requests, Request::Reload)
            .await
            .map(|outcome| outcome.map_or_else(refusal, |done| serde_json::to_vec(&done))),
        Ok(Command::Ping(how)) => match ask(&requests, |reply| Request::Ping(how, reply)).await {
            Some(Ok(begun)) => Some(serde_json::to_vec(&begun.finish().await)),
            refused => refused.and_then(Result::err).map(refusal),
        },
        Ok(Command::Trace(how)) => ask(&requests, |reply| Request::Trace(how, reply))
            .await
            .map(|found| found.map_or_else(refusal, |trace| serde_json::to_vec(&trace))),
        Ok(Command::Capture(how)) => return capture(stream, requests, how).await,
        Err(error) => Some(refusal(error.to_string())),
    };
    // Without an answer the node is about to stop.
    let Some(answer) = answer else {
        return Ok(());
    };
    let mut answer = answer.map_err(io::Error::other)?;
    answer.push(b'\n');
    stream.write_all(&answer).await
}

/// Begins a capture. It goes on beside the requests, and has the connection for itself.
async fn capture(
    mut stream: UnixStream,
    requests: mpsc::Sender<Request>,
    how: CaptureRequest,
) -> io::Result<()> {
    let who = stream.peer_cred().map_or_else(
        |_| "unknown".to_owned(),
        |who| {
            let process = who.pid().unwrap_or(0);
            format!("user {}, process {process}", who.uid())
        },
    );
    let begun = ask(&requests, |reply| Request::Capture(how, who, reply)).await;
    let session = match begun {
        Some(Ok(session)) => session,
        Some(Err(why)) => {
            let mut answer = refusal(why).map_err(io::Error::other)?;
            answer.push(b'\n');
            return stream.write_all(&answer).await;
        }
        None => return Ok(()),
    };
    tokio::spawn(async move {
        let ended = match hand_over(stream, &session).await {
            Ok(stream) => session.run(stream).await,
            Err(error) => {
                debug!(%error, "a capture's connection");
                Ended::UNSEEN
            }
        };
        // Without a control thread there is nothing to end.
        let _ = requests.send(Request::CaptureEnded(ended)).await;
    });
    Ok(())
}

/// Says that it begins.
async fn hand_over(
    mut stream: UnixStream,
    session: &Session,
) -> io::Result<std::os::unix::net::UnixStream> {
    let line = session.first_line().map_err(io::Error::other)?;
    stream.write_all(&line).await?;
    stream.into_std()
}

/// Hands a request to the control thread and waits for what it says.
async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    requests.send(request(reply)).await.ok()?;
    answer.await.ok()
}

fn refusal(why: String) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&serde_json::json!({ "error": why }))
}
