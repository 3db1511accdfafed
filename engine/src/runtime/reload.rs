//! Following a changed configuration.
//!
//! Everything that can be wrong is found before anything is changed. What does not differ is not
//! touched: its sessions and queues do not notice.

use std::sync::Arc;

use omni_config::{Change, Config, Peer, PeerChange, PeerPolicy};
use omni_control::message::PeerId;
use omni_control::service::process::wipe_stack;
use omni_control::{PeerConfig, PrivateKey, PublicKey, SymmetricKey};
use tracing::{error, info, warn};

use super::rendezvous::{self, Credentials};
use super::{EngineError, Node, switching};
use crate::clock;
use crate::show::Reloaded;

/// Whether there can be a session with every peer of a configuration. That takes a public-key
/// operation for each, which the `new` ones alone still have to stand.
///
/// # Errors
/// `PeerIsSelf` or `PeerKeyWeak`.
pub(super) fn check_peers(config: &Config, new: &[Peer]) -> Result<(), EngineError> {
    let private_key = PrivateKey(*config.node.private_key.expose());
    let own = PublicKey::from_private(&private_key);
    let name = |peer: &Peer| peer.name.clone();
    if let Some(peer) = config.peers.iter().find(|peer| peer.public_key == own.0) {
        return Err(EngineError::PeerIsSelf { name: name(peer) });
    }
    let is_weak = |peer: &&Peer| private_key.agree(&PublicKey(peer.public_key)).is_none();
    match new.iter().find(is_weak) {
        Some(peer) => Err(EngineError::PeerKeyWeak { name: name(peer) }),
        None => Ok(()),
    }
}

/// A configured peer, as the Ganglion takes it.
fn peer_config(peer: &Peer) -> PeerConfig {
    let secret = peer.preshared_key.as_ref();
    PeerConfig {
        public_key: PublicKey(peer.public_key),
        preshared_key: secret.map(|key| SymmetricKey(*key.expose())),
        endpoint: peer.endpoint,
    }
}

/// Some words, or that there are none.
fn listed(words: &[String]) -> String {
    match words {
        [] => "none".to_owned(),
        words => words.join(", "),
    }
}

impl Node {
    /// Reads the configuration again and follows it, or changes nothing and says why. Either way
    /// the log has it.
    pub(super) async fn reload(&mut self) -> Result<Reloaded, String> {
        let outcome = self.try_reload().await;
        wipe_stack();
        if let Some(log) = &self.key_log {
            log.warn();
        }
        match &outcome {
            Ok(Reloaded { changes }) if changes.is_empty() => info!("reload: nothing changed"),
            Ok(Reloaded { changes }) => {
                for change in changes {
                    info!("reload: {change}");
                }
            }
            Err(why) => error!("reload refused, nothing changed: {why}"),
        }
        outcome
    }

    async fn try_reload(&mut self) -> Result<Reloaded, String> {
        let next = omni_config::load(&self.config_file).map_err(|error| error.to_string())?;
        let file = self.config_file.display();
        let in_file = |error: &dyn std::fmt::Display| format!("{file}: {error}");
        let change = self
            .config
            .change_to(&next)
            .map_err(|error| in_file(&error))?;
        check_peers(&next, &change.added).map_err(|error| in_file(&error))?;
        let credentials = rendezvous::credentials(&next, clock::now());
        let credentials = credentials.map_err(|error| in_file(&error))?;
        for &(port, mtu) in &change.mtus {
            let checked = self.ports.check_mtu(port, mtu);
            checked.map_err(|error| in_file(&error))?;
        }
        let mut changes = self.follow(&change, &next).await;
        self.config = next;
        self.follow_membership(&change, credentials, &mut changes);
        Ok(Reloaded { changes })
    }

    /// Carries a change out that was found to be good. Says what was done.
    async fn follow(&mut self, change: &Change, next: &Config) -> Vec<String> {
        let mut done = Vec::new();
        for key in &change.removed {
            if let Some(id) = self.plane.ganglion.peer(&PublicKey(*key)) {
                done.push(format!("peer {} removed", self.peer_name(id)));
                self.remove_peer(id);
            }
        }
        if change.identity {
            self.take_identity(next, &mut done);
        }
        if change.name {
            done.push(format!("node.name: {}", next.node.name));
        }
        for peer in &change.changed {
            self.change_peer(peer, &mut done);
        }
        for peer in &change.added {
            if self.add_peer(peer) {
                done.push(format!("peer {} added", peer.name));
            }
        }
        if let Some(on) = change.filter {
            self.filter.set_wanted(on, self.ports.underlay_program());
            let word = if on { "on" } else { "off" };
            done.push(format!("underlay.filter: {word}"));
        }
        for &(port, mtu) in &change.mtus {
            self.ports.want_mtu(port, mtu);
            self.fit_mtu().await;
            done.push(format!(
                "access[{port}].mtu: {}",
                self.ports.access_mtu(port)
            ));
        }
        done
    }

