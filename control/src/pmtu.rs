//! The path MTU towards a peer: the longest inner frame that the way to it carries, found by
//! probing with records padded to a size (RFC 8899), one machine a peer.
//!
//! ```text
//!           a session or a way, never confirmed      answered, or nothing left to halve
//!    Rest ----------------------------------> Probing ----------------------------> Rest
//!     ^   30 s, data went: the limit again     | ^
//!     |   600 s, data went: the upper bound    | | 30 s and more, data went; a session
//!     |                                        v |
//!     +------- the limit stays as it is ----- Quiet   nothing at all was answered
//! ```
//!
//! A record of n octets takes the same outer packet as a frame of n octets, so sizes are those of
//! inner frames throughout. The upper bound, which is what both sides accept, is taken to work
//! until probes show that it does not. They do so only when a small probe beside them is answered:
//! a peer that says nothing says nothing about sizes. Then the limit falls to what any underlay is
//! taken to carry, and rises again with every size that is answered.
//!
//! What the underlay says of sizes (ICMP) is not asked: anyone could say it. Not in here: what
//! happens to frames that are too long, which is the workers' part.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use omni_wire::Instant;
use omni_wire::limits::{HEADER_LEN, IPV4_LEN, IPV6_LEN, UDP_LEN};
use omni_wire::outer::Path;

use crate::message::{Command, PeerId};
use crate::random::{self, Random};

/// The outer IP packet that any underlay is taken to carry, in octets (BASE_PLPMTU, RFC 8899
/// s.5.1.2).
const BASE_PACKET: usize = 1200;

/// Outer IP packets that are probed first, in octets, as they are what underlays carry: IPv6's
/// least, tunnels, cloud networks, PPPoE, Ethernet and its jumbo frames. From below, since what is
/// answered costs a round trip, and what is not costs seconds.
const PLAUSIBLE_PACKETS: [usize; 9] = [1280, 1400, 1450, 1460, 1472, 1480, 1492, 1500, 9000];

/// The search ends when the least size that is not carried is as near to the limit, in octets.
const PRECISION: u16 = 8;

/// How long an answer is waited for before the next probe (PROBE_TIMER, RFC 8899 s.5.1.1).
const PROBE_TIMER: Duration = Duration::from_secs(1);

/// How often the limit is confirmed while data is sent: as long as a black hole stays unnoticed.
const CONFIRM_AFTER: Duration = Duration::from_secs(30);

/// Age of a search from which a greater size is tried again (PMTU_RAISE_TIMER, RFC 8899 s.5.1.1).
const RAISE_AFTER: Duration = Duration::from_secs(600);

/// Unanswered small probes in a row after which the peer is left alone.
const SILENT_ROUNDS: u8 = 8;

/// How long it is left alone at first; each time twice as long, and [`RAISE_AFTER`] at most.
const QUIET: Duration = Duration::from_secs(30);

/// Rounds of which answers are still accepted.
const ROUNDS_KEPT: usize = 8;

/// Recognises the answer to a probe.
pub(crate) type Token = [u8; 8];

/// The way to a peer, while there is a session to send in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Way {
    pub(crate) path: Path,
    /// The longest inner frame that both sides accept, in octets.
    pub(crate) most: u16,
}

impl Way {
    /// The inner frame that makes an outer IP packet of `packet` octets.
    fn inner(&self, packet: usize) -> u16 {
        let ip = if self.path.endpoint.is_ipv4() {
            IPV4_LEN
        } else {
            IPV6_LEN
        };
        u16::try_from(packet.saturating_sub(ip + UDP_LEN + HEADER_LEN)).unwrap_or(u16::MAX)
    }

    /// The inner frame that is taken to be carried whatever happens.
    fn base(&self) -> u16 {
        self.inner(BASE_PACKET).min(self.most)
    }

    fn plausible(&self) -> impl Iterator<Item = u16> {
        PLAUSIBLE_PACKETS.iter().map(|&packet| self.inner(packet))
    }
}

/// Where orders go, and where tokens come from.
pub(crate) struct Hands<'a> {
    pub(crate) peer: PeerId,
    pub(crate) rng: &'a mut dyn Random,
    pub(crate) commands: &'a mut VecDeque<Command>,
}

impl Hands<'_> {
    /// Sends a probe of `octets`. Returns what its answer will show.
    fn probe(&mut self, octets: u16) -> Token {
        let token = random::token(self.rng);
        let record = Record::Probe { token, octets };
        self.commands.push_back(record.to(self.peer));
        token
    }
}

