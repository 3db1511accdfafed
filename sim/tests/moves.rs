//! Beginnings and moves on a network that loses nothing: then nothing may be lost at all.

mod common;

use std::time::Duration;

use common::{or_panic, setup};
use omni_sim::runner;

const NODES: usize = 8;

#[test]
fn what_is_sent_before_there_is_any_session_arrives() {
    for seed in 1..=5 {
        let name = "what_is_sent_before_there_is_any_session_arrives";
        let result = runner::run(setup(seed, NODES, name), |world| {
            for round in 0..3 {
                for host in 0..NODES {
                    world.send(host, None, None, round).expect("room");
                    let to = (host + 1) % NODES;
                    world.send(host, Some(to), None, round).expect("room");
                }
                world.advance(Duration::from_micros(100))?;
            }
            world.advance(Duration::from_secs(10))?;
            world.all_arrived(0)
        });
        or_panic(result);
    }
}

#[test]
fn a_host_that_moves_is_followed_at_once_by_all_with_whom_it_has_sessions() {
    for seed in 1..=5 {
        let name = "a_host_that_moves_is_followed_at_once_by_all_with_whom_it_has_sessions";
        let result = runner::run(setup(seed, NODES, name), |world| {
            world.meet(Duration::from_secs(10))?;
            world.advance(Duration::from_secs(1))?;
            for host in 0..NODES {
                world.move_host(host, Duration::from_millis(500));
                // It notices, finds its ways anew, and tells everybody.
                world.advance(Duration::from_secs(3))?;
                world.everybody_talks()?;
            }
            Ok(())
        });
        or_panic(result);
    }
}
