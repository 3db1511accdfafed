//! The search for the largest size that is carried: what was sent, what that says of one size,
//! and which size is next.

use std::collections::VecDeque;

use omni_wire::Instant;

use super::Way;
use super::record::Token;

/// The search ends when the least size that is not carried is as near to the limit, in octets.
pub(super) const PRECISION: u16 = 8;

/// Unanswered small probes in a row after which the peer is left alone.
const SILENT_ROUNDS: u8 = 8;

/// Rounds of which answers are still accepted.
const ROUNDS_KEPT: usize = 8;

/// The search for the largest size that is carried.
#[derive(Default)]
pub(super) struct Search {
    /// The largest size that is known to be carried, or taken to be.
    pub(super) good: u16,
    /// The least size that is known not to be carried, or above all that is asked for.
    pub(super) bad: u16,
    /// What is being probed.
    pub(super) size: u16,
    /// Whether `good` is likely to be the end of it: a size that underlays have, or had before.
    pub(super) is_settled: bool,
    /// Only asks whether the limit still holds.
    pub(super) confirms: bool,
    /// When the newest round had its time, or the first one is to be sent.
    pub(super) due: Instant,
    /// The newest last.
    rounds: VecDeque<Round>,
    /// Rounds sent for this size.
    sent: u8,
    /// Of them, those whose small probe was answered.
    heard: u8,
    /// Small probes without an answer in a row.
    silent: u8,
}

/// What was sent together.
struct Round {
    size: Token,
    base: Option<Token>,
    is_heard: bool,
}

/// What unanswered probes say.
pub(super) enum Verdict {
    /// Nothing yet.
    Open,
    /// Small ones arrive, and those in question do not.
    TooLong,
    /// Nothing arrives.
    Silent,
}

/// A probe was answered. What was `lost` before it was no matter of size, nor silence.
pub(super) enum Answered {
    Size { lost: u8 },
    Base { lost: u8 },
}

impl Search {
    /// A search from a size that is carried up to `most`, which is in question first.
    pub(super) fn new(good: u16, most: u16) -> Self {
        Self {
            good,
            bad: most.saturating_add(1),
            size: most,
            ..Self::default()
        }
    }

    /// Whether a round was sent for this size.
    pub(super) const fn has_begun(&self) -> bool {
        self.sent > 0
    }

    /// A round was sent: a probe of the size in question, and a small one beside it.
    pub(super) fn sent(&mut self, size: Token, base: Option<Token>) {
        if self.rounds.len() >= ROUNDS_KEPT {
            self.rounds.pop_front();
        }
        self.rounds.push_back(Round {
            size,
            base,
            is_heard: false,
        });
        self.sent = self.sent.saturating_add(1);
    }

    /// Another size is in question.
    pub(super) fn turn_to(&mut self, size: u16) {
        self.size = size;
        self.rounds.clear();
        (self.sent, self.heard, self.silent) = (0, 0, 0);
    }

    /// The newest round had its time.
    pub(super) fn judge(&mut self, losses: &Losses) -> Verdict {
        let newest = self.rounds.back();
        if newest.is_some_and(|round| round.base.is_some() && !round.is_heard) {
            self.silent += 1;
        }
        // The first round has no small probe.
        let needed = losses.misses_needed();
        if self.sent >= needed && self.heard + 1 >= needed {
            Verdict::TooLong
        } else if self.silent >= SILENT_ROUNDS {
            Verdict::Silent
        } else {
            Verdict::Open
        }
    }

    /// Which probe this answers. One answers only once, and only with the size that was sent.
    pub(super) fn answered(&mut self, token: Token, octets: u16, base: u16) -> Option<Answered> {
        for round in &mut self.rounds {
            if round.size == token && octets == self.size {
                let lost = self.sent.saturating_sub(1).saturating_add(self.silent);
                return Some(Answered::Size { lost });
            }
            if round.base == Some(token) && octets == base && !round.is_heard {
                round.is_heard = true;
                self.heard = self.heard.saturating_add(1);
                let lost = std::mem::take(&mut self.silent);
                return Some(Answered::Base { lost });
            }
        }
        None
    }

    /// It is known whether the size in question is carried.
    pub(super) fn note(&mut self, is_carried: bool, way: &Way, limit: Option<u16>) {
        if is_carried {
            self.good = self.size;
            let mut usual = way.plausible().chain(limit);
            self.is_settled = usual.any(|size| size == self.size);
        } else {
            self.bad = self.size;
            self.confirms = false;
        }
    }

    /// What is to be probed next; `None` when `good` is near enough.
    pub(super) fn next(&self, way: &Way, limit: Option<u16>) -> Option<u16> {
        let gap = self.bad.saturating_sub(self.good);
        if gap <= PRECISION {
            return None;
        }
        let mut likely = limit.into_iter().chain(way.plausible());
        let step = if self.is_settled { PRECISION } else { gap / 2 };
        let likely = likely.find(|size| (self.good + 1..self.bad).contains(size));
        Some(likely.unwrap_or(self.good + step))
    }
}

/// How much gets lost whatever its size.
#[derive(Default)]
pub(super) struct Losses {
    heard: u8,
    lost: u8,
}

impl Losses {
    /// One was answered after `lost` that were not.
    /// It is known whether the size in question is carried.
    pub(super) fn note(&mut self, lost: u8) {
        self.heard += 1;
        self.lost = self.lost.saturating_add(lost);
        while self.heard.saturating_add(self.lost) >= 32 {
            self.heard /= 2;
            self.lost /= 2;
        }
    }

    /// Probes of a size that must stay unanswered until it counts as too long: MAX_PROBES of
    /// RFC 8899 s.5.1.2, and more where losses have other reasons.
    const fn misses_needed(&self) -> u8 {
        match (self.heard, self.lost) {
            (_, 0) => 3,
            (heard, lost) if lost * 8 <= heard => 5,
            _ => 8,
        }
    }
}
