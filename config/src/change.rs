//! What differs between the configuration that a node runs on and another one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::checked::{Access, Config, Control, Mtu, Node, Peer, Underlay, Workers};
use crate::secret::SecretBytes32;

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
    /// The access port's MTU.
    pub mtu: Option<Mtu>,
    /// Whether the XDP program drops what the engine would refuse anyhow.
    pub filter: Option<bool>,
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
            mtu: changed(&self.access[0].mtu, &next.access[0].mtu),
            filter: changed(&self.underlay.filter, &next.underlay.filter),
            ..Change::default()
        };
        self.compare_peers(next, &mut change);
        Ok(change)
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
                });
            }
        }
        change.removed = before.into_keys().collect();
    }

    /// The list is made from whole structures taken apart, so that a key added to one of them
    /// does not compile until somebody decided which sort it is.
    fn fixed_keys_that_differ(&self, next: &Self) -> Vec<&'static str> {
        let Self {
            fabric: _,
            node,
            underlay,
            access,
            workers,
            peers: _,
            nucleus,
            authority,
            control,
        } = self;
        let Node {
            name: _,
            private_key: _,
            private_key_file: _,
            state_file,
        } = node;
        let Underlay {
            interface,
            port,
            queues,
            driver,
            xdp,
            zero_copy,
            filter: _,
            source_ports,
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
            (*nucleus == next.nucleus, "nucleus"),
            (*authority == next.authority, "authority"),
            (*socket == next.control.socket, "control.socket"),
            (*metrics == next.control.metrics, "control.metrics"),
        ];
        for (old, new) in access.iter().zip(&next.access) {
            let Access {
                interface,
                driver,
                addresses,
                mtu: _,
            } = old;
            keys.push((*interface == new.interface, "access[].interface"));
            keys.push((*driver == new.driver, "access[].driver"));
            keys.push((*addresses == new.addresses, "access[].addresses"));
        }
        let differ = keys.into_iter().filter(|(same, _)| !same);
        differ.map(|(_, key)| key).collect()
    }
}

fn changed<T: PartialEq + Clone>(old: &T, new: &T) -> Option<T> {
    (old != new).then(|| new.clone())
}
