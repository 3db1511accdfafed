//! Sessions that are renewed all the time, under traffic in both directions.

mod common;

use std::time::Duration;

use common::{or_panic, setup};
use omni_control::Timers;
use omni_sim::{Setup, Violation, Weather, World, runner};
use omni_wire::DropReason;

/// By how much all timers are shorter than the protocol's.
const FASTER: u32 = 100;
/// Renewals that each test waits for.
const RENEWALS: u64 = 1000;

fn timers() -> Timers {
    let Timers {
        handshake_retry,
        handshake_jitter,
        handshake_give_up,
        initiation_spacing,
        rekey_after,
        rekey_after_receiving,
        reject_after,
        retire_after,
        keepalive,
        silence,
        erase_after,
        poll,
    } = Timers::default();
    Timers {
        handshake_retry: handshake_retry / FASTER,
        handshake_jitter: handshake_jitter / FASTER,
        handshake_give_up: handshake_give_up / FASTER,
        initiation_spacing: initiation_spacing / FASTER,
        rekey_after: rekey_after / FASTER,
        rekey_after_receiving: rekey_after_receiving / FASTER,
        reject_after: reject_after / FASTER,
        retire_after: retire_after / FASTER,
        keepalive: keepalive / FASTER,
        silence: silence / FASTER,
        erase_after: erase_after / FASTER,
        poll: poll / FASTER,
    }
}

/// Latencies that are as short against the timers as real ones are against the protocol's.
fn weather() -> Weather {
    Weather {
        latency_min: Duration::from_micros(50),
        latency_max: Duration::from_millis(2),
        held_up: Duration::from_millis(10),
        ..Weather::clear()
    }
}

fn fabric(seed: u64, name: &str) -> Setup {
    Setup {
        workers: Some(2),
        timers: timers(),
        weather: weather(),
        ..setup(seed, 2, name)
    }
}

/// Both hosts send a frame every five milliseconds until the session was renewed often enough.
/// Every 0.7 s both are made to begin a handshake at the same moment.
fn talk_through_renewals(world: &mut World) -> Result<(), Violation> {
    let before = world.totals().sessions;
    let mut ticks = 0u32;
    while world.totals().sessions < before + 2 * RENEWALS {
        for (from, to) in [(0, 1), (1, 0)] {
            world.send(from, Some(to), None, 30);
        }
        ticks += 1;
        if ticks.is_multiple_of(140) {
            world.renew_both(0, 1)?;
        }
        world.advance(Duration::from_millis(5))?;
        if ticks > 500_000 {
            return Err(Violation("renewals have come to an end".into()));
        }
    }
    world.advance(Duration::from_millis(100))
}

fn lossless(seed: u64, changed: Weather, name: &str) {
    let result = runner::run(fabric(seed, name), |world| {
        world.meet(Duration::from_secs(10))?;
        world.advance(Duration::from_secs(1))?;
        world.set_weather(changed);
        let first = world.totals().frames;
        talk_through_renewals(world)?;
        world.all_arrived(first)
    });
    let summary = or_panic(result);
    assert!(summary.frames > 20_000, "{} frames", summary.frames);
}

#[test]
fn a_thousand_renewals_lose_no_frame_and_double_none() {
    lossless(
        1,
        weather(),
        "a_thousand_renewals_lose_no_frame_and_double_none",
    );
}

#[test]
fn a_thousand_renewals_among_messages_that_overtake_each_other_lose_no_frame() {
    let reordering = Weather {
        reordering: 300_000,
        ..weather()
    };
    let name = "a_thousand_renewals_among_messages_that_overtake_each_other_lose_no_frame";
    lossless(2, reordering, name);
}

/// What is missing in the end is what the network lost, and what was dropped under a name.
fn lossy(seed: u64, loss: u32, name: &str) {
    let result = runner::run(fabric(seed, name), |world| {
        world.meet(Duration::from_secs(10))?;
        world.advance(Duration::from_secs(1))?;
        world.set_weather(Weather { loss, ..weather() });
        let (first, before) = (world.totals().frames, world.totals());
        let dropped = |world: &World| -> u64 {
            let all = DropReason::ALL.iter();
            all.map(|&reason| world.drops(reason)).sum()
        };
        let dropped_before = dropped(world);
        talk_through_renewals(world)?;
        world.set_weather(weather());
        // Whatever is still under way or staged arrives.
        world.advance(Duration::from_secs(2))?;
        let after = world.totals();
        let missing = world.wanted_since(first) - (after.delivered - before.delivered);
        let lost = after.lost - before.lost;
        let explained = lost + dropped(world) - dropped_before;
        if missing < lost || missing > explained {
            let what = format!("{missing} frames are missing, {lost} to {explained} were lost");
            return Err(Violation(what));
        }
        let chance = missing as f64 / world.wanted_since(first) as f64;
        if chance > 1.2 * f64::from(loss) / 1e6 + 0.002 {
            return Err(Violation(format!("{chance:.4} of all frames are missing")));
        }
        world.everybody_talks()
    });
    or_panic(result);
}

#[test]
fn a_thousand_renewals_at_five_percent_loss_lose_what_the_network_loses() {
    let name = "a_thousand_renewals_at_five_percent_loss_lose_what_the_network_loses";
    lossy(3, 50_000, name);
}

#[test]
fn a_thousand_renewals_at_thirty_percent_loss_lose_what_the_network_loses() {
    let name = "a_thousand_renewals_at_thirty_percent_loss_lose_what_the_network_loses";
    lossy(4, 300_000, name);
}
