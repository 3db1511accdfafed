//! The path MTU towards a peer: the longest inner frame that the way to it carries, found by
//! probing with records padded to a size (RFC 8899), one machine a peer.
//!
//! ```text
//!       a session, another way or bound; 30 s or 600 s passed, and data was sent
//!      +------------------------------------------------------------------------+
//!      |                                                                        v
//!    Rest <--------------------------------------------------------------- Probing
//!              nothing is left between what is carried and what is not      |    ^
//!                                                      nothing is answered  v    |  a session,
//!                                                                           Quiet   or data
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

use omni_wire::Instant;
use omni_wire::limits::{HEADER_LEN, IPV4_LEN, IPV6_LEN, UDP_LEN};
use omni_wire::outer::Path;

use crate::message::{Command, PeerId};
use crate::random::{self, Random};

mod record;
mod search;

pub(crate) use record::Record;

use record::Token;
use search::{Answered, Losses, Search, Verdict};

/// The outer IP packet that any underlay is taken to carry, in octets (BASE_PLPMTU, RFC 8899
/// s.5.1.2).
const BASE_PACKET: usize = 1200;

/// Outer IP packets that are probed first, in octets, as they are what underlays carry: IPv6's
/// least, tunnels, cloud networks, PPPoE, Ethernet and its jumbo frames. From below, since what is
/// answered costs a round trip, and what is not costs seconds.
const PLAUSIBLE_PACKETS: [usize; 9] = [1280, 1400, 1450, 1460, 1472, 1480, 1492, 1500, 9000];

/// How long an answer is waited for before the next probe (PROBE_TIMER, RFC 8899 s.5.1.1).
const PROBE_TIMER: Duration = Duration::from_secs(1);

/// How often the limit is confirmed while data is sent: as long as a black hole stays unnoticed.
const CONFIRM_AFTER: Duration = Duration::from_secs(30);

/// Age of a search from which a greater size is tried again (PMTU_RAISE_TIMER, RFC 8899 s.5.1.1).
const RAISE_AFTER: Duration = Duration::from_secs(600);

/// How long a peer that answers nothing is left alone at first; each time twice as long, and
/// [`RAISE_AFTER`] at most.
const QUIET: Duration = Duration::from_secs(30);

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
        let mut search = Search::new(good, way.most);
        search.is_settled = good != way.base();
        self.begin(now, search, hands);
    }

    fn confirm(&mut self, now: Instant, way: Way, hands: &mut Hands<'_>) {
        let Some(limit) = self.limit else { return };
        let mut search = Search::new(way.base(), limit);
        search.confirms = true;
        self.begin(now, search, hands);
    }

    /// Probes at once, unless a probe has just left: ways that change quickly cause no more
    /// probes than that.
    fn begin(&mut self, now: Instant, mut search: Search, hands: &mut Hands<'_>) {
        if search.size <= search.good {
            // Nothing is left to be asked.
            self.phase = Phase::Rest;
            self.searched_at = now;
            if self.limit.is_some() {
                self.tell(search.size, hands);
            }
            return;
        }
        search.due = self.probed_at.map_or(now, |at| now.max(at + PROBE_TIMER));
        let is_due = search.due == now;
        self.phase = Phase::Probing(search);
        if is_due {
            self.ask(now, hands);
        }
    }

    /// Sends the next round: the size in question, and from the second round on a small probe
    /// beside it.
    fn ask(&mut self, now: Instant, hands: &mut Hands<'_>) {
        let (Some(way), Phase::Probing(search)) = (self.way, &mut self.phase) else {
            return;
        };
        let size = hands.probe(search.size);
        let base = search.has_begun().then(|| hands.probe(way.base()));
        search.sent(size, base);
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
            search.turn_to(next);
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

#[cfg(test)]
mod tests;
