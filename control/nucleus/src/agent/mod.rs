//! The node's side of the rendezvous: it registers with every Nucleus that is configured, and
//! learns who the other members are and what is behind them.
//!
//! ```text
//!   messages of each Nucleus --> Link 0..n --records--> Roster --+--> events: members, addresses
//!   addresses of local hosts --> Own ------ signed ---> Link 0..n --> messages to each Nucleus
//!   time ----------------------> all                             +--> a cache for the next start
//! ```
//!
//! No Nucleus is trusted with more than being there. All that it says is signed by whom it is
//! about and verified here, one by one: a bad record harms no other. What one does not say, or says
//! no more, is not gone: members leave when their authority revokes them, or when what they said
//! of themselves expires; addresses when their owner withdraws them, or they expire. So a Nucleus
//! that is empty, rolled back or down takes nothing away.
//!
//! No I/O and no clock. After each call everything is to be taken from [`Agent::poll_send`] and
//! [`Agent::poll_event`]. Bounds:
//!
//! | what | at most |
//! |---|---|
//! | members | 65535 |
//! | addresses of one member, of all | 4096, 1048576 |
//! | addresses of our own | 16384 |
//! | requests to one Nucleus that wait for their result | 32 |
//! | calls to one Nucleus that wait | 64, the newest is left out |
//! | events that wait | those of one message, or of 1024 records that expire |

mod cache;
mod link;
mod own;
mod pauses;
mod roster;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use omni_membership::{
    AuthorityPublicKey, Endpoint, EndpointKind, FabricName, Grants, PrivateKey, PublicKey,
    VlanRanges,
};
use omni_wire::{Instant, MacAddr, Now};

use crate::protocol::{FromNucleus, Malformed, TOKEN_LEN, from_nucleus};
use link::Link;
use own::Own;
use roster::{Roster, Taken};

pub use cache::{CACHE_MAX, CacheError};
pub use link::LinkStatus;
pub use pauses::Pauses;

/// A changed cache is handed out no more often than this.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);
/// How often the node lets itself be told where it is seen: less than most translations of
/// addresses forget a flow after (RFC 4787 REQ-5 asks for two minutes, many take thirty seconds).
const REFLECT_INTERVAL: Duration = Duration::from_secs(25);
/// The same until it was told.
const REFLECT_AGAIN: Duration = Duration::from_secs(1);
/// Records are looked through for what expired so often.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// What an [`Agent`] is made from.
#[derive(Debug)]
pub struct AgentConfig {
    /// The fabric.
    pub fabric: FabricName,
    /// Who certifies members; without one only `known` are.
    pub authority: Option<AuthorityPublicKey>,
    /// Who is a member without a certificate: the peers of the configuration.
    pub known: Vec<PublicKey>,
    /// Our key.
    pub private_key: PrivateKey,
    /// What we are called: 1..=64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// Our certificate, as its authority wrote it.
    pub certificate: Option<Vec<u8>>,
    /// Lanes that we receive on: 1..=256.
    pub lanes: u16,
    /// The longest inner frame that we take, in octets.
    pub max_frame: u16,
    /// VLANs that we carry; `None` for all.
    pub vlans: Option<VlanRanges>,
    /// How many Nuclei there are. They are numbered from 0.
    pub nuclei: usize,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AgentEvent {
    /// A node is a member, or says something new of itself.
    Member(MemberView),
    /// A node is none any more.
    MemberGone {
        /// Which.
        public_key: PublicKey,
        /// Whether its authority said so: sessions with it are to end now.
        revoked: bool,
    },
    /// A member has an address, or has it at another MAC address.
    Bound(Bound),
    /// Nobody is known to have the address any more.
    Unbound {
        /// The VLAN.
        vlan: u16,
        /// The IP address.
        ip: IpAddr,
        /// Who had it.
        owner: PublicKey,
    },
    /// A member wants to be spoken to, and may not be able to begin.
    Called(PublicKey),
}

/// A member, as the rest of the node needs to know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberView {
    /// Its key.
    pub public_key: PublicKey,
    /// Its name, by its certificate where it has one.
    pub name: String,
    /// Where it may be: what its operator wrote down first, then what others saw, then its own.
    pub endpoints: Vec<SocketAddr>,
    /// What it may use; `None` for a peer of the configuration, which says so itself.
    pub grants: Option<Grants>,
    /// VLANs that it carries; `None` for all.
    pub vlans: Option<VlanRanges>,
}

/// A member's IP address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    /// The VLAN.
    pub vlan: u16,
    /// The IP address.
    pub ip: IpAddr,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Behind whom.
    pub owner: PublicKey,
    /// Until when that is to be believed.
    pub expires: Instant,
}

