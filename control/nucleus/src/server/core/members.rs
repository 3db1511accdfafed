//! Who is a member, and what nodes ask for themselves.

use omni_membership::{Binding, PublicKey, Refusal, Registration};
use omni_wire::{Instant, Now};

use super::decide::Decision;
use super::key::Key;
use super::node::Standing;
use super::requests::{Batch, Origin, Request, Wanted};
use super::types::{ADMISSION, Closed, Conn};
use super::{Core, check_expiry, check_sequence, seconds};
use crate::protocol::{Bind, Refused, Register};

impl Core {
    /// What a node is by what is known of it.
    pub(super) fn standing_of(&self, node: &PublicKey, now: Now) -> Standing {
        let trust = &self.config.trust;
        if trust.members.contains(node) {
            return Standing::Listed;
        }
        let known = self.list.member(node);
        let member = known.and_then(|(entry, _)| {
            let revocations = self.list.revocations();
            trust.admit(&entry.octets, revocations, seconds(now)).ok()
        });
        match member.and_then(|member| member.certificate) {
            Some(certificate) => Standing::Certified(Box::new(certificate)),
            None => Standing::Stranger,
        }
    }

    pub(super) fn strangers(&self) -> usize {
        let nodes = self.nodes.values();
        nodes.filter(|node| !node.standing.is_member()).count()
    }

    /// Whether a node is connected to another server.
    pub(super) fn is_elsewhere(&self, node: &PublicKey) -> bool {
        let own = self.config.server;
        self.list.servers(node).any(|server| server != own)
    }

    /// Looks at all nodes again: a certificate expires without anybody saying so.
    pub(super) fn review(&mut self, now: Now) {
        let conns: Vec<Conn> = self.nodes.keys().copied().collect();
        for conn in conns {
            let Some(node) = self.nodes.get(&conn) else {
                continue;
            };
            let is_out = match &node.standing {
                Standing::Listed => false,
                Standing::Stranger => now.instant.since(node.since.instant) >= ADMISSION,
                Standing::Certified(certificate) => {
                    let revocations = self.list.revocations();
                    let trust = &self.config.trust;
                    trust.check(certificate, revocations, seconds(now)).is_err()
                }
            };
            if is_out {
                self.close(conn, Closed::NotMember, now.instant);
            }
        }
    }

    /// Looks at nodes that are not known to be members: the list was read.
    pub(super) fn recognize(&mut self, now: Now) {
        let strangers = self
            .nodes
            .iter()
            .filter(|(_, node)| !node.standing.is_member());
        let strangers: Vec<_> = strangers.map(|(conn, node)| (*conn, node.key)).collect();
        for (conn, key) in strangers {
            let standing = self.standing_of(&key, now);
            if let Some(node) = self.nodes.get_mut(&conn) {
                node.standing = standing;
            }
        }
    }

    /// A node was revoked: it is to go.
    pub(super) fn on_revoked(&mut self, node: &PublicKey, now: Now) {
        let Some(conn) = self.by_key.get(node).copied() else {
            return;
        };
        let Some(Standing::Certified(certificate)) =
            self.nodes.get(&conn).map(|node| &node.standing)
        else {
            return;
        };
        let revocations = self.list.revocations();
        let checked = self
            .config
            .trust
            .check(certificate, revocations, seconds(now));
        if checked.is_err() {
            self.close(conn, Closed::NotMember, now.instant);
        }
    }

    pub(super) fn register(&mut self, now: Now, conn: Conn, register: Register) {
        let Some(node) = self.nodes.get_mut(&conn) else {
            return;
        };
        let (key, number) = (node.key, register.number);
        if !node.buckets.registrations.take(now.instant) {
            let why = "one registration a second is taken, after a burst of 10".to_owned();
            return self.limit(now.instant, conn, number, why);
        }
        if !self.store.is_loaded() {
            return self.unavailable(now.instant, conn, number);
        }
        let revocations = self.list.revocations();
        let admitted = self
            .config
            .trust
            .admit(&register.registration, revocations, seconds(now));
        let member = match admitted {
            Ok(member) => member,
            Err(refusal) => {
                let refused = refused_by(&refusal);
                return self.refuse(now.instant, conn, number, refused, refusal.to_string());
            }
        };
        if member.registration.public_key != key {
            let why = "it is about another node than the one that sent it".to_owned();
            return self.refuse(now.instant, conn, number, Refused::Invalid, why);
        }
        let sequence = member.registration.sequence;
        let expires = member.registration.expires;
        if let Err(why) = check_expiry(expires, now).and_then(|()| check_sequence(sequence, now)) {
            return self.refuse(now.instant, conn, number, Refused::Invalid, why);
        }
        // Who shows an old registration does not get back an old certificate's grants by it.
        let known = self.list.member(&key).map(|(_, known)| known.sequence);
        if known.is_none_or(|known| known <= sequence)
            && let Some(node) = self.nodes.get_mut(&conn)
        {
            node.standing = match member.certificate {
                Some(certificate) => Standing::Certified(Box::new(certificate)),
                None => Standing::Listed,
            };
            self.ready.insert(conn);
        }
        self.ask(
            now.instant,
            Request {
                origin: Origin::Node {
                    conn,
                    node: key,
                    number,
                },
                key: Key::Member(key),
                octets: member.registration.octets().to_vec(),
                wanted: Wanted::Register { sequence },
                alone: false,
                attempts: 0,
                stuck: None,
            },
        );
    }

