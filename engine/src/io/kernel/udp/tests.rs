//! Messages between sockets on loopback, over both families.

use std::net::IpAddr;
use std::time::Duration;

use omni_wire::MacAddr;
use omni_wire::header::{DataHeader, DataKind};
use omni_wire::limits::HEADER_LEN;
use omni_wire::outer::{Path, Template};

use super::*;
use crate::io::mem::{MemFrame, MemIo};

const DS_FIELD: u8 = 0xb9;

/// A node's sockets: the control thread's, and those of its workers.
struct Node {
    control: UdpSocket,
    receivers: Vec<UdpReceiver>,
    address: SocketAddr,
}

impl Node {
    /// `None` where the machine has no such address.
    fn new(ip: &str, workers: usize) -> Option<Self> {
        let ip: IpAddr = ip.parse().expect("an address");
        // Bound as the runtime does it: to all addresses, shared, and before the workers'.
        let any: SocketAddr = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
            .parse()
            .ok()?;
        let control = open_socket(any).ok()?;
        let port = control.local_addr().expect("bound").port();
        UdpSocket::bind((ip, 0)).ok()?;
        let ipv6 = UdpSocket::bind("[::1]:0").is_ok();
        let pairs = UdpPair::open(port, ipv6, workers, true).ok()?;
        let receivers = pairs.into_iter().map(|pair| UdpReceiver::new(pair, port));
        Some(Self {
            control,
            receivers: receivers.collect(),
            address: SocketAddr::new(ip, port),
        })
    }

    fn sender(&self) -> UdpSender {
        UdpSender::new(self.receivers[0].pair.try_clone().expect("a pair"))
    }

    /// What a worker receives until nothing comes any more.
    fn received(&mut self, worker: usize, pool: &mut MemIo) -> Vec<MemFrame> {
        let mut burst = Vec::new();
        for _ in 0..20 {
            while self.receivers[worker].receive(pool, 7, &mut burst, 64) > 0 {}
            std::thread::sleep(Duration::from_millis(2));
        }
        burst
    }
}

/// A sender and a receiver of so many workers, over each family that the machine has.
fn both_families(workers: usize) -> impl Iterator<Item = (Node, Node)> {
    let nodes = move |ip| Some((Node::new(ip, 1)?, Node::new(ip, workers)?));
    ["127.0.0.1", "::1"].into_iter().filter_map(nodes)
}

/// An outer frame with a message of so many octets, the header's included.
fn frame(from: &Node, to: &Node, session_id: u32, lane: u16, nonce: u64, len: usize) -> MemFrame {
    let path = Path {
        source_mac: MacAddr([2; 6]),
        next_hop_mac: MacAddr([4; 6]),
        vlan: None,
        source: from.address.ip(),
        source_port: from.address.port(),
        endpoint: to.address,
    };
    let template = Template::new(&path).expect("consistent");
    let mut octets = vec![nonce as u8; template.len() + len];
    let mut header = [0; 16];
    DataHeader {
        session_id,
        kind: DataKind::Data,
        lane,
        nonce,
    }
    .emit(&mut header);
    octets[template.len()..template.len() + 16].copy_from_slice(&header);
    assert!(template.emit(&mut octets, path.source_port, DS_FIELD));
    MemFrame::new(0, &octets, None)
}

/// Nonce and length of a received message, whose outer headers are looked at.
fn told(frame: &MemFrame, from: &Node, to: &Node) -> (u64, usize) {
    let outer = Outer::parse(frame.bytes()).expect("outer headers");
    assert_eq!(
        (outer.source, outer.destination),
        (from.address, to.address)
    );
    assert_eq!((outer.ds_field, outer.vlan), (DS_FIELD, None));
    assert_eq!(outer.end, frame.bytes().len());
    assert_eq!((frame.room(), frame.queue()), (0, 7));
    assert!(frame.arrived().is_some());
    let message = &frame.bytes()[outer.payload..];
    let header = DataHeader::parse(message).expect("a header");
    assert!(
        message[16..]
            .iter()
            .all(|&octet| octet == header.nonce as u8)
    );
    (header.nonce, message.len())
}

