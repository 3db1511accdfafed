//! Who wants which multicast group.
//!
//! Local hosts say so with IGMP and MLD, peers with records. Hosts are asked again and again, so
//! that one which left without a word is found out (RFC 3376 s.8.4, RFC 3810 s.9.4). Who cannot be
//! kept account of gets everything: too much traffic rather than too little.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use omni_control::message::{Command, Owner, PeerId, PortId};
use omni_wire::Instant;
use omni_wire::record::{Entries, GROUPS_ALL, GROUPS_FIRST, GROUPS_LAST, GroupChange};

use super::Switch;
use super::deadlines::{Deadlines, News};
use super::peers::is_group;
use super::queries::Segments;
use super::types::{Audience, GroupReport};

/// A member that does not report for this long is none: twice the interval of queries and the
/// time to answer (RFC 3376 s.8.4).
pub(super) const MEMBER_TIMEOUT: Duration = Duration::from_secs(260);
/// A router that does not ask for this long is none (RFC 3376 s.8.5).
const QUERIER_TIMEOUT: Duration = Duration::from_secs(255);
/// The most groups that one port or peer is a member of, over all VLANs.
pub(super) const MEMBERSHIPS_MAX: usize = 1024;
/// The most groups of all.
pub(super) const GROUPS_MAX: usize = 16 * 1024;

/// (VLAN, group).
pub(super) type GroupKey = (u16, IpAddr);

/// Everything about groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// With the full list of its peer that it was last in.
    members: BTreeMap<GroupKey, BTreeMap<Owner, u32>>,
    of: BTreeMap<Owner, BTreeSet<GroupKey>>,
    /// Those that local hosts want.
    local: BTreeSet<GroupKey>,
    due: Deadlines<(Owner, GroupKey)>,
    /// Workers are to be told of these.
    dirty: BTreeSet<GroupKey>,
    /// Peers are to be told of these ...
    pub(super) news: News<GroupKey>,
    /// ... and whether we want everything.
    pub(super) flags: News<()>,
    /// Ports that get everything, in one VLAN or in all, and until when.
    wants: Deadlines<(PortId, Option<u16>)>,
    pub(super) segments: Segments,
}

