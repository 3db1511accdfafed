//! The control thread: everything around the workers that may wait.
//!
//! ```text
//! UDP sockets ----datagrams----+                       +--> orders to the workers
//! workers --------upcalls------+--> Ganglion, Switch --+--> datagrams
//! netlink --------events-------+                       +--> paths, interfaces
//! control socket --requests----+                       +--> replies
//! ```
//!
//! One thread, one loop: it waits for whatever comes first, hands it to the state machines, and
//! carries out what they decided.

mod alarm;
mod capture;
mod echo;
mod error;
mod filter;
mod keylog;
mod lookup;
mod pace;
mod paths;
mod ports;
mod recovery;
mod reload;
mod rendezvous;
mod report;
pub mod request;
mod state;
mod switching;
mod throttle;
mod trace;
mod udp;
mod watchdog;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use omni_config::{Config, Driver, Poll, SourcePorts};
use omni_control::message::{Command, FdbKey, Owner, PeerId};
use omni_control::netlink::{KernelEvent, Netlink};
use omni_control::service::notify;
use omni_control::service::process::wipe_stack;
use omni_control::service::seccomp::Seccomp;
use omni_control::{
    Ganglion, GanglionConfig, GanglionEvent, PrivateKey, PublicKey, Remembered, Transmit,
};
use omni_wire::limits::STAGED_MIN;
use omni_wire::{DropCounters, DropReason};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

pub use error::EngineError;

use crate::capture::Ring;
use crate::clock;
use crate::control_plane::ControlPlane;
use crate::cores;
use crate::datapath::policy::PeerPolicy;
use crate::datapath::session::SharedSession;
use crate::datapath::{DatapathConfig, TableCommand};
use crate::io::kernel::{self, KernelIo};
use crate::mailbox::{ControlMailbox, KEPT_MAX, Order, Told, WorkerMailbox, mailboxes};
use crate::privileges;
use crate::pulse::Pulse;
use crate::random::SystemRandom;
use crate::stats::WorkerReport;
use crate::switch::{Audience, Bound, Switch};
use crate::worker::Worker;
use alarm::Alarm;
use capture::Ended;
use echo::Echoes;
use filter::Filter;
use keylog::KeyLog;
use pace::Pace;
use paths::Paths;
use ports::Ports;
use recovery::Recovery;
use rendezvous::Rendezvous;
use request::{ControlSocket, Request};
use state::StateFile;
use switching::StaticPlace;
use throttle::Throttle;
use udp::UdpSockets;

/// The most frames that one worker keeps for handshakes in progress, all peers together.
const STAGED_MAX: usize = 2048;
/// The loop looks after ageing, neighbours and retries this often.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// The same in looks at the workers.
const HOUSEKEEPING_TICKS: u64 = (HOUSEKEEPING.as_millis() / watchdog::LOOK.as_millis()) as u64;
/// How long the loop waits before it hands over what a worker's full mailbox refused.
const MAILBOX_RETRY: Duration = Duration::from_millis(2);
/// How long a worker is given to answer.
const REPORT_PATIENCE: Duration = Duration::from_millis(500);
/// How long workers are given to end.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Upcalls handled before the loop looks at the rest again.
const UPCALLS_MAX: usize = 1024;

/// Runs a node until it is told to stop or cannot go on. Leaves nothing behind but its state file.
/// When it is told to reload, `config_file` is read again. Once it is started, the calling thread
/// and the workers give up what they do not need any more, for good.
///
/// # Errors
/// What kept it from starting, or ended it.
pub fn run(config: Config, config_file: &Path, seccomp: Seccomp) -> Result<(), EngineError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| EngineError::System {
            what: "start the control thread",
            source,
        })?;
    runtime.block_on(async {
        let mut node = Node::start(config, config_file, seccomp).await?;
        wipe_stack();
        let result = match privileges::serve(seccomp) {
            Ok(()) => node.serve().await,
            Err(error) => Err(error.into()),
        };
        node.stop().await;
        result
    })
}

