//! Against the kernel: two stacks that are joined by this crate alone, and the kernel's own
//! segmentation of what was coalesced.
//!
//! ```text
//!  namespace a                                                 namespace b
//!  TCP, UDP - t0 === super-frames ==> SuperFrame --- frames --> t0 - TCP, UDP
//!                <== super-frames === Coalescer <--- segments of super-frames
//! ```
//!
//! Tags, where a test has them, are put on behind the taps and taken off before: so the kernel need
//! not know VLANs. The tests need root and `ip`. They leave nothing behind.
#![deny(unsafe_code)]

mod namespace;
mod pump;
mod resegmented;
#[path = "../../../../xdp-redirect/tests/kernel/support/root.rs"]
mod root;
mod tap;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use omni_offload::{VNET_LEN, VNET_LEN_MERGEABLE};

use crate::namespace::Namespace;
use crate::pump::Pump;
use crate::tap::{ALL_OFFLOADS, Tap, set_segment_size};

/// Octets that are sent each way.
const OCTETS: usize = 1 << 20;
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The access MTU.
const MTU: usize = 1400;
/// Octets of each UDP datagram that the kernel is asked to cut a large one into.
const DATAGRAM: usize = 1200;

/// Two namespaces with a tap each, and what joins them.
struct Lab {
    a: Namespace,
    b: Namespace,
    pump: Pump,
}

impl Lab {
    fn new(header_len: usize, tagged: bool) -> Self {
        let namespaces = ["a", "b"].map(Namespace::new);
        let taps = namespaces
            .each_ref()
            .map(|namespace| Tap::open(namespace, "t0", header_len, ALL_OFFLOADS));
        for (namespace, host) in namespaces.iter().zip([1, 2]) {
            namespace.ip(&format!("link set t0 mtu {MTU} up"));
            namespace.ip(&format!("address add 10.9.0.{host}/24 dev t0"));
            namespace.ip(&format!("address add fd09::{host}/64 dev t0 nodad"));
        }
        let [a, b] = namespaces;
        let [tap_a, tap_b] = taps;
        let pump = Pump::start(tap_a, tap_b, tagged);
        Self { a, b, pump }
    }

    /// The address of host 1 or 2 with a port that the kernel chooses.
    fn address(v6: bool, host: u16) -> SocketAddr {
        let address: IpAddr = if v6 {
            Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, host).into()
        } else {
            Ipv4Addr::new(10, 9, 0, host as u8).into()
        };
        (address, 0).into()
    }

    /// Ends it: nothing was refused by us, and by neither kernel.
    fn end(self) {
        let counted = self.pump.stop();
        assert_eq!(counted.errors, 0, "{counted:?}");
        for namespace in [&self.a, &self.b] {
            assert_eq!(namespace.refused(), Vec::<String>::new());
        }
        // Nobody measured an empty wire: most of it went in super-frames, both ways.
        let least = OCTETS / 65_536;
        assert!(counted.cut[0] >= least, "{counted:?}");
        assert!(counted.cut[1] >= least, "{counted:?}");
        assert!(counted.merged >= least, "{counted:?}");
    }
}

/// The octet at this place of a stream.
fn octet(at: usize) -> u8 {
    (at * 31 + at / 251) as u8
}

/// Sends the stream from one namespace to the other, which must get all of it and nothing else.
fn carry(from: &Namespace, to: &Namespace, server: SocketAddr) {
    let listener = to.enter(|| TcpListener::bind(server).expect("an address of ours"));
    let target = listener.local_addr().expect("a bound socket");
    let sent: Vec<u8> = (0..OCTETS).map(octet).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            let connect = || TcpStream::connect_timeout(&target, PATIENCE);
            let mut stream = from.enter(connect).expect("a connection");
            let timeout = stream.set_write_timeout(Some(PATIENCE));
            timeout.expect("a connected socket");
            stream.write_all(&sent).expect("room in time");
        });
        let (mut stream, _) = listener.accept().expect("a connection");
        let timeout = stream.set_read_timeout(Some(PATIENCE));
        timeout.expect("a connected socket");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("all in time");
        assert!(received == sent, "{} octets arrived", received.len());
    });
}

fn tcp(header_len: usize, v6: bool, tagged: bool) {
    let lab = Lab::new(header_len, tagged);
    carry(&lab.a, &lab.b, Lab::address(v6, 2));
    carry(&lab.b, &lab.a, Lab::address(v6, 1));
    lab.end();
}

#[test]
fn tcp_over_ipv4() {
    tcp(VNET_LEN, false, false);
}

#[test]
fn tcp_over_ipv6() {
    tcp(VNET_LEN_MERGEABLE, true, false);
}

#[test]
fn tcp_over_ipv4_with_a_tag() {
    tcp(VNET_LEN_MERGEABLE, false, true);
}

#[test]
fn tcp_over_ipv6_with_a_tag() {
    tcp(VNET_LEN, true, true);
}

/// Sends datagrams in large writes that the kernel need not cut itself. Each must arrive.
fn throw(from: &Namespace, to: &Namespace, addresses: [SocketAddr; 2]) {
    let bind = |address| move || UdpSocket::bind(address).expect("an address of ours");
    let receiver = to.enter(bind(addresses[1]));
    let sender = from.enter(bind(addresses[0]));
    set_segment_size(&sender, DATAGRAM as u16);
    let timeout = receiver.set_read_timeout(Some(PATIENCE));
    timeout.expect("a bound socket");
    let target = receiver.local_addr().expect("a bound socket");
    // 40 datagrams, the last of them shorter.
    let len = 39 * DATAGRAM + 100;
    let write: Vec<u8> = (0..len).map(octet).collect();
    let mut buffer = vec![0; 65_536];
    for _ in 0..OCTETS / len + 1 {
        let sent = sender.send_to(&write, target).expect("room");
        assert_eq!(sent, len);
        for datagram in write.chunks(DATAGRAM) {
            let received = receiver.recv(&mut buffer).expect("a datagram in time");
            assert!(buffer[..received] == *datagram, "{received} octets");
        }
    }
}

fn udp(v6: bool, tagged: bool) {
    let lab = Lab::new(VNET_LEN, tagged);
    let addresses = [Lab::address(v6, 1), Lab::address(v6, 2)];
    let [a, b] = addresses;
    throw(&lab.a, &lab.b, addresses);
    throw(&lab.b, &lab.a, [b, a]);
    lab.end();
}

#[test]
fn udp_over_ipv4() {
    udp(false, false);
}

#[test]
fn udp_over_ipv6_with_a_tag() {
    udp(true, true);
}