impl Groups {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let times = [
            self.due.next(),
            self.news.next(),
            self.flags.next(),
            self.wants.next(),
            self.segments.next_timeout(),
        ];
        times.into_iter().flatten().min()
    }

    /// Whether a local host wants a group.
    pub(super) fn is_local(&self, key: GroupKey) -> bool {
        self.local.contains(&key)
    }

    pub(super) fn local_count(&self) -> usize {
        self.local.len()
    }

    /// The first group after `after` that a local host wants.
    pub(super) fn next_local(&self, after: Option<GroupKey>) -> Option<GroupKey> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, Excluded);
        self.local.range((start, Unbounded)).next().copied()
    }

    /// Whether some port gets everything.
    pub(super) fn is_any_wanting(&self) -> bool {
        self.wants.next().is_some()
    }

    /// Every port that gets everything, and in which VLAN if not in all.
    pub(super) fn wanting_all(&self) -> impl Iterator<Item = (PortId, Option<u16>)> {
        self.wants.iter().map(|(&key, _)| key)
    }

    /// Every group and who wants it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (GroupKey, Vec<Owner>)> {
        let all = self.members.iter();
        all.map(|(&key, members)| (key, members.keys().copied().collect()))
    }

    /// How many groups somebody wants.
    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.members.len().max(self.due.len())
    }

    fn has(&self, owner: Owner, key: GroupKey) -> bool {
        self.of.get(&owner).is_some_and(|of| of.contains(&key))
    }

    /// Adds or refreshes a member. False when there is no room.
    fn join(&mut self, now: Instant, owner: Owner, key: GroupKey, generation: u32) -> bool {
        if !self.has(owner, key) {
            let count = self.of.get(&owner).map_or(0, BTreeSet::len);
            let full = self.members.len() >= GROUPS_MAX && !self.members.contains_key(&key);
            if count >= MEMBERSHIPS_MAX || full {
                return false;
            }
            self.of.entry(owner).or_default().insert(key);
            self.dirty.insert(key);
            if matches!(owner, Owner::Local(_)) && self.local.insert(key) {
                self.news.changed(now, key);
            }
        }
        self.members
            .entry(key)
            .or_default()
            .insert(owner, generation);
        self.due.set((owner, key), now + MEMBER_TIMEOUT);
        true
    }

    fn leave(&mut self, now: Instant, owner: Owner, key: GroupKey) {
        self.due.remove(&(owner, key));
        let Some(members) = self.members.get_mut(&key) else {
            return;
        };
        if members.remove(&owner).is_none() {
            return;
        }
        let is_local = |owner: &Owner| matches!(owner, Owner::Local(_));
        let still_local = members.keys().any(is_local);
        if members.is_empty() {
            self.members.remove(&key);
        }
        if let Some(of) = self.of.get_mut(&owner) {
            of.remove(&key);
            if of.is_empty() {
                self.of.remove(&owner);
            }
        }
        self.dirty.insert(key);
        if !still_local && self.local.remove(&key) {
            self.news.changed(now, key);
        }
    }

    /// The groups of a peer that were not in a full list since `generation`.
    fn older_than(&self, owner: Owner, generation: u32) -> Vec<GroupKey> {
        let is_older = |key: &&GroupKey| {
            let members = self.members.get(key);
            let member = members.and_then(|members| members.get(&owner));
            member.is_some_and(|&last| generation.wrapping_sub(last) as i32 > 0)
        };
        let of = self.of.get(&owner).into_iter().flatten();
        of.filter(is_older).copied().collect()
    }

    /// What workers are to be told next.
    pub(super) fn next_order(&mut self) -> Option<Command> {
        let key = self.dirty.pop_first()?;
        let members = self.members.get(&key);
        let members: Arc<[Owner]> = members
            .into_iter()
            .flat_map(|members| members.keys().copied())
            .collect();
        let (vlan, group) = key;
        Some(Command::SetGroup {
            vlan,
            group,
            members,
        })
    }
}

impl Switch {
    /// A host joined or left a group.
    pub fn group(&mut self, now: Instant, report: GroupReport) {
        let GroupReport {
            vlan,
            port,
            group,
            join,
        } = report;
        let owner = Owner::Local(port);
        let key = (vlan, group);
        if !self.config.snoop || !self.has_port(port) || !self.carries(vlan) || !is_group(group) {
            return;
        }
        if !join {
            // Another host may want it and have kept silent, as it heard of this one.
            if self.groups.has(owner, key) {
                let until = self.ask_soon(now, port, vlan);
                let due = self.groups.due.get(&(owner, key));
                if due.is_none_or(|due| until < due) {
                    self.groups.due.set((owner, key), until);
                }
            }
            return;
        }
        let known = self.groups.has(owner, key);
        let may = known || self.accounts.may_change(now, owner);
        if !may || !self.groups.join(now, owner, key, 0) {
            self.counters.groups_refused += 1;
            self.want_all(now, port, Some(vlan), MEMBER_TIMEOUT);
        }
    }

    /// A router asks behind a port which groups are wanted.
    pub fn querier(&mut self, now: Instant, vlan: u16, port: PortId) {
        if self.config.snoop && self.has_port(port) && self.carries(vlan) {
            self.want_all(now, port, Some(vlan), QUERIER_TIMEOUT);
        }
    }

    /// A port gets everything for some time, at least.
    pub(super) fn want_all(
        &mut self,
        now: Instant,
        port: PortId,
        vlan: Option<u16>,
        span: Duration,
    ) {
        let key = (port, vlan);
        let until = now + span;
        let before = self.groups.wants.get(&key);
        if !self.groups.is_any_wanting() {
            self.groups.flags.changed(now, ());
        }
        let until = before.map_or(until, |before| before.max(until));
        self.groups.wants.set(key, until);
        if before.is_none() {
            self.order_wants(Owner::Local(port), vlan, true);
        }
    }