/// A running node.
struct Node {
    /// What it runs on.
    config: Config,
    config_file: PathBuf,
    started: omni_wire::Instant,
    peer_names: BTreeMap<PeerId, String>,
    /// What peers may do, for the workers once they know them.
    policies: Vec<(PeerId, Arc<PeerPolicy>)>,
    plane: ControlPlane,
    state: StateFile,
    key_log: Option<KeyLog>,
    filter: Filter,
    throttle: Throttle,
    rendezvous: Option<Rendezvous>,
    paths: Paths,
    ports: Ports,
    netlink: Netlink,
    udp: UdpSockets,
    mailbox: ControlMailbox,
    /// The signs of life of every worker.
    pulses: Vec<Arc<Pulse>>,
    told: Arc<Told>,
    workers: Vec<JoinHandle<()>>,
    /// What the workers run on, in turn.
    cores: Vec<usize>,
    recovery: Recovery,
    /// Answers that the operator waits for.
    echoes: Echoes,
    /// What workers copy frames into, while there is a capture.
    capture: Option<Arc<Ring>>,
    control: ControlSocket,
    requests: mpsc::Receiver<Request>,
}

impl Node {
    async fn start(
        config: Config,
        config_file: &Path,
        seccomp: Seccomp,
    ) -> Result<Self, EngineError> {
        reload::check_peers(&config, &config.peers)?;
        let key_log = KeyLog::from_environment()?;
        let private_key = PrivateKey(*config.node.private_key.expose());
        let public_key = PublicKey::from_private(&private_key);
        let netlink = Netlink::connect()?;
        let (control, requests) = ControlSocket::bind(&config.control.socket)?;
        let shared = [config.underlay.driver, config.underlay.send];
        let shared = shared.iter().any(|driver| *driver != Driver::Afxdp);
        let udp = UdpSockets::bind(config.underlay.port, shared)?;
        let choice = cores::choose(&config.workers.cores, &config.underlay.interface)?;
        let cores = choice.cores();
        let mut ports = Ports::open(&netlink, &config, &public_key, cores.len()).await?;
        choice.log(ports.workers());
        let ipv6 = udp.has_ipv6();
        let started =
            match Self::start_workers(&config, &public_key, &mut ports, ipv6, cores, seccomp) {
                Ok(started) => started,
                Err(error) => {
                    ports.close(&netlink).await;
                    return Err(error);
                }
            };
        let Started {
            mailbox,
            pulses,
            workers,
            bound,
        } = started;
        let now = clock::now();
        let (lanes, max_frame) = (mailbox.workers() as u16, ports.max_frame() as u16);
        let rendezvous = rendezvous::credentials(&config, now).and_then(|credentials| {
            Rendezvous::start(&config, credentials, (lanes, max_frame), now, None)
        });
        let rendezvous = match rendezvous {
            Ok(rendezvous) => rendezvous,
            Err(error) => {
                join(mailbox, workers);
                ports.close(&netlink).await;
                return Err(error);
            }
        };
        let state = StateFile::new(&config.node.state_file);
        let ganglion_config = GanglionConfig {
            fabric: config.fabric.clone(),
            private_key,
            lanes,
            max_frame,
            capabilities: 0,
            workers: mailbox.workers(),
            path_mtu: config.switch.path_mtu,
            remembered: state.load(Remembered::parse),
        };
        let mut node = Self {
            config_file: config_file.to_owned(),
            started: now.instant,
            peer_names: BTreeMap::new(),
            policies: Vec::new(),
            plane: ControlPlane::new(
                Ganglion::new(ganglion_config, Box::new(SystemRandom), now),
                Switch::new(switching::switch_config(&config, public_key)),
                ports::engine_mac(&public_key),
            ),
            state,
            key_log,
            filter: Filter::new(config.underlay.filter),
            throttle: Throttle::default(),
            rendezvous,
            paths: Paths::new(ports.underlay_index(), config.underlay.port),
            ports,
            netlink,
            udp,
            told: mailbox.told(),
            mailbox,
            pulses,
            workers,
            cores: cores.to_vec(),
            recovery: Recovery::default(),
            echoes: Echoes::default(),
            capture: None,
            control,
            requests,
            config,
        };
        for peer in node.config.peers.clone() {
            node.add_peer(&peer);
        }
        node.insert_static(now.instant);
        node.meet_members();
        // The workers know the peers before the first frame comes.
        node.carry_out().await;
        let attached = node
            .ports
            .attach(&node.netlink, &bound, &mut node.filter)
            .await;
        if let Err(error) = attached {
            node.stop().await;
            return Err(error);
        }
        Ok(node)
    }

