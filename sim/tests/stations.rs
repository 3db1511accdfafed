//! Stations that move from host to host.

mod common;

use std::time::Duration;

use common::{or_panic, setup};
use omni_engine::datapath::owned::REPORT_INTERVAL;
use omni_engine::switch::AGEING;
use omni_sim::runner;
use omni_wire::DropReason;

const NODES: usize = 3;
/// The station behind host 0 that moves.
const MOBILE: usize = NODES;

#[test]
fn an_address_stays_with_its_first_host_until_it_has_aged_out() {
    let name = "an_address_stays_with_its_first_host_until_it_has_aged_out";
    let result = runner::run(setup(1, NODES, name), |world| {
        world.meet(Duration::from_secs(10))?;
        let spoke = world.send(MOBILE, None, None, 0).expect("room");
        world.advance(Duration::from_secs(1))?;
        assert_eq!(world.receivers(spoke), [1, 2]);

        world.place(MOBILE, 1);
        let refused = world.drops(DropReason::SourceMacNotOwned);
        let mut waited = Duration::ZERO;
        while waited < AGEING - Duration::from_secs(5) {
            let early = world.send(MOBILE, None, None, 0).expect("room");
            world.advance(Duration::from_secs(5))?;
            waited += Duration::from_secs(5);
            assert!(world.receivers(early).is_empty(), "after {waited:?}");
        }
        assert!(world.drops(DropReason::SourceMacNotOwned) > refused);
        // Each host forgets by itself, and each worker hears of it from the control thread.
        world.advance(REPORT_INTERVAL)?;
        let late = world.send(MOBILE, None, None, 0).expect("room");
        world.advance(Duration::from_secs(1))?;
        assert_eq!(world.receivers(late), [0, 2]);

        let answer = world.send(0, Some(MOBILE), None, 0).expect("room");
        world.advance(Duration::from_secs(1))?;
        assert_eq!(world.receivers(answer), [1]);
        world.all_agree()
    });
    or_panic(result);
}