/// What was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AgentCounters {
    /// Records that were taken.
    pub taken: u64,
    /// Records that did not verify, or were not to be believed.
    pub refused: u64,
    /// Messages that did not decode.
    pub malformed: u64,
    /// Records that there was no room for.
    pub left_out: u64,
}

/// The node's side. See the module.
#[derive(Debug)]
pub struct Agent {
    roster: Roster,
    own: Own,
    links: Vec<Link>,
    events: VecDeque<AgentEvent>,
    counters: AgentCounters,
    expire_at: Instant,
    dirty: bool,
    saved_at: Option<Instant>,
}

impl Agent {
    /// An agent that knows nobody.
    ///
    /// # Errors
    /// When what the node says of itself is out of its range.
    pub fn new(config: AgentConfig) -> Result<Self, omni_membership::RecordError> {
        let AgentConfig {
            fabric,
            authority,
            known,
            private_key,
            name,
            certificate,
            lanes,
            max_frame,
            vlans,
            nuclei,
        } = config;
        let own_key = PublicKey::from_private(&private_key);
        let own = Own::new(
            fabric.clone(),
            private_key,
            own::Profile {
                name,
                certificate,
                lanes,
                max_frame,
                vlans,
            },
        )?;
        Ok(Self {
            roster: Roster::new(fabric, authority, known, own_key),
            own,
            links: (0..nuclei).map(|_| Link::default()).collect(),
            events: VecDeque::new(),
            counters: AgentCounters::default(),
            expire_at: Instant(0),
            dirty: false,
            saved_at: None,
        })
    }

    /// Takes in what [`Agent::take_cache`] gave before the node was stopped. What expired meanwhile
    /// is left out.
    ///
    /// # Errors
    /// When it is none; nothing was taken then.
    pub fn load(&mut self, now: Now, cache: &[u8]) -> Result<(), CacheError> {
        let records = cache::read(cache)?;
        self.own.observe(records.sequence);
        self.take_records(now, records.changes);
        self.dirty = false;
        Ok(())
    }

    /// What is known, to be written down, when that has changed.
    pub fn take_cache(&mut self, now: Now) -> Option<Vec<u8>> {
        let waits = self
            .saved_at
            .is_some_and(|at| now.instant.since(at) < SAVE_INTERVAL);
        if !self.dirty || waits {
            return None;
        }
        self.dirty = false;
        self.saved_at = Some(now.instant);
        Some(cache::write(&self.roster, self.own.sequence()))
    }

    /// There is a channel to a Nucleus.
    pub fn connected(&mut self, now: Now, nucleus: usize) {
        let addresses = self.own.addresses();
        if let Some(link) = self.links.get_mut(nucleus) {
            link.connect(now.instant, addresses);
        }
    }

    /// The channel is gone.
    pub fn disconnected(&mut self, nucleus: usize) {
        if let Some(link) = self.links.get_mut(nucleus) {
            link.disconnect();
        }
    }

    /// A Nucleus says something.
    pub fn handle_message(&mut self, now: Now, nucleus: usize, octets: &[u8]) {
        let what = match FromNucleus::read(octets) {
            Ok(Some(what)) => what,
            Ok(None) => return,
            Err(Malformed) => {
                self.counters.malformed += 1;
                return;
            }
        };
        let Some(link) = self.links.get_mut(nucleus) else {
            return;
        };
        link.heard(now.instant);
        match what {
            from_nucleus::What::Welcome(welcome) => link.welcome(now.instant, &welcome),
            from_nucleus::What::Result(result) => link.result(now.instant, &result, &self.own),
            from_nucleus::What::Changes(changes) => {
                if link.changes(&changes) {
                    self.take_records(now, changes);
                } else {
                    self.counters.malformed += 1;
                }
            }
            from_nucleus::What::Called(called) => {
                let caller = called.public_key.as_slice().try_into().map(PublicKey);
                if let Ok(caller) = caller
                    && self.roster.is_member(&caller)
                {
                    self.events.push_back(AgentEvent::Called(caller));
                }
            }
            from_nucleus::What::Pong(_) => {}
        }
    }

