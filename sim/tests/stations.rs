//! Stations that move from host to host, and those who pretend to be others.

mod common;

use std::time::Duration;

use common::{or_panic, setup};
use omni_sim::{Violation, Weather, Weights, World, runner};
use omni_wire::DropReason;

const NODES: usize = 5;
/// The station behind host 0 that moves.
const MOBILE: usize = NODES;

/// Everybody knows everybody, and where everybody's IP address is.
fn meet(world: &mut World) -> Result<(), Violation> {
    world.meet(Duration::from_secs(10))?;
    for station in 0..2 * NODES {
        world.announce(station, 0);
    }
    world.advance(Duration::from_secs(3))
}

/// The mobile station speaks to everybody, and everybody to it, for so long. Says the number of
/// the first frame to it.
fn talk(world: &mut World, span: Duration) -> Result<u64, Violation> {
    let first = world.totals().frames;
    for _ in 0..span.as_millis() / 50 {
        for station in 0..NODES {
            world.send(station, Some(MOBILE), None, 10);
        }
        world.send(MOBILE, None, None, 10);
        world.advance(Duration::from_millis(50))?;
    }
    Ok(first)
}

/// Whether all hosts believe a station to be behind `host`, and each worker what its switch does.
fn is_behind(world: &World, station: usize, host: usize) -> Result<(), Violation> {
    for at in 0..NODES {
        let place = world.believed_place(at, station, 0);
        if place != Some(host) {
            let what = format!("host {at} believes station {station} at {place:?}, not {host}");
            return Err(Violation(what));
        }
    }
    world.all_agree()
}

/// Lets the mobile station move and speak, and says whether it was followed in time, and only
/// there from then on.
fn moves_to(world: &mut World, host: usize, within: Duration) -> Result<(), Violation> {
    world.place(MOBILE, host);
    if host.is_multiple_of(2) {
        world.announce(MOBILE, 0);
    }
    talk(world, within)?;
    is_behind(world, MOBILE, host)?;
    let settled = talk(world, Duration::from_secs(2))?;
    world.advance(Duration::from_millis(200))?;
    world.all_arrived(settled)?;
    for number in settled..world.totals().frames {
        let to_it = world.destination(number) == Some(MOBILE);
        if to_it && world.receivers(number).iter().any(|&at| at != host) {
            let what = format!("frame {number} came out at {:?}", world.receivers(number));
            return Err(Violation(what));
        }
    }
    Ok(())
}

#[test]
fn a_station_that_moves_during_traffic_is_followed_within_a_second_by_all() {
    let name = "a_station_that_moves_during_traffic_is_followed_within_a_second_by_all";
    for seed in 1..=10 {
        let result = runner::run(setup(seed, NODES, name), |world| {
            meet(world)?;
            talk(world, Duration::from_secs(1))?;
            for host in [1, 2] {
                moves_to(world, host, Duration::from_secs(1))?;
                // So that its IP address is known there as well.
                world.announce(MOBILE, 0);
                world.advance(Duration::from_secs(2))?;
            }
            moves_to(world, 0, Duration::from_secs(1))
        });
        or_panic(result);
    }
}

#[test]
fn a_station_that_moves_while_much_is_lost_is_followed_soon_after() {
    let name = "a_station_that_moves_while_much_is_lost_is_followed_soon_after";
    for (seed, loss) in [
        (1, 50_000),
        (2, 50_000),
        (3, 300_000),
        (4, 300_000),
        (5, 1_000_000),
    ] {
        let result = runner::run(setup(seed, NODES, name), |world| {
            meet(world)?;
            world.set_weather(Weather {
                loss,
                ..Weather::clear()
            });
            world.place(MOBILE, 3);
            talk(world, Duration::from_secs(8))?;
            world.set_weather(Weather::clear());
            // A claim in 5 seconds, and a release on every one of them.
            talk(world, Duration::from_secs(7))?;
            is_behind(world, MOBILE, 3)
        });
        or_panic(result);
    }
}

#[test]
fn a_station_of_unknown_ip_address_is_followed_once_its_old_host_is_sure() {
    let name = "a_station_of_unknown_ip_address_is_followed_once_its_old_host_is_sure";
    let result = runner::run(setup(1, NODES, name), |world| {
        world.meet(Duration::from_secs(10))?;
        world.send(MOBILE, None, None, 0);
        world.advance(Duration::from_secs(1))?;
        world.place(MOBILE, 1);
        // It may have spoken up to 31 s after it was reported, and has 5 s to speak again.
        talk(world, Duration::from_secs(38))?;
        is_behind(world, MOBILE, 1)
    });
    or_panic(result);
}

