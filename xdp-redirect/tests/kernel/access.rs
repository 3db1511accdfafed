//! The access program: every frame is steered, with what goes before it, or dropped and counted.
//!
//! Nothing is attached: the kernel runs the programs on frames given to it. Needs root.

use omni_xdp_redirect::{Action, Counters, Kind, MAX_ROOM};

use crate::support::bench::{Bench, boottime_ns, v4, v6};
use crate::support::frame::{CUSTOMER_TAG, Frame, SERVICE_TAG};

#[test]
fn access_steers_every_frame_with_the_room_asked_for() {
    let mut bench = Bench::new(Kind::Access);
    let mut frames = vec![vec![0xff; 14], vec![0; 60], v4().octets(), v6().octets()];
    frames.push(
        Frame {
            ethertype: Some(0x0806),
            ..v4()
        }
        .octets(),
    );
    frames.push(
        Frame {
            tags: vec![SERVICE_TAG, CUSTOMER_TAG],
            ..v6()
        }
        .octets(),
    );
    frames.push((0..9014).map(|nth| (nth % 251) as u8).collect());
    let mut expected = Counters::default();
    for room in [0, 1, 74, 94, 98, MAX_ROOM, 74] {
        bench.program.set_room(room).unwrap();
        for frame in &frames {
            let about = format!("{} octets, room {room}", frame.len());
            let before = boottime_ns();
            let after = bench.program.dry_run(frame).unwrap();
            assert_eq!(after.action, Action::Redirect, "{about}");
            assert_eq!(
                after.frame.len(),
                usize::from(room) + frame.len(),
                "{about}"
            );
            assert_eq!(
                after.frame[usize::from(room)..],
                frame[..],
                "{about}: changed"
            );
            let meta = after.meta.unwrap_or_else(|| panic!("{about}: no metadata"));
            assert_eq!(
                (meta.room, meta.flags, meta.rx_queue),
                (room, 0, 0),
                "{about}"
            );
            assert!((before..=boottime_ns()).contains(&meta.stamp_ns), "{about}");
            expected.steered += 1;
        }
    }
    assert_eq!(bench.program.counters().unwrap(), expected);
}

#[test]
fn access_drops_and_counts_frames_without_a_socket() {
    let mut bench = Bench::new(Kind::Access);
    bench.program.set_room(74).unwrap();
    bench.program.clear_socket(0).unwrap();
    for _ in 0..3 {
        let after = bench.run(&v4());
        assert_eq!(after.action, Action::Drop);
        assert_eq!(after.frame, v4().octets());
    }
    let expected = Counters {
        no_socket: 3,
        ..Counters::default()
    };
    assert_eq!(bench.program.counters().unwrap(), expected);
}

/// Metadata of the driver's own would stand where the engine reads ours.
#[test]
fn frames_that_leave_no_place_for_metadata_are_dropped_and_counted() {
    for kind in [Kind::Underlay, Kind::Access] {
        let bench = Bench::new(kind);
        for len in [4, 16, 32] {
            let theirs = vec![0xee; len];
            let after = bench
                .program
                .dry_run_with_metadata(&theirs, &v4().octets())
                .unwrap();
            assert_eq!(
                after.action,
                Action::Drop,
                "{kind:?}, {len} octets of metadata"
            );
        }
        let expected = Counters {
            no_headroom: 3,
            ..Counters::default()
        };
        assert_eq!(bench.program.counters().unwrap(), expected, "{kind:?}");
    }
}

#[test]
fn a_frame_without_an_ethernet_header_is_refused_by_the_kernel() {
    let bench = Bench::new(Kind::Access);
    let refused = bench.program.dry_run(&[0; 13]).unwrap_err().to_string();
    assert!(refused.contains("13 octets"), "{refused}");
}
