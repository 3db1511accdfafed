//! A peer: where it is, the handshake that runs with it, and the sessions there are.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use omni_wire::outer::Path;
use omni_wire::{Instant, WallTime};

use crate::cookie::CookieKeeper;
use crate::handshake::CreatedInitiation;
use crate::load::{KnownEndpoint, ProbeLimiter};
use crate::message::{PeerTraffic, Role};
use crate::pmtu::PathMtu;
use crate::timers::Watch;
use crate::timestamp::Line;
use omni_membership::{PublicKey, SymmetricKey};

/// The most sessions that wait for what is in flight after they were replaced twice.
const MAX_RETIRED: usize = 2;

/// All that is known about a peer.
pub(crate) struct Peer {
    pub(crate) public_key: PublicKey,
    /// All zeros where none is configured.
    pub(crate) preshared_key: SymmetricKey,
    pub(crate) endpoint: Option<SocketAddr>,
    /// Where it may be found, should it not answer at its endpoint: what is configured.
    pub(crate) candidates: Vec<SocketAddr>,
    /// It answered elsewhere than messages went so far: once the way there is known, it is to hear
    /// from us in the session that it made.
    pub(crate) awaits_us: bool,
    /// The address of ours that it last spoke to, while that can be spoken from.
    pub(crate) local: Option<IpAddr>,
    /// What the workers were last told.
    pub(crate) path: Option<Path>,
    pub(crate) traffic: Arc<PeerTraffic>,
    pub(crate) cookies: CookieKeeper,
    /// What it may cause under load without a cookie.
    pub(crate) permits: KnownEndpoint,
    /// The timestamps of our initiations.
    pub(crate) line: Line,
    /// Whether its key is the greater one: who of two sides that did the same waits longer.
    pub(crate) outranks_us: bool,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) sessions: Sessions,
    pub(crate) watch: Watch,
    /// How long frames to it may be.
    pub(crate) path_mtu: PathMtu,
    /// Its own questions of that kind that are answered.
    pub(crate) probes: ProbeLimiter,
    /// When an initiation of the peer was last answered.
    pub(crate) answered_at: Option<Instant>,
    /// When an initiation was last sent.
    pub(crate) initiated_at: Option<Instant>,
    /// When a session could last be used for sending from then on.
    pub(crate) last_handshake: Option<Instant>,
    /// When a session was last made, confirmed or not.
    pub(crate) last_session_at: Option<Instant>,
}

impl Peer {
    /// The preshared key where none is configured.
    pub(crate) const NO_SECRET: SymmetricKey = SymmetricKey([0; 32]);

    pub(crate) fn new(
        public_key: PublicKey,
        preshared_key: Option<SymmetricKey>,
        ours: &PublicKey,
        traffic: Arc<PeerTraffic>,
        line: Line,
        now: Instant,
    ) -> Self {
        Self {
            public_key,
            preshared_key: preshared_key.unwrap_or(Self::NO_SECRET),
            endpoint: None,
            candidates: Vec::new(),
            awaits_us: false,
            local: None,
            path: None,
            traffic,
            cookies: CookieKeeper::new(&public_key),
            permits: KnownEndpoint::new(now),
            line,
            outranks_us: public_key > *ours,
            attempt: None,
            sessions: Sessions::default(),
            watch: Watch::default(),
            path_mtu: PathMtu::default(),
            probes: ProbeLimiter::new(now),
            answered_at: None,
            initiated_at: None,
            last_handshake: None,
            last_session_at: None,
        }
    }

    /// Forgets when what happened between it and who we were before.
    pub(crate) fn begin_anew(&mut self, ours: &PublicKey, line: Line) {
        self.outranks_us = self.public_key > *ours;
        self.line = line;
        self.answered_at = None;
        self.initiated_at = None;
        self.last_handshake = None;
        self.last_session_at = None;
    }

    /// When anything of it last verified.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.traffic.totals().last_rx.max(self.last_handshake)
    }

    /// Since when it is called and does not answer.
    pub(crate) fn unanswered_since(&self) -> Option<Instant> {
        let attempt = self.attempt.as_ref().filter(|attempt| attempt.has_begun)?;
        let heard = self.heard();
        let answers = heard.is_some_and(|at| at >= attempt.started_at);
        (!answers).then_some(attempt.started_at)
    }

    /// Whether traffic has to be looked at from time to time.
    pub(crate) const fn is_alive(&self) -> bool {
        self.attempt.is_some() || !self.sessions.are_empty()
    }

    /// The index of the initiation that waits for a response.
    pub(crate) fn awaited_index(&self) -> Option<u32> {
        Some(self.attempt.as_ref()?.last.as_ref()?.created.session_id())
    }

    /// Whether there is a session that became usable less than `span` ago: a worker that asks for
    /// one has just not heard of it yet.
    pub(crate) fn is_fresh(&self, span: Duration, now: Instant) -> bool {
        self.sessions.current.is_some()
            && self.last_handshake.is_some_and(|at| now.since(at) < span)
    }
}

