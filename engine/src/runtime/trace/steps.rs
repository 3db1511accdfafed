//! The steps of a frame's way, in the order of the data path's.

use std::net::IpAddr;

use omni_control::PeerState;
use omni_control::message::{FdbKey, Owner, PeerId, PortId};
use omni_wire::limits::{ETHERNET_LEN, REJECT_AFTER_TIME, REKEY_AFTER_TIME, STAGED_MIN};
use omni_wire::{DropReason, MacAddr, ethernet};

use super::scene::{PeerScene, PortScene, Scene, Target};
use crate::datapath::policy::PortVlans;
use crate::switch::{Kind, Source};
use crate::trace::{Step, Trace, Verdict, Weight};

/// Of the peers that a frame is flooded to, so many are named.
const NAMED_MAX: usize = 16;

/// What was decided so far.
struct Way<'a> {
    scene: &'a Scene<'a>,
    vlan: u16,
    from: Option<PortId>,
    trace: Trace,
}

impl Scene<'_> {
    /// The way of a frame to a target, as far as it is known.
    pub(super) fn trace(
        &self,
        asked: &str,
        target: &Target,
        vlan: Option<u16>,
        from: Option<PortId>,
    ) -> Trace {
        let vlan = vlan.or_else(|| self.vlan_of(from, target)).unwrap_or(0);
        let from_name = from.map(|port| self.name_of(Owner::Local(port)));
        let mut way = Way {
            scene: self,
            vlan,
            from,
            trace: Trace {
                target: asked.to_owned(),
                vlan,
                from: from_name,
                mac: None,
                verdict: Verdict::Dropped,
                drop: None,
                ports: Vec::new(),
                peers: Vec::new(),
                steps: Vec::new(),
            },
        };
        way.go(target);
        way.trace
    }

    /// The VLAN that is meant when none is named.
    fn vlan_of(&self, from: Option<PortId>, target: &Target) -> Option<u16> {
        let port = from.and_then(|from| self.port(from));
        if let Some(PortVlans::Access(vlan)) = port.map(|port| &port.vlans) {
            return Some(*vlan);
        }
        let mut vlans: Vec<u16> = match *target {
            Target::Mac(mac) => {
                let known = self.switch.iter().filter(|(key, _)| key.mac == mac);
                known.map(|(key, _)| key.vlan).collect()
            }
            Target::Ip(ip) => {
                let known = self.switch.neighbors().filter(|known| known.bound.ip == ip);
                known.map(|known| known.bound.vlan).collect()
            }
            Target::Peer(_) => Vec::new(),
        };
        vlans.dedup();
        match vlans[..] {
            [only] => Some(only),
            _ => None,
        }
    }
}

