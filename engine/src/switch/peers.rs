//! What is known of each peer, and what each owner may still cause.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use omni_control::PublicKey;
use omni_control::message::{Owner, PeerId, VlanBits};
use omni_membership::Grants;
use omni_wire::{Instant, MacAddr};

use super::bindings::BindKey;
use super::deadlines::{Bucket, is_newer};
use super::types::PeerLimits;

/// Records a second that are read from one peer.
const RECORDS_RATE: u32 = 1000;
/// The most contests that one owner has open, over MAC and IP addresses.
pub(super) const CONTESTS_MAX: usize = 64;
/// Contests a second that one owner may open.
const CONTESTS_RATE: u32 = 64;
/// Entries a second that one owner may have changed in the tables, beyond a first lot.
const CHANGES_RATE: u32 = 1000;
/// The first lot: all addresses and groups of a peer at once.
const CHANGES_BURST: u32 = 4096;
/// The most withdrawn bindings that are remembered of one peer.
const GONE_MAX: usize = 256;

/// A peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) public_key: PublicKey,
    pub(super) limits: PeerLimits,
    /// What its certificate allows.
    pub(super) grants: Option<Arc<Grants>>,
    /// Whether there is a session.
    pub(super) up: bool,
    /// Whether it is called and does not answer.
    pub(super) silent: bool,
    /// Counts its lives, as far as we know: sequence numbers are good within one.
    pub(super) epoch: u32,
    /// What it told us of its VLANs.
    pub(super) carried: Option<Arc<VlanBits>>,
    pub(super) groups: GroupList,
    records: Bucket,
    gone: BTreeMap<BindKey, u32>,
    gone_order: VecDeque<BindKey>,
}

/// Where a peer is with telling us its groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct GroupList {
    /// Counts the full lists that began.
    pub(super) generation: u32,
    /// Whether one is being told.
    pub(super) open: bool,
    /// Full lists that ended.
    pub(super) ended: u32,
    /// Whether a full list came of which no part can be missing.
    pub(super) complete: bool,
    /// It wants everything, or more than there is room for.
    pub(super) all: bool,
    /// The latest list did not fit.
    pub(super) overflow: bool,
}

impl GroupList {
    /// Whether the peer is sent everything: until it is known what it wants, and when it says so.
    pub(super) const fn wants_all(&self) -> bool {
        self.all || self.overflow || !(self.complete || self.ended >= 2)
    }
}

impl Peer {
    pub(super) fn new(public_key: PublicKey, limits: PeerLimits) -> Self {
        Self {
            public_key,
            limits,
            grants: None,
            up: false,
            silent: false,
            epoch: 0,
            carried: None,
            groups: GroupList::default(),
            records: Bucket::new(RECORDS_RATE, RECORDS_RATE),
            gone: BTreeMap::new(),
            gone_order: VecDeque::new(),
        }
    }

    /// Whether one more record is read.
    pub(super) fn may_send(&mut self, now: Instant) -> bool {
        self.records.take(now)
    }

    /// A new session: what was said before may be from another life.
    pub(super) fn revive(&mut self) {
        self.up = true;
        self.epoch = self.epoch.wrapping_add(1);
        self.gone.clear();
        self.gone_order.clear();
    }

    /// Remembers a withdrawal, so that an announcement that it overtook does not undo it.
    pub(super) fn withdrew(&mut self, key: BindKey, sequence: u32) {
        if self.gone.insert(key, sequence).is_some() {
            return;
        }
        self.gone_order.push_back(key);
        if self.gone_order.len() > GONE_MAX
            && let Some(oldest) = self.gone_order.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }

    /// Whether an announcement is older than a withdrawal.
    pub(super) fn has_withdrawn(&self, key: BindKey, sequence: u32) -> bool {
        let gone = self.gone.get(&key);
        gone.is_some_and(|&gone| !is_newer(sequence, gone))
    }
}

/// All peers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_id: BTreeMap<PeerId, Peer>,
    by_key: BTreeMap<PublicKey, PeerId>,
}

impl Peers {
    pub(super) fn get(&self, peer: PeerId) -> Option<&Peer> {
        self.by_id.get(&peer)
    }

    pub(super) fn get_mut(&mut self, peer: PeerId) -> Option<&mut Peer> {
        self.by_id.get_mut(&peer)
    }

