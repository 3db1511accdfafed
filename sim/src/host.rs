//! A host: what the runtime puts together, with sockets that the simulator fills.
//!
//! ```text
//!  underlay frames -> ring -> worker 0..n <- mailboxes -> control thread <- socket <- datagrams
//!  frames of stations --------^    |                          |
//!                                  v                          v
//!                        sealed messages, delivered frames    datagrams
//! ```
//!
//! A thread runs when the world gives it its turn. Until then what is meant for it waits, in
//! queues as long as the kernel's.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use omni_control::message::{Command, PeerId, PortId};
use omni_engine::datapath::policy::SwitchPolicy;
use omni_engine::datapath::session::SharedSession;
use omni_engine::datapath::{BURST_MAX, Datapath, DatapathConfig, Output, TableCommand};
use omni_engine::io::mem::{MemFrame, MemIo};
use omni_engine::io::{FrameIo, Port};
use omni_engine::mailbox::{ControlMailbox, Order, WorkerMailbox, mailboxes};
use omni_engine::switch::Audience;
use omni_wire::outer::Path;
use omni_wire::{DropReason, Instant, MacAddr, Now, WallTime};

use crate::control::{Control, Identity, Memory};
use crate::model::{Expected, Model, Verdict};
use crate::random::Rng;
use crate::report::Violation;

/// The access port.
pub(crate) const ACCESS: Port = Port::Access(PortId(0));
/// The longest inner frame, at an underlay MTU of 1500 over IPv6.
pub(crate) const MAX_FRAME: usize = 1420;
/// The fabric port.
pub(crate) const PORT: u16 = 51820;

/// Frames of one worker.
const FRAMES: u64 = 4096;
/// Messages that wait in a receive ring while a worker does not run.
const RING: u64 = 256;
/// Datagrams that wait in the socket while the control thread does not run.
const SOCKET: usize = 256;
/// Frames that one worker may stage.
const STAGED: usize = 1024;
/// Orders taken between two bursts, as in production.
const ORDERS: usize = 64;
/// Octets before the inner frame: the longest headers in use.
const ROOM: [usize; 2] = [74, 94];

/// Which outer headers the hosts use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Whether a host's threads get their turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Running,
    /// Since when. Time goes on for it, and what arrives waits.
    Stopped(Instant),
    /// Its process has ended and the next one has not begun.
    Down,
}

/// One worker.
pub(crate) struct HostWorker {
    pub(crate) datapath: Datapath<MemFrame>,
    pub(crate) io: MemIo,
    pub(crate) mailbox: WorkerMailbox,
    out: Output<MemFrame>,
    burst: Vec<MemFrame>,
    /// Whether its turn is on its way.
    pub(crate) awake: bool,
}

/// What came out of a worker's turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// To the underlay.
    pub(crate) sealed: Vec<Vec<u8>>,
    /// To the stations.
    pub(crate) delivered: Vec<Vec<u8>>,
    /// What the model expected there, in order.
    pub(crate) expected: Vec<Expected>,
    /// Whether upcalls wait for the control thread.
    pub(crate) told: bool,
    /// Whether something is left for the next turn.
    pub(crate) more: bool,
}

/// A host.
pub(crate) struct Host {
    pub(crate) index: usize,
    pub(crate) identity: Identity,
    /// Counts its restarts.
    pub(crate) life: u32,
    pub(crate) state: State,
    pub(crate) control: Control,
    pub(crate) mailbox: ControlMailbox,
    pub(crate) workers: Vec<HostWorker>,
    /// Datagrams that wait for the control thread, and where they came from.
    pub(crate) socket: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Where its peers were configured to find it.
    pub(crate) home: SocketAddr,
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// Where it believes to be: what its paths are made with.
    pub(crate) known_address: SocketAddr,
    /// The endpoints that ways are to be known to.
    pub(crate) wanted: BTreeMap<PeerId, SocketAddr>,
    /// By how much its wall clock is wrong, in nanoseconds.
    pub(crate) clock_error: i64,
    /// When the control thread is to have its turn.
    pub(crate) control_at: Option<Instant>,
}

