//! Sockets, clocks and the store's thread around the core.
//!
//! ```text
//!   TCP  --accept--> door --handshake--> connection, a task for each --+
//!   UDP  --probe--> reflection -----------------------------------------+--> hub: the core
//!   control socket, metrics, signals, ticks ----------------------------+      |
//!                                                                              v
//!                                                                      store's thread
//! ```
//!
//! One thread runs all tasks; the store has a thread of its own.

mod clock;
mod connection;
mod control;
mod door;
mod error;
mod frames;
mod hub;
mod metrics;
mod store;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use omni_config::MetricsAt;
use omni_control::service::{log, notify};
use omni_control::{PrivateKey, PublicKey};
use omni_membership::Trust;
use omni_wire::reflection::{self, Answer, Probe};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use self::control::ControlSocket;
use self::door::Door;
use self::hub::Hub;
use self::store::{FromStore, StoreThread};
use crate::server::core::{Core, CoreConfig, Limits};

pub use self::error::RuntimeError;
pub use self::store::StoreConfig;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// At the start: for the store to be read.
const FIRST_LOAD: Duration = Duration::from_secs(5);

/// At the end: for requests that were taken to be answered.
const FAREWELL: Duration = Duration::from_secs(5);

/// All that a server needs to be told.
#[derive(Debug)]
pub struct RuntimeConfig {
    /// Its private key.
    pub private: PrivateKey,
    /// The fabric, and who may be in it.
    pub trust: Trust,
    /// For TCP and UDP.
    pub listen: SocketAddr,
    /// Where records are kept.
    pub store: StoreConfig,
    /// How much nodes may ask.
    pub limits: Limits,
    /// For the operator's tool.
    pub socket: PathBuf,
    /// For Prometheus.
    pub metrics: Option<MetricsAt>,
}

/// Serves until a signal.
///
/// # Errors
/// When it cannot start, or finds the store to be another fabric's. Nothing else ends it later.
pub fn run(config: RuntimeConfig) -> Result<(), RuntimeError> {
    raise_open_files();
    let (store, heard) = StoreThread::start(config.store.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RuntimeError::System)?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(serve(config, store, heard)))
}

async fn serve(
    config: RuntimeConfig,
    store: StoreThread,
    mut heard: mpsc::Receiver<FromStore>,
) -> Result<(), RuntimeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RuntimeError::System)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RuntimeError::System)?;
    let public = PublicKey::from_private(&config.private);
    let fabric = config.trust.fabric.to_string();
    let core = CoreConfig {
        trust: config.trust,
        server: public,
        limits: config.limits,
        shares_store: matches!(config.store, StoreConfig::Etcd(_)),
    };
    let core = Core::new(core, Box::new(clock::SystemRandom));
    let (stream, datagrams) = listen(config.listen)?;
    let hub = Hub::new(fabric, config.private, core, store);
    first_load(&hub, &mut heard).await;
    if let Some(error) = hub.failed.borrow_mut().take() {
        return Err(error.into());
    }
    let control = ControlSocket::bind(&config.socket, &hub)?;
    if let Some(at) = &config.metrics {
        metrics::listen(at, &hub)?;
    }
    let accepting = spawn_local(accept(stream, Rc::clone(&hub)));
    spawn_local(reflect(datagrams, Rc::clone(&hub)));
    info!(listen = %config.listen, public_key = %public, "ready");
    notify::ready();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = step(&hub, &mut heard) => {}
        }
        if hub.failed.borrow().is_some() {
            break;
        }
    }
    info!("ends");
    accepting.abort();
    drop(control);
    farewell(&hub, &mut heard).await;
    let failed = hub.failed.borrow_mut().take();
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Reads the store before anybody is let in, who would be told to try again. One that fails, or
/// takes long, is read later.
async fn first_load(hub: &Hub, heard: &mut mpsc::Receiver<FromStore>) {
    let end = Instant::now() + FIRST_LOAD;
    hub.turn();
    let is_open = || !hub.core.borrow().is_loaded() && !hub.store_fails();
    while is_open() && hub.failed.borrow().is_none() && Instant::now() < end {
        tokio::select! {
            () = step(hub, heard) => {}
            () = sleep_until(end) => {}
        }
    }
}

/// Whatever comes first: a word of the store, or the next tick.
async fn step(hub: &Hub, heard: &mut mpsc::Receiver<FromStore>) {
    let at = hub.core.borrow().poll_timeout();
    let left = at.since(clock::now().instant);
    tokio::select! {
        Some(what) = heard.recv() => hub.heard(what),
        () = sleep_until(Instant::now() + left) => {
            hub.core.borrow_mut().handle_timeout(clock::now());
            hub.turn();
            log::tell_left_out();
        }
    }
}

/// Answers what was asked, closes all connections, and ends the store's thread.
async fn farewell(hub: &Hub, heard: &mut mpsc::Receiver<FromStore>) {
    hub.stopping.set(true);
    let end = Instant::now() + FAREWELL;
    while hub.has_links() && Instant::now() < end {
        hub.wake_all();
        tokio::select! {
            () = step(hub, heard) => {}
            () = sleep(Duration::from_millis(20)) => {}
        }
    }
    if !hub.core.borrow().is_settled() {
        warn!("requests that were not answered are given up");
    }
    // The thread may wait for somebody to hear it.
    heard.close();
    drop(hub.end_store());
}

async fn accept(listener: TcpListener, hub: Rc<Hub>) {
    let door = Door::default();
    loop {
        match listener.accept().await {
            Ok((stream, source)) => match door.enter(source.ip()) {
                Some(place) => {
                    spawn_local(connection::serve(Rc::clone(&hub), stream, source, place));
                }
                None => hub.turned_away.set(hub.turned_away.get() + 1),
            },
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Tells nodes where they are seen. Nothing is said to who shows no token.
async fn reflect(socket: UdpSocket, hub: Rc<Hub>) {
    let mut octets = [0; reflection::LEN + 1];
    loop {
        let Ok((len, source)) = socket.recv_from(&mut octets).await else {
            // Of an earlier answer, such as that a port is closed.
            sleep(Duration::from_millis(1)).await;
            continue;
        };
        let Some(Probe { token }) = Probe::parse(&octets[..len]) else {
            continue;
        };
        if !hub.core.borrow().knows_token(&token) {
            continue;
        }
        hub.reflected.set(hub.reflected.get() + 1);
        // One that is lost is asked for again.
        let _ = socket.try_send_to(&Answer { token, source }.emit(), source);
    }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, UdpSocket), RuntimeError> {
    let stream = listen_tcp(address).map_err(failed("TCP", address))?;
    // With port 0 both have the one that was given.
    let address = stream.local_addr().map_err(RuntimeError::System)?;
    let datagrams = std::net::UdpSocket::bind(address).map_err(failed("UDP", address))?;
    datagrams
        .set_nonblocking(true)
        .map_err(RuntimeError::System)?;
    let datagrams = UdpSocket::from_std(datagrams).map_err(RuntimeError::System)?;
    Ok((stream, datagrams))
}

fn listen_tcp(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn failed(what: &'static str, address: SocketAddr) -> impl Fn(std::io::Error) -> RuntimeError {
    move |source| RuntimeError::Listen {
        what,
        address,
        source,
    }
}

/// A connection takes a file, and a shell lets a program have 1024.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "cannot have more open files");
    }
}
