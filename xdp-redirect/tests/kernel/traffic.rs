//! Real frames over a veth pair: what sockets find, and that the host still gets its own.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use omni_xdp_redirect::{Counters, Kind, Mode, Redirect};

use crate::support::bench::{PORT, V4, address, v4, v6};
use crate::support::frame::Frame;
use crate::support::netns::{in_namespace, ip_ok, make_veth, wait_until};
use crate::support::ring::{Receiver, interface_index};

/// Sends whole frames out of an interface.
struct Sender(OwnedFd);

impl Sender {
    fn on(interface: &str) -> Self {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: makes a new descriptor, or fails; no memory is involved.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        assert!(fd >= 0, "packet socket: {}", io::Error::last_os_error());
        // SAFETY: the descriptor was made above, and nothing else closes it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all fields are numbers, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = interface_index(interface) as i32;
        let len = size_of_val(&address) as libc::socklen_t;
        let address = (&raw const address).cast();
        // SAFETY: the kernel reads `len` octets of the address, which outlives the call.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), address, len) };
        assert_eq!(
            bound,
            0,
            "bind to {interface}: {}",
            io::Error::last_os_error()
        );
        Self(fd)
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: the kernel reads the octets of `frame`, which outlives the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(
            sent,
            frame.len() as isize,
            "send: {}",
            io::Error::last_os_error()
        );
    }
}

#[test]
fn frames_from_an_access_port_arrive_with_room_and_metadata() {
    for mode in [Mode::Native, Mode::Generic] {
        in_namespace(move || {
            make_veth("near", "far", 1);
            let mut program = Redirect::load(Kind::Access).unwrap();
            program.attach("near", mode).unwrap();
            let mut receiver = Receiver::bind("near", 0);
            program.set_socket(0, receiver.socket()).unwrap();
            let sender = Sender::on("far");
            let rooms = [74, 0, 94, 128];
            for room in rooms {
                program.set_room(room).unwrap();
                let sent = Frame {
                    payload: vec![room as u8; 1400],
                    ..v6()
                }
                .octets();
                sender.send(&sent);
                let got = receiver
                    .receive()
                    .unwrap_or_else(|| panic!("{mode}, {room}: nothing"));
                assert_eq!(got.frame[usize::from(room)..], sent, "{mode}, {room}");
                assert_eq!((got.meta.room, got.meta.rx_queue), (room, 0), "{mode}");
                assert_ne!(got.meta.stamp_ns, 0, "{mode}");
            }
            program.clear_socket(0).unwrap();
            sender.send(&v4().octets());
            let expected = Counters {
                steered: rooms.len() as u64,
                no_socket: 1,
                ..Counters::default()
            };
            assert_eq!(program.counters().unwrap(), expected, "{mode}");
        });
    }
}

/// A veth pair in the calling thread's namespace; on its near end a host that listens on the
/// fabric's port, the underlay program, and a socket that it steers to.
fn underlay(mode: Mode) -> (UdpSocket, Redirect, Receiver) {
    make_veth("near", "far", 1);
    ip_ok("link set dev near address 02:00:00:00:00:01");
    ip_ok(&format!("address add {V4}/24 dev near"));
    let host = UdpSocket::bind((V4, PORT)).unwrap();
    host.set_read_timeout(Some(Duration::from_secs(2))).unwrap();

    let mut program = Redirect::load(Kind::Underlay).unwrap();
    program.set_port(PORT).unwrap();
    program.add_local(address(V4)).unwrap();
    program.attach("near", mode).unwrap();
    let receiver = Receiver::bind("near", 0);
    program.set_socket(0, receiver.socket()).unwrap();
    (host, program, receiver)
}

#[test]
fn the_underlay_program_parts_data_from_what_the_host_is_to_get() {
    for mode in [Mode::Native, Mode::Generic] {
        in_namespace(move || {
            let (host, mut program, mut receiver) = underlay(mode);

            let data = v4().octets();
            let initiation = Frame {
                payload: vec![0; 168],
                ..v4()
            }
            .octets();
            let sender = Sender::on("far");
            sender.send(&data);
            sender.send(&initiation);
            let steered = receiver
                .receive()
                .unwrap_or_else(|| panic!("{mode}: no data"));
            assert_eq!(steered.frame, data, "{mode}");
            assert_eq!(steered.meta.room, 0, "{mode}");
            let mut message = [0xff; 2048];
            assert_eq!(host.recv(&mut message).unwrap(), 168, "{mode}: initiation");

            // Without a socket the host gets data messages too, rather than nobody.
            program.clear_socket(0).unwrap();
            sender.send(&data);
            assert_eq!(
                host.recv(&mut message).unwrap(),
                64,
                "{mode}: data without a socket"
            );
            let expected = Counters {
                steered: 1,
                ..Counters::default()
            };
            assert_eq!(program.counters().unwrap(), expected, "{mode}");
        });
    }
}

#[test]
fn data_of_unknown_sessions_ends_in_the_driver() {
    for mode in [Mode::Native, Mode::Generic] {
        in_namespace(move || {
            let (host, mut program, mut receiver) = underlay(mode);
            program.add_session(7, 2, None).unwrap();
            program.set_session_check(true).unwrap();

            let sender = Sender::on("far");
            let send = |session: u8, lane: u8| {
                let mut payload = vec![0, 0, 0, session, 4, 0, 0, lane];
                payload.resize(100, session);
                let frame = Frame { payload, ..v4() }.octets();
                sender.send(&frame);
                frame
            };
            // What is dropped goes before what is not, so that it would arrive first.
            send(8, 0);
            send(7, 2);
            let expected = send(7, 1);
            let steered = receiver
                .receive()
                .unwrap_or_else(|| panic!("{mode}: no data"));
            assert_eq!(steered.frame, expected, "{mode}");

            program.remove_session(7).unwrap();
            send(7, 1);
            let initiation = vec![0; 168];
            sender.send(
                &Frame {
                    payload: initiation,
                    ..v4()
                }
                .octets(),
            );
            let mut message = [0xff; 2048];
            assert_eq!(host.recv(&mut message).unwrap(), 168, "{mode}: initiation");
            let expected = Counters {
                steered: 1,
                no_session: 2,
                no_lane: 1,
                ..Counters::default()
            };
            assert_eq!(program.counters().unwrap(), expected, "{mode}");
        });
    }
}

/// In native mode: in generic mode a veth brings everything in on queue 0.
#[test]
fn each_receive_queue_goes_to_its_own_socket() {
    const FLOWS: u16 = 16;
    in_namespace(|| {
        make_veth("near", "far", 2);
        let mut program = Redirect::load(Kind::Access).unwrap();
        program.attach("near", Mode::Native).unwrap();
        let mut receivers = [0, 1].map(|queue| Receiver::bind("near", queue));
        for (queue, receiver) in (0..).zip(&receivers) {
            program.set_socket(queue, receiver.socket()).unwrap();
        }
        // The sending side spreads flows over its queues; the other's follow from them.
        let sender = Sender::on("far");
        for flow in 0..FLOWS {
            sender.send(
                &Frame {
                    source_port: 1000 + flow,
                    ..v4()
                }
                .octets(),
            );
        }
        let steered = || program.counters().unwrap().steered;
        wait_until("all flows are steered", || steered() == u64::from(FLOWS));
        for (queue, receiver) in (0..).zip(&mut receivers) {
            let first = receiver
                .receive()
                .unwrap_or_else(|| panic!("nothing on queue {queue}"));
            assert_eq!(first.meta.rx_queue, queue);
        }
    });
}