    fn follow_membership(
        &mut self,
        change: &Change,
        credentials: Credentials,
        done: &mut Vec<String>,
    ) {
        if change.endpoints {
            let endpoints = self.config.underlay.endpoints.iter();
            let endpoints: Vec<String> = endpoints.map(ToString::to_string).collect();
            done.push(format!("underlay.endpoints: {}", listed(&endpoints)));
            self.look_after_members();
        }
        if change.nucleus {
            let nuclei = self.config.nucleus.iter();
            let nuclei: Vec<String> = nuclei.map(|it| it.endpoint.to_string()).collect();
            done.push(format!("nucleus: {}", listed(&nuclei)));
        }
        let before = self.rendezvous.as_ref();
        let is_other = before.is_some_and(|before| !before.has(&credentials));
        if is_other || change.authority {
            done.push("authority: another key or certificate".to_owned());
        }
        // Peers of the configuration are members without a certificate.
        let others = !(change.added.is_empty() && change.removed.is_empty());
        if change.nucleus || is_other || others && before.is_some() {
            self.restart_rendezvous(credentials);
        }
    }

    fn take_identity(&mut self, next: &Config, done: &mut Vec<String>) {
        let private_key = PrivateKey(*next.node.private_key.expose());
        let public_key = PublicKey::from_private(&private_key);
        let taken = self
            .plane
            .ganglion
            .set_identity(clock::now(), &next.fabric, private_key);
        match taken {
            Ok(()) if self.config.fabric != next.fabric => {
                done.push(format!("fabric: {}", next.fabric));
            }
            Ok(()) => done.push(format!("node.private_key_file: now {public_key}")),
            // Peers with our new key were refused before.
            Err(error) => warn!(%error, "cannot take the new identity"),
        }
    }

    fn change_peer(&mut self, change: &PeerChange, done: &mut Vec<String>) {
        let Some(id) = self.plane.ganglion.peer(&PublicKey(change.public_key)) else {
            return;
        };
        if let Some(name) = &change.name {
            done.push(format!("peer {} is called {name}", self.peer_name(id)));
            self.peer_names.insert(id, name.clone());
        }
        let name = self.peer_name(id).to_owned();
        if let Some(endpoint) = change.endpoint {
            self.plane.ganglion.set_endpoint(clock::now(), id, endpoint);
            let to = endpoint.map_or("none, it must speak first".to_owned(), |e| e.to_string());
            done.push(format!("peer {name}: endpoint {to}"));
        }
        if let Some(secret) = &change.preshared_key {
            let key = secret.as_ref().map(|key| SymmetricKey(*key.expose()));
            self.plane.ganglion.set_preshared_key(clock::now(), id, key);
            let what = if secret.is_some() { "another" } else { "no" };
            done.push(format!(
                "peer {name}: {what} preshared key from the next handshake on"
            ));
        }
        if let Some(settings) = &change.policy {
            self.set_policy(id, settings);
            done.push(format!("peer {name}: VLANs or limits"));
        }
    }

    /// Adds a peer. Says whether that was possible.
    pub(super) fn add_peer(&mut self, peer: &Peer) -> bool {
        let public_key = PublicKey(peer.public_key);
        if let Some(id) = self.plane.ganglion.peer(&public_key) {
            // It was one as a member.
            self.remove_peer(id);
        }
        match self
            .plane
            .ganglion
            .add_peer(clock::now(), peer_config(peer))
        {
            Ok(id) => {
                self.peer_names.insert(id, peer.name.clone());
                self.set_policy(id, &peer.policy());
                true
            }
            Err(error) => {
                error!(peer = peer.name, %error, "peer left out");
                false
            }
        }
    }

    /// What a peer may do from now on. The workers are told after they know of the peer.
    fn set_policy(&mut self, id: PeerId, settings: &PeerPolicy) {
        let peer = self.plane.ganglion.public_key_of(id);
        if let Some(public_key) = peer {
            let limits = switching::peer_limits(settings);
            self.plane.set_limits(clock::instant(), public_key, limits);
            let policy = Arc::new(switching::peer_policy(settings));
            self.policies.push((id, policy));
        }
    }

    pub(super) fn remove_peer(&mut self, id: PeerId) {
        self.plane.ganglion.remove_peer(id);
        self.paths.forget(id);
        self.throttle.forget(id);
        if let Some(rendezvous) = &mut self.rendezvous {
            rendezvous.forget(id);
        }
        self.peer_names.remove(&id);
    }
}