    fn start_workers(
        config: &Config,
        public_key: &PublicKey,
        ports: &mut Ports,
        ipv6: bool,
        cores: &[usize],
        seccomp: Seccomp,
    ) -> Result<Started, EngineError> {
        let count = ports.workers();
        let staged = staged_max(config);
        // All of the packet memory is mapped here and now, and workers are on one node if they can.
        let (drivers, senders) = ports.drivers(ipv6)?;
        let (ios, bound) = cores::run_on(cores[0], || {
            kernel::open(drivers, count, staged, ports.room(), senders)
        })?;
        let (mailbox, ends) = mailboxes(count).map_err(|source| EngineError::System {
            what: "make the mailboxes",
            source,
        })?;
        let realtime = cores::choose_priority(&config.workers)?;
        let engine_mac = ports::engine_mac(public_key);
        let policy = Arc::new(switching::switch_policy(config, engine_mac));
        let (mut workers, mut pulses) = (Vec::new(), Vec::new());
        for (index, (io, end)) in ios.into_iter().zip(ends).enumerate() {
            let datapath = DatapathConfig {
                worker: index as u16,
                max_frame: ports.max_frame(),
                complete_checksums: ports.has_partial_checksums(),
                staged_max: staged,
                spread_ports: config.underlay.source_ports == SourcePorts::PerLane,
                policy: Arc::clone(&policy),
            };
            let pulse = Arc::new(Pulse::default());
            pulses.push(Arc::clone(&pulse));
            let how = HowToRun {
                poll: config.workers.poll,
                realtime,
                core: cores[index],
                seccomp,
            };
            workers.push(spawn_worker(io, (end, pulse), datapath, how)?);
        }
        Ok(Started {
            mailbox,
            pulses,
            workers,
            bound,
        })
    }

