//! Questions for addresses, and who answers them with what.

mod common;

use std::time::Duration;

use common::{or_panic, setup};
use omni_sim::{Violation, World, runner};
use omni_wire::DropReason;

const NODES: usize = 5;
/// Two behind each host.
const STATIONS: usize = 2 * NODES;

fn meet(world: &mut World) -> Result<(), Violation> {
    world.meet(Duration::from_secs(10))?;
    for station in 0..STATIONS {
        world.announce(station, 0);
    }
    world.advance(Duration::from_secs(3))
}

/// Every station asks for every other one behind another host. Says the numbers of the frames.
fn all_ask(world: &mut World) -> Result<Vec<u64>, Violation> {
    let mut asked = Vec::new();
    let before = world.answered();
    for station in 0..STATIONS {
        for target in (0..STATIONS).filter(|target| target % NODES != station % NODES) {
            asked.push(world.ask(station, target, 0).expect("room"));
        }
        world.advance(Duration::from_millis(20))?;
    }
    world.advance(Duration::from_millis(500))?;
    if let Some(pair) = world.unanswered() {
        return Err(Violation(format!("{pair:?} was not answered")));
    }
    assert_eq!(world.answered() - before, asked.len() as u64);
    Ok(asked)
}

#[test]
fn once_everybody_was_heard_no_question_crosses_the_fabric() {
    let name = "once_everybody_was_heard_no_question_crosses_the_fabric";
    for seed in 1..=5 {
        let result = runner::run(setup(seed, NODES, name), |world| {
            meet(world)?;
            let before = world.totals().answered;
            for _ in 0..3 {
                for number in all_ask(world)? {
                    if !world.sealed_for(number).is_empty() {
                        return Err(Violation(format!("question {number} crossed the fabric")));
                    }
                }
                // Longer than anybody is believed without being asked again.
                for _ in 0..8 {
                    world.advance(Duration::from_secs(50))?;
                    world.everybody_talks()?;
                }
            }
            assert_eq!(world.totals().answered - before, 3 * 80);
            world.all_agree()
        });
        or_panic(result);
    }
}

#[test]
fn whoever_asks_before_anybody_was_heard_is_answered_by_the_station_itself() {
    let name = "whoever_asks_before_anybody_was_heard_is_answered_by_the_station_itself";
    let result = runner::run(setup(1, NODES, name), |world| {
        world.meet(Duration::from_secs(10))?;
        let number = world.ask(0, 1, 0).expect("room");
        world.advance(Duration::from_millis(500))?;
        assert_eq!(world.sealed_for(number).len(), NODES - 1);
        assert_eq!((world.unanswered(), world.answered()), (None, 1));
        assert_eq!(world.totals().answered, 0);
        Ok(())
    });
    or_panic(result);
}

/// Lies of a station, over and over, and what everybody is told meanwhile.
fn lies(seed: u64, liar: usize, victim: usize, name: &str) {
    let result = runner::run(setup(seed, NODES, name), |world| {
        meet(world)?;
        world.advance(Duration::from_secs(10))?;
        let (before, dropped) = (world.tables(), world.drops(DropReason::BindingNotOwned));
        for _ in 0..20 {
            let number = world.spoof(liar, victim, 0).expect("room");
            world.advance(Duration::from_millis(10))?;
            // What they are told is held against what is so.
            all_ask(world)?;
            if !world.receivers(number).is_empty() {
                return Err(Violation(format!("lie {number} was passed on")));
            }
        }
        assert!(world.drops(DropReason::BindingNotOwned) >= dropped + 20);
        if world.tables() != before {
            return Err(Violation("a liar changed a table".into()));
        }
        world.all_agree()
    });
    or_panic(result);
}

#[test]
fn nobody_is_told_of_an_address_what_somebody_behind_another_host_says() {
    let name = "nobody_is_told_of_an_address_what_somebody_behind_another_host_says";
    for seed in 1..=3 {
        lies(seed, 2, 0, name);
    }
}

#[test]
fn nobody_is_told_of_an_address_what_somebody_behind_the_same_host_says() {
    let name = "nobody_is_told_of_an_address_what_somebody_behind_the_same_host_says";
    for seed in 1..=3 {
        lies(seed, NODES, 0, name);
    }
}

#[test]
fn a_station_that_was_replaced_is_known_by_its_new_address_within_two_seconds() {
    let name = "a_station_that_was_replaced_is_known_by_its_new_address_within_two_seconds";
    for seed in 1..=3 {
        let result = runner::run(setup(seed, NODES, name), |world| {
            meet(world)?;
            world.replace(0);
            for _ in 0..20 {
                world.announce(0, 0);
                world.advance(Duration::from_millis(100))?;
            }
            let outdated = world.outdated_answers();
            all_ask(world)?;
            assert_eq!(world.outdated_answers(), outdated);
            world.all_agree()
        });
        or_panic(result);
    }
}
