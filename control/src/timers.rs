//! When something is due with a peer: the protocol's timers (section 4), as functions of what
//! is known about the peer. Nothing is armed or cancelled, so nothing can be forgotten.

use core::time::Duration;

use omni_wire::{Instant, limits};

use crate::message::{Role, TrafficTotals};
use crate::peer::Peer;

/// The values of all timers. [`Default`] gives the protocol's; tests may scale them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timers {
    /// Time without an answer after which an initiation is sent again.
    pub handshake_retry: Duration,
    /// The most that is added to it at random.
    pub handshake_jitter: Duration,
    /// Time after which a handshake without an answer is given up.
    pub handshake_give_up: Duration,
    /// The least time between two initiations of one peer that are answered.
    pub initiation_spacing: Duration,
    /// Age from which a session's initiator renews it when it sends.
    pub rekey_after: Duration,
    /// Age from which a session's initiator renews it even when it only receives: early enough
    /// for one retry and for the other side's keepalive to come before `reject_after`.
    pub rekey_after_receiving: Duration,
    /// Age from which a session is not used any more.
    pub reject_after: Duration,
    /// How long the session before the previous one still receives what is in flight in it.
    pub retire_after: Duration,
    /// Time after receiving data without having sent anything, after which a keepalive is sent.
    pub keepalive: Duration,
    /// Time after sending data without having heard anything, after which the peer is taken to
    /// have lost the session: it owed a keepalive, and one retry's time for that to arrive.
    pub silence: Duration,
    /// Time after the last new session after which all keys are erased.
    pub erase_after: Duration,
    /// How often traffic is looked at while there is a session or a handshake.
    pub poll: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            handshake_retry: limits::HANDSHAKE_RETRY,
            handshake_jitter: limits::HANDSHAKE_JITTER,
            handshake_give_up: limits::HANDSHAKE_GIVE_UP,
            initiation_spacing: Duration::from_millis(20),
            rekey_after: limits::REKEY_AFTER_TIME,
            rekey_after_receiving: limits::REJECT_AFTER_TIME
                - limits::KEEPALIVE
                - limits::HANDSHAKE_RETRY,
            reject_after: limits::REJECT_AFTER_TIME,
            retire_after: Duration::from_secs(5),
            keepalive: limits::KEEPALIVE,
            silence: limits::KEEPALIVE.saturating_add(limits::HANDSHAKE_RETRY),
            erase_after: limits::ERASE_AFTER,
            poll: Duration::from_millis(500),
        }
    }
}

/// What can be due with a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timer {
    /// A session reached its age limit.
    Expire,
    /// No new session for so long that nothing of the old ones may remain.
    Erase,
    /// A handshake had its time.
    GiveUp,
    /// An initiation is to be sent (again).
    Retry,
    /// The current session is to be renewed.
    Rekey,
    /// Data was sent, and nothing came back.
    Silence,
    /// Data was received, and nothing was sent back.
    Keepalive,
    /// The path MTU is to be asked for, or an answer did not come.
    PathMtu,
}

impl Timer {
    /// In the order in which those that are due together fire: what ends comes before what
    /// would be sent in vain.
    pub(crate) const ALL: [Self; 8] = [
        Self::Expire,
        Self::Erase,
        Self::GiveUp,
        Self::Retry,
        Self::Rekey,
        Self::Silence,
        Self::Keepalive,
        Self::PathMtu,
    ];

    /// When it is due with `peer`; `None` = not as things are.
    pub(crate) fn deadline(self, peer: &Peer, timers: &Timers) -> Option<Instant> {
        match self {
            Self::Expire => peer.sessions.next_expiry(timers.reject_after),
            Self::Erase => peer.last_session_at.map(|at| at + timers.erase_after),
            Self::GiveUp => peer
                .attempt
                .as_ref()
                .map(|a| a.started_at + timers.handshake_give_up),
            Self::Retry => peer.attempt.as_ref().map(|attempt| attempt.send_at),
            Self::Rekey => rekey_deadline(peer, timers),
            Self::Silence if peer.attempt.is_some() => None,
            Self::Silence => peer.watch.unanswered_since.map(|at| at + timers.silence),
            Self::Keepalive => {
                peer.sessions.current.as_ref()?;
                peer.watch.owed_since.map(|at| at + timers.keepalive)
            }
            Self::PathMtu => {
                peer.sessions.current.as_ref()?;
                peer.path?;
                peer.path_mtu.deadline(peer.watch.last_tx_data)
            }
        }
    }
}