    /// The loop, until a signal or something that cannot be lived with.
    async fn serve(&mut self) -> Result<(), EngineError> {
        let system = |source| EngineError::System {
            what: "listen for signals",
            source,
        };
        let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(system)?;
        let mut ready = false;
        let alarm_error = |source| EngineError::System {
            what: "wait",
            source,
        };
        let alarm = Alarm::new().map_err(alarm_error)?;
        let mut pace = Pace::new(clock::instant());
        let mut tick_at = clock::instant();
        let mut ticks = 0;
        let mut looked = false;
        loop {
            self.run_rendezvous();
            let crowded = self.carry_out().await;
            if !ready {
                ready = true;
                let key = self.plane.ganglion.public_key();
                info!(node = self.config.node.name, %key, "ready");
                notify::ready();
            }
            let timeout = self.next_timeout(&mut pace, looked, crowded);
            let timeout = timeout.min(tick_at.since(clock::instant()));
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hang_up.recv() => {
                    // Who sent the signal reads the log.
                    let _ = self.reload().await;
                }
                readable = self.udp.readable() => readable.unwrap_or_else(|error| {
                    warn!(%error, "cannot wait for handshakes");
                }),
                () = self.told.notified() => {}
                event = self.netlink.next_event() => self.handle_kernel(event).await?,
                Some(request) = self.requests.recv() => self.answer(request).await,
                told = Rendezvous::next(&mut self.rendezvous) => self.take_told(told),
                expired = alarm.wait(timeout) => expired.map_err(alarm_error)?,
            }
            self.take_datagrams(&mut pace);
            self.take_upcalls();
            let now = clock::now();
            looked = pace.should_look(now.instant);
            if looked {
                self.plane.handle_timeout(now);
            }
            if now.instant >= tick_at {
                self.watch().await?;
                if ticks % HOUSEKEEPING_TICKS == 0 {
                    self.keep_house().await?;
                }
                ticks += 1;
                // After all timers that were set in this turn, so that they are met then.
                tick_at = clock::instant() + watchdog::LOOK;
            }
        }
    }

    fn next_timeout(&self, pace: &mut Pace, looked: bool, crowded: bool) -> Duration {
        let now = clock::instant();
        if looked {
            pace.looked(now, self.plane.poll_timeout(), self.plane.poll_urgent());
        }
        let wanted = pace.patience(now, looked).unwrap_or(HOUSEKEEPING);
        let rendezvous = Rendezvous::poll_timeout(self.rendezvous.as_ref());
        let rendezvous = rendezvous.map(|at| Pace::together(now, at));
        let wanted = rendezvous.map_or(wanted, |at| wanted.min(at.since(now)));
        if crowded {
            wanted.min(MAILBOX_RETRY)
        } else {
            wanted
        }
    }

    fn take_datagrams(&mut self, pace: &mut Pace) {
        let Self {
            udp,
            plane,
            rendezvous,
            ..
        } = self;
        // One reading serves all of a call: they waited together.
        let now = clock::now();
        let mut taken = 0;
        udp.receive(|source, local, datagram| {
            taken += 1;
            if !Self::take_reflection(rendezvous, now, source, datagram) {
                plane.ganglion.handle_datagram(now, source, local, datagram);
            }
        });
        if let Some(rest) = pace.rest_after(now.instant, taken) {
            // Not the runtime's sleep, which every datagram would end.
            std::thread::sleep(rest);
        }
    }

    fn take_upcalls(&mut self) {
        let (plane, echoes) = (&mut self.plane, &mut self.echoes);
        self.mailbox.take_upcalls(UPCALLS_MAX, |worker, upcall| {
            let now = clock::now();
            if !echoes.take(now.instant, &upcall) {
                plane.handle_upcall(now, worker, upcall);
            }
        });
    }

    /// Addresses that are known without anybody having to say so: of the engine's own ports, and
    /// those of the configuration.
    fn insert_static(&mut self, now: omni_wire::Instant) {
        let switch = &mut self.plane.switch;
        for port in self.ports.access_ids() {
            if let Some(mac) = self.ports.host_mac(port) {
                let vlan = switching::vlan_of_host(&self.config, port);
                let (key, owner) = (FdbKey { vlan, mac }, Owner::Local(port));
                switch.insert_static(now, key, owner);
            }
        }
        for entry in switching::static_addresses(&self.config) {
            let owner = match entry.owner {
                StaticPlace::Port(port) => Owner::Local(port),
                StaticPlace::Peer(key) => match self.plane.ganglion.peer(&key) {
                    Some(peer) => Owner::Peer(peer),
                    None => continue,
                },
            };
            switch.insert_static(now, entry.key, owner);
            let FdbKey { vlan, mac } = entry.key;
            for ip in entry.addresses {
                switch.bind_static(
                    now,
                    Bound {
                        vlan,
                        ip,
                        mac,
                        owner,
                    },
                );
            }
        }
    }

    fn tell(&mut self, audience: Audience, command: TableCommand) {
        match audience {
            Audience::All => {
                let order = || Order::Table(command.clone());
                self.mailbox.broadcast(None, order);
            }
            Audience::Only(worker) => self.mailbox.order(worker, Order::Table(command)),
        }
    }

    /// Carries out what the control plane decided. Says whether a worker's mailbox is full.
    async fn carry_out(&mut self) -> bool {
        loop {
            while let Some((audience, command)) = self.plane.poll_order(clock::instant()) {
                self.filter.follow(&command, self.ports.underlay_program());
                if let (Some(log), Command::InstallSession(install)) = (&mut self.key_log, &command)
                {
                    let mut peers = self.plane.ganglion.peers();
                    let peer = peers.find(|peer| peer.id == install.peer);
                    log.record(install, peer.map(|peer| peer.public_key));
                }
                let command = match command {
                    // Keys are expanded once, for all workers.
                    Command::InstallSession(install) => {
                        TableCommand::Install(Arc::new(SharedSession::new(&install)))
                    }
                    other => TableCommand::Control(other),
                };
                self.tell(audience, command);
            }
            for (peer, policy) in std::mem::take(&mut self.policies) {
                self.tell(Audience::All, TableCommand::SetPeerPolicy(peer, policy));
            }
            let crowded = self.mailbox.flush();
            // A restart must not make us forget what these messages depend on.
            if let Some(remembered) = self.plane.ganglion.take_remembered() {
                self.state.save(remembered.to_string().as_bytes());
            }
            // Last, so that nobody can send in a session before the workers have it.
            while let Some(transmit) = self.plane.ganglion.poll_transmit() {
                let Transmit {
                    source,
                    destination,
                    payload,
                } = transmit;
                self.udp.send(destination, source, &payload);
            }
            let Some(GanglionEvent::ResolvePath {
                peer,
                endpoint,
                source,
            }) = self.plane.ganglion.poll_event()
            else {
                return crowded;
            };
            self.filter
                .set_endpoint(peer, endpoint, self.ports.underlay_program());
            self.paths.want(peer, endpoint, source);
            self.resolve(peer).await;
        }
    }

    /// Asks the kernel for the way to a peer and tells the Ganglion.
    async fn resolve(&mut self, peer: PeerId) {
        // Before the question, so that the answer is not missed.
        self.netlink.tell_neighbors(true);
        let name = self.peer_names.get(&peer).map_or("?", String::as_str);
        let Some((endpoint, path)) = self.paths.resolve(&self.netlink, peer, name).await else {
            return;
        };
        if let Some(path) = &path
            && let Err(error) = self.ports.make_room_for(path)
        {
            error!(%error, "cannot make room for the outer headers");
        }
        self.plane
            .ganglion
            .handle_path(clock::now(), peer, endpoint, path);
        self.fit_mtu().await;
    }

    async fn keep_house(&mut self) -> Result<(), EngineError> {
        if let Some(worker) = self.mailbox.stuck_worker(KEPT_MAX) {
            return Err(EngineError::WorkerStuck { worker });
        }
        let now = clock::instant();
        // What UDP sockets send, the kernel sees.
        if !self.ports.sends_by_kernel() {
            self.paths.refresh(&self.netlink, now).await;
        }
        let unresolved = self.paths.unresolved();
        if self.ports.sends_by_kernel() && unresolved.is_empty() {
            self.netlink.tell_neighbors(false);
        }
        for peer in unresolved {
            self.resolve(peer).await;
        }
        self.throttle_offenders(now);
        self.look_after_members();
        self.look_after_ports().await?;
        if self.recovery.watchdog.is_content() {
            notify::alive();
        }
        Ok(())
    }

    fn throttle_offenders(&mut self, now: omni_wire::Instant) {
        for peer in self.plane.ganglion.peers() {
            let Some(on) = self.throttle.look(now, peer.id, &peer.traffic) else {
                continue;
            };
            let program = self.ports.underlay_program();
            self.filter.set_throttled(peer.id, on, program);
            let name = self.peer_names.get(&peer.id);
            if on {
                warn!(
                    peer = name,
                    "most of what it sends is refused; it is throttled for 30 s"
                );
            } else {
                info!(peer = name, "no longer throttled");
            }
        }
    }

    async fn handle_kernel(&mut self, event: KernelEvent) -> Result<(), EngineError> {
        match &event {
            KernelEvent::LinkGone { ifindex, .. } => self.ports.note_gone(*ifindex)?,
            KernelEvent::LinkChanged {
                ifindex,
                name,
                up,
                mtu,
                ..
            } => {
                self.ports.follow_name(&self.netlink, *ifindex, name).await;
                if self.ports.link_changed(*ifindex, *up, *mtu) {
                    self.fit_mtu().await;
                }
                if self.ports.waits_for(name) {
                    self.look_after_ports().await?;
                }
            }
            KernelEvent::AddressAdded { .. } => {
                self.ports.follow_addresses(&self.netlink).await;
            }
            KernelEvent::AddressRemoved { address, .. } => {
                self.ports.follow_addresses(&self.netlink).await;
                self.plane
                    .ganglion
                    .handle_address_gone(clock::now(), *address);
            }
            KernelEvent::Resync => {
                self.ports.follow_addresses(&self.netlink).await;
                self.ports.recheck(&self.netlink).await?;
            }
            KernelEvent::RoutesChanged | KernelEvent::NeighborChanged { .. } => {}
        }
        for peer in self.paths.touched_by(&event) {
            self.resolve(peer).await;
        }
        Ok(())
    }

    /// Brings the access ports and all limits in line with what the underlay carries now.
    async fn fit_mtu(&mut self) {
        let ipv6 = self
            .plane
            .ganglion
            .peers()
            .any(|peer| peer.endpoint.is_some_and(|e| e.is_ipv6()));
        if self.ports.fit_mtu(&self.netlink, ipv6).await {
            let octets = self.ports.max_frame();
            self.mailbox
                .broadcast(None, || Order::Table(TableCommand::SetMaxFrame(octets)));
            self.plane
                .ganglion
                .set_max_frame(clock::now(), octets as u16);
        }
    }

    async fn answer(&mut self, request: Request) {
        // Who asked may be gone.
        match request {
            Request::Show(reply) => {
                let reports = self.gather().await;
                let drops = self.all_drops(&reports).await;
                let ports = self.ports.views(&self.netlink, &self.config.access).await;
                let _ = reply.send(report::show(self, ports, &reports, &drops));
            }
            Request::Stages(reply) => {
                let reports = self.gather().await;
                let _ = reply.send(report::stages(self, &reports));
            }
            Request::Ping(request, reply) => {
                let _ = reply.send(self.begin_echo(&request));
            }
            Request::Trace(request, reply) => {
                let reports = self.gather().await;
                let _ = reply.send(trace::trace(self, &reports, &request));
            }
            Request::Capture(request, who, reply) => {
                let begun = self.begin_capture(&request, &who);
                if let Err(Ok(_)) = reply.send(begun) {
                    self.end_capture(Ended::UNSEEN);
                }
            }
            Request::CaptureEnded(ended) => self.end_capture(ended),
            Request::Reload(reply) => {
                let _ = reply.send(self.reload().await);
            }
        }
    }

    /// Every worker's counts.
    async fn gather(&mut self) -> Vec<WorkerReport> {
        let mut replies = Vec::new();
        for worker in 0..self.mailbox.workers() {
            let (reply, answer) = oneshot::channel();
            self.mailbox.order(worker, Order::Report(reply));
            replies.push(answer);
        }
        // Where more waits for a worker than its mailbox has room for, the question is behind it.
        for _ in 0..REPORT_PATIENCE.as_millis() / MAILBOX_RETRY.as_millis() {
            if !self.mailbox.flush() {
                break;
            }
            tokio::time::sleep(MAILBOX_RETRY).await;
        }
        let mut reports = Vec::new();
        for answer in replies {
            match tokio::time::timeout(REPORT_PATIENCE, answer).await {
                Ok(Ok(report)) => reports.push(report),
                _ => warn!("a worker does not answer"),
            }
        }
        reports
    }

    async fn stop(self) {
        info!(node = self.config.node.name, "stopping");
        let Self {
            mut ports,
            netlink,
            mailbox,
            workers,
            control,
            ..
        } = self;
        // The programs go first, so that no frame is steered to a socket that nobody serves.
        ports.detach();
        join(mailbox, workers);
        ports.close(&netlink).await;
        drop(control);
    }

    /// Everything that was dropped on this node.
    async fn all_drops(&self, reports: &[WorkerReport]) -> DropCounters {
        let mut drops = self.plane.ganglion.drops().clone();
        for report in reports {
            drops.merge(&report.drops);
        }
        let (received, sent) = self.ports.link_drops(&self.netlink).await;
        drops.add(DropReason::PortRxDropped, received);
        drops.add(DropReason::PortTxDropped, sent);
        self.ports.count_xdp_drops(&mut drops);
        drops
    }

    fn peer_name(&self, id: PeerId) -> &str {
        self.peer_names.get(&id).map_or("?", String::as_str)
    }
}