/// What a host's engine asks stations from.
pub(crate) fn engine_mac(host: usize) -> MacAddr {
    MacAddr([6, 0, 0, 0, 2, host as u8])
}

/// The peer's index that `host` has for `other`.
pub(crate) fn peer_of(host: usize, other: usize) -> PeerId {
    PeerId(if other < host { other } else { other - 1 } as u16)
}

/// Which host `peer` is at `host`.
pub(crate) fn host_of(host: usize, peer: PeerId) -> usize {
    let index = usize::from(peer.0);
    if index < host { index } else { index + 1 }
}

/// An address of the underlay; each number gives another one.
pub(crate) fn address(link: Link, number: usize, port: u16) -> SocketAddr {
    let ip: IpAddr = match link {
        Link::V4 => Ipv4Addr::from_bits(0x0a00_0001 + number as u32).into(),
        Link::V6 => Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + 1 + number as u128).into(),
    };
    SocketAddr::new(ip, port)
}

fn workers(identity: &Identity, link: Link, ends: Vec<WorkerMailbox>) -> Vec<HostWorker> {
    let policy = Arc::new(SwitchPolicy {
        suppression: true,
        engine_mac: identity.engine_mac,
        ..SwitchPolicy::open(1)
    });
    let worker = |(index, mailbox)| HostWorker {
        datapath: Datapath::new(DatapathConfig {
            worker: index,
            max_frame: usize::from(identity.max_frame),
            complete_checksums: false,
            staged_max: STAGED,
            spread_ports: false,
            policy: Arc::clone(&policy),
        }),
        io: MemIo::new(FRAMES, ROOM[usize::from(link == Link::V6)]),
        mailbox,
        out: Output::new(1),
        burst: Vec::with_capacity(BURST_MAX),
        awake: false,
    };
    (0..).zip(ends).map(worker).collect()
}

/// Mailboxes for the threads of one life.
///
/// # Panics
/// When the system is out of file descriptors: two for each worker are needed.
fn new_mailboxes(lanes: u16) -> (ControlMailbox, Vec<WorkerMailbox>) {
    mailboxes(usize::from(lanes)).expect("file descriptors for the mailboxes")
}

impl Host {
    /// A host that has not spoken to anybody, and knows no peer yet.
    pub(crate) fn new(index: usize, identity: Identity, link: Link, rng: Rng, now: Now) -> Self {
        let (mailbox, ends) = new_mailboxes(identity.lanes);
        let home = address(link, index, PORT);
        Self {
            index,
            life: 0,
            state: State::Running,
            control: Control::new(&identity, Memory::default(), rng, now),
            mailbox,
            workers: workers(&identity, link, ends),
            identity,
            socket: VecDeque::new(),
            home,
            address: home,
            known_address: home,
            wanted: BTreeMap::new(),
            clock_error: 0,
            control_at: None,
        }
    }

    /// Begins a new life with the same key: all but what is remembered on disk is gone.
    pub(crate) fn reborn(&mut self, link: Link, rng: Rng, now: Now) {
        let memory = self.control.memory();
        let (mailbox, ends) = new_mailboxes(self.identity.lanes);
        self.life += 1;
        self.state = State::Running;
        self.control = Control::new(&self.identity, memory, rng, now);
        self.mailbox = mailbox;
        self.workers = workers(&self.identity, link, ends);
        self.socket.clear();
        self.known_address = self.address;
        self.wanted.clear();
        self.control_at = None;
    }

