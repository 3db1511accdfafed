//! The control socket: the operator's tool asks here, its owner only.
//!
//! A line of JSON, `{"command":"status"}`, and a line of JSON back, which is an object with the
//! member `error` when it is refused. `watch` goes on with a line for each change.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omni_control::service::socket::{ListenError, listen};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;
use tracing::debug;

use super::RuntimeError;
use super::hub::Hub;
use crate::server::core::Watching;
use crate::show::{Command, Done};

/// The longest request line, in octets: a revocation of the greatest length in base64, and more.
const REQUEST_MAX: usize = 64 << 10;

/// How long a connection may take to ask and to read each line.
const PATIENCE: Duration = Duration::from_secs(5);

/// For what the store has to do.
const STORE_PATIENCE: Duration = Duration::from_secs(60);

/// The most connections at once. Only the owner makes any.
const CONNECTIONS: usize = 64;

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
    /// Listens at `path`, taking over what a killed server left there.
    pub(super) fn bind(path: &Path, hub: &Rc<Hub>) -> Result<Self, RuntimeError> {
        let listener = listen(path).map_err(|error| match error {
            ListenError::InUse => RuntimeError::AlreadyRunning {
                path: path.to_owned(),
            },
            ListenError::System(source) => RuntimeError::ControlSocket {
                path: path.to_owned(),
                source,
            },
        })?;
        Ok(Self {
            path: path.to_owned(),
            task: spawn_local(accept(listener, Rc::clone(hub))),
        })
    }
}

async fn accept(listener: UnixListener, hub: Rc<Hub>) {
    let all = Rc::new(());
    loop {
        match listener.accept().await {
            Ok(_) if Rc::strong_count(&all) > CONNECTIONS => {}
            Ok((stream, _)) => {
                let (hub, one) = (Rc::clone(&hub), Rc::clone(&all));
                spawn_local(async move {
                    if let Err(error) = serve(stream, &hub).await {
                        debug!(%error, "control connection");
                    }
                    drop(one);
                });
            }
            Err(error) => {
                debug!(%error, "cannot accept a control connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(mut stream: UnixStream, hub: &Rc<Hub>) -> io::Result<()> {
    let line = in_time(read_line(&mut stream)).await?;
    let command = match serde_json::from_slice(&line) {
        Ok(command) => command,
        Err(error) => return refuse(&mut stream, error.to_string()).await,
    };
    match command {
        Command::Status => answer(&mut stream, &hub.status()).await,
        Command::Members => {
            let members = hub.core.borrow().members();
            answer(&mut stream, &members).await
        }
        Command::Bindings => {
            let bindings = hub.core.borrow().bindings();
            answer(&mut stream, &bindings).await
        }
        Command::Watch => watch(&mut stream, hub).await,
        Command::Revoke { revocation } => {
            let Ok(octets) = STANDARD.decode(revocation.trim()) else {
                return refuse(&mut stream, "the revocation is not base64".to_owned()).await;
            };
            let outcome = timeout(STORE_PATIENCE, hub.revoke(&octets)).await;
            let done = "the revocation is stored, and told to all members";
            conclude(&mut stream, outcome.unwrap_or_else(|_| Err(late())), done).await
        }
        Command::Backup { path } if Path::new(&path).is_absolute() => {
            let outcome = timeout(STORE_PATIENCE, hub.backup(path.into())).await;
            let done = "the store is copied";
            conclude(&mut stream, outcome.unwrap_or_else(|_| Err(late())), done).await
        }
        Command::Backup { .. } => {
            refuse(&mut stream, "the path of a backup is absolute".to_owned()).await
        }
    }
}

fn late() -> String {
    "the store did not answer for 60 s".to_owned()
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < REQUEST_MAX {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    Ok(line)
}

async fn answer(stream: &mut UnixStream, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what).map_err(io::Error::other)?;
    line.push(b'\n');
    in_time(stream.write_all(&line)).await
}

async fn refuse(stream: &mut UnixStream, why: String) -> io::Result<()> {
    answer(stream, &serde_json::json!({ "error": why })).await
}

async fn conclude(
    stream: &mut UnixStream,
    outcome: Result<(), String>,
    done: &str,
) -> io::Result<()> {
    match outcome {
        Ok(()) => {
            let done = done.to_owned();
            answer(stream, &Done { done }).await
        }
        Err(why) => refuse(stream, why).await,
    }
}

/// Tells what is known, and then what changes, until the other side is gone.
async fn watch(stream: &mut UnixStream, hub: &Rc<Hub>) -> io::Result<()> {
    let mut watching = Watching::new();
    loop {
        let changed = hub.changed.notified();
        let changes = hub.core.borrow().watch(&mut watching);
        for change in &changes {
            answer(stream, change).await?;
        }
        if !changes.is_empty() {
            continue;
        }
        tokio::select! {
            () = changed => {}
            // Nothing more is asked on this connection: it ended.
            _ = stream.read_u8() => return Ok(()),
        }
    }
}