    pub(super) fn find(&self, public_key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(public_key).copied()
    }

    pub(super) fn add(&mut self, id: PeerId, peer: Peer) {
        self.remove(id);
        self.by_key.insert(peer.public_key, id);
        self.by_id.insert(id, peer);
    }

    pub(super) fn remove(&mut self, id: PeerId) {
        if let Some(peer) = self.by_id.remove(&id) {
            self.by_key.remove(&peer.public_key);
        }
    }

    /// The first peer with a session from `start` on.
    pub(super) fn next_up(&self, start: PeerId) -> Option<PeerId> {
        let mut from = self.by_id.range(start..);
        from.find(|(_, peer)| peer.up).map(|(&id, _)| id)
    }

    pub(super) fn is_up(&self, id: PeerId) -> bool {
        self.get(id).is_some_and(|peer| peer.up)
    }

    /// The peers with a session that are sent what is for any group.
    pub(super) fn wanting_all(&self) -> impl Iterator<Item = PeerId> {
        let all = self.by_id.iter();
        let wanting = all.filter(|(_, peer)| peer.up && peer.groups.wants_all());
        wanting.map(|(&id, _)| id)
    }

    /// The life of the owner that its sequence numbers are good for.
    pub(super) fn epoch(&self, owner: Owner) -> u32 {
        match owner {
            Owner::Local(_) => 0,
            Owner::Peer(peer) => self.get(peer).map_or(0, |peer| peer.epoch),
        }
    }

    /// Whether a peer's certificate lets it have an address. It need not have one.
    pub(super) fn grants(&self, peer: PeerId, vlan: u16, mac: MacAddr, ip: IpAddr) -> bool {
        let grants = self.get(peer).and_then(|peer| peer.grants.as_ref());
        grants.is_none_or(|grants| grants.allows_mac(vlan, mac) && grants.allows_address(vlan, ip))
    }

    pub(super) fn limits(&self, peer: PeerId) -> PeerLimits {
        self.get(peer)
            .map_or_else(PeerLimits::default, |p| p.limits)
    }
}

/// What one owner has caused and may still cause.
#[derive(Debug)]
pub(super) struct Account {
    /// Contests that it has open.
    open: usize,
    contests: Bucket,
    changes: Bucket,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            open: 0,
            contests: Bucket::new(CONTESTS_RATE, CONTESTS_MAX as u32),
            changes: Bucket::new(CHANGES_RATE, CHANGES_BURST),
        }
    }
}

/// The accounts of all owners that ever caused something and are not gone.
#[derive(Debug, Default)]
pub(super) struct Accounts(BTreeMap<Owner, Account>);

impl Accounts {
    /// Whether `owner` may have one more entry of the tables changed.
    pub(super) fn may_change(&mut self, now: Instant, owner: Owner) -> bool {
        self.0.entry(owner).or_default().changes.take(now)
    }

    /// Opens a contest, if `owner` may.
    pub(super) fn open(&mut self, now: Instant, owner: Owner) -> bool {
        let account = self.0.entry(owner).or_default();
        let may = account.open < CONTESTS_MAX && account.contests.take(now);
        account.open += usize::from(may);
        may
    }

    /// A contest of `owner` is over.
    pub(super) fn close(&mut self, owner: Owner) {
        if let Some(account) = self.0.get_mut(&owner) {
            account.open = account.open.saturating_sub(1);
        }
    }

    pub(super) fn remove(&mut self, owner: Owner) {
        self.0.remove(&owner);
    }
}

/// Whether a host may have this IP address.
pub(super) fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast())
        }
        IpAddr::V6(ip) => {
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast())
                && ip.to_ipv4_mapped().is_none()
        }
    }
}

/// Whether members of a group are kept. Not the link's own groups, which everybody gets (RFC 4541
/// s.2.1.2 and s.3), nor those that do not leave a host.
pub(super) fn is_group(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group.is_multicast() && group.octets()[..3] != [224, 0, 0],
        IpAddr::V6(group) => {
            let [_, scope, rest @ ..] = group.octets();
            let all_nodes = rest == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            group.is_multicast() && scope & 0xf > 1 && !(scope & 0xf == 2 && all_nodes)
        }
    }
}
