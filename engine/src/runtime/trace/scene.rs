//! What is known when a frame's way is looked for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use omni_control::message::{Owner, PeerId, PortId, VlanBits};
use omni_control::{PeerState, PublicKey};
use omni_wire::{Instant, MacAddr};

use crate::datapath::policy::PortVlans;
use crate::runtime::paths::Look;
use crate::switch::Switch;
use crate::trace::TracePeer;

/// What a frame is to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Mac(MacAddr),
    Ip(IpAddr),
    /// Whatever host behind a peer.
    Peer(PeerId),
}

/// How frames are switched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) ageing: Duration,
    pub(super) suppression: bool,
    pub(super) drop_unknown: bool,
    pub(super) engine_mac: MacAddr,
    /// The longest inner frame, in octets.
    pub(super) max_frame: u16,
}

/// A queue of a port, and who serves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct QueueScene {
    pub(super) queue: u32,
    pub(super) worker: usize,
    pub(super) core: Option<usize>,
}

/// An access port.
#[derive(Clone, Debug)]
pub(super) struct PortScene {
    pub(super) id: PortId,
    pub(super) name: String,
    pub(super) vlans: PortVlans,
    /// Frames a second to more than one receiver.
    pub(super) storm: Option<u32>,
    pub(super) queues: Vec<QueueScene>,
}

/// A peer.
#[derive(Clone, Debug)]
pub(super) struct PeerScene {
    pub(super) name: String,
    pub(super) public_key: PublicKey,
    pub(super) state: PeerState,
    /// Age of the session.
    pub(super) session: Option<Duration>,
    /// For how long it is called and does not answer.
    pub(super) unanswered: Option<Duration>,
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) way: Option<Look>,
    /// Each lane, which is a worker's, and its UDP source port.
    pub(super) lanes: Vec<(u16, u16)>,
    /// That it may use.
    pub(super) vlans: VlanBits,
    /// The longest frame that it accepts, that the way was found to carry, and that is sent.
    pub(super) accepts: Option<u16>,
    pub(super) probed: Option<u16>,
    pub(super) limit: Option<u16>,
    pub(super) throttled: bool,
}

impl PeerScene {
    pub(super) fn view(&self) -> TracePeer {
        TracePeer {
            name: self.name.clone(),
            public_key: self.public_key.to_string(),
            state: self.state.as_str().to_owned(),
            session_seconds: self.session.map(|age| age.as_secs()),
            endpoint: self.endpoint.map(|endpoint| endpoint.to_string()),
            source: self
                .way
                .as_ref()
                .and_then(|way| way.path)
                .map(|path| path.source.to_string()),
            frame_limit: self.limit,
        }
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) now: Instant,
    pub(super) switch: &'a Switch,
    pub(super) settings: Settings,
    pub(super) ports: Vec<PortScene>,
    pub(super) peers: BTreeMap<PeerId, PeerScene>,
}

impl Scene<'_> {
    /// The port with this name.
    ///
    /// # Errors
    /// Which there are.
    pub(super) fn port_named(&self, name: &str) -> Result<PortId, String> {
        let mut ports = self.ports.iter();
        let found = ports.find(|port| port.name == name);
        found.map(|port| port.id).ok_or_else(|| {
            let names: Vec<&str> = self.ports.iter().map(|port| port.name.as_str()).collect();
            format!(
                "no access port is called {name}, there are: {}",
                names.join(", ")
            )
        })
    }

    /// The port that there is, if it is the only one.
    pub(super) fn only_port(&self) -> Option<PortId> {
        match &self.ports[..] {
            [only] => Some(only.id),
            _ => None,
        }
    }

    pub(super) fn port(&self, id: PortId) -> Option<&PortScene> {
        self.ports.iter().find(|port| port.id == id)
    }

    pub(super) fn name_of(&self, owner: Owner) -> String {
        match owner {
            Owner::Local(id) => self.port(id).map_or("?", |port| &port.name).to_owned(),
            Owner::Peer(id) => self
                .peers
                .get(&id)
                .map_or("?", |peer| &peer.name)
                .to_owned(),
        }
    }
}
