//! A node reduced to its Ganglion: it has handshakes and sessions, but no frames to send in them.

use std::net::SocketAddr;
use std::path::PathBuf;

use omni_control::message::{Command, InstallSession, PeerId};
use omni_control::{Ganglion, GanglionConfig, PeerConfig, PeerState, PrivateKey, PublicKey};
use omni_engine::clock;
use omni_engine::random::SystemRandom;
use omni_wire::Instant;

use crate::{Failure, keys};

/// The longest inner frame that it announces, in octets.
const MAX_FRAME: u16 = 1440;

/// Whom to speak to, and as whom.
#[derive(Debug, clap::Args)]
pub(crate) struct Acquaintance {
    /// Private keys of peers that the node knows, one a line.
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// The node.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) target: SocketAddr,
    /// Its public key.
    #[arg(long, value_name = "KEY", value_parser = keys::parse_public)]
    target_key: PublicKey,
    /// The fabric's name.
    #[arg(long)]
    fabric: String,
}

impl Acquaintance {
    /// The peers' private keys.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub(crate) fn keys(&self) -> Result<Vec<PrivateKey>, Failure> {
        keys::read_private(&self.keys)
    }

    /// One of the peers.
    ///
    /// # Errors
    /// As [`Stranger::new`].
    pub(crate) fn stranger(&self, key: &PrivateKey) -> Result<Stranger, Failure> {
        Stranger::new(&self.fabric, key.clone(), self.target_key, self.target)
    }
}

/// A node with one peer, the one that is measured. Made anew, it begins with an initiation.
pub(crate) struct Stranger {
    ganglion: Ganglion,
    session: Option<InstallSession>,
}

impl Stranger {
    /// A node that knows `peer` at `endpoint`, and has its first initiation to it ready.
    ///
    /// # Errors
    /// When no secret can be agreed on with the peer.
    pub(crate) fn new(
        fabric: &str,
        private_key: PrivateKey,
        peer: PublicKey,
        endpoint: SocketAddr,
    ) -> Result<Self, Failure> {
        let now = clock::now();
        let config = GanglionConfig {
            fabric: fabric.to_owned(),
            private_key,
            lanes: 1,
            max_frame: MAX_FRAME,
            capabilities: 0,
            workers: 1,
            path_mtu: false,
            remembered: None,
        };
        let mut ganglion = Ganglion::new(config, Box::new(SystemRandom), now);
        let peer = PeerConfig {
            public_key: peer,
            preshared_key: None,
            endpoint: Some(endpoint),
        };
        let PeerId(_) = ganglion.add_peer(now, peer)?;
        Ok(Self {
            ganglion,
            session: None,
        })
    }

    /// The next datagram to the peer, if there is one.
    pub(crate) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        // Commands and events are for an engine; there is none.
        while let Some(command) = self.ganglion.poll_command() {
            if let Command::InstallSession(install) = command {
                self.session = Some(*install);
            }
        }
        while self.ganglion.poll_event().is_some() {}
        self.ganglion.poll_transmit().map(|sent| sent.payload)
    }

    /// The session made last, keys included.
    pub(crate) fn take_session(&mut self) -> Option<InstallSession> {
        self.session.take()
    }

    /// Takes in what came from the peer.
    pub(crate) fn handle_datagram(&mut self, source: SocketAddr, datagram: &[u8]) {
        self.ganglion
            .handle_datagram(clock::now(), source, None, datagram);
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self) {
        self.ganglion.handle_timeout(clock::now());
    }

    /// When something is due next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.ganglion.poll_timeout()
    }

    /// Whether the peer has answered, so that there is a session to send in.
    pub(crate) fn is_established(&self) -> bool {
        let mut peers = self.ganglion.peers();
        peers.any(|peer| peer.state == PeerState::Established)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_strangers_establish_a_session_by_their_first_messages() {
        let keys = [PrivateKey([1; 32]), PrivateKey([2; 32])];
        let [a, b] = [&keys[0], &keys[1]].map(PublicKey::from_private);
        let [here, there] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let [key_a, key_b] = keys;
        let mut a_node = Stranger::new("test", key_a, b, there).expect("a peer");
        let mut b_node = Stranger::new("test", key_b, a, here).expect("a peer");
        let initiation = a_node.poll_transmit().expect("an initiation");
        assert!(b_node.poll_transmit().is_some(), "b begins as well");
        b_node.handle_datagram(here, &initiation);
        let response = b_node.poll_transmit().expect("a response");
        assert!(!a_node.is_established());
        a_node.handle_datagram(there, &response);
        assert!(a_node.is_established());
    }
}
