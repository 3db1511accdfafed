//! The books: every frame that entered the fabric left it, or was counted as dropped.

use std::time::{Duration, Instant};

use omni_engine::show::{Show, UmemView};

use super::lab::{Lab, Side};
use super::netns::Namespace;
use super::node::Node;
use super::tools::ping_all;
use super::{POLL, seconds};

/// How long frames and counters may take to settle.
const SETTLE: Duration = seconds(3);
/// Chunks that wait at each AF_XDP socket to be filled.
const POSTED: u64 = 2048;
/// Nothing moved for this long: the books may be opened.
const QUIET: Duration = Duration::from_millis(150);

/// Both nodes' counts at about the same time.
#[derive(Clone, Copy, Default, Debug)]
struct Books {
    /// Frames that hosts sent into their access ports, by the kernel's count. Of taps, for which
    /// the kernel counts super-frames: those that came out of them, and those it dropped before.
    entered: u64,
    /// Frames that hosts received from their access ports, by the kernel's count. Of taps: those
    /// that became super-frames.
    left: u64,
    /// Frames that were sealed for the other node.
    sent: u64,
    /// Frames from the other node that verified.
    verified: u64,
    /// Frames that were dropped anywhere, by name.
    dropped: u64,
    /// Frames still in the engines' hands.
    held: u64,
}

impl Books {
    fn read(lab: &Lab, shows: &[Show; 2]) -> Self {
        let hosts = || [&lab.a, &lab.b].into_iter().zip(shows);
        let entered = |(host, show): (&Namespace, &Show)| match tap(show) {
            Some((received, _)) => received + show.drops.get("port_rx_dropped").unwrap_or(&0),
            None => host.count("omni0", "tx", "packets"),
        };
        let left = |(host, show): (&Namespace, &Show)| match tap(show) {
            Some((_, sent)) => sent,
            None => host.count("omni0", "rx", "packets"),
        };
        let peers = || shows.iter().flat_map(|show| &show.peers);
        Self {
            entered: hosts().map(entered).sum(),
            left: hosts().map(left).sum(),
            sent: peers().map(|peer| peer.tx_frames).sum(),
            verified: peers().map(|peer| peer.rx_frames).sum(),
            dropped: shows.iter().map(frames_dropped).sum(),
            held: shows.iter().map(|show| show.umem.frames_held).sum(),
        }
    }

    /// What happened since `before`, when nothing was held.
    fn since(self, before: Self) -> Self {
        Self {
            entered: self.entered - before.entered,
            left: self.left - before.left,
            sent: self.sent - before.sent,
            verified: self.verified - before.verified,
            dropped: self.dropped - before.dropped,
            held: self.held,
        }
    }

    fn balance(&self) -> bool {
        let lost_under_way = self.sent.checked_sub(self.verified);
        self.entered == self.left + self.dropped + self.held
            && lost_under_way.is_some_and(|lost| lost <= self.dropped)
    }
}

/// The books from some moment on.
#[derive(Debug)]
pub(crate) struct Ledger<'a> {
    lab: &'a Lab,
    nodes: [&'a Node; 2],
    before: Books,
}

impl<'a> Ledger<'a> {
    /// Opens the books with the nodes' first moment.
    pub(crate) fn from_start(lab: &'a Lab, a: &'a Node, b: &'a Node) -> Self {
        Self {
            lab,
            nodes: [a, b],
            before: Books::default(),
        }
    }

    /// Opens the books once both nodes have a session and nothing was under way for a while.
    pub(crate) fn from_now(lab: &'a Lab, a: &'a Node, b: &'a Node) -> Self {
        ping_all(&lab.a, Side::B.inner_v4().into(), "");
        a.established();
        let mut ledger = Self::from_start(lab, a, b);
        let start = Instant::now();
        loop {
            let before = ledger.read();
            std::thread::sleep(QUIET);
            let now = ledger.read();
            if now.entered == before.entered && now.left == before.left && now.held == 0 {
                ledger.before = now;
                return ledger;
            }
            assert!(
                start.elapsed() < SETTLE,
                "hosts do not come to rest: {before:?} {now:?}"
            );
        }
    }

    fn read(&self) -> Books {
        Books::read(self.lab, &self.nodes.map(Node::show))
    }

    /// Asserts that no frame was lost without a name.
    pub(crate) fn assert_balanced(&self) {
        let start = Instant::now();
        loop {
            let books = self.read().since(self.before);
            if books.balance() {
                return;
            }
            if start.elapsed() >= SETTLE {
                let drops = self.nodes.map(|node| node.show().drops);
                let interfaces = [&self.lab.a, &self.lab.b].map(carried);
                panic!(
                    "frames are missing: {books:?}\ndrops of both: {drops:?}\n\
                     interfaces of both: {interfaces:#?}"
                );
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Frames that a node's tap received and sent; `None` when its access port is no tap.
fn tap(show: &Show) -> Option<(u64, u64)> {
    let mut queues = show
        .queues
        .iter()
        .filter(|queue| queue.mode == "tap")
        .peekable();
    queues.peek()?;
    Some(queues.fold((0, 0), |(received, sent), queue| {
        (received + queue.rx_frames, sent + queue.tx_frames)
    }))
}

/// Drops of frames, without those of messages between the control threads.
fn frames_dropped(show: &Show) -> u64 {
    let of_frames = |reason: &str| {
        !["message_", "handshake_", "mailbox_", "probe_"]
            .iter()
            .any(|other| reason.starts_with(other))
    };
    show.drops
        .iter()
        .filter(|(reason, _)| of_frames(reason))
        .map(|(_, count)| count)
        .sum()
}

/// Whether every frame of the packet memory is somewhere.
pub(crate) fn is_complete(umem: &UmemView) -> bool {
    let parts = [
        umem.frames_free,
        umem.frames_receiving,
        umem.frames_sending,
        umem.frames_held,
    ];
    umem.frames_total > 0 && parts.iter().sum::<u64>() == umem.frames_total
}

/// Asserts that the packet memory of both nodes is complete and idle again.
pub(crate) fn assert_memory_idle(a: &Node, b: &Node) {
    for node in [a, b] {
        let start = Instant::now();
        loop {
            let show = node.show();
            let umem = &show.umem;
            assert!(is_complete(umem), "{umem:?}");
            if umem.frames_sending == 0 && umem.frames_held == 0 {
                let is_socket = |mode: &str| matches!(mode, "native" | "generic");
                let sockets = show.queues.iter().filter(|queue| is_socket(&queue.mode));
                // Buffers for receiving are topped up once an eighth is missing.
                let posted = sockets.count() as u64 * POSTED;
                assert!(umem.frames_receiving * 8 >= posted * 7, "{umem:?}");
                break;
            }
            assert!(
                start.elapsed() < SETTLE,
                "not idle after {SETTLE:?}: {umem:?}"
            );
            std::thread::sleep(POLL);
        }
    }
}

/// What every interface of a namespace carried and dropped, for a failure's text.
fn carried(namespace: &Namespace) -> Vec<String> {
    let links = namespace.links();
    links
        .iter()
        .map(|link| format!("{}: {}", link["ifname"], link["stats64"]))
        .collect()
}