/// What is known about the way to one peer, and what is being found out.
#[derive(Default)]
pub(crate) struct PathMtu {
    /// The latest one; whether it can be used now, the caller knows.
    way: Option<Way>,
    /// What the workers were told; `None` while what the peer accepts is all that limits.
    limit: Option<u16>,
    /// When a frame of that size was last known to arrive by this way.
    confirmed_at: Option<Instant>,
    /// When greater sizes were last tried.
    searched_at: Instant,
    probed_at: Option<Instant>,
    /// How often the peer was left alone since it last answered.
    given_up: u32,
    losses: Losses,
    phase: Phase,
}

#[derive(Default)]
enum Phase {
    /// Nothing is to be found out now.
    #[default]
    Rest,
    Probing(Search),
    /// The peer answered nothing, and is not asked until data was sent after `since`.
    Quiet {
        since: Instant,
        until: Instant,
    },
}

impl PathMtu {
    /// The longest inner frame that is known to be carried, in octets; `None` before anything is.
    pub(crate) const fn limit(&self) -> Option<u16> {
        self.limit
    }

    /// A session became usable, the path was set, or one side accepts other frames than before.
    ///
    /// What was confirmed for this very way is not asked again while it is young. A limit outlives
    /// a change of the way, until it is known how much the new one carries: what fitted before is
    /// the better guess than all, and costs one round trip at most.
    pub(crate) fn follow(&mut self, now: Instant, way: Way, hands: &mut Hands<'_>) {
        let before = self.way.replace(way);
        if self.limit.is_some_and(|limit| limit > way.most) {
            self.tell(way.most, hands);
        }
        let Some(before) = before.filter(|before| before.path == way.path) else {
            self.confirmed_at = None;
            self.losses = Losses::default();
            return self.search(now, hands);
        };
        if before.most == way.most {
            return self.resume(now, hands);
        }
        let is_at_rest = matches!(self.phase, Phase::Rest);
        let is_cut = self.limit.is_some_and(|limit| limit < before.most);
        if is_at_rest && (is_cut || self.limit == Some(way.most)) {
            self.resume(now, hands);
        } else {
            self.search(now, hands);
        }
    }

    /// When [`PathMtu::handle_timeout`] is to be called, given when data was last sent.
    pub(crate) fn deadline(&self, data_at: Option<Instant>) -> Option<Instant> {
        match &self.phase {
            Phase::Probing(search) => Some(search.due),
            Phase::Quiet { since, until } => (data_at > Some(*since)).then_some(*until),
            Phase::Rest => {
                let due = [self.confirm_due(data_at), self.raise_due(data_at)];
                due.into_iter().flatten().min()
            }
        }
    }