/// Room for the frames that wait for handshakes: what each peer may have, within reason.
fn staged_max(config: &Config) -> usize {
    if !config.nucleus.is_empty() {
        return STAGED_MAX;
    }
    (config.peers.len() * STAGED_MIN).clamp(STAGED_MIN, STAGED_MAX)
}

/// What starting the workers brings.
struct Started {
    mailbox: ControlMailbox,
    pulses: Vec<Arc<Pulse>>,
    workers: Vec<JoinHandle<()>>,
    bound: Vec<kernel::BoundQueue>,
}

/// How a worker's thread runs.
#[derive(Clone, Copy)]
struct HowToRun {
    poll: Poll,
    realtime: bool,
    core: usize,
    seccomp: Seccomp,
}

/// Starts a worker, and waits until it has given up what it need not be allowed.
fn spawn_worker(
    io: KernelIo,
    (mailbox, pulse): (WorkerMailbox, Arc<Pulse>),
    config: DatapathConfig,
    how: HowToRun,
) -> Result<JoinHandle<()>, EngineError> {
    let HowToRun {
        poll,
        realtime,
        core,
        seccomp,
    } = how;
    let name = format!("{}{}", cores::THREAD_NAME, config.worker);
    let index = usize::from(config.worker);
    let (tell, told) = std::sync::mpsc::channel();
    let spawned = std::thread::Builder::new().name(name).spawn(move || {
        if realtime && let Err(error) = cores::run_before_others() {
            warn!(%error, "a worker runs at normal priority");
        }
        let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
        if !pinned {
            warn!(core, "cannot pin a worker to its core; it runs anywhere");
        }
        let core = pinned.then_some(core);
        let worker = Worker::new(io, config, mailbox, poll, core).watched(pulse);
        let restricted = privileges::work(seccomp);
        let run = restricted.is_ok();
        // Who started it waits for this.
        let _ = tell.send(restricted);
        if run {
            worker.run();
        }
    });
    let worker = spawned.map_err(|source| EngineError::System {
        what: "start a worker",
        source,
    })?;
    match told.recv() {
        Ok(restricted) => restricted?,
        Err(_) => return Err(EngineError::WorkerStuck { worker: index }),
    }
    Ok(worker)
}

/// Ends the workers and waits for them.
fn join(mut mailbox: ControlMailbox, workers: Vec<JoinHandle<()>>) {
    for worker in 0..mailbox.workers() {
        mailbox.order(worker, Order::Stop);
    }
    let deadline = std::time::Instant::now() + STOP_PATIENCE;
    let in_time = || std::time::Instant::now() < deadline;
    while mailbox.flush() && in_time() {
        std::thread::sleep(MAILBOX_RETRY);
    }
    for worker in workers {
        while !worker.is_finished() && in_time() {
            std::thread::sleep(MAILBOX_RETRY);
        }
        if !worker.is_finished() {
            // It ends with the process, which is about to.
            error!("a worker does not end");
        } else if worker.join().is_err() {
            error!("a worker had panicked");
        }
    }
}
