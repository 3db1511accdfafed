//! Peers of whose messages most are refused once they have been opened: for a while the driver
//! drops them, which costs others a tenth as much.
//!
//! What is refused so often comes from no sound node: its own switch would have held it back. A
//! host that moved may be refused for less than a second, and a node under an attack of its own
//! hosts limits them itself.

use std::collections::BTreeMap;
use std::time::Duration;

use omni_control::message::{PeerId, TrafficTotals};
use omni_wire::Instant;

/// So many refusals a second are too many, if they are half of what the peer sent ...
const REFUSED_MAX: u64 = 5000;
/// ... so many times in a row.
const STRIKES: u8 = 3;
/// For how long a peer is throttled. Then it has as many strikes again.
const PENALTY: Duration = Duration::from_secs(30);
/// Looks closer together than this are not judged.
const LOOK: Duration = Duration::from_millis(900);

/// What is known of a peer.
#[derive(Clone, Copy, Debug)]
struct Record {
    at: Instant,
    frames: u64,
    refused: u64,
    strikes: u8,
    until: Option<Instant>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Throttle(BTreeMap<PeerId, Record>);

impl Throttle {
    /// Looks at what a peer sent since the last look, about once a second. Says whether it is to
    /// be throttled from now on, or no more.
    pub(super) fn look(
        &mut self,
        now: Instant,
        peer: PeerId,
        totals: &TrafficTotals,
    ) -> Option<bool> {
        let record = self.0.entry(peer).or_insert(Record {
            at: now,
            frames: totals.rx_frames,
            refused: totals.refused,
            strikes: 0,
            until: None,
        });
        let span = now.since(record.at);
        if span < LOOK {
            return None;
        }
        let frames = totals.rx_frames.saturating_sub(record.frames);
        let refused = totals.refused.saturating_sub(record.refused);
        record.at = now;
        record.frames = totals.rx_frames;
        record.refused = totals.refused;
        if let Some(until) = record.until {
            if now < until {
                return None;
            }
            record.until = None;
            record.strikes = 0;
            return Some(false);
        }
        let most = u128::from(REFUSED_MAX) * span.as_nanos() / 1_000_000_000;
        // Control records count among the refused and not among the frames.
        let is_offender = u128::from(refused) > most && refused >= frames / 2;
        record.strikes = if is_offender { record.strikes + 1 } else { 0 };
        if record.strikes < STRIKES {
            return None;
        }
        record.until = Some(now + PENALTY);
        Some(true)
    }

    /// A peer is gone.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.0.remove(&peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId(3);

    /// What the looks of so many seconds say, with so many frames and refusals in each.
    fn looks(throttle: &mut Throttle, start: u64, seconds: u64, sent: (u64, u64)) -> Vec<u64> {
        let look = |second: &u64| {
            let totals = TrafficTotals {
                rx_frames: second * sent.0,
                refused: second * sent.1,
                ..TrafficTotals::default()
            };
            let now = Instant((start + second) * 1_000_000_000);
            throttle.look(now, PEER, &totals).is_some()
        };
        (0..=seconds).filter(look).collect()
    }

    #[test]
    fn who_is_refused_for_three_seconds_is_throttled_for_thirty_and_again() {
        let mut throttle = Throttle::default();
        let changes = looks(&mut throttle, 1, 70, (100_000, 99_000));
        assert_eq!(changes, [3, 33, 36, 66, 69]);
    }

    #[test]
    fn control_records_that_are_refused_count_as_well() {
        assert_eq!(looks(&mut Throttle::default(), 1, 5, (0, 10_000)), [3]);
    }

    #[test]
    fn neither_a_few_refusals_nor_many_among_more_nor_a_short_while_matter() {
        for sent in [(4000, 4000), (100_000, 40_000), (100_000, 0)] {
            let changes = looks(&mut Throttle::default(), 1, 100, sent);
            assert!(changes.is_empty(), "{sent:?}");
        }
        let mut throttle = Throttle::default();
        assert!(looks(&mut throttle, 1, 2, (50_000, 50_000)).is_empty());
        assert!(looks(&mut throttle, 10, 2, (50_000, 0)).is_empty());
        assert!(looks(&mut throttle, 20, 2, (50_000, 50_000)).is_empty());
        throttle.forget(PEER);
        assert!(throttle.0.is_empty());
    }
}
