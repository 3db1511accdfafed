//! Registration with every Nucleus, and what the node learns from them.
//!
//! ```text
//!   Nucleus 0..n <=== lines (TCP, Noise) ===> Agent --events--> peers, addresses
//!                                               ^
//!                          local addresses -----+----> <state file>.map
//! ```
//!
//! Members become peers like those of the configuration, with what their certificates allow, and
//! without a handshake until there is something to send. A Nucleus that is gone takes nobody away.

mod line;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use omni_config::{Config, PeerPolicy as PeerSettings, VlanSet};
use omni_control::message::{FdbKey, PeerId, VlanBits};
use omni_control::{PeerConfig, PeerState, PrivateKey, PublicKey};
use omni_membership::{
    AuthorityPublicKey, Certificate, FabricName, Grants, Kind, VlanRanges, armour,
};
use omni_nucleus::agent::{
    Agent, AgentConfig, AgentEvent, Bound, CACHE_MAX, LinkStatus, MemberView,
};
use omni_wire::reflection::{Answer, Probe};
use omni_wire::{Instant, Now};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use super::state::StateFile;
use super::{EngineError, Node, switching};
use crate::clock;
use crate::datapath::policy::PeerPolicy;
use crate::show::NucleusView;
use crate::switch;
use line::{Call, Line, Told, WAITING};

/// A member that does not answer is called no more often than this.
const CALL_AGAIN: Duration = Duration::from_secs(5);
/// A peer that is called and does not answer for so long is taken as gone, where a rendezvous names
/// others for what it has: it was sent three initiations.
const SILENT_AFTER: Duration = Duration::from_secs(11);
/// Local addresses are looked through no more often than this: all of them, for each change.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A certificate that ends within this time is warned of, in seconds.
const ENDS_SOON: u64 = 14 * 24 * 3600;
/// The longest certificate file, in octets.
const CERTIFICATE_MAX: u64 = 64 * 1024;

/// The node's way to its Nuclei. Without any it does nothing.
#[derive(Debug)]
pub(super) struct Rendezvous {
    agent: Agent,
    /// What makes us a member, and others.
    credentials: Credentials,
    lines: Vec<Line>,
    told: mpsc::Receiver<(usize, Told)>,
    nuclei: Vec<SocketAddr>,
    /// Whether each was reachable when it was last tried: what changes is logged.
    open: Vec<Option<bool>>,
    cache: StateFile,
    called: BTreeMap<PeerId, Instant>,
    /// When local addresses were looked through last, and whether they changed since.
    looked_at: Instant,
    changed: bool,
    /// Members that are peers, and not of the configuration.
    members: BTreeMap<PublicKey, PeerId>,
}

/// What makes this node a member, and others: an authority, and its certificate for this node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Credentials {
    authority: Option<AuthorityPublicKey>,
    certificate: Option<Vec<u8>>,
}

impl Rendezvous {
    /// Begins to call, with what an earlier one knew, or what is on disk. `None` when no Nucleus is
    /// configured.
    ///
    /// # Errors
    /// When what the node says of itself is out of its range.
    pub(super) fn start(
        config: &Config,
        credentials: Credentials,
        (lanes, max_frame): (u16, u16),
        now: Now,
        before: Option<&[u8]>,
    ) -> Result<Option<Self>, EngineError> {
        if config.nucleus.is_empty() {
            return Ok(None);
        }
        let private_key = PrivateKey(*config.node.private_key.expose());
        let fabric = FabricName::new(config.fabric.clone()).map_err(|error| refused(&error))?;
        let Credentials {
            authority,
            certificate,
        } = credentials.clone();
        let known = config.peers.iter().map(|peer| PublicKey(peer.public_key));
        let agent = Agent::new(AgentConfig {
            fabric,
            authority,
            known: known.collect(),
            private_key: private_key.clone(),
            name: config.node.name.clone(),
            certificate,
            lanes,
            max_frame,
            vlans: carried(config),
            nuclei: config.nucleus.len(),
        });
        let mut agent = agent.map_err(|error| refused(&error))?;
        let cache = StateFile::of_map(&map_file(&config.node.state_file), CACHE_MAX);
        let loaded = match before {
            Some(before) => agent.load(now, before).ok(),
            None => cache.load(|octets| agent.load(now, octets)),
        };
        if loaded.is_some() {
            info!(
                members = agent.members().count(),
                "members known from before"
            );
        }
        let (sender, told) = mpsc::channel(WAITING);
        let lines = config.nucleus.iter().enumerate().map(|(number, nucleus)| {
            let call = Call {
                fabric: config.fabric.clone(),
                private_key: private_key.clone(),
                remote: PublicKey(nucleus.public_key),
                endpoint: nucleus.endpoint,
            };
            Line::open(call, number, sender.clone())
        });
        Ok(Some(Self {
            credentials,
            lines: lines.collect(),
            nuclei: config.nucleus.iter().map(|n| n.endpoint).collect(),
            open: vec![None; config.nucleus.len()],
            agent,
            told,
            cache,
            called: BTreeMap::new(),
            looked_at: Instant(0),
            changed: true,
            members: BTreeMap::new(),
        }))
    }