#[test]
fn messages_arrive_in_order_cut_where_they_were_joined() {
    for (a, mut b) in both_families(1) {
        let mut pool = MemIo::new(4096, 0);
        // Runs of one length, each with a shorter last; single ones; more than one call takes.
        let lengths: Vec<usize> = (0..200)
            .map(|n| match n % 50 {
                49 => 700 + n,
                33 => HEADER_LEN,
                _ => 1468,
            })
            .collect();
        let frames: Vec<MemFrame> = (0..)
            .zip(&lengths)
            .map(|(nonce, &len)| frame(&a, &b, 5, 0, nonce, len))
            .collect();
        let mut sender = a.sender();
        assert_eq!(sender.transmit(&frames), 0);
        assert_eq!(sender.sent.frames, 200);
        let received = b.received(0, &mut pool);
        let told: Vec<(u64, usize)> = received.iter().map(|frame| told(frame, &a, &b)).collect();
        let sent: Vec<(u64, usize)> = (0..).zip(lengths).collect();
        assert_eq!(told, sent);
        assert_eq!(b.receivers[0].received.frames, 200);
        assert_eq!((b.receivers[0].dropped(), b.receivers[0].refused), (0, 0));
    }
}

#[test]
fn who_sends_is_received_by_one_worker_and_what_has_no_session_by_the_control_thread() {
    for (first, mut b) in both_families(2) {
        let mut pool = MemIo::new(4096, 0);
        let ip = first.address.ip().to_string();
        let mut senders = vec![first];
        senders.extend((0..15).filter_map(|_| Node::new(&ip, 1)));
        assert_eq!(senders.len(), 16);
        for a in &senders {
            let frames = (0..30).map(|n| frame(a, &b, 9, n as u16 % 3, n, 300));
            assert_eq!(a.sender().transmit(&frames.collect::<Vec<_>>()), 0);
            // Of its own: what has no session is sent by the control thread.
            assert_eq!(a.sender().transmit(&[frame(a, &b, 0, 1, 77, 148)]), 0);
        }
        let mut heard = Vec::new();
        for worker in 0..2 {
            let received = b.received(worker, &mut pool);
            let mut of_worker = Vec::new();
            for a in &senders {
                let of_sender = received.iter().filter(|frame| {
                    let outer = Outer::parse(frame.bytes()).expect("outer headers");
                    outer.source == a.address
                });
                let nonces: Vec<u64> = of_sender.map(|frame| told(frame, a, &b).0).collect();
                if !nonces.is_empty() {
                    assert_eq!(nonces, (0..30).collect::<Vec<_>>(), "all, and in order");
                    of_worker.push(a.address);
                }
            }
            assert!(
                !of_worker.is_empty(),
                "16 senders, and none for worker {worker}"
            );
            heard.extend(of_worker);
        }
        assert_eq!(heard.len(), senders.len(), "each by one worker");
        let mut buffer = [0; 2048];
        b.control.set_nonblocking(true).expect("a socket");
        for _ in &senders {
            assert_eq!(b.control.recv(&mut buffer).expect("a handshake"), 148);
        }
        assert!(b.control.recv(&mut buffer).is_err(), "nothing else");
    }
}

#[test]
fn a_pool_that_runs_dry_loses_nothing() {
    let Some((a, mut b)) = both_families(1).next() else {
        return;
    };
    let frames: Vec<MemFrame> = (0..100).map(|n| frame(&a, &b, 5, 0, n, 1000)).collect();
    assert_eq!(a.sender().transmit(&frames), 0);
    let mut pool = MemIo::new(7, 0);
    let (mut burst, mut nonces) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        while b.receivers[0].receive(&mut pool, 7, &mut burst, 3) > 0 {}
        assert!(burst.len() <= 7);
        nonces.extend(burst.iter().map(|frame| told(frame, &a, &b).0));
        crate::io::FrameIo::free(&mut pool, &mut burst);
        if nonces.len() == 100 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(nonces, (0..100).collect::<Vec<u64>>());
}

#[test]
fn what_is_no_outer_frame_or_too_long_is_refused_and_the_rest_leaves() {
    for (a, mut b) in both_families(1) {
        let mut pool = MemIo::new(64, 0);
        let frames = [
            MemFrame::new(0, &[0; 60], None),
            frame(&a, &b, 5, 0, 1, 200),
            frame(&a, &b, 5, 0, 2, 200),
        ];
        let mut sender = a.sender();
        assert_eq!(sender.transmit(&frames), 1);
        assert_eq!(sender.sent.frames, 2);
        assert_eq!(b.received(0, &mut pool).len(), 2);
    }
}

#[test]
fn where_nobody_listens_messages_go_on_leaving() {
    for (a, b) in both_families(1) {
        let mut sender = a.sender();
        let frames: Vec<MemFrame> = (0..8).map(|n| frame(&a, &b, 5, 0, n, 200)).collect();
        drop(b);
        // The first is answered by ICMP, which the next sending is told of.
        for _ in 0..4 {
            assert_eq!(sender.transmit(&frames), 0);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