    pub(super) fn bind(&mut self, now: Now, conn: Conn, bind: Bind) {
        let Some(node) = self.nodes.get_mut(&conn) else {
            return;
        };
        let (key, number) = (node.key, bind.number);
        if !node.buckets.bindings.take(now.instant) {
            let limits = &self.config.limits;
            let (rate, burst) = (limits.binding_rate, limits.bindings);
            let why = format!("{rate} bindings a second are taken, after a burst of {burst}");
            return self.limit(now.instant, conn, number, why);
        }
        if !self.store.is_loaded() {
            return self.unavailable(now.instant, conn, number);
        }
        if let Some((refused, why)) = self.refuses_unread(now, conn, &bind.binding) {
            return self.refuse(now.instant, conn, number, refused, why);
        }
        let verified = Binding::verify(&bind.binding, &self.config.trust.fabric);
        let signed = match verified {
            Ok(signed) => signed,
            Err(error) => {
                return self.refuse(
                    now.instant,
                    conn,
                    number,
                    Refused::Invalid,
                    error.to_string(),
                );
            }
        };
        if let Err((refused, why)) = self.check_binding(now, conn, &signed) {
            return self.refuse(now.instant, conn, number, refused, why);
        }
        let octets = signed.octets().to_vec();
        let binding = signed.into_value();
        self.ask(
            now.instant,
            Request {
                origin: Origin::Node {
                    conn,
                    node: key,
                    number,
                },
                key: Key::of(&binding),
                octets,
                wanted: Wanted::Bind(binding),
                alone: false,
                attempts: 0,
                stuck: None,
            },
        );
    }

    /// What can be refused before its signature is verified, which costs more than all else
    /// together: what another node has.
    fn refuses_unread(&self, now: Now, conn: Conn, octets: &[u8]) -> Option<(Refused, String)> {
        let said = Binding::unverified(octets).ok()?;
        let key = Key::of(&said);
        if self.requests.is_open(&key) {
            return None;
        }
        self.check_binding(now, conn, &said).ok()?;
        match self.decide_binding(self.list.get(&key), &said, &Batch::default(), now) {
            Decision::Answer(Refused::Held, why) => Some((Refused::Held, why)),
            _ => None,
        }
    }

    /// Whether a node may have an address at all, whoever has it.
    fn check_binding(
        &self,
        now: Now,
        conn: Conn,
        binding: &Binding,
    ) -> Result<(), (Refused, String)> {
        let Some(node) = self.nodes.get(&conn) else {
            return Ok(());
        };
        if binding.public_key != node.key {
            let why = "it is about another node than the one that sent it";
            return Err((Refused::Invalid, why.to_owned()));
        }
        if !node.standing.is_member() {
            let why = "its node is no member, or has not registered yet";
            return Err((Refused::NotMember, why.to_owned()));
        }
        check_expiry(binding.expires, now)
            .and_then(|()| check_sequence(binding.sequence, now))
            .map_err(|why| (Refused::Invalid, why))?;
        let Some(grants) = node.standing.grants() else {
            return Ok(());
        };
        let (vlan, mac) = (binding.vlan, binding.mac);
        let why = if !grants.allows_vlan(vlan) {
            format!("its certificate does not grant VLAN {vlan}")
        } else if !grants.allows_mac(vlan, mac) {
            format!("its certificate does not grant the MAC address {mac}")
        } else if let Some(ip) = binding.ip.filter(|ip| !grants.allows_address(vlan, *ip)) {
            format!("its certificate does not grant the IP address {ip}")
        } else {
            return Ok(());
        };
        Err((Refused::NotGranted, why))
    }

    fn limit(&mut self, now: Instant, conn: Conn, number: u64, why: String) {
        self.counters.limited += 1;
        self.refuse(now, conn, number, Refused::Limit, why);
    }

    fn unavailable(&mut self, now: Instant, conn: Conn, number: u64) {
        let why = "the store could not be read yet".to_owned();
        self.refuse(now, conn, number, Refused::Unavailable, why);
    }

    /// Puts a request into the queue.
    pub(super) fn ask(&mut self, now: Instant, request: Request) {
        let limits = self.config.limits;
        let pending = match request.origin {
            Origin::Node { conn, .. } => self.nodes.get(&conn).map(|node| node.pending),
            Origin::Operator(_) => Some(0),
        };
        let origin = request.origin;
        let why = if pending.is_some_and(|pending| pending >= limits.pending) {
            format!(
                "{} requests of this node wait for the store",
                limits.pending
            )
        } else if !self.requests.push(request, &limits) {
            "too many requests wait for the store".to_owned()
        } else {
            if let Origin::Node { conn, .. } = origin
                && let Some(node) = self.nodes.get_mut(&conn)
            {
                node.pending += 1;
            }
            return;
        };
        match origin {
            Origin::Node { conn, number, .. } => self.limit(now, conn, number, why),
            Origin::Operator(number) => self.answered.push_back(super::Answered {
                number,
                outcome: Err(why),
            }),
        }
    }
}

/// What a node is told when it is not admitted.
fn refused_by(refusal: &Refusal) -> Refused {
    match refusal {
        Refusal::Registration(_) | Refusal::RegistrationExpired { .. } => Refused::Invalid,
        _ => Refused::NotMember,
    }
}

/// The registration's name, as it is shown.
pub(super) fn name_of(registration: &Registration) -> String {
    let certificate = registration.certificate.as_ref();
    let certificate =
        certificate.and_then(|octets| omni_membership::Certificate::unverified(octets).ok());
    certificate.map_or_else(|| registration.name.clone(), |certificate| certificate.name)
}