    /// Whether it goes by these.
    pub(super) fn has(&self, credentials: &Credentials) -> bool {
        self.credentials == *credentials
    }

    /// What a Nucleus says next. Pends for ever where there is none.
    pub(super) async fn next(rendezvous: &mut Option<Self>) -> (usize, Told) {
        match rendezvous {
            Some(rendezvous) => match rendezvous.told.recv().await {
                Some(told) => told,
                // Every line has ended, as none does.
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    fn take(&mut self, now: Now, number: usize, told: Told) {
        let at = self.nuclei.get(number).copied();
        let before = self.open.get(number).copied().flatten();
        match told {
            Told::Open => {
                self.agent.connected(now, number);
                if before != Some(true) {
                    info!(nucleus = ?at, "connected");
                }
                self.set_open(number, true);
            }
            Told::Message(octets) => self.agent.handle_message(now, number, &octets),
            Told::Closed(why) => {
                self.agent.disconnected(number);
                if before == Some(false) {
                    debug!(nucleus = ?at, why, "still not connected");
                } else {
                    warn!(nucleus = ?at, why, "not connected; trying again, what is known holds");
                }
                self.set_open(number, false);
            }
        }
    }

    fn set_open(&mut self, number: usize, is_open: bool) {
        if let Some(open) = self.open.get_mut(number) {
            *open = Some(is_open);
        }
    }

    /// Sends what there is room for.
    fn send(&mut self, now: Now) {
        for (number, line) in self.lines.iter().enumerate() {
            while let Some(room) = line.room() {
                match self.agent.poll_send(now, number) {
                    Some(message) => room.send(message),
                    None => break,
                }
            }
        }
    }

    /// When something is due next.
    pub(super) fn poll_timeout(rendezvous: Option<&Self>) -> Option<Instant> {
        let Self {
            agent,
            looked_at,
            changed,
            ..
        } = rendezvous?;
        let look = changed.then_some(*looked_at + LOOK_AGAIN);
        look.into_iter().chain([agent.poll_timeout()]).min()
    }

    /// Forgets that a peer was made of a member.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.called.remove(&peer);
        self.members.retain(|_, id| *id != peer);
    }

    /// Each Nucleus, to be shown.
    pub(super) fn view(&self, now: Instant) -> Vec<NucleusView> {
        let all = self.nuclei.iter().zip(self.agent.links());
        let view = |(endpoint, link): (&SocketAddr, LinkStatus)| NucleusView {
            endpoint: endpoint.to_string(),
            state: if link.connected {
                "connected"
            } else {
                "connecting"
            }
            .to_owned(),
            registered: link.registered,
            complete: link.complete,
            revision: link.revision,
            heard_seconds: link.heard.map(|at| now.since(at).as_secs()),
            seen_at: link.seen_at.map(|seen| seen.to_string()),
            refusal: link.refusal,
            not_believed: link.not_believed,
        };
        all.map(view).collect()
    }
}

impl Node {
    /// A datagram at the fabric port says where a Nucleus sees it. False when it is none of these.
    pub(super) fn take_reflection(
        rendezvous: &mut Option<Rendezvous>,
        now: Now,
        source: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        let Some(answer) = Answer::parse(datagram) else {
            return false;
        };
        if let Some(rendezvous) = rendezvous
            && rendezvous.nuclei.contains(&source)
        {
            let Answer {
                token,
                source: seen,
            } = answer;
            rendezvous.agent.handle_reflection(now, &token, seen);
        }
        true
    }

    /// A Nucleus says something.
    pub(super) fn take_told(&mut self, (number, told): (usize, Told)) {
        if let Some(rendezvous) = &mut self.rendezvous {
            rendezvous.take(clock::now(), number, told);
        }
    }

    /// Does what is due, sends what is to be sent, and follows what was learned.
    pub(super) fn run_rendezvous(&mut self) {
        let Some(mut rendezvous) = self.rendezvous.take() else {
            return;
        };
        let now = clock::now();
        if rendezvous.agent.poll_timeout() <= now.instant {
            rendezvous.agent.handle_timeout(now);
        }
        rendezvous.changed |= self.plane.switch.take_local_change();
        let is_due = now.instant.since(rendezvous.looked_at) >= LOOK_AGAIN;
        if rendezvous.changed && is_due {
            rendezvous.changed = false;
            rendezvous.looked_at = now.instant;
            let local = self.plane.switch.local_bindings();
            rendezvous.agent.set_bindings(now, local);
        }
        while let Some(event) = rendezvous.agent.poll_event() {
            self.follow_member(&mut rendezvous, now, event);
        }
        rendezvous.send(now);
        for (number, &endpoint) in rendezvous.nuclei.iter().enumerate() {
            if let Some(token) = rendezvous.agent.poll_reflection(now, number) {
                self.udp.send(endpoint, None, &Probe { token }.emit());
            }
        }
        if let Some(cache) = rendezvous.agent.take_cache(now) {
            rendezvous.cache.save(&cache);
        }
        self.rendezvous = Some(rendezvous);
    }

    /// What the node knows of itself may have changed, and members may not answer.
    pub(super) fn look_after_members(&mut self) {
        let Some(rendezvous) = &mut self.rendezvous else {
            return;
        };
        let now = clock::now();
        let port = self.config.underlay.port;
        let local = self.ports.local_addresses();
        let local: Vec<SocketAddr> = local.map(|address| (address, port).into()).collect();
        let configured = &self.config.underlay.endpoints;
        rendezvous.agent.set_endpoints(now, configured, &local);
        let silent = |since: Option<Instant>| {
            since.is_some_and(|since| now.instant.since(since) >= SILENT_AFTER)
        };
        let silent: Vec<PeerId> = self
            .plane
            .ganglion
            .peers()
            .filter(|peer| silent(peer.unanswered_since))
            .map(|peer| peer.id)
            .collect();
        for peer in silent {
            self.plane.switch.set_silent(now.instant, peer, true);
        }
        while let Some(peer) = self.plane.switch.poll_check() {
            self.plane.ganglion.check(now, peer);
        }
        for peer in self.plane.ganglion.peers() {
            let last = rendezvous.called.get(&peer.id);
            let is_due = last.is_none_or(|&at| now.instant.since(at) >= CALL_AGAIN);
            if peer.state == PeerState::Handshaking && is_due {
                rendezvous.called.insert(peer.id, now.instant);
                rendezvous.agent.call(peer.public_key);
            }
        }
    }

    /// Goes on with another certificate, authority or list of Nuclei, and with what is known. Who
    /// is no member by them is no peer any more.
    pub(super) fn restart_rendezvous(&mut self, credentials: Credentials) {
        let before = self.rendezvous.take();
        let (known, members) = before.map_or_else(Default::default, |before| {
            (Some(before.agent.cache()), before.members)
        });
        let size = (self.mailbox.workers() as u16, self.ports.max_frame() as u16);
        let now = clock::now();
        let started = Rendezvous::start(&self.config, credentials, size, now, known.as_deref());
        self.rendezvous = started.unwrap_or_else(|error| {
            error!(%error, "no Nucleus is called");
            None
        });
        let agent = self.rendezvous.as_ref().map(|rendezvous| &rendezvous.agent);
        let stays = |key: &PublicKey| agent.is_some_and(|agent| agent.is_member(key));
        let left = members.iter().filter(|(key, _)| !stays(key));
        let left: Vec<PeerId> = left.map(|(_, &id)| id).collect();
        if let Some(rendezvous) = &mut self.rendezvous {
            rendezvous.members = members;
        }
        for id in left {
            let member = self.peer_name(id);
            warn!(member, "no member of the fabric any more");
            self.remove_peer(id);
        }
        self.meet_members();
    }

    /// Members known from before are peers from the start.
    pub(super) fn meet_members(&mut self) {
        let Some(mut rendezvous) = self.rendezvous.take() else {
            return;
        };
        let now = clock::now();
        // Loading has left an event for each.
        while let Some(event) = rendezvous.agent.poll_event() {
            self.follow_member(&mut rendezvous, now, event);
        }
        self.rendezvous = Some(rendezvous);
    }

    fn follow_member(&mut self, rendezvous: &mut Rendezvous, now: Now, event: AgentEvent) {
        match event {
            AgentEvent::Member(view) => self.meet(rendezvous, now, view),
            AgentEvent::MemberGone {
                public_key,
                revoked,
            } => self.part(rendezvous, &public_key, revoked),
            AgentEvent::Called(public_key) => {
                if let Some(peer) = self.plane.ganglion.peer(&public_key) {
                    self.plane.ganglion.call(now, peer);
                }
            }
            AgentEvent::Bound(bound) => self.told(now, bound),
            AgentEvent::Unbound {
                vlan,
                ip,
                mac,
                owner,
            } => {
                if let Some(peer) = self.plane.ganglion.peer(&owner) {
                    let told = switch::Told {
                        key: FdbKey { vlan, mac },
                        ip,
                        peer,
                        sequence: 0,
                    };
                    self.plane.switch.untold(now.instant, told);
                }
            }
            AgentEvent::Kept { vlan, ip, mac } => {
                self.plane.switch.granted(now.instant, vlan, ip, mac);
            }
        }
    }

    fn told(&mut self, now: Now, bound: Bound) {
        let Bound {
            vlan,
            ip,
            mac,
            owner,
            sequence,
            expires,
        } = bound;
        if let Some(peer) = self.plane.ganglion.peer(&owner) {
            let told = switch::Told {
                key: FdbKey { vlan, mac },
                ip,
                peer,
                sequence,
            };
            let lifetime = expires.since(now.instant);
            self.plane.switch.told(now.instant, told, lifetime);
        }
    }

    /// A member becomes a peer, or is somewhere else, or may do something else.
    fn meet(&mut self, rendezvous: &mut Rendezvous, now: Now, view: MemberView) {
        let MemberView {
            public_key,
            name,
            endpoints,
            grants,
            vlans,
        } = view;
        let mut configured = self.config.peers.iter();
        let configured = configured.find(|peer| peer.public_key == public_key.0);
        let places: Vec<SocketAddr> = configured
            .and_then(|peer| peer.endpoint)
            .into_iter()
            .chain(endpoints)
            .collect();
        let is_configured = configured.is_some();
        let known = self.plane.ganglion.peer(&public_key);
        let id = match known {
            Some(id) => id,
            None => {
                let added = self.plane.ganglion.add_peer(
                    now,
                    PeerConfig {
                        public_key,
                        preshared_key: None,
                        endpoint: None,
                    },
                );
                match added {
                    Ok(id) => id,
                    Err(error) => return error!(member = name, %error, "member left out"),
                }
            }
        };
        self.plane.ganglion.set_places(now, id, &places);
        let vlans = vlans.as_ref().map_or(VlanBits::ALL, bits);
        self.plane.switch.told_vlans(id, vlans);
        if is_configured {
            return;
        }
        rendezvous.members.insert(public_key, id);
        if known.is_none() {
            info!(member = name, key = %public_key, "a member of the fabric");
        }
        self.peer_names.insert(id, name);
        self.set_member_policy(id, public_key, grants);
    }

    fn set_member_policy(&mut self, id: PeerId, public_key: PublicKey, grants: Option<Grants>) {
        let grants = grants.map(Arc::new);
        let settings = PeerSettings::default();
        let limits = switching::peer_limits(&settings);
        let now = clock::instant();
        self.plane.set_limits(now, public_key, limits);
        self.plane.switch.set_grants(now, id, grants.clone());
        let vlans = grants.as_ref().and_then(|grants| grants.vlans.as_ref());
        let policy = PeerPolicy {
            vlans: vlans.map_or(VlanBits::ALL, bits),
            grants,
            ..switching::peer_policy(&settings)
        };
        self.policies.push((id, Arc::new(policy)));
    }

    fn part(&mut self, rendezvous: &mut Rendezvous, public_key: &PublicKey, revoked: bool) {
        let Some(&id) = rendezvous.members.get(public_key) else {
            return;
        };
        let mut peers = self.plane.ganglion.peers();
        let speaks = peers.any(|peer| peer.id == id && peer.state == PeerState::Established);
        drop(peers);
        let name = self.peer_name(id).to_owned();
        if speaks && !revoked {
            // Nobody hears of it any more but we, who speak with it.
            return info!(
                member = name,
                "its registration has expired, and it is still there"
            );
        }
        warn!(member = name, revoked, "no member of the fabric any more");
        rendezvous.forget(id);
        self.remove_peer(id);
    }
}

fn refused(why: &dyn std::fmt::Display) -> EngineError {
    EngineError::Membership {
        why: why.to_string(),
    }
}

/// Reads what makes this node a member.
///
/// # Errors
/// When the authority's key is none, or the certificate is none, or is not this node's.
pub(super) fn credentials(config: &Config, now: Now) -> Result<Credentials, EngineError> {
    let Some(authority) = &config.authority else {
        return Ok(Credentials::default());
    };
    let private_key = PrivateKey(*config.node.private_key.expose());
    let fabric = FabricName::new(config.fabric.clone()).map_err(|error| refused(&error))?;
    let key = AuthorityPublicKey::from_octets(&authority.public_key);
    let key = key.map_err(|error| refused(&format_args!("authority.public_key: {error}")))?;
    let own_key = PublicKey::from_private(&private_key);
    let path = &authority.certificate_file;
    let octets = read_certificate(path, &fabric, &key, own_key, now)?;
    Ok(Credentials {
        authority: Some(key),
        certificate: Some(octets),
    })
}

/// The name of the file with what is known of members: beside the state file.
fn map_file(state_file: &Path) -> PathBuf {
    state_file.with_extension("map")
}

fn read_certificate(
    path: &Path,
    fabric: &FabricName,
    authority: &AuthorityPublicKey,
    own_key: PublicKey,
    now: Now,
) -> Result<Vec<u8>, EngineError> {
    use std::io::Read as _;
    let at = path.display();
    let named = |why: &dyn std::fmt::Display| {
        refused(&format_args!("authority.certificate_file: {at}: {why}"))
    };
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(CERTIFICATE_MAX).read_to_end(&mut text))
        .map_err(|error| named(&error))?;
    let octets = armour::decode_kind(&text, Kind::Certificate).map_err(|error| named(&error))?;
    let certificate =
        Certificate::verify(&octets, fabric, authority).map_err(|error| named(&error))?;
    if certificate.public_key != own_key {
        return Err(named(&format_args!(
            "it is for the key {}, and this node's is {own_key}",
            certificate.public_key
        )));
    }
    let seconds = now.wall.0 / 1_000_000_000;
    match certificate.not_after {
        Some(end) if end < seconds => warn!("{at}: the certificate has expired; peers refuse it"),
        Some(end) if end < seconds + ENDS_SOON => {
            warn!(
                days = (end - seconds) / 86_400,
                "{at}: the certificate expires soon"
            );
        }
        _ => {}
    }
    Ok(octets)
}

/// What the ports carry together; `None` for everything.
fn carried(config: &Config) -> Option<VlanRanges> {
    let mut vlans = VlanSet::none();
    for access in &config.access {
        for vlan in 0..=4094 {
            if access.vlans.contains(vlan) {
                vlans.insert(vlan);
            }
        }
    }
    let mut ranges: Vec<std::ops::RangeInclusive<u16>> = Vec::new();
    for vlan in (0..=4094).filter(|&vlan| vlans.contains(vlan)) {
        match ranges.last_mut() {
            Some(last) if *last.end() + 1 == vlan => *last = *last.start()..=vlan,
            _ => ranges.push(vlan..=vlan),
        }
    }
    if ranges == [0..=4094] {
        return None;
    }
    VlanRanges::new(ranges)
}

pub(super) fn bits(vlans: &VlanRanges) -> VlanBits {
    let mut bits = VlanBits::NONE;
    for vlan in vlans.ranges().flatten() {
        bits.insert(vlan);
    }
    bits
}