/// A handshake that we run, over all its initiations.
pub(crate) struct Attempt {
    /// It is given up some time after this.
    pub(crate) started_at: Instant,
    /// When the next initiation leaves.
    pub(crate) send_at: Instant,
    /// Whether one left.
    pub(crate) has_begun: bool,
    /// The last one that left, still without an answer.
    pub(crate) last: Option<SentInitiation>,
}

/// An initiation under way.
pub(crate) struct SentInitiation {
    pub(crate) created: CreatedInitiation,
    /// What it shows.
    pub(crate) stamp: WallTime,
    pub(crate) sent_at: Instant,
}

/// A session, as far as it concerns the control plane. The workers hold its keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    /// Our index.
    pub(crate) id: u32,
    pub(crate) role: Role,
    pub(crate) established_at: Instant,
    /// When it is to be renewed if it is used; a little different on both sides.
    pub(crate) rekey_at: Instant,
    /// What both sides can do.
    pub(crate) capabilities: u32,
    /// The longest inner frame that the peer accepts, in octets.
    pub(crate) peer_max_frame: u16,
}

/// The sessions with a peer, in the slots that key rotation needs.
#[derive(Default)]
pub(crate) struct Sessions {
    /// Used for sending.
    pub(crate) current: Option<Session>,
    /// The one before, still receiving.
    pub(crate) previous: Option<Session>,
    /// Made as responder, not confirmed yet: receiving only.
    pub(crate) next: Option<Session>,
    /// Pushed out of `previous`, each receiving until its time for what is still in flight.
    retired: Vec<(Session, Instant)>,
}

impl Sessions {
    /// Whether there is none.
    pub(crate) const fn are_empty(&self) -> bool {
        self.current.is_none()
            && self.previous.is_none()
            && self.next.is_none()
            && self.retired.is_empty()
    }

    /// Adds a new session. Returns the one that had to go for it, if any.
    pub(crate) fn install(&mut self, session: Session, retire_at: Instant) -> Option<Session> {
        match session.role {
            Role::Initiator => self.advance(session, retire_at),
            // Nothing was ever sent in the one that it replaces: it can go at once.
            Role::Responder => self.next.replace(session),
        }
    }

    /// Makes the session that waits for confirmation the current one, if it is `id`. Returns
    /// whether it is, and the session that had to go for it.
    pub(crate) fn confirm(&mut self, id: u32, retire_at: Instant) -> (bool, Option<Session>) {
        match self.next.take_if(|next| next.id == id) {
            Some(session) => (true, self.advance(session, retire_at)),
            None => (false, None),
        }
    }

    fn advance(&mut self, session: Session, retire_at: Instant) -> Option<Session> {
        let replaced = self.current.replace(session)?;
        let displaced = self.previous.replace(replaced)?;
        self.retired.push((displaced, retire_at));
        (self.retired.len() > MAX_RETIRED).then(|| self.retired.remove(0).0)
    }

    /// Whether both sides initiated at once, so that each is the responder of what it sends in
    /// and neither would renew it.
    pub(crate) fn are_crossed(&self, span: Duration) -> bool {
        let (Some(current), Some(previous)) = (&self.current, &self.previous) else {
            return false;
        };
        let apart = current
            .established_at
            .since(previous.established_at)
            .max(previous.established_at.since(current.established_at));
        current.role == Role::Responder && previous.role == Role::Initiator && apart < span
    }

    /// Whether a message in session `id` shows where the peer is now: no other session that was
    /// confirmed is newer, but for one made within `span`. Two that were made at once are both the
    /// newest: each side may send in the other one. Messages in older ones may be delayed.
    pub(crate) fn tells_endpoint(&self, id: u32, span: Duration) -> bool {
        let confirmed = || self.previous.iter().chain(&self.current);
        let newest = confirmed().map(|session| session.established_at).max();
        confirmed().any(|session| {
            session.id == id && newest.is_some_and(|at| at.since(session.established_at) < span)
        })
    }

    /// When the next one ends.
    pub(crate) fn next_expiry(&self, reject_after: Duration) -> Option<Instant> {
        let slots = [&self.current, &self.previous, &self.next]
            .into_iter()
            .flatten();
        let by_age = slots.map(|session| session.established_at + reject_after);
        by_age
            .chain(self.retired.iter().map(|&(_, until)| until))
            .min()
    }

    /// Takes out those that ended.
    pub(crate) fn take_expired(&mut self, reject_after: Duration, now: Instant) -> Vec<Session> {
        let is_old = |session: &mut Session| now >= session.established_at + reject_after;
        let slots = [&mut self.current, &mut self.previous, &mut self.next].into_iter();
        let mut expired: Vec<_> = slots.filter_map(|slot| slot.take_if(is_old)).collect();
        self.retired.retain(|&(session, until)| {
            if now >= until {
                expired.push(session);
            }
            now < until
        });
        expired
    }

    /// Takes out all.
    pub(crate) fn take_all(&mut self) -> Vec<Session> {
        let slots = [self.current.take(), self.previous.take(), self.next.take()];
        let retired = self.retired.drain(..).map(|(session, _)| session);
        slots.into_iter().flatten().chain(retired).collect()
    }
}
