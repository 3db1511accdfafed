//! The books: every frame that entered the fabric left it, or was counted as dropped.

use std::time::{Duration, Instant};

use omni_engine::show::{Show, UmemView};

use super::lab::Lab;
use super::node::Node;
use super::{POLL, seconds};

/// How long frames and counters may take to settle.
const SETTLE: Duration = seconds(3);

/// Both nodes' counts at about the same time.
#[derive(Debug)]
struct Books {
    /// Frames that hosts sent into their access ports, by the kernel's count.
    entered: u64,
    /// Frames that hosts received from their access ports, by the kernel's count.
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
        let hosts = [&lab.a, &lab.b];
        let host = |way: &str| hosts.iter().map(|n| n.count("omni0", way, "packets")).sum();
        let peers = || shows.iter().flat_map(|show| &show.peers);
        Self {
            entered: host("tx"),
            left: host("rx"),
            sent: peers().map(|peer| peer.tx_frames).sum(),
            verified: peers().map(|peer| peer.rx_frames).sum(),
            dropped: shows.iter().map(frames_dropped).sum(),
            held: shows.iter().map(|show| show.umem.frames_held).sum(),
        }
    }

    fn balance(&self) -> bool {
        let lost_under_way = self.sent.checked_sub(self.verified);
        self.entered == self.left + self.dropped + self.held
            && lost_under_way.is_some_and(|lost| lost <= self.dropped)
    }
}

/// Drops of frames, without those of messages between the control threads.
fn frames_dropped(show: &Show) -> u64 {
    let of_frames = |reason: &str| {
        !["message_", "handshake_", "mailbox_"].iter().any(|other| reason.starts_with(other))
    };
    show.drops.iter().filter(|(reason, _)| of_frames(reason)).map(|(_, count)| count).sum()
}

/// Whether every frame of the packet memory is somewhere.
pub(crate) fn is_complete(umem: &UmemView) -> bool {
    let parts = [umem.frames_free, umem.frames_receiving, umem.frames_sending, umem.frames_held];
    umem.frames_total > 0 && parts.iter().sum::<u64>() == umem.frames_total
}

/// Asserts that the packet memory of both nodes is complete and idle again.
pub(crate) fn assert_memory_idle(a: &Node, b: &Node) {
    for node in [a, b] {
        let start = Instant::now();
        loop {
            let umem = node.show().umem;
            assert!(is_complete(&umem), "{umem:?}");
            if umem.frames_sending == 0 && umem.frames_held == 0 {
                // Buffers for receiving are topped up once an eighth is missing.
                assert!(umem.frames_receiving * 8 > umem.frames_total * 2, "{umem:?}");
                break;
            }
            assert!(start.elapsed() < SETTLE, "not idle after {SETTLE:?}: {umem:?}");
            std::thread::sleep(POLL);
        }
    }
}

/// Asserts that, since both nodes started, no frame was lost without a name.
pub(crate) fn assert_nothing_lost_unseen(lab: &Lab, a: &Node, b: &Node) {
    let start = Instant::now();
    loop {
        let shows = [a.show(), b.show()];
        let books = Books::read(lab, &shows);
        if books.balance() {
            return;
        }
        let [a, b] = shows.map(|show| show.drops);
        assert!(
            start.elapsed() < SETTLE,
            "frames are missing: {books:?}\ndrops of a: {a:?}\ndrops of b: {b:?}\n\
             interfaces of a: {:#?}\ninterfaces of b: {:#?}",
            counts(&lab.a),
            counts(&lab.b),
        );
        std::thread::sleep(POLL);
    }
}

/// What every interface of a namespace carried and dropped, for a failure's text.
fn counts(namespace: &super::netns::Namespace) -> Vec<String> {
    let links = namespace.links();
    links.iter().map(|link| format!("{}: {}", link["ifname"], link["stats64"])).collect()
}