    /// Does what is due, given when data was last sent.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        data_at: Option<Instant>,
        hands: &mut Hands<'_>,
    ) {
        let Some(way) = self.way else { return };
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        let raise = self.raise_due(data_at);
        if !is_due(self.deadline(data_at)) {
            return;
        }
        match &mut self.phase {
            Phase::Probing(search) => match search.judge(&self.losses) {
                Verdict::Open => self.ask(now, hands),
                Verdict::TooLong => self.judged(now, false, hands),
                Verdict::Silent => self.give_up(now),
            },
            Phase::Quiet { .. } => self.search(now, hands),
            // A greater size says as much as the limit, when it is answered.
            Phase::Rest if is_due(raise) => self.search(now, hands),
            Phase::Rest => self.confirm(now, way, hands),
        }
    }

    /// Takes in an answer: which probe it names, and what it says arrived. False when no such
    /// probe is under way; nothing changed then.
    pub(crate) fn handle_answer(
        &mut self,
        now: Instant,
        token: Token,
        octets: u16,
        hands: &mut Hands<'_>,
    ) -> bool {
        let (Some(way), Phase::Probing(search)) = (self.way, &mut self.phase) else {
            return false;
        };
        match search.answered(token, octets, way.base()) {
            Some(Answered::Base { lost }) => self.losses.note(lost),
            Some(Answered::Size { lost }) => {
                self.losses.note(lost);
                self.judged(now, true, hands);
            }
            None => return false,
        }
        self.given_up = 0;
        true
    }

    /// When the limit is to be confirmed. A limit that is the base can only be raised.
    fn confirm_due(&self, data_at: Option<Instant>) -> Option<Instant> {
        let (way, limit, at) = (self.way?, self.limit?, self.confirmed_at?);
        (limit > way.base() && data_at > Some(at)).then(|| at + CONFIRM_AFTER)
    }

    /// When greater sizes are to be tried: not before data is sent that might profit.
    fn raise_due(&self, data_at: Option<Instant>) -> Option<Instant> {
        let (is_cut, due) = (self.limit? < self.way?.most, self.searched_at + RAISE_AFTER);
        (is_cut && data_at >= Some(due)).then_some(due)
    }

    fn is_confirmed(&self, now: Instant) -> bool {
        let confirmed = self.confirmed_at;
        confirmed.is_some_and(|at| now.since(at) < RAISE_AFTER)
    }

    /// Goes on after a pause between sessions, or in a new session where the last one was.
    fn resume(&mut self, now: Instant, hands: &mut Hands<'_>) {
        let goes_on = match &self.phase {
            Phase::Rest => self.is_confirmed(now),
            Phase::Probing(search) => now < search.due + PROBE_TIMER,
            Phase::Quiet { .. } => false,
        };
        if !goes_on {
            self.search(now, hands);
        }
    }

    /// Looks for the largest size, the upper bound first: from the limit on where that is
    /// confirmed, else from the base on.
    fn search(&mut self, now: Instant, hands: &mut Hands<'_>) {
        let Some(way) = self.way else { return };
        let confirmed = self.limit.filter(|_| self.is_confirmed(now));
        let good = confirmed.map_or(way.base(), |limit| limit.max(way.base()));
        let search = Search {
            good,
            bad: way.most.saturating_add(1),
            size: way.most,
            is_settled: good != way.base(),
            confirms: false,
            ..Search::default()
        };
        self.begin(now, search, hands);
    }

    fn confirm(&mut self, now: Instant, way: Way, hands: &mut Hands<'_>) {
        let Some(limit) = self.limit else { return };
        let search = Search {
            good: way.base(),
            bad: limit.saturating_add(1),
            size: limit,
            confirms: true,
            ..Search::default()
        };
        self.begin(now, search, hands);
    }

    /// Probes at once, unless a probe has just left: ways that change quickly cause no more
    /// probes than that.
    fn begin(&mut self, now: Instant, search: Search, hands: &mut Hands<'_>) {
        if search.size <= search.good {
            // Nothing is left to be asked.
            self.phase = Phase::Rest;
            self.searched_at = now;
            if self.limit.is_some() {
                self.tell(search.size, hands);
            }
            return;
        }
        let due = self.probed_at.map_or(now, |at| now.max(at + PROBE_TIMER));
        self.phase = Phase::Probing(Search { due, ..search });
        if due == now {
            self.ask(now, hands);
        }
    }

    /// Sends the next round: the size in question, and from the second round on a small probe
    /// beside it.
    fn ask(&mut self, now: Instant, hands: &mut Hands<'_>) {
        let (Some(way), Phase::Probing(search)) = (self.way, &mut self.phase) else {
            return;
        };
        if search.rounds.len() >= ROUNDS_KEPT {
            search.rounds.pop_front();
        }
        let size = hands.probe(search.size);
        let base = (search.sent > 0).then(|| hands.probe(way.base()));
        search.rounds.push_back(Round {
            size,
            base,
            is_heard: false,
        });
        search.sent = search.sent.saturating_add(1);
        search.due = now + PROBE_TIMER;
        self.probed_at = Some(now);
    }

    /// It is known whether the size in question is carried. Goes on with the next one.
    fn judged(&mut self, now: Instant, is_carried: bool, hands: &mut Hands<'_>) {
        let (Some(way), Phase::Probing(search)) = (self.way, &mut self.phase) else {
            return;
        };
        let (size, limit) = (search.size, self.limit);
        search.note(is_carried, &way, limit);
        let (good, next) = (search.good, search.next(&way, limit));
        if let Some(next) = next {
            search.size = next;
            search.rounds.clear();
            (search.sent, search.heard, search.silent) = (0, 0, 0);
        }
        let (confirms, base) = (search.confirms, way.base());
        let confirmed = if is_carried {
            limit.is_none_or(|limit| size >= limit)
        } else {
            // The base was answered. What is told to the workers is too long, or the base itself.
            limit.is_none_or(|limit| limit >= size || limit <= base)
        };
        if confirmed {
            self.confirmed_at = Some(now);
            self.tell(good, hands);
        }
        if next.is_some() {
            self.ask(now, hands);
            return;
        }
        self.phase = Phase::Rest;
        if !confirms {
            self.searched_at = now;
        }
    }

    /// The peer answers nothing.
    fn give_up(&mut self, now: Instant) {
        let span = (QUIET * (1 << self.given_up.min(8))).min(RAISE_AFTER);
        self.given_up = self.given_up.saturating_add(1);
        self.phase = Phase::Quiet {
            since: now,
            until: now + span,
        };
    }

    fn tell(&mut self, octets: u16, hands: &mut Hands<'_>) {
        if self.limit.replace(octets) != Some(octets) {
            let peer = hands.peer;
            hands
                .commands
                .push_back(Command::SetFrameLimit { peer, octets });
        }
    }
}

