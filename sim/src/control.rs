//! The control plane of a host: Ganglion and Switch, as production runs them. Every call to it is
//! in this file, so that a change of its interface changes nothing else.

use std::net::{IpAddr, SocketAddr};

use omni_control::message::{Command, FdbKey, Owner, PeerId, Upcall};
use omni_control::{
    Ganglion, GanglionConfig, GanglionEvent, PeerConfig, PrivateKey, PublicKey, Remembered, Timers,
};
use omni_engine::control_plane::ControlPlane;
use omni_engine::switch::{Alarm, Audience, Counters, Neighbor, Switch, SwitchConfig};
use omni_wire::outer::Path;
use omni_wire::{DropCounters, Instant, MacAddr, Now};

use crate::random::Rng;

/// What outlives a restart: the state file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Option<Remembered>);

/// What a host is in the fabric, the same after every restart.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) private_key: [u8; 32],
    pub(crate) lanes: u16,
    pub(crate) max_frame: u16,
    pub(crate) timers: Timers,
    /// What the engine asks stations from.
    pub(crate) engine_mac: MacAddr,
}

impl Identity {
    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey::from_private(&PrivateKey(self.private_key))
    }
}

/// A datagram that the control thread wants to send.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) destination: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

/// The control plane of one life of a host.
pub(crate) struct Control {
    plane: ControlPlane,
    memory: Memory,
}

impl Control {
    pub(crate) fn new(identity: &Identity, memory: Memory, rng: Rng, now: Now) -> Self {
        let config = GanglionConfig {
            fabric: "sim".into(),
            private_key: PrivateKey(identity.private_key),
            lanes: identity.lanes,
            max_frame: identity.max_frame,
            capabilities: 0,
            workers: usize::from(identity.lanes),
            path_mtu: false,
            remembered: memory.0.clone(),
        };
        let ganglion = Ganglion::with_timers(config, identity.timers, Box::new(rng), now);
        // Nobody here listens to groups, so all is flooded and nobody is asked.
        let switch = Switch::new(SwitchConfig {
            snoop: false,
            ..SwitchConfig::new(1, identity.public_key())
        });
        Self {
            plane: ControlPlane::new(ganglion, switch, identity.engine_mac),
            memory,
        }
    }

    /// What the next life is to be given.
    pub(crate) fn memory(&self) -> Memory {
        self.memory.clone()
    }

    /// Adds the next peer. Peers get their indices in this order.
    ///
    /// # Panics
    /// When the key is no peer's: then the simulator itself is wrong.
    pub(crate) fn add_peer(&mut self, now: Now, public_key: PublicKey, endpoint: SocketAddr) {
        let peer = PeerConfig {
            public_key,
            preshared_key: None,
            endpoint: Some(endpoint),
        };
        self.plane
            .ganglion
            .add_peer(now, peer)
            .expect("every host has a key of its own");
    }

    pub(crate) fn datagram(&mut self, now: Now, source: SocketAddr, local: IpAddr, payload: &[u8]) {
        self.plane
            .ganglion
            .handle_datagram(now, source, Some(local), payload);
    }

    /// An address that the host had is gone.
    pub(crate) fn address_gone(&mut self, now: Now, address: IpAddr) {
        self.plane.ganglion.handle_address_gone(now, address);
    }

    pub(crate) fn upcall(&mut self, now: Now, worker: usize, upcall: Upcall) {
        self.plane.handle_upcall(now, worker, upcall);
    }

    /// Makes it renew the session with a peer, as a worker does whose counter runs out.
    pub(crate) fn renew(&mut self, now: Now, peer: PeerId) {
        self.plane.handle_upcall(now, 0, Upcall::RekeySoon { peer });
    }

    pub(crate) fn timeout(&mut self, now: Now) {
        self.plane.handle_timeout(now);
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.plane.poll_timeout()
    }

    pub(crate) fn path(
        &mut self,
        now: Now,
        peer: PeerId,
        endpoint: SocketAddr,
        path: Option<Path>,
    ) {
        self.plane.ganglion.handle_path(now, peer, endpoint, path);
    }

    /// All that is to be sent, in order. What must not be forgotten is on disk before it leaves.
    pub(crate) fn transmits(&mut self) -> Vec<Datagram> {
        if let Some(remembered) = self.plane.ganglion.take_remembered() {
            self.memory = Memory(Some(remembered));
        }
        std::iter::from_fn(|| self.plane.ganglion.poll_transmit())
            .map(|transmit| Datagram {
                destination: transmit.destination,
                payload: transmit.payload,
            })
            .collect()
    }

    /// All that the workers are to be told, in order, and which of them.
    pub(crate) fn orders(&mut self, now: Now) -> Vec<(Audience, Command)> {
        std::iter::from_fn(|| self.plane.poll_order(now.instant)).collect()
    }

    /// Behind whom an address is, as far as the Switch knows.
    pub(crate) fn owner(&self, key: FdbKey) -> Option<Owner> {
        self.plane.switch.owner(key)
    }

    /// Every address that the Switch knows, and behind whom it is.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (FdbKey, Owner)> {
        let all = self.plane.switch.iter();
        all.map(|(&key, entry)| (key, entry.owner))
    }

    /// Every binding that the Switch knows.
    pub(crate) fn neighbors(&self) -> impl Iterator<Item = Neighbor> {
        self.plane.switch.neighbors()
    }

    /// Every address that is frozen.
    pub(crate) fn alarms(&self) -> impl Iterator<Item = Alarm> {
        self.plane.switch.alarms()
    }

    /// What the Switch counted.
    pub(crate) fn counters(&self) -> Counters {
        self.plane.switch.counters()
    }

    /// The next peer whose way is to be found, and where it is.
    pub(crate) fn wanted_path(&mut self) -> Option<(PeerId, SocketAddr)> {
        let event = self.plane.ganglion.poll_event()?;
        let GanglionEvent::ResolvePath { peer, endpoint, .. } = event;
        Some((peer, endpoint))
    }

    /// Where it believes a peer to be.
    pub(crate) fn endpoint(&self, peer: PeerId) -> Option<SocketAddr> {
        let mut peers = self.plane.ganglion.peers();
        peers.find(|status| status.id == peer)?.endpoint
    }

    /// How things are with a peer, for a report.
    pub(crate) fn describe(&self, peer: PeerId) -> String {
        let mut peers = self.plane.ganglion.peers();
        let status = peers.find(|status| status.id == peer);
        status.map_or_else(String::new, |status| {
            let (state, since) = (status.state, status.last_handshake);
            let dropped = self.drops().iter().filter(|(_, count)| *count > 0);
            let dropped: Vec<_> = dropped.collect();
            format!("{state:?}, last handshake {since:?}, dropped {dropped:?}")
        })
    }

    pub(crate) fn drops(&self) -> &DropCounters {
        self.plane.ganglion.drops()
    }
}
