//! What differs between the configuration that a node runs on and another one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::check::{BEHIND_DEFAULT, BUM_PPS_DEFAULT};
use crate::checked::{
    Access, Config, Control, Mtu, Node, Peer, PortVlans, StaticEntry, StaticOwner, Switch,
    Underlay, Workers,
};
use crate::secret::SecretBytes32;
use crate::vlan_set::VlanSet;

/// What a running node has to do to follow a changed configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// The fabric's name or the private key: the node is another one to all its peers.
    pub identity: bool,
    /// The node's name.
    pub name: bool,
    /// Peers that were not there.
    pub added: Vec<Peer>,
    /// Public keys of peers that are not there any more.
    pub removed: Vec<[u8; 32]>,
    /// Peers of which something is different.
    pub changed: Vec<PeerChange>,
    /// MTUs of access ports, each with the port's index in the file.
    pub mtus: Vec<(usize, Mtu)>,
    /// Whether the XDP program drops what the engine would refuse anyhow.
    pub filter: Option<bool>,
    /// Where the node is, by its operator.
    pub endpoints: bool,
    /// The Nuclei.
    pub nucleus: bool,
    /// The authority, or the name of the certificate's file. What is in the file may differ though
    /// this does not.
    pub authority: bool,
}

/// What is different with a peer; `None` = not that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerChange {
    /// Who it is.
    pub public_key: [u8; 32],
    /// What it is called.
    pub name: Option<String>,
    /// Where the file has it; inside, `None` = it must speak first.
    pub endpoint: Option<Option<SocketAddr>>,
    /// The secret shared with it; inside, `None` = no secret any more.
    pub preshared_key: Option<Option<SecretBytes32>>,
    /// What it may do.
    pub policy: Option<PeerPolicy>,
}

/// What a peer may do; the fields are those of [`Peer`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerPolicy {
    /// The VLANs that it may send in, and is sent.
    pub vlans: VlanSet,
    /// How many MAC addresses may be behind it.
    pub macs_max: u32,
    /// How many IP addresses may be behind it.
    pub addresses_max: u32,
    /// How many frames a second to more than one receiver it may send; `None` = any number.
    pub bum_pps: Option<u32>,
}

impl Default for PeerPolicy {
    /// What a peer may do that the file says nothing else of.
    fn default() -> Self {
        Self {
            vlans: VlanSet::all(),
            macs_max: BEHIND_DEFAULT,
            addresses_max: BEHIND_DEFAULT,
            bum_pps: Some(BUM_PPS_DEFAULT),
        }
    }
}

impl Peer {
    /// What the peer may do.
    #[must_use]
    pub fn policy(&self) -> PeerPolicy {
        PeerPolicy {
            vlans: self.vlans.clone(),
            macs_max: self.macs_max,
            addresses_max: self.addresses_max,
            bum_pps: self.bum_pps,
        }
    }
}

