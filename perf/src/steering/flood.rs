//! The flood: the same messages to three programs, and what receiving them takes.

use std::cell::RefCell;
use std::net::UdpSocket;
use std::process;
use std::sync::atomic::AtomicU16;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use omni_config::{Poll, ZeroCopy};
use omni_engine::datapath::DatapathConfig;
use omni_engine::datapath::policy::SwitchPolicy;
use omni_engine::io::Port;
use omni_engine::io::kernel::{self, BoundQueue, KernelIo, PortDriver, XskPort};
use omni_engine::mailbox::{ControlMailbox, Order, WorkerMailbox, mailboxes};
use omni_engine::worker::Worker;
use omni_wire::DropReason;
use omni_wire::header::{DataHeader, DataKind};
use omni_wire::limits::{AAD_LEN, DEFAULT_PORT, HEADER_LEN};
use omni_xdp_redirect::{Kind, Mode, Redirect};
use tokio::sync::oneshot;

use super::host::{Host, cpu_time};
use super::{Outcome, SESSIONS, in_turn, live_session, show, unknown_session};

/// How long a contender is flooded in a round.
const FLOOD: Duration = Duration::from_millis(100);
/// How long what is under way then gets to arrive.
const SETTLE: Duration = Duration::from_millis(20);
/// Messages between two looks at the clock.
const BATCH: u32 = 64;
/// Octets of a message: a header and a frame of 64.
const MESSAGE_LEN: usize = HEADER_LEN + 64;
/// Fewer frames in a round say nothing.
const FRAMES_MIN: u64 = 1000;

/// The MAC address of every receiving device.
const RECEIVER_MAC: &str = "02:00:00:00:00:01";

/// Contenders and hosts, ready.
pub(super) struct Flood {
    // The worker lives in the receiver's namespace, and ends before it goes.
    worker: Running,
    contenders: Vec<Contender>,
    socket: BoundQueue,
    _hosts: [Host; 2],
}

/// A program on a device of its own, and the way there.
struct Contender {
    name: &'static str,
    program: Redirect,
    /// Threads that do the receiving.
    threads: Vec<u32>,
    sender: UdpSocket,
}

impl Flood {
    /// Makes hosts, devices, programs and a worker.
    pub(super) fn new() -> Outcome<Self> {
        let hosts = [Host::new()?, Host::new()?];
        let [sender, receiver] = &hosts;
        let add = |nth: u8, name, kind| Contender::new(sender, receiver, nth, name, kind);
        let floor = add(0, "floor: every frame dropped, unread", Kind::Access)?;
        let mut checked = add(1, "dropped by the check of sessions", Kind::Underlay)?;
        let mut steered = add(2, "steered, and dropped by a worker", Kind::Underlay)?;
        for program in [&mut checked.program, &mut steered.program] {
            for nth in 0..SESSIONS {
                program.add_session(live_session(nth), 1, None)?;
            }
        }
        checked.program.set_session_check(true)?;
        let (worker, socket) = receiver.run(|| Running::on(&device(2, "i")))?;
        steered.program.set_socket(0, &socket)?;
        steered.threads.push(worker.thread_id);
        Ok(Self {
            worker,
            contenders: vec![floor, checked, steered],
            socket,
            _hosts: hosts,
        })
    }

    /// The worker's socket, for programs that are to find one.
    pub(super) fn steered_socket(&self) -> BoundQueue {
        self.socket
    }

    /// Floods all in turn and prints a table.
    pub(super) fn measure(&self, rounds: u32) -> Outcome<()> {
        let mut contenders: Vec<_> = self.contenders.iter().collect();
        let costs = in_turn(rounds, &mut contenders, |contender| contender.round())?;
        println!("data of unknown sessions, {MESSAGE_LEN} octets each, to a veth in native mode:");
        println!("{rounds} rounds of {FLOOD:?} of flood, contenders in turn; median [quartiles]");
        println!(
            "{:<36}  {:>24}  {:>30}",
            "", "CPU ns a frame", "frames a second of CPU time"
        );
        for (contender, costs) in contenders.iter().zip(&costs) {
            println!(
                "{:<36}  {:>24}  {:>30}",
                contender.name,
                show(costs.iter().copied(), 0),
                show(costs.iter().map(|cost| 1e9 / cost), 0),
            );
        }
        let [floor, checked, steered] = [0, 1, 2].map(|nth| &costs[nth]);
        let pairs = |left: &[f64], right: &[f64], relation: fn(f64, f64) -> f64, decimals| {
            let both = left.iter().zip(right);
            show(both.map(|(left, right)| relation(*left, *right)), decimals)
        };
        println!(
            "worker / check  {}",
            pairs(steered, checked, |l, r| l / r, 2)
        );
        println!(
            "check - floor   {} ns",
            pairs(checked, floor, |l, r| l - r, 0)
        );
        println!(
            "worker - floor  {} ns",
            pairs(steered, floor, |l, r| l - r, 0)
        );
        self.print_losses()
    }

    /// A frame that found the worker's ring full cost less than one that the worker dropped.
    fn print_losses(&self) -> Outcome<()> {
        let steered = self.contenders[2].program.counters()?.steered;
        let dropped = self.worker.unknown_sessions()?;
        println!(
            "the worker took {dropped} of {steered} frames; the kernel drops those that find its \
             ring full"
        );
        Ok(())
    }
}

/// A device's name: short enough for a kernel thread's, and nobody else's.
fn device(nth: u8, side: &str) -> String {
    format!("{side}{nth}{}", process::id())
}