    /// What this host's clocks show when the true time is `truth`.
    pub(crate) fn now(&self, truth: Now) -> Now {
        Now {
            instant: truth.instant,
            wall: WallTime(truth.wall.0.saturating_add_signed(self.clock_error)),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// Puts a message from the underlay into a worker's ring. False when there is no room.
    pub(crate) fn receive(&mut self, worker: usize, octets: &[u8], at: Instant) -> bool {
        let io = &mut self.workers[worker].io;
        io.census().receiving < RING && io.push(Port::Underlay, octets, at)
    }

    /// Puts a frame from a station into a worker's ring. False when there is no room.
    pub(crate) fn enter(&mut self, worker: usize, octets: &[u8], at: Instant) -> bool {
        let io = &mut self.workers[worker].io;
        io.census().receiving < RING && io.push(ACCESS, octets, at)
    }

    /// Puts a datagram into the control thread's socket. False when there is no room.
    pub(crate) fn queue_datagram(&mut self, source: SocketAddr, octets: Vec<u8>) -> bool {
        if self.socket.len() >= SOCKET {
            return false;
        }
        self.socket.push_back((source, octets));
        true
    }

    /// How messages reach a peer, as the kernel would say.
    pub(crate) fn path_to(&self, endpoint: SocketAddr) -> Path {
        Path {
            source_mac: MacAddr([6, 0, 0, 0, 0, self.index as u8]),
            next_hop_mac: MacAddr([6, 0, 0, 0, 1, 0]),
            vlan: None,
            source: self.known_address.ip(),
            source_port: self.known_address.port(),
            endpoint,
        }
    }

    /// Tells workers what the control plane decided, as the runtime does: a session with its keys
    /// expanded.
    pub(crate) fn tell(&mut self, audience: Audience, command: Command) {
        let command = match command {
            Command::InstallSession(install) => {
                TableCommand::Install(Arc::new(SharedSession::new(&install)))
            }
            other => TableCommand::Control(other),
        };
        match audience {
            Audience::All => {
                let order = || Order::Table(command.clone());
                self.mailbox.broadcast(None, order);
            }
            Audience::Only(worker) => self.mailbox.order(worker, Order::Table(command)),
        }
    }

    /// Everything that was dropped in this life.
    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        let workers = self.workers.iter();
        let dropped: u64 = workers
            .map(|worker| worker.datapath.drops().get(reason))
            .sum();
        dropped + self.control.drops().get(reason)
    }

    /// One turn of a worker, phase by phase as in production, with the model looking on.
    pub(crate) fn run_worker(
        &mut self,
        index: usize,
        now: Instant,
        model: &mut Model,
    ) -> Result<Turn, Violation> {
        let host = self.index;
        let HostWorker {
            datapath,
            io,
            mailbox,
            out,
            burst,
            ..
        } = &mut self.workers[index];
        let mut turn = Turn::default();
        let mut taken = 0;
        while taken < ORDERS
            && let Some(order) = mailbox.next_order()
        {
            taken += 1;
            if let Order::Table(command) = order {
                turn.expected.extend(model.order(host, index, &command)?);
                datapath.apply(now, command, io, out);
            }
        }
        if io.receive(Port::Underlay, burst, BURST_MAX) > 0 {
            for frame in &*burst {
                let octets = omni_engine::io::Frame::bytes(frame);
                let verdict = model.arrives(now, host, index, octets)?;
                if let Verdict::Delivered(number) = verdict {
                    turn.expected.push(Expected::Frame(number));
                }
            }
            datapath.ingress(now, burst, io, out);
        }
        if io.receive(ACCESS, burst, BURST_MAX) > 0 {
            for frame in &*burst {
                let room = omni_engine::io::Frame::room(frame);
                let octets = &omni_engine::io::Frame::bytes(frame)[room..];
                turn.expected.extend(model.enters(host, index, octets)?);
            }
            datapath.egress(now, PortId(0), burst, io, out);
        }
        io.transmit(ACCESS, &mut out.access[0]);
        io.transmit(Port::Underlay, &mut out.underlay);
        io.free(&mut out.free);
        io.flush();
        turn.told = datapath.has_upcalls();
        datapath.drain_upcalls(|upcall| mailbox.tell(upcall));
        turn.sealed
            .extend(std::iter::from_fn(|| io.pop(Port::Underlay)));
        turn.delivered.extend(std::iter::from_fn(|| io.pop(ACCESS)));
        turn.more = taken == ORDERS || io.census().receiving > 0 || datapath.has_upcalls();
        Ok(turn)
    }
}

/// How long a thread that was woken waits for its turn: mostly a moment, now and then long.
pub(crate) fn turn_delay(rng: &mut Rng) -> Duration {
    let long = rng.chance(20_000);
    let most = if long { 10_000 } else { 200 };
    rng.span(Duration::from_micros(5), Duration::from_micros(most))
}