impl Way<'_> {
    fn note(&mut self, step: &str, weight: Weight, text: String) {
        self.trace.steps.push(Step {
            step: step.to_owned(),
            text,
            weight,
        });
    }

    fn fine(&mut self, step: &str, text: String) {
        self.note(step, Weight::Fine, text);
    }

    fn warn(&mut self, step: &str, text: String) {
        self.note(step, Weight::Warning, text);
    }

    fn drop(&mut self, step: &str, reason: DropReason, text: String) {
        self.note(step, Weight::Drop, text);
        self.trace.verdict = Verdict::Dropped;
        self.trace.drop = Some(reason.as_str().to_owned());
    }

    fn go(&mut self, target: &Target) {
        if let Target::Peer(peer) = *target {
            self.count_addresses(peer);
            return self.follow_peer(peer);
        }
        if !self.enters() {
            return;
        }
        match *target {
            Target::Mac(mac) => self.follow_mac(mac),
            Target::Ip(ip) if ip.is_multicast() => {
                self.fine("binding", format!("{ip} is a group"));
                self.flood(Some(ip));
            }
            Target::Ip(ip) => self.follow_ip(ip),
            Target::Peer(_) => {}
        }
    }

    fn count_addresses(&mut self, peer: PeerId) {
        let owner = Owner::Peer(peer);
        let all = self.scene.switch.iter();
        let macs = all.filter(|(_, entry)| entry.owner == owner).count();
        let known = self.scene.switch.neighbors();
        let addresses = known.filter(|known| known.bound.owner == owner).count();
        let name = self.scene.name_of(owner);
        let text = format!("{name} has {macs} MAC and {addresses} IP addresses behind it");
        self.fine("owner", text);
    }

    /// Whether the frame gets in.
    fn enters(&mut self) -> bool {
        let Some(port) = self.from.and_then(|from| self.scene.port(from)) else {
            let text = "no port was named (--from): what ports drop is left out".to_owned();
            self.fine("port", text);
            return true;
        };
        let vlan = self.vlan;
        let queues = served(port);
        let text = match &port.vlans {
            vlans if !vlans.carry(vlan) => {
                let text = format!("{} does not carry VLAN {vlan}", port.name);
                self.drop("port", DropReason::VlanNotAllowed, text);
                return false;
            }
            PortVlans::Access(_) => {
                format!("{}: VLAN {vlan}, untagged on the port; {queues}", port.name)
            }
            PortVlans::Trunk(_) if vlan == 0 => format!("{}: untagged; {queues}", port.name),
            PortVlans::Trunk(_) => format!("{}: tagged with VLAN {vlan}; {queues}", port.name),
        };
        self.fine("port", text);
        true
    }

    fn follow_ip(&mut self, ip: IpAddr) {
        let vlan = self.vlan;
        let mut known = self.scene.switch.neighbors();
        let known = known.find(|known| (known.bound.vlan, known.bound.ip) == (vlan, ip));
        let Some(known) = known else {
            let question = if ip.is_ipv4() {
                "ARP request"
            } else {
                "neighbour solicitation"
            };
            let text = format!(
                "nobody was heard with {ip} in VLAN {vlan}: the {question} for it \
                                is flooded, and its answer decides"
            );
            self.warn("binding", text);
            return self.flood(None);
        };
        let source = match known.source {
            Source::Snooped => "snooped",
            Source::Announced => "announced by the peer",
            Source::Nucleus => "told by a Nucleus",
            Source::Static => "configured",
        };
        let age = self.scene.now.since(known.seen).as_secs();
        let answered = if self.scene.settings.suppression {
            "; questions for it are answered here"
        } else {
            ""
        };
        let mac = known.bound.mac;
        let text = format!("{ip} is at {mac}, {source} {age} s ago{answered}");
        self.fine("binding", text);
        self.follow_mac(mac);
    }

    fn follow_mac(&mut self, mac: MacAddr) {
        self.trace.mac = Some(mac.to_string());
        if ethernet::is_reserved(mac) {
            let text = format!("{mac} is for bridges next to each other, and goes no further");
            return self.drop("address", DropReason::ReservedDestination, text);
        }
        if mac == self.scene.settings.engine_mac {
            self.trace.verdict = Verdict::Consumed;
            return self.fine("address", format!("{mac} is the engine's own"));
        }
        if mac.is_multicast() {
            let what = if mac.is_broadcast() {
                "everyone"
            } else {
                "a group"
            };
            self.fine("address", format!("{mac} is {what}"));
            return self.flood(None);
        }
        let key = FdbKey {
            vlan: self.vlan,
            mac,
        };
        let mut entries = self.scene.switch.iter();
        match entries.find(|(known, _)| **known == key) {
            Some((_, entry)) => {
                let age = self.scene.now.since(entry.seen).as_secs();
                let owner = self.scene.name_of(entry.owner);
                let limit = self.scene.settings.ageing.as_secs();
                let text = match entry.kind {
                    Kind::Learned => {
                        format!("{mac} is behind {owner}: learned, heard {age} s of {limit} s ago")
                    }
                    Kind::Static => format!("{mac} is behind {owner}: configured, it stays"),
                };
                self.fine("address", text);
                self.note_freeze(key);
                self.follow_owner(entry.owner);
            }
            None => self.follow_unknown(key),
        }
    }

    fn note_freeze(&mut self, key: FdbKey) {
        let now = self.scene.now;
        let mut alarms = self.scene.switch.alarms();
        if let Some(alarm) = alarms.find(|alarm| alarm.key == key && now < alarm.until) {
            let text = format!(
                "it moved too often and is frozen where it is for {} s more: frames from it are \
                 dropped everywhere else ({})",
                alarm.until.since(now).as_secs(),
                DropReason::SourceMacNotOwned.as_str()
            );
            self.warn("address", text);
        }
    }

    fn follow_unknown(&mut self, key: FdbKey) {
        let FdbKey { vlan, mac } = key;
        if let Some(peer) = self.scene.switch.directed(key) {
            let name = self.scene.name_of(Owner::Peer(peer));
            let text = format!("nobody was heard with {mac}; a Nucleus says that {name} has it");
            self.fine("address", text);
            return self.follow_peer(peer);
        }
        if self.scene.settings.drop_unknown {
            let text = format!(
                "nobody was heard with {mac} in VLAN {vlan}, and \
                                switch.unknown_unicast is drop"
            );
            return self.drop("address", DropReason::UnknownUnicast, text);
        }
        let text = format!("nobody was heard with {mac} in VLAN {vlan}: it is flooded");
        self.warn("address", text);
        self.flood(None);
    }

    fn follow_owner(&mut self, owner: Owner) {
        match owner {
            Owner::Peer(peer) => self.follow_peer(peer),
            Owner::Local(port) if Some(port) == self.from => {
                let text = "it came from there: hosts behind one port reach each other without \
                            the engine"
                    .to_owned();
                self.drop("owner", DropReason::Reflected, text);
            }
            Owner::Local(id) => {
                let Some(port) = self.scene.port(id) else {
                    return;
                };
                if !port.vlans.carry(self.vlan) {
                    let text = format!("{} does not carry VLAN {}", port.name, self.vlan);
                    return self.drop("owner", DropReason::VlanNotAllowed, text);
                }
                self.trace.ports.push(port.name.clone());
                self.trace.verdict = Verdict::Delivered;
                self.fine("owner", format!("out of {}", port.name));
            }
        }
    }

    fn follow_peer(&mut self, id: PeerId) {
        let Some(peer) = self.scene.peers.get(&id) else {
            return self.drop(
                "owner",
                DropReason::NoDestination,
                "the peer has gone".to_owned(),
            );
        };
        self.trace.peers.push(peer.view());
        self.note_policy(id, peer);
        let waits_for_session = match self.session(peer) {
            Ok(waits) => waits,
            Err(text) => return self.drop("session", DropReason::NoEndpoint, text),
        };
        let waits_for_way = self.way(peer);
        self.trace.verdict = if waits_for_session || waits_for_way {
            Verdict::Staged
        } else {
            Verdict::Sent
        };
        self.lanes(peer);
        self.mtu(peer);
    }

    fn note_policy(&mut self, id: PeerId, peer: &PeerScene) {
        let (vlan, name) = (self.vlan, &peer.name);
        let carried = self.scene.switch.carried(id);
        if !peer.vlans.contains(vlan) {
            let text = format!(
                "{name} may not use VLAN {vlan}: what it answers is dropped here ({})",
                DropReason::VlanNotAllowed.as_str()
            );
            self.warn("policy", text);
        }
        if carried.is_some_and(|carried| !carried.contains(vlan)) {
            self.warn(
                "policy",
                format!("{name} says that no port of its carries VLAN {vlan}"),
            );
        }
        if peer.throttled {
            let text = format!(
                "most of what {name} sent was refused: most of its messages are \
                                dropped in the driver for 30 s ({})",
                DropReason::PeerThrottled.as_str()
            );
            self.warn("policy", text);
        }
    }

    /// Whether the frame waits for a session; why there can be none.
    fn session(&mut self, peer: &PeerScene) -> Result<bool, String> {
        let name = &peer.name;
        if let Some(silent) = peer.unanswered {
            let text = format!(
                "{name} is called for {} s and does not answer",
                silent.as_secs()
            );
            self.warn("session", text);
        }
        let (renewed, ends) = (REKEY_AFTER_TIME.as_secs(), REJECT_AFTER_TIME.as_secs());
        match (peer.state, peer.session) {
            (PeerState::Established, Some(age)) => {
                let text = format!(
                    "with {name}, {} s old: renewed at {renewed} s, over at \
                                    {ends} s",
                    age.as_secs()
                );
                if age < REJECT_AFTER_TIME {
                    self.fine("session", text);
                } else {
                    self.warn("session", text);
                }
                Ok(false)
            }
            _ if peer.endpoint.is_none() => Err(format!(
                "none with {name}, and it is not known where it is: it has to speak \
                             first"
            )),
            (PeerState::Handshaking, _) => {
                self.warn("session", waits(name, "a handshake is under way"));
                Ok(true)
            }
            _ => {
                self.warn("session", waits(name, "the frame begins a handshake"));
                Ok(true)
            }
        }
    }

    /// Whether the frame waits for the way to be known.
    fn way(&mut self, peer: &PeerScene) -> bool {
        let Some(endpoint) = peer.endpoint else {
            self.warn("way", format!("it is not known where {} is", peer.name));
            return true;
        };
        let Some(look) = &peer.way else {
            self.warn("way", format!("the way to {endpoint} is not known yet"));
            return true;
        };
        let text = match (look.path, look.next_hop, &look.trouble) {
            (_, _, Some(why)) => format!("no way to {endpoint}: {why}"),
            (Some(path), Some(hop), None) => {
                let by = if hop == endpoint.ip() {
                    "on the same link".to_owned()
                } else {
                    format!("by the router {hop}")
                };
                let (source, mac) = (path.source, path.next_hop_mac);
                self.fine(
                    "way",
                    format!("direct, {source} to {endpoint} {by} ({mac})"),
                );
                return false;
            }
            (_, Some(hop), None) => {
                format!("to {endpoint} by {hop}, whose MAC address is asked for")
            }
            _ => format!("the way to {endpoint} is being looked for"),
        };
        self.warn("way", text);
        look.path.is_none()
    }

    fn lanes(&mut self, peer: &PeerScene) {
        let (Some(&(_, first)), Some(&(last, other))) = (peer.lanes.first(), peer.lanes.last())
        else {
            return;
        };
        let text = match last {
            0 => format!("worker 0 sends on lane 0 from UDP port {first}"),
            _ if first == other => format!(
                "the worker that has the frame sends on its own lane, \
                                            0 to {last}, from UDP port {first}"
            ),
            _ => {
                let ports = peer.lanes.iter();
                let ports: Vec<String> = ports
                    .map(|(lane, port)| format!("lane {lane} from {port}"))
                    .collect();
                format!(
                    "each worker on its own lane and UDP port: {}",
                    ports.join(", ")
                )
            }
        };
        self.fine("lanes", text);
    }

    fn mtu(&mut self, peer: &PeerScene) {
        let ours = self.scene.settings.max_frame;
        let (Some(accepts), Some(limit)) = (peer.accepts, peer.limit) else {
            let text = format!("{ours} octets fit here; without a session no more is known");
            return self.fine("mtu", text);
        };
        let way = match peer.probed {
            Some(probed) if probed < accepts.min(ours) => {
                format!("the way was found to carry {probed}")
            }
            Some(_) => "the way was found to carry them".to_owned(),
            None => "the way was not probed".to_owned(),
        };
        let packet = limit.saturating_sub(ETHERNET_LEN as u16);
        let text = format!(
            "frames of {limit} octets, packets of {packet}: {ours} fit here, \
                            {accepts} there, {way}; longer ones are dropped ({}) and answered \
                            with ICMP",
            DropReason::InnerTooBig.as_str()
        );
        self.fine("mtu", text);
    }

    /// To all that carry the VLAN; of a group to those who want it.
    fn flood(&mut self, group: Option<IpAddr>) {
        let scene = self.scene;
        let limited = self.from.and_then(|from| scene.port(from)?.storm);
        if let Some(pps) = limited {
            let text = format!(
                "at most {pps} of such frames a second come in here ({})",
                DropReason::StormLimited.as_str()
            );
            self.fine("policy", text);
        }
        let wanted = group.map(|group| self.members(group));
        let wants = |owner| {
            wanted
                .as_ref()
                .is_none_or(|members| members.contains(&owner))
        };
        let ports = scene.ports.iter().filter(|port| {
            Some(port.id) != self.from
                && port.vlans.carry(self.vlan)
                && wants(Owner::Local(port.id))
        });
        let ports: Vec<String> = ports.map(|port| port.name.clone()).collect();
        let mut left_out = Vec::new();
        let mut peers = Vec::new();
        for (&id, peer) in &scene.peers {
            match self.why_not(id, peer, wants(Owner::Peer(id))) {
                None => peers.push(peer),
                Some(why) => left_out.push(format!("{} ({why})", peer.name)),
            }
        }
        let names = peers.iter().map(|peer| peer.name.clone());
        let receivers: Vec<String> = ports.iter().cloned().chain(names).collect();
        if receivers.is_empty() {
            let text = format!("nobody else carries VLAN {}", self.vlan);
            self.drop("flood", DropReason::NoDestination, text);
        } else {
            self.trace.verdict = Verdict::Flooded;
            self.fine("flood", format!("to {}", listed(&receivers)));
        }
        if !left_out.is_empty() {
            self.fine("flood", format!("not to {}", listed(&left_out)));
        }
        self.trace
            .peers
            .extend(peers.iter().map(|peer| peer.view()));
        self.trace.ports = ports;
        for peer in peers {
            if peer.state != PeerState::Established {
                self.warn("session", waits(&peer.name, "the frame begins a handshake"));
            }
        }
    }

    fn members(&self, group: IpAddr) -> Vec<Owner> {
        let (vlan, switch) = (self.vlan, self.scene.switch);
        let all = switch.wanting_all();
        let all = all.filter(|(_, only)| only.is_none_or(|only| only == vlan));
        let mut members: Vec<Owner> = all.map(|(owner, _)| owner).collect();
        let groups = switch.groups();
        let its = groups.filter(|(in_vlan, known, _)| (*in_vlan, *known) == (vlan, group));
        members.extend(its.flat_map(|(_, _, owners)| owners));
        members
    }

    /// Why what is flooded does not go to a peer.
    fn why_not(&self, id: PeerId, peer: &PeerScene, wants: bool) -> Option<&'static str> {
        let carried = self.scene.switch.carried(id);
        if !peer.vlans.contains(self.vlan) {
            Some("may not use the VLAN")
        } else if carried.is_some_and(|carried| !carried.contains(self.vlan)) {
            Some("does not carry the VLAN")
        } else if peer.state != PeerState::Established && peer.endpoint.is_none() {
            Some("no session, and no endpoint known")
        } else if !wants {
            Some("does not want the group")
        } else {
            None
        }
    }
}

fn waits(name: &str, because: &str) -> String {
    format!("none with {name}: {because}, and up to {STAGED_MIN} frames wait for it")
}

/// Who serves a port's queues.
fn served(port: &PortScene) -> String {
    let queues = port.queues.iter().map(|queue| {
        let core = queue
            .core
            .map_or(String::new(), |core| format!(" on core {core}"));
        format!("queue {} by worker {}{core}", queue.queue, queue.worker)
    });
    let queues: Vec<String> = queues.collect();
    if queues.is_empty() {
        "no worker answered".to_owned()
    } else {
        queues.join(", ")
    }
}

fn listed(names: &[String]) -> String {
    match names.len().checked_sub(NAMED_MAX) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..NAMED_MAX].join(", ")),
    }
}

#[cfg(test)]
mod tests;