    fn take_records(&mut self, now: Now, changes: crate::protocol::Changes) {
        // Revocations first: nobody whom the same message revokes is to come back by it.
        for octets in &changes.revocations {
            let taken = self.roster.take_revocation(octets, &mut self.events);
            self.count(taken);
        }
        for octets in &changes.registrations {
            let taken = self.roster.take_registration(now, octets, &mut self.events);
            if let Taken::Own(sequence) = taken {
                self.own.observe(sequence);
            }
            self.count(taken);
        }
        for octets in &changes.bindings {
            let taken = self.roster.take_binding(now, octets, &mut self.events);
            match taken {
                Taken::Own(sequence) => self.own.observe(sequence),
                // What we could not have may be free now, for a greater sequence.
                Taken::Address(address, sequence) => {
                    self.own.outdo(now, &address, sequence);
                    for link in &mut self.links {
                        link.look_again(address);
                    }
                }
                _ => {}
            }
            self.count(taken);
        }
    }

    fn count(&mut self, taken: Taken) {
        let counter = match taken {
            Taken::Known | Taken::Own(_) => return,
            Taken::New | Taken::Address(..) => {
                self.dirty = true;
                &mut self.counters.taken
            }
            Taken::Refused => &mut self.counters.refused,
            Taken::Full => &mut self.counters.left_out,
        };
        *counter += 1;
    }

    /// Where the node may be reached, but for what others see: by its configuration, and the
    /// addresses of its underlay.
    pub fn set_endpoints(&mut self, now: Now, configured: &[SocketAddr], local: &[SocketAddr]) {
        let endpoint = |kind| move |&address| Endpoint { address, kind };
        let configured = configured.iter().map(endpoint(EndpointKind::Configured));
        let local = local.iter().map(endpoint(EndpointKind::Local));
        self.own.set_endpoints(now, configured.chain(local));
    }

    /// A Nucleus saw a message of the node's fabric port come from here.
    pub fn handle_reflection(&mut self, now: Now, token: &[u8; TOKEN_LEN], seen: SocketAddr) {
        let mut links = self.links.iter_mut();
        let Some(link) = links.find(|link| link.token() == Some(token)) else {
            return;
        };
        link.reflected(now.instant, seen);
        let seen = self.links.iter().filter_map(Link::seen_at);
        self.own.set_reflexive(now, seen);
    }

    /// The token to send to a Nucleus from the fabric port, when it is time to.
    pub fn poll_reflection(&mut self, now: Now, nucleus: usize) -> Option<[u8; TOKEN_LEN]> {
        self.links.get_mut(nucleus)?.poll_reflection(now.instant)
    }

    /// The IP addresses of local hosts, all of them: (VLAN, IP address, MAC address).
    pub fn set_bindings(
        &mut self,
        now: Now,
        bindings: impl IntoIterator<Item = (u16, IpAddr, MacAddr)>,
    ) {
        for address in self.own.set_bindings(now, bindings) {
            for link in &mut self.links {
                link.changed(address);
            }
        }
    }

    /// The node wants to speak to a member that does not answer: every Nucleus asks it to begin.
    pub fn call(&mut self, public_key: PublicKey) {
        for link in &mut self.links {
            link.call(public_key);
        }
    }

    /// The next message to a Nucleus.
    pub fn poll_send(&mut self, now: Now, nucleus: usize) -> Option<Vec<u8>> {
        self.links.get_mut(nucleus)?.poll_send(now, &mut self.own)
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<AgentEvent> {
        self.events.pop_front()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.own.renew(now);
        for address in self.own.expire(now) {
            for link in &mut self.links {
                link.changed(address);
            }
        }
        for link in &mut self.links {
            link.handle_timeout(now.instant);
        }
        if now.instant >= self.expire_at {
            let more = self.roster.expire(now, &mut self.events);
            self.dirty |= !self.events.is_empty();
            self.expire_at = if more {
                now.instant
            } else {
                now.instant + EXPIRY_INTERVAL
            };
        }
    }

    /// When [`Agent::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let links = self.links.iter().filter_map(Link::next_timeout);
        links
            .chain([self.expire_at])
            .min()
            .unwrap_or(self.expire_at)
    }

    /// Every member, in the order of keys.
    pub fn members(&self) -> impl Iterator<Item = MemberView> + '_ {
        self.roster.members()
    }

    /// Every address of members, at `now`.
    pub fn bindings(&self, now: Now) -> impl Iterator<Item = Bound> + '_ {
        self.roster.bindings(now)
    }

    /// How things are with each Nucleus.
    pub fn links(&self) -> impl Iterator<Item = LinkStatus> + '_ {
        self.links.iter().map(Link::status)
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> AgentCounters {
        self.counters
    }
}

/// Seconds since 1970.
const fn seconds(now: Now) -> u64 {
    now.wall.0 / 1_000_000_000
}

/// Milliseconds since 1970.
const fn milliseconds(now: Now) -> u64 {
    now.wall.0 / 1_000_000
}
