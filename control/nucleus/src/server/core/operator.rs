//! What the operator asks and sees.

use omni_membership::{Certificate, Revocation};
use omni_store::Revision;
use omni_wire::Now;

use super::Core;
use super::key::Key;
use super::list::{Entry, List, Place, Record};
use super::members::name_of;
use super::requests::{Origin, Request, Wanted};
use crate::show::{self, Bindings, Change, Member, Members, Status};

/// The most changes that a watch is told at once.
const WATCH_MAX: usize = 256;

/// What became of something that the operator asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    /// The number that it was asked under.
    pub number: u64,
    /// Done, or why not.
    pub outcome: Result<(), String>,
}

/// How far a watch was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watching {
    incarnation: [u8; 16],
    place: Place,
}

impl Watching {
    /// A watch that knows nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            incarnation: [0; 16],
            place: Place::after(Revision(0)),
        }
    }
}

impl Default for Watching {
    fn default() -> Self {
        Self::new()
    }
}

impl Core {
    /// Takes certificates back. [`Core::poll_answered`] says what became of it.
    ///
    /// # Errors
    /// When it is no revocation that the authority signed.
    pub fn revoke(&mut self, now: Now, number: u64, octets: &[u8]) -> Result<(), String> {
        let trust = &self.config.trust;
        let authority = trust.authority.as_ref();
        let authority = authority.ok_or("nucleus.yaml names no authority that could revoke")?;
        let signed = Revocation::verify(octets, &trust.fabric, authority)
            .map_err(|error| error.to_string())?;
        if !self.store.is_loaded() {
            return Err("the store could not be read yet".to_owned());
        }
        let request = Request {
            origin: Origin::Operator(number),
            key: Key::Revoked(signed.public_key),
            octets: signed.octets().to_vec(),
            wanted: Wanted::Revoke {
                serial: signed.serial,
            },
            alone: false,
            attempts: 0,
            stuck: None,
        };
        self.ask(now.instant, request);
        Ok(())
    }

    /// What became of a [`Core::revoke`].
    pub fn poll_answered(&mut self) -> Option<Answered> {
        self.answered.pop_front()
    }

    /// How the server is. What only the runtime knows is left empty.
    #[must_use]
    pub fn status(&self) -> Status {
        let count = |of: fn(&Record) -> bool| {
            let records = self.list.iter().filter(|(_, entry)| of(&entry.record));
            records.count() as u64
        };
        let incarnation = self.list.incarnation();
        Status {
            fabric: self.config.trust.fabric.to_string(),
            public_key: self.config.server.to_string(),
            uptime_seconds: 0,
            loaded: self.store.is_loaded(),
            incarnation: incarnation
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect(),
            revision: self.list.revision().0,
            connections: self.nodes.len() as u64,
            strangers: self.strangers() as u64,
            members: count(|record| matches!(record, Record::Member(_))),
            bindings: count(|record| matches!(record, Record::Binding(held) if !held.withdrawn)),
            revocations: count(|record| matches!(record, Record::Revocation(_))),
            pending: self.requests.count() as u64,
            counters: self.counters().named(),
        }
    }

    /// All nodes that registered.
    #[must_use]
    pub fn members(&self) -> Members {
        let members = self
            .list
            .iter()
            .filter_map(|(key, entry)| self.change(key, entry));
        let members = members.filter_map(|change| match change {
            Change::Member(member) => Some(member),
            _ => None,
        });
        Members {
            members: members.collect(),
        }
    }

    /// All addresses.
    #[must_use]
    pub fn bindings(&self) -> Bindings {
        let bindings = self
            .list
            .iter()
            .filter_map(|(key, entry)| self.change(key, entry));
        let bindings = bindings.filter_map(|change| match change {
            Change::Binding(binding) => Some(binding),
            _ => None,
        });
        Bindings {
            bindings: bindings.collect(),
        }
    }

    /// What a watch is to be told next, at most 256 changes; none when there is nothing new.
    pub fn watch(&self, watching: &mut Watching) -> Vec<Change> {
        if watching.incarnation != self.list.incarnation() {
            *watching = Watching {
                incarnation: self.list.incarnation(),
                ..Watching::new()
            };
        }
        let mut changes = Vec::new();
        for (place, key, entry) in self.list.after(watching.place).take(WATCH_MAX) {
            watching.place = place;
            changes.extend(self.change(&key, entry));
        }
        changes
    }

    fn change(&self, key: &Key, entry: &Entry) -> Option<Change> {
        let revision = entry.revision.0;
        Some(match &entry.record {
            Record::Live => return None,
            Record::Revocation(revocation) => Change::Revocation(show::Revocation {
                public_key: revocation.public_key.to_string(),
                serial: revocation.serial,
                reason: revocation.reason.clone(),
                revision,
            }),
            Record::Binding(binding) => {
                let member = self.list.member(&binding.public_key);
                Change::Binding(show::Binding {
                    vlan: binding.vlan,
                    ip: binding.ip.map(|ip| ip.to_string()),
                    mac: binding.mac.to_string(),
                    owner: binding.public_key.to_string(),
                    name: member.map(|(_, registration)| name_of(registration)),
                    withdrawn: binding.withdrawn,
                    sequence: binding.sequence,
                    expires: binding.expires,
                    revision,
                })
            }
            Record::Member(registration) => {
                let Key::Member(node) = key else { return None };
                let conn = self.by_key.get(node).and_then(|conn| self.nodes.get(conn));
                let presence = match conn {
                    Some(_) => "here",
                    None if self.is_elsewhere(node) => "elsewhere",
                    None => "away",
                };
                let endpoints = registration.endpoints.iter();
                Change::Member(Member {
                    name: name_of(registration),
                    public_key: node.to_string(),
                    presence: presence.to_owned(),
                    source: conn.map(|node| node.source.to_string()),
                    endpoints: endpoints.map(|it| it.address.to_string()).collect(),
                    bindings: self.list.held(node).into(),
                    revoked: is_revoked(&self.list, node, registration.certificate.as_deref()),
                    expires: registration.expires,
                    revision,
                })
            }
        })
    }
}

/// Whether the certificate that a node showed was taken back.
fn is_revoked(list: &List, node: &omni_membership::PublicKey, certificate: Option<&[u8]>) -> bool {
    let certificate = certificate.and_then(|octets| Certificate::unverified(octets).ok());
    let revoked = list.revocations().serial(node);
    certificate.is_some_and(|certificate| revoked >= Some(certificate.serial))
}
