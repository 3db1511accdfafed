//! A Nucleus that lies takes nothing from nodes that know each other, and is believed again as soon
//! as it tells the truth.

use std::fs;
use std::time::Duration;

use crate::support::lab::{Lab, Plan, Side};
use crate::support::liar::{Liar, Mood};
use crate::support::node::Node;
use crate::support::nucleus::{MEET, meet, nucleus_of, start};
use crate::support::tools::{ping, reaches, resumes};
use crate::support::{seconds, wait_until};

/// How soon a node that knew nobody reaches others once the Nucleus is honest.
const RECOVERS: Duration = seconds(10);
/// How long each lie is told.
const LIE: Duration = Duration::from_millis(1300);
/// Pings at 20 ms, for all lies and a second more.
const PINGS: u32 = 650;

/// The MAC address and owner of node a's address, as node b has them.
fn place(b: &Node) -> Option<(String, String)> {
    let at = Side::A.inner_v4().to_string();
    let mut known = b.show().neighbors.into_iter();
    let found = known.find(|neighbor| neighbor.ip == at)?;
    Some((found.mac, found.owner))
}

#[test]
fn no_lie_of_a_nucleus_costs_a_frame_between_nodes_that_know_each_other() {
    let lab = Lab::new(Plan::default());
    let (liar, _a, b) = meet(&lab, Liar::start);
    wait_until("the address is known", MEET, || place(&b).is_some());
    let before = place(&b);
    let (received, report) = std::thread::scope(|scope| {
        let options = format!("-c {PINGS} -i 0.02");
        let pings = scope.spawn(move || ping(&lab.b, Side::A.inner_v4().into(), &options));
        for lie in Mood::LIES {
            liar.turn(lie);
            let doubted = nucleus_of(&b).not_believed;
            std::thread::sleep(LIE);
            assert_eq!(place(&b), before, "{lie:?}");
            // What was told before may still arrive, so others may be caught as well.
            let caught = nucleus_of(&b).not_believed > doubted;
            assert!(caught || !lie.can_be_caught(), "{lie:?}");
        }
        pings.join().expect("ping")
    });
    assert_eq!(received, PINGS, "{report}");
}

#[test]
fn a_node_that_knows_nobody_meets_the_others_once_the_nucleus_is_honest() {
    let lab = Lab::new(Plan::default());
    let (liar, _a, mut b) = meet(&lab, Liar::start);
    for lie in [Mood::WrongEndpoints, Mood::Garbage, Mood::Trickling] {
        b.kill();
        liar.turn(lie);
        let _ = fs::remove_file(lab.folder().join("b.map"));
        b = start(&lab, Side::B);
        std::thread::sleep(seconds(2));
        assert!(!reaches(&lab.b, Side::A.inner_v4().into()), "{lie:?}");
        liar.turn(Mood::Honest);
        let took = resumes(&lab.b, Side::A.inner_v4().into(), RECOVERS);
        println!("{lie:?}: met {took:.0?} after it was honest");
        wait_until("it is told so", MEET, || nucleus_of(&b).complete);
    }
}