#[test]
fn a_thief_gets_nothing_and_changes_nobodys_table() {
    let name = "a_thief_gets_nothing_and_changes_nobodys_table";
    for seed in 1..=5 {
        let result = runner::run(setup(seed, NODES, name), |world| {
            meet(world)?;
            world.advance(Duration::from_secs(10))?;
            let before = world.tables();
            let refused = world.drops(DropReason::SourceMacNotOwned);
            for round in 0..400 {
                // The victim says nothing of its own accord: it answers when it is asked.
                let stolen = world.steal(2, MOBILE, None).expect("room");
                let sent = world
                    .send(1 + round % 4, Some(MOBILE), None, 0)
                    .expect("room");
                world.advance(Duration::from_millis(50))?;
                if !world.receivers(stolen).is_empty() || world.receivers(sent) != [0] {
                    let what =
                        format!("{:?}, {:?}", world.receivers(stolen), world.receivers(sent));
                    return Err(Violation(what));
                }
                is_behind(world, MOBILE, 0)?;
            }
            if world.tables() != before {
                return Err(Violation("a thief changed a table".into()));
            }
            assert!(world.drops(DropReason::SourceMacNotOwned) >= refused + 400);
            assert!(world.claims_refused() > 3, "nobody was asked");
            world.everybody_talks()
        });
        or_panic(result);
    }
}

#[test]
fn an_address_that_moved_five_times_within_three_minutes_stays_where_it_is() {
    let name = "an_address_that_moved_five_times_within_three_minutes_stays_where_it_is";
    let result = runner::run(setup(1, NODES, name), |world| {
        meet(world)?;
        for host in [1, 2, 3, 4, 1] {
            assert!(!world.is_frozen(MOBILE, 0));
            world.place(MOBILE, host);
            world.announce(MOBILE, 0);
            talk(world, Duration::from_secs(2))?;
            is_behind(world, MOBILE, host)?;
            world.announce(MOBILE, 0);
            world.advance(Duration::from_secs(1))?;
        }
        assert!(world.is_frozen(MOBILE, 0));
        world.place(MOBILE, 2);
        let first = talk(world, Duration::from_secs(20))?;
        is_behind(world, MOBILE, 1)?;
        for number in first..world.totals().frames {
            let spoke = world.destination(number).is_none();
            assert!(
                !spoke || world.receivers(number).is_empty(),
                "frame {number}"
            );
        }
        // Where it is frozen it may be.
        world.place(MOBILE, 1);
        let first = talk(world, Duration::from_secs(2))?;
        world.advance(Duration::from_secs(1))?;
        world.all_arrived(first)
    });
    or_panic(result);
}

#[test]
fn an_address_whose_host_has_gone_is_anybodys_once_it_has_aged_out() {
    let name = "an_address_whose_host_has_gone_is_anybodys_once_it_has_aged_out";
    let result = runner::run(setup(1, NODES, name), |world| {
        meet(world)?;
        world.shut_down(0);
        world.place(MOBILE, 1);
        let took = world.settle_among(1..NODES, true)?;
        let ageing = omni_engine::switch::AGEING;
        assert!(took > Duration::from_secs(200) && took < ageing + Duration::from_secs(35));
        Ok(())
    });
    or_panic(result);
}

#[test]
fn stations_move_are_replaced_stolen_and_lied_about_on_a_network_that_loses_nothing() {
    let name = "stations_move_are_replaced_stolen_and_lied_about_on_a_network_that_loses_nothing";
    for seed in 0..6 {
        let result = runner::run(setup(seed, 12, name), |world| {
            world.meet(Duration::from_secs(10))?;
            world.advance(Duration::from_secs(1))?;
            let busy = Weights::default();
            world.set_weights(Weights {
                move_station: 2 * busy.move_station,
                replace_station: busy.replace_station,
                steal: 4 * busy.steal,
                spoof: 4 * busy.spoof,
                ..Weights::calm()
            });
            world.live_through(Duration::from_secs(600))
        });
        let summary = or_panic(result);
        assert!(summary.moves > 100, "{} moves", summary.moves);
        // No host was restarted, so each knows what it gave away.
        assert!(summary.settled_in < Duration::from_secs(45));
    }
}