impl Contender {
    fn new(
        sender: &Host,
        receiver: &Host,
        nth: u8,
        name: &'static str,
        kind: Kind,
    ) -> Outcome<Self> {
        let (near, far) = (device(nth, "i"), device(nth, "o"));
        let queues = "numtxqueues 1 numrxqueues 1";
        let inside = receiver.pid();
        // Addresses for benchmarks (RFC 2544, appendix C.2.2).
        let (here, there) = (format!("198.18.{nth}.1"), format!("198.18.{nth}.2"));
        for arguments in [
            format!("link add {far} {queues} type veth peer name {near} {queues} netns {inside}"),
            format!("address add {there}/24 dev {far}"),
            format!("link set dev {far} up"),
            format!("neighbor add {here} lladdr {RECEIVER_MAC} dev {far} nud permanent"),
        ] {
            sender.ip(&arguments)?;
        }
        for arguments in [
            format!("link set dev {near} address {RECEIVER_MAC}"),
            format!("address add {here}/24 dev {near}"),
            format!("link set dev {near} up"),
        ] {
            receiver.ip(&arguments)?;
        }
        let mut program = Redirect::load(kind)?;
        program.set_port(DEFAULT_PORT)?;
        program.add_local(here.parse()?)?;
        let program = receiver.run(move || {
            program.attach(&near, Mode::Native)?;
            Ok(program)
        })?;
        let poller = receiver.poll_by_thread(&device(nth, "i"))?;
        let sender = sender.run(|| {
            let socket = UdpSocket::bind((there.as_str(), DEFAULT_PORT))?;
            socket.connect((here.as_str(), DEFAULT_PORT))?;
            Ok(socket)
        })?;
        Ok(Self {
            name,
            program,
            threads: vec![poller],
            sender,
        })
    }

    /// One flood; the CPU time that a frame took on the receiving side, in nanoseconds.
    fn round(&self) -> Outcome<f64> {
        let (frames_before, time_before) = (self.frames()?, self.cpu_time()?);
        self.flood();
        thread::sleep(SETTLE);
        let frames = self.frames()? - frames_before;
        let time = self.cpu_time()? - time_before;
        if frames < FRAMES_MIN {
            return Err(format!("{}: only {frames} frames arrived", self.name).into());
        }
        Ok(time.as_nanos() as f64 / frames as f64)
    }

    fn flood(&self) {
        let mut message = [0; MESSAGE_LEN];
        let end = Instant::now() + FLOOD;
        let mut nth = 0;
        while Instant::now() < end {
            for _ in 0..BATCH {
                let header = DataHeader {
                    session_id: unknown_session(nth),
                    kind: DataKind::Data,
                    lane: 0,
                    nonce: 0,
                };
                if let Some(aad) = message.first_chunk_mut::<AAD_LEN>() {
                    header.emit(aad);
                }
                nth += 1;
                // What does not go out does not arrive, and is not counted.
                let _ = self.sender.send(&message);
            }
        }
    }

    /// Frames that the program decided about so far.
    fn frames(&self) -> Outcome<u64> {
        let counted = self.program.counters()?;
        Ok(counted.steered + counted.no_socket + counted.no_session)
    }

    fn cpu_time(&self) -> Outcome<Duration> {
        self.threads.iter().map(|&thread| cpu_time(thread)).sum()
    }
}

/// An engine's worker with an underlay queue and nothing else.
struct Running {
    mailbox: RefCell<ControlMailbox>,
    thread: Option<JoinHandle<()>>,
    thread_id: u32,
}

impl Running {
    fn on(interface: &str) -> Outcome<(Self, BoundQueue)> {
        let port = XskPort {
            interface: interface.to_owned(),
            queues: vec![0],
            zero_copy: ZeroCopy::Off,
        };
        let ports = vec![(Port::Underlay, PortDriver::Xsk(port))];
        let room = Arc::new(AtomicU16::new(0));
        let (mut ios, mut bound) = kernel::open(ports, 1, 0, &room, Vec::new())?;
        let (mailbox, mut ends) = mailboxes(1)?;
        let (Some(io), Some(end), Some(socket)) = (ios.pop(), ends.pop(), bound.pop()) else {
            return Err("one queue makes no worker".into());
        };
        let (tell, told) = mpsc::channel();
        let thread = thread::Builder::new().spawn(move || {
            // Who asked waits for it, unless the whole measurement ended.
            let _ = tell.send(rustix::thread::gettid().as_raw_nonzero().get());
            serve(io, end);
        })?;
        let running = Self {
            mailbox: mailbox.into(),
            thread: Some(thread),
            thread_id: told.recv()?.try_into()?,
        };
        Ok((running, socket))
    }

    /// Messages of unknown sessions that it dropped so far.
    fn unknown_sessions(&self) -> Outcome<u64> {
        let (reply, report) = oneshot::channel();
        let mut mailbox = self.mailbox.borrow_mut();
        mailbox.order(0, Order::Report(reply));
        mailbox.flush();
        Ok(report
            .blocking_recv()?
            .drops
            .get(DropReason::UnknownSession))
    }
}

/// The loop of an engine's worker, as the engine runs it by default.
fn serve(io: KernelIo, mailbox: WorkerMailbox) {
    let config = DatapathConfig {
        worker: 0,
        max_frame: 1500,
        complete_checksums: false,
        staged_max: 64,
        spread_ports: false,
        policy: Arc::new(SwitchPolicy::open(1)),
    };
    Worker::new(io, config, mailbox, Poll::Adaptive, None).run();
}

impl Drop for Running {
    fn drop(&mut self) {
        let mailbox = self.mailbox.get_mut();
        mailbox.order(0, Order::Stop);
        mailbox.flush();
        if let Some(thread) = self.thread.take() {
            // A panic of the worker's was printed already.
            let _ = thread.join();
        }
    }
}