    pub(super) fn order_wants(&mut self, owner: Owner, vlan: Option<u16>, wants: bool) {
        let wants = Command::SetWantsAll { owner, vlan, wants };
        self.order(Audience::All, wants);
    }

    /// Whether peers are to send us everything that is sent to any group.
    pub(super) fn wants_everything(&self) -> bool {
        !self.config.snoop
            || self.started.is_none()
            || self.groups.is_any_wanting()
            || self.groups.local_count() > MEMBERSHIPS_MAX
    }

    /// A peer tells what is wanted behind it.
    pub(super) fn handle_groups(
        &mut self,
        now: Instant,
        peer: PeerId,
        flags: u8,
        changes: Entries<'_, GroupChange>,
    ) {
        let Some(from) = self.peers.get_mut(peer) else {
            return;
        };
        let list = &mut from.groups;
        let before = list.wants_all();
        list.all = flags & GROUPS_ALL != 0;
        if flags & GROUPS_FIRST != 0 {
            list.generation = list.generation.wrapping_add(1);
            list.open = true;
            list.overflow = false;
        }
        let generation = list.generation;
        for change in changes {
            self.change_group(now, peer, generation, change);
        }
        if flags & GROUPS_LAST != 0 {
            self.end_list(now, peer, flags & GROUPS_FIRST != 0);
        }
        self.tell_wants(peer, before);
    }

    fn change_group(&mut self, now: Instant, peer: PeerId, generation: u32, change: GroupChange) {
        let owner = Owner::Peer(peer);
        let key = (change.vlan, change.group);
        if !is_group(change.group) || !self.carries(change.vlan) {
            return;
        }
        let known = self.groups.has(owner, key);
        if known != change.join && !self.accounts.may_change(now, owner) {
            self.counters.records_limited += 1;
            self.overflow(peer, change.join);
        } else if !change.join {
            self.groups.leave(now, owner, key);
        } else if !self.groups.join(now, owner, key, generation) {
            self.counters.groups_refused += 1;
            self.overflow(peer, true);
        }
    }

    /// A membership of the peer's is not kept.
    fn overflow(&mut self, peer: PeerId, missing: bool) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.groups.overflow |= missing;
        }
    }

    /// A full list ended. What was not in it is not wanted any more; of a list in several records
    /// one may be missing, so that what was in it has to miss in the next one as well.
    fn end_list(&mut self, now: Instant, peer: PeerId, whole: bool) {
        let Some(from) = self.peers.get_mut(peer) else {
            return;
        };
        let list = &mut from.groups;
        if !std::mem::take(&mut list.open) {
            return;
        }
        list.ended = list.ended.saturating_add(1);
        list.complete |= whole;
        let kept = if whole {
            list.generation
        } else {
            list.generation.wrapping_sub(1)
        };
        let owner = Owner::Peer(peer);
        for key in self.groups.older_than(owner, kept) {
            self.groups.leave(now, owner, key);
        }
    }

    /// Tells the workers whether a peer gets everything, if that changed.
    fn tell_wants(&mut self, peer: PeerId, before: bool) {
        let wants = self.peers.get(peer).map(|peer| peer.groups.wants_all());
        if let Some(wants) = wants
            && wants != before
        {
            self.order_wants(Owner::Peer(peer), None, wants);
        }
    }

    /// Forgets members that did not report.
    pub(super) fn run_groups(&mut self, now: Instant) {
        self.groups.news.handle_timeout(now);
        self.groups.flags.handle_timeout(now);
        while let Some((owner, key)) = self.groups.due.pop_due(now) {
            self.groups.leave(now, owner, key);
        }
        while let Some((port, vlan)) = self.groups.wants.pop_due(now) {
            self.order_wants(Owner::Local(port), vlan, false);
            if !self.groups.is_any_wanting() {
                self.groups.flags.changed(now, ());
            }
        }
        self.run_queries(now);
    }

    /// Forgets everything that an owner wants.
    pub(super) fn forget_groups(&mut self, now: Instant, owner: Owner) {
        let of = self.groups.of.get(&owner).cloned().unwrap_or_default();
        for key in of {
            self.groups.leave(now, owner, key);
        }
    }
}
