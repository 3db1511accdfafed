//! What a program steers by can change while it runs, within limits. Needs root.

use std::net::IpAddr;

use omni_xdp_redirect::{Action, Counters, Kind, MAX_ROOM, Redirect, RedirectError};

use crate::support::bench::{Bench, PORT, V4, address, v4, v6};
use crate::support::frame::Frame;
use crate::support::netns::wait_until;
use crate::support::root::require_root;
use crate::support::xsk::Xsk;

#[test]
fn nothing_is_steered_before_port_address_and_socket_are_set() {
    require_root();
    let mut program = Redirect::load(Kind::Underlay).unwrap();
    let socket = Xsk::new();
    let frame = v4().octets();
    // A frame to port 0 must not match a port that is not set.
    let to_port_zero = Frame { port: 0, ..v4() }.octets();
    let pass = |program: &Redirect, about: &str| {
        assert_eq!(
            program.dry_run(&frame).unwrap().action,
            Action::Pass,
            "{about}"
        );
        assert_eq!(
            program.dry_run(&to_port_zero).unwrap().action,
            Action::Pass,
            "{about}"
        );
    };
    pass(&program, "nothing set");
    program.set_socket(0, &socket).unwrap();
    pass(&program, "socket");
    program.add_local(address(V4)).unwrap();
    pass(&program, "socket and address");
    program.set_port(PORT).unwrap();
    assert_eq!(program.dry_run(&frame).unwrap().action, Action::Redirect);
    program.clear_socket(0).unwrap();
    pass(&program, "port and address, no socket");
    let expected = Counters {
        steered: 1,
        ..Counters::default()
    };
    assert_eq!(
        program.counters().unwrap(),
        expected,
        "what passes is no drop"
    );
}

#[test]
fn port_and_addresses_change_while_the_program_runs() {
    let mut bench = Bench::new(Kind::Underlay);
    bench.program.set_port(4789).unwrap();
    assert_eq!(bench.run(&v4()).action, Action::Pass);
    assert_eq!(
        bench.run(&Frame { port: 4789, ..v4() }).action,
        Action::Redirect
    );

    bench.program.set_port(PORT).unwrap();
    bench.program.remove_local(address(V4)).unwrap();
    bench.program.remove_local(address(V4)).unwrap();
    assert_eq!(bench.run(&v4()).action, Action::Pass);
    assert_eq!(bench.run(&v6()).action, Action::Redirect);

    bench
        .program
        .add_local(address("::ffff:192.0.2.1"))
        .unwrap();
    bench.program.add_local(address(V4)).unwrap();
    assert_eq!(bench.run(&v4()).action, Action::Redirect);
}

#[test]
fn a_closed_socket_leaves_its_queue_to_the_kernel() {
    let Bench { program, socket } = Bench::new(Kind::Underlay);
    let frame = v4().octets();
    drop(socket);
    // A process that another test starts just then may hold a copy for a moment.
    wait_until("the socket's place is empty", || {
        program.dry_run(&frame).unwrap().action == Action::Pass
    });
}

#[test]
fn limits_are_kept_with_an_error_that_names_them() {
    let mut bench = Bench::new(Kind::Underlay);
    for nth in 2..256_u32 {
        bench
            .program
            .add_local(IpAddr::from((0x0a00_0000 + nth).to_be_bytes()))
            .unwrap();
    }
    let full = bench.program.add_local(address("203.0.113.1")).unwrap_err();
    assert!(matches!(full, RedirectError::TooManyAddresses), "{full}");
    assert!(full.to_string().contains("256"), "{full}");

    let room = bench
        .program
        .set_room(MAX_ROOM + 1)
        .unwrap_err()
        .to_string();
    assert!(room.contains("129") && room.contains("0..=128"), "{room}");

    let socket = Xsk::new();
    let queue = bench
        .program
        .set_socket(64, &socket)
        .unwrap_err()
        .to_string();
    assert!(queue.contains("64") && queue.contains("0..=63"), "{queue}");
    bench.program.set_socket(63, &socket).unwrap();
    bench.program.clear_socket(63).unwrap();
    bench.program.clear_socket(63).unwrap();

    let not_xdp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let refused = bench
        .program
        .set_socket(1, &not_xdp)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("receive queue 1") && refused.contains("AF_XDP"),
        "{refused}"
    );
}
