//! Control records that somebody kept and sends again.

mod common;

use std::time::Duration;

use common::{or_panic, setup};
use omni_sim::{Rng, Violation, World, runner};

const NODES: usize = 4;
/// The station behind host 0 that moves.
const MOBILE: usize = NODES;

/// Announcements, claims, releases and withdrawals, all of them kept.
fn busy(world: &mut World) -> Result<usize, Violation> {
    world.start_recording();
    world.meet(Duration::from_secs(10))?;
    for station in 0..2 * NODES {
        world.announce(station, 0);
    }
    world.advance(Duration::from_secs(3))?;
    let records = world.totals().records;
    for host in [1, 2] {
        world.place(MOBILE, host);
        for _ in 0..10 {
            world.announce(MOBILE, 0);
            world.advance(Duration::from_millis(200))?;
        }
    }
    world.replace(3);
    for _ in 0..10 {
        world.announce(3, 0);
        world.advance(Duration::from_millis(200))?;
    }
    assert!(world.totals().records > records + 20, "too few records");
    world.advance(Duration::from_secs(3))?;
    Ok(world.stop_recording())
}

/// Everything that was kept is sent again, as it was and shuffled: no table changes.
fn play(world: &mut World, count: usize) -> Result<(), Violation> {
    let (tables, sessions) = (world.tables(), world.totals().sessions);
    let mut order: Vec<usize> = (0..count).collect();
    world.send_again(&order)?;
    Rng::new(1, 1).shuffle(&mut order);
    world.send_again(&order)?;
    world.advance(Duration::from_secs(2))?;
    if world.tables() != tables || world.totals().sessions != sessions {
        return Err(Violation("messages of the past changed something".into()));
    }
    world.all_agree()
}

#[test]
fn records_sent_again_change_nothing() {
    let name = "records_sent_again_change_nothing";
    for seed in 1..=3 {
        let result = runner::run(setup(seed, NODES, name), |world| {
            let count = busy(world)?;
            play(world, count)?;
            world.renew_both(0, 1)?;
            world.advance(Duration::from_secs(1))?;
            play(world, count)
        });
        or_panic(result);
    }
}

#[test]
fn records_sent_again_to_and_from_a_host_that_was_restarted_change_nothing() {
    let name = "records_sent_again_to_and_from_a_host_that_was_restarted_change_nothing";
    for seed in 1..=3 {
        let result = runner::run(setup(seed, NODES, name), |world| {
            let count = busy(world)?;
            for host in [1, 2, 0] {
                world.restart_host(host)?;
                for station in 0..2 * NODES {
                    world.announce(station, 0);
                }
                world.advance(Duration::from_secs(3))?;
                play(world, count)?;
            }
            world.settle(true)?;
            world.everybody_asks()
        });
        or_panic(result);
    }
}