/// The search for the largest size that is carried.
#[derive(Default)]
struct Search {
    /// The largest size that is known to be carried, or taken to be.
    good: u16,
    /// The least size that is known not to be carried, or above all that is asked for.
    bad: u16,
    /// What is being probed.
    size: u16,
    /// Whether `good` is a size that underlays have: little above it is carried then.
    is_settled: bool,
    /// Only asks whether the limit still holds.
    confirms: bool,
    /// When the newest round had its time, or the first one is to be sent.
    due: Instant,
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

enum Verdict {
    Open,
    TooLong,
    Silent,
}

/// A probe was answered. What was `lost` before it was no matter of size, nor silence.
enum Answered {
    Size { lost: u8 },
    Base { lost: u8 },
}

impl Search {
    /// The newest round had its time.
    fn judge(&mut self, losses: &Losses) -> Verdict {
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
    fn answered(&mut self, token: Token, octets: u16, base: u16) -> Option<Answered> {
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

    fn note(&mut self, is_carried: bool, way: &Way, limit: Option<u16>) {
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
    fn next(&self, way: &Way, limit: Option<u16>) -> Option<u16> {
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
struct Losses {
    heard: u8,
    lost: u8,
}

impl Losses {
    /// One was answered after `lost` that were not.
    fn note(&mut self, lost: u8) {
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

/// Length of kind, zero and length of body, before every body (`PROTOCOL` section 5).
const RECORD_PREFIX: usize = 4;
const KIND_PROBE: u8 = 16;
const KIND_ANSWER: u8 = 17;

/// A record of path MTU discovery.
///
/// # Layout
///
/// | offset | size | probe | answer |
/// |---|---|---|---|
/// | 0 | 4 | kind 16, zero, length of the rest | kind 17, zero, 10 |
/// | 4 | 8 | token | token of the probe |
/// | 12 | | zeros up to the size probed | length of the probe's record (2) |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Record {
    /// To be answered with its token and its length.
    Probe {
        token: Token,
        /// Of the whole record.
        octets: u16,
    },
    /// A probe arrived.
    Answer {
        token: Token,
        /// Of the whole record that arrived.
        octets: u16,
    },
}

impl Record {
    /// Whether a record of this kind is one of path MTU discovery, well-formed or not.
    pub(crate) fn is_of_kind(record: &[u8]) -> bool {
        matches!(record.first(), Some(&(KIND_PROBE | KIND_ANSWER)))
    }

    /// `None` for other kinds, and when lengths do not agree.
    pub(crate) fn parse(record: &[u8]) -> Option<Self> {
        let (prefix, body) = record.split_first_chunk::<RECORD_PREFIX>()?;
        let &[kind, _, high, low] = prefix;
        if usize::from(u16::from_be_bytes([high, low])) != body.len() {
            return None;
        }
        let (&token, rest) = body.split_first_chunk()?;
        match kind {
            KIND_PROBE => Some(Self::Probe {
                token,
                octets: u16::try_from(record.len()).ok()?,
            }),
            KIND_ANSWER => Some(Self::Answer {
                token,
                octets: u16::from_be_bytes(*rest.first_chunk()?),
            }),
            _ => None,
        }
    }

    /// The order to send it. Probes are never shorter than their token ends.
    pub(crate) fn to(self, peer: PeerId) -> Command {
        let (kind, token, tail) = match self {
            Self::Probe { token, octets } => {
                let padding = usize::from(octets).saturating_sub(RECORD_PREFIX + token.len());
                (KIND_PROBE, token, vec![0; padding])
            }
            Self::Answer { token, octets } => (KIND_ANSWER, token, octets.to_be_bytes().to_vec()),
        };
        let length = (token.len() + tail.len()) as u16;
        let [high, low] = length.to_be_bytes();
        let record = [&[kind, 0, high, low], &token[..], &tail].concat();
        Command::SendRecord {
            peer,
            record: Arc::from(record),
        }
    }
}

#[cfg(test)]
mod tests;