/// When the current session is to be renewed by us, as far as traffic has shown that it is used.
fn rekey_deadline(peer: &Peer, timers: &Timers) -> Option<Instant> {
    let current = peer.sessions.current.as_ref()?;
    if peer.attempt.is_some() {
        return None;
    }
    // What control threads tell each other now and then is no use of a session; data is, and what
    // answers data.
    let sent = peer.watch.last_tx_data.max(peer.watch.keepalive_at);
    let sent_since = |at| (sent >= Some(at)).then_some(at);
    let received_since = |at| (peer.watch.last_rx_data >= Some(at)).then_some(at);
    let due = match current.role {
        Role::Initiator => sent_since(current.rekey_at)
            .or_else(|| received_since(current.established_at + timers.rekey_after_receiving)),
        Role::Responder if peer.sessions.are_crossed(timers.handshake_retry) => {
            let patience = if peer.outranks_us { 2 } else { 1 };
            sent_since(current.rekey_at + timers.handshake_retry * patience)
        }
        Role::Responder => None,
    }?;
    // The peer is renewing it already, and only its first message is still missing.
    let next = peer.sessions.next.as_ref();
    Some(next.map_or(due, |next| {
        due.max(next.established_at + timers.handshake_retry)
    }))
}

/// What the workers' traffic says about who owes whom a sign of life.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// When data was last sent.
    pub(crate) last_tx_data: Option<Instant>,
    /// When data last verified.
    pub(crate) last_rx_data: Option<Instant>,
    /// When the first data was sent that nothing was heard after.
    pub(crate) unanswered_since: Option<Instant>,
    /// When the first data was received that nothing was sent after.
    pub(crate) owed_since: Option<Instant>,
    /// When we last acted upon silence: what was sent before does not count again.
    silence_at: Option<Instant>,
    /// When we last ordered a keepalive: it counts as sent even before a worker got to it.
    keepalive_at: Option<Instant>,
}

impl Watch {
    /// Takes in what the workers saw. A verified handshake message counts as heard.
    pub(crate) fn observe(&mut self, totals: &TrafficTotals, last_handshake: Option<Instant>) {
        let heard = totals.last_rx.max(last_handshake).max(self.silence_at);
        let sent = totals.last_tx.max(self.keepalive_at);
        self.unanswered_since = first_after(heard, self.unanswered_since, totals.last_tx_data);
        self.owed_since = first_after(sent, self.owed_since, totals.last_rx_data);
        self.last_tx_data = totals.last_tx_data;
        self.last_rx_data = totals.last_rx_data;
    }

    /// Silence was acted upon.
    pub(crate) fn silence_handled(&mut self, now: Instant) {
        self.silence_at = Some(now);
        self.unanswered_since = None;
    }

    /// A keepalive was ordered.
    pub(crate) fn keepalive_ordered(&mut self, now: Instant) {
        self.keepalive_at = Some(now);
        self.owed_since = None;
    }
}

/// The first event after `answer`: the one that was known already, else the latest one seen.
fn first_after(
    answer: Option<Instant>,
    known: Option<Instant>,
    latest: Option<Instant>,
) -> Option<Instant> {
    let latest = latest.filter(|&at| Some(at) > answer)?;
    known.filter(|&at| Some(at) > answer).or(Some(latest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Option<Instant> {
        Some(Instant(seconds * 1_000_000_000))
    }

    #[test]
    fn defaults_are_the_protocols() {
        let timers = Timers::default();
        let seconds = |span: Duration| span.as_secs();
        assert_eq!(seconds(timers.handshake_retry), 5);
        assert_eq!(timers.handshake_jitter.as_millis(), 333);
        assert_eq!(seconds(timers.handshake_give_up), 90);
        assert_eq!(seconds(timers.rekey_after), 120);
        assert_eq!(seconds(timers.rekey_after_receiving), 165);
        assert_eq!(seconds(timers.reject_after), 180);
        assert_eq!(seconds(timers.keepalive), 10);
        assert_eq!(seconds(timers.silence), 15);
        assert_eq!(seconds(timers.erase_after), 540);
    }

    #[test]
    fn waiting_counts_from_the_first_unanswered_event_not_from_the_last() {
        let since = first_after(s(3), None, s(4));
        assert_eq!(since, s(4));
        let since = first_after(s(3), since, s(9));
        assert_eq!(since, s(4));
        let since = first_after(s(5), since, s(9));
        assert_eq!(since, s(9), "the answer at 5 covers the event at 4");
        assert_eq!(first_after(s(9), since, s(9)), None);
    }

    #[test]
    fn a_handshake_counts_as_heard() {
        let mut watch = Watch::default();
        let totals = TrafficTotals {
            last_tx_data: s(5),
            ..TrafficTotals::default()
        };
        watch.observe(&totals, s(4));
        assert_eq!(watch.unanswered_since, s(5));
        watch.observe(&totals, s(6));
        assert_eq!(watch.unanswered_since, None);
    }

    #[test]
    fn an_ordered_keepalive_is_not_ordered_again_for_the_same_data() {
        let mut watch = Watch::default();
        let totals = TrafficTotals {
            last_rx: s(5),
            last_rx_data: s(5),
            ..TrafficTotals::default()
        };
        watch.observe(&totals, None);
        assert_eq!(watch.owed_since, s(5));
        watch.keepalive_ordered(Instant(15_000_000_000));
        watch.observe(&totals, None);
        assert_eq!(watch.owed_since, None);
    }
}
