//! A million messages, recorded and sent again: in order, backwards, shuffled, to another worker,
//! after the session was renewed, and after the receiver was restarted.

mod common;

use std::time::Duration;

use common::or_panic;
use omni_sim::{Rng, Violation, runner};
use omni_wire::DropReason;

/// Messages recorded.
const MESSAGES: usize = 1_000_000;

#[test]
fn a_million_recorded_messages_deliver_nothing_again() {
    let name = "a_million_recorded_messages_deliver_nothing_again";
    let setup = omni_sim::Setup {
        workers: Some(2),
        ..common::setup(1, 2, name)
    };
    let result = runner::run(setup, |world| {
        world.meet(Duration::from_secs(10))?;
        world.advance(Duration::from_secs(1))?;
        let capture = world.record(0, 1, MESSAGES)?;
        let sessions = world.totals().sessions;
        let mut order: Vec<usize> = (0..capture.len()).collect();
        let mut rng = Rng::new(1, 1);

        world.play(&capture, &order, |at| at % 2)?;
        // Every message reaches the worker that it did not reach before.
        world.play(&capture, &order, |at| (at + 1) % 2)?;
        order.reverse();
        world.play(&capture, &order, |_| 0)?;
        for shuffle in 0..3 {
            rng.shuffle(&mut order);
            world.play(&capture, &order, |at| (at + shuffle) % 2)?;
        }
        if world.totals().sessions != sessions {
            return Err(Violation("a replay made or ended a session".into()));
        }
        let refused = [DropReason::NonceReplayed, DropReason::NonceTooOld];
        let refused: u64 = refused.iter().map(|&reason| world.drops(reason)).sum();
        assert_eq!(
            refused,
            6 * MESSAGES as u64,
            "each was refused for what it is"
        );
        world.everybody_talks()?;

        world.renew_both(0, 1)?;
        world.advance(Duration::from_secs(1))?;
        world.play(&capture, &order, |at| at % 2)?;
        world.everybody_talks()?;

        world.restart_host(1)?;
        let before = world.drops(DropReason::UnknownSession);
        world.play(&capture, &order, |at| at % 2)?;
        let unknown = world.drops(DropReason::UnknownSession) - before;
        assert_eq!(unknown, MESSAGES as u64);
        world.everybody_talks()
    });
    or_panic(result);
}