/// Keys that differ and cannot be followed by a running node.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{} cannot change while the engine runs: restart it, or take the change back",
    .0.join(", ")
)]
pub struct RestartNeeded(pub Vec<&'static str>);

impl Change {
    /// Whether the two configurations mean the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Config {
    /// What leads from this configuration to `next`.
    ///
    /// # Errors
    /// [`RestartNeeded`] when something differs that a running node cannot follow.
    pub fn change_to(&self, next: &Self) -> Result<Change, RestartNeeded> {
        let fixed = self.fixed_keys_that_differ(next);
        if !fixed.is_empty() {
            return Err(RestartNeeded(fixed));
        }
        let mut change = Change {
            identity: self.fabric != next.fabric || self.node.private_key != next.node.private_key,
            name: self.node.name != next.node.name,
            mtus: self.mtus_that_differ(next),
            filter: changed(&self.underlay.filter, &next.underlay.filter),
            endpoints: self.underlay.endpoints != next.underlay.endpoints,
            nucleus: self.nucleus != next.nucleus,
            authority: self.authority != next.authority,
            ..Change::default()
        };
        self.compare_peers(next, &mut change);
        Ok(change)
    }

    /// There are as many access ports in both.
    fn mtus_that_differ(&self, next: &Self) -> Vec<(usize, Mtu)> {
        let ports = self.access.iter().zip(&next.access).enumerate();
        let differ = |(index, (old, new)): (usize, (&Access, &Access))| {
            changed(&old.mtu, &new.mtu).map(|mtu| (index, mtu))
        };
        ports.filter_map(differ).collect()
    }

    fn compare_peers(&self, next: &Self, change: &mut Change) {
        let by_key = |config: &Self| -> BTreeMap<[u8; 32], Peer> {
            let peers = config.peers.iter();
            peers.map(|peer| (peer.public_key, peer.clone())).collect()
        };
        let (mut before, after) = (by_key(self), by_key(next));
        for (public_key, peer) in after {
            let Some(old) = before.remove(&public_key) else {
                change.added.push(peer);
                continue;
            };
            if old != peer {
                change.changed.push(PeerChange {
                    public_key,
                    name: changed(&old.name, &peer.name),
                    endpoint: changed(&old.endpoint, &peer.endpoint),
                    preshared_key: changed(&old.preshared_key, &peer.preshared_key),
                    policy: changed(&old.policy(), &peer.policy()),
                });
            }
        }
        change.removed = before.into_keys().collect();
    }

    /// The list is made from whole structures taken apart, so that a key added to one of them
    /// does not compile until somebody decided which sort it is.
    fn fixed_keys_that_differ(&self, next: &Self) -> Vec<&'static str> {
        let Self {
            fabric,
            node,
            underlay,
            access,
            workers,
            peers: _,
            switch,
            nucleus,
            authority,
            control,
        } = self;
        let Node {
            name: _,
            private_key,
            private_key_file: _,
            state_file,
        } = node;
        // What a node signs, and what was signed for it, is for this key and this fabric.
        let may_become_another = nucleus.is_empty() && authority.is_none();
        let Underlay {
            interface,
            port,
            queues,
            driver,
            send,
            xdp,
            zero_copy,
            filter: _,
            source_ports,
            endpoints: _,
        } = underlay;
        let Workers {
            cores,
            poll,
            priority,
        } = workers;
        let Control { socket, metrics } = control;
        let mut keys = vec![
            (*state_file == next.node.state_file, "node.state_file"),
            (*interface == next.underlay.interface, "underlay.interface"),
            (*port == next.underlay.port, "underlay.port"),
            (*queues == next.underlay.queues, "underlay.queues"),
            (*driver == next.underlay.driver, "underlay.driver"),
            (*send == next.underlay.send, "underlay.send"),
            (*xdp == next.underlay.xdp, "underlay.xdp"),
            (*zero_copy == next.underlay.zero_copy, "underlay.zero_copy"),
            (
                *source_ports == next.underlay.source_ports,
                "underlay.source_ports",
            ),
            (access.len() == next.access.len(), "access"),
            (*cores == next.workers.cores, "workers.cores"),
            (*poll == next.workers.poll, "workers.poll"),
            (*priority == next.workers.priority, "workers.priority"),
            (
                may_become_another || *fabric == next.fabric,
                "fabric, with nucleus or authority,",
            ),
            (
                may_become_another || *private_key == next.node.private_key,
                "node.private_key_file, with nucleus or authority,",
            ),
            (*socket == next.control.socket, "control.socket"),
            (*metrics == next.control.metrics, "control.metrics"),
        ];
        for (old, new) in access.iter().zip(&next.access) {
            keys.extend(access_keys(old, new));
        }
        keys.extend(switch_keys(switch, &next.switch));
        keys.push((self.same_static_entries(next), "switch.static"));
        let mut differ: Vec<&'static str> = Vec::new();
        for (_, key) in keys.into_iter().filter(|(same, _)| !same) {
            // Several ports may differ in the same key.
            if !differ.contains(&key) {
                differ.push(key);
            }
        }
        differ
    }

    /// Peers are who their keys say, not their names: one that is only called otherwise keeps its
    /// entries, and one that takes another's name does not get them.
    fn same_static_entries(&self, next: &Self) -> bool {
        let names: BTreeMap<[u8; 32], &str> = names_by_key(&self.peers).collect();
        let before: BTreeMap<&str, &str> = names_by_key(&next.peers)
            .filter_map(|(key, name)| Some((name, *names.get(&key)?)))
            .collect();
        let (old, new) = (&self.switch.static_entries, &next.switch.static_entries);
        let same = |(old, new): (&StaticEntry, &StaticEntry)| {
            let StaticEntry {
                mac,
                vlan,
                owner,
                addresses,
            } = old;
            let same_owner = match (owner, &new.owner) {
                (StaticOwner::Peer(old), StaticOwner::Peer(new)) => {
                    before.get(new.as_str()) == Some(&old.as_str())
                }
                (old, new) => old == new,
            };
            same_owner && *mac == new.mac && *vlan == new.vlan && *addresses == new.addresses
        };
        old.len() == new.len() && old.iter().zip(new).all(same)
    }
}

fn names_by_key(peers: &[Peer]) -> impl Iterator<Item = ([u8; 32], &str)> {
    peers
        .iter()
        .map(|peer| (peer.public_key, peer.name.as_str()))
}

/// The keys of an access port that a running node cannot follow, and whether they are the same.
fn access_keys(old: &Access, new: &Access) -> [(bool, &'static str); 7] {
    let Access {
        interface,
        driver,
        addresses,
        mtu: _,
        vlans,
        macs,
        guard,
        bum_pps,
    } = old;
    let vlans_key = match (vlans, &new.vlans) {
        (PortVlans::Trunk(_), PortVlans::Trunk(_)) => "access[].vlans",
        _ => "access[].vlan",
    };
    [
        (*interface == new.interface, "access[].interface"),
        (*driver == new.driver, "access[].driver"),
        (*addresses == new.addresses, "access[].addresses"),
        (*vlans == new.vlans, vlans_key),
        (*macs == new.macs, "access[].macs"),
        (*guard == new.guard, "access[].guard"),
        (*bum_pps == new.bum_pps, "access[].bum_pps"),
    ]
}

/// The keys of the switch but `static`, none of which a running node can follow, and whether they
/// are the same.
fn switch_keys(old: &Switch, new: &Switch) -> [(bool, &'static str); 8] {
    let Switch {
        suppression,
        unknown_unicast,
        multicast,
        ageing,
        llc_snap,
        dscp,
        mss_clamp,
        path_mtu,
        static_entries: _,
    } = old;
    [
        (*suppression == new.suppression, "switch.suppression"),
        (
            *unknown_unicast == new.unknown_unicast,
            "switch.unknown_unicast",
        ),
        (*multicast == new.multicast, "switch.multicast"),
        (*ageing == new.ageing, "switch.ageing"),
        (*llc_snap == new.llc_snap, "switch.llc_snap"),
        (*dscp == new.dscp, "switch.dscp"),
        (*mss_clamp == new.mss_clamp, "switch.mss_clamp"),
        (*path_mtu == new.path_mtu, "switch.path_mtu"),
    ]
}

fn changed<T: PartialEq + Clone>(old: &T, new: &T) -> Option<T> {
    (old != new).then(|| new.clone())
}
