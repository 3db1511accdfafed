//! What is looked at inside frames before they are switched: who claims which address, who asks
//! for one, who acts as a router or a DHCP server, and who wants which groups.

use omni_control::message::{Owner, PeerId, PortId, Upcall};
use omni_wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use omni_wire::inspect::{Inspected, inspect};
use omni_wire::membership::Membership;
use omni_wire::{DropReason, Instant, answer};

use super::egress::Entered;
use super::neighbors::{Asked, Context};
use super::{Datapath, raise};
use crate::io::Frame;

/// Octets that an answer may be longer than the question: a neighbour solicitation without an
/// option is answered with one, and short ARP frames are sent as they came.
const ANSWER_GROWTH: usize = 64;

/// EtherTypes below this are lengths (IEEE 802.3 s.3.2.6): LLC follows.
const ETHERTYPE_MIN: u16 = 0x0600;

/// What the engine says of the frames it looked into, beside drops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Questions for an IPv4 address that were answered here.
    pub arp_answered: u64,
    /// Questions for an IPv4 address that nobody here knows, which were flooded.
    pub arp_unknown: u64,
    /// Questions for an IPv6 address that were answered here.
    pub nd_answered: u64,
    /// Questions for an IPv6 address that nobody here knows, which were flooded.
    pub nd_unknown: u64,
    /// Addresses that changed or went within a minute of being given as an answer.
    pub stale_answers: u64,
    /// Hosts told that their packets do not fit.
    pub too_big_answered: u64,
}

impl Counted {
    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        self.arp_answered += other.arp_answered;
        self.arp_unknown += other.arp_unknown;
        self.nd_answered += other.nd_answered;
        self.nd_unknown += other.nd_unknown;
        self.stale_answers += other.stale_answers;
        self.too_big_answered += other.too_big_answered;
    }
}

/// What becomes of a frame that was looked into.
pub(super) enum Judged {
    /// It is switched.
    GoesOn,
    /// It was made the answer, so many octets long.
    Answered(usize),
    /// Whom it concerns has it.
    Done,
}

/// What is to be answered.
enum Question {
    /// By a host that has heard it.
    Nearby,
    Arp(omni_wire::arp::Arp, omni_wire::MacAddr),
    Solicitation(omni_wire::nd::Solicitation, omni_wire::MacAddr),
}

impl<F: Frame> Datapath<F> {
    /// Looks into a host's frame that [`is_to_be_inspected`]. When it asks for what is known here
    /// it becomes the answer.
    pub(super) fn judge_local(
        &mut self,
        now: Instant,
        port: PortId,
        frame: &mut F,
        entered: &Entered,
        capacity: usize,
    ) -> Result<Judged, DropReason> {
        let Entered { start, ethernet } = entered;
        let inner = &frame.bytes()[*start..];
        let question = self.judge_hosts(now, port, inner, ethernet)?;
        let asked_len = inner.len();
        let (request, mac) = match question.filter(|_| self.config.policy.suppression) {
            None => return Ok(Judged::GoesOn),
            Some(Question::Nearby) => return Ok(Judged::Done),
            Some(Question::Arp(request, mac)) => {
                answer::arp(&mut frame.bytes_mut()[*start..], ethernet, &request, mac);
                self.counted.arp_answered += 1;
                return Ok(Judged::Answered(asked_len));
            }
            Some(Question::Solicitation(request, mac)) => (request, mac),
        };
        frame.set_len(capacity.min(start + asked_len + ANSWER_GROWTH));
        let octets = &mut frame.bytes_mut()[*start..];
        let answered = answer::solicitation(octets, ethernet, &request, mac, false);
        if let Some(len) = answered {
            self.counted.nd_answered += 1;
            return Ok(Judged::Answered(len));
        }
        frame.set_len(start + asked_len);
        Ok(Judged::GoesOn)
    }

    fn judge_hosts(
        &mut self,
        now: Instant,
        port: PortId,
        inner: &[u8],
        ethernet: &Ethernet,
    ) -> Result<Option<Question>, DropReason> {
        let owner = Owner::Local(port);
        let context = Context {
            now,
            vlan: ethernet.vlan,
            ethernet,
            owner,
            grants: None,
        };
        let policy = self.port(port);
        let (guard_ra, guard_dhcp) = policy.map_or((false, false), |policy| {
            (policy.guard_ra, policy.guard_dhcp)
        });
        let (neighbors, upcalls) = (&mut self.neighbors, &mut self.upcalls);
        match inspect(inner, ethernet) {
            Inspected::Arp(arp) => match neighbors.arp(context, &arp, upcalls)? {
                Asked::Known(mac) => return Ok(Some(Question::Arp(arp, mac))),
                Asked::Nearby => return Ok(Some(Question::Nearby)),
                Asked::Unknown => self.counted.arp_unknown += 1,
                Asked::PassOn => {}
            },
            Inspected::Solicitation(asked) => {
                match neighbors.solicitation(context, &asked, upcalls)? {
                    Asked::Known(mac) => return Ok(Some(Question::Solicitation(asked, mac))),
                    Asked::Nearby => return Ok(Some(Question::Nearby)),
                    Asked::Unknown => self.counted.nd_unknown += 1,
                    Asked::PassOn => {}
                }
            }
            Inspected::Advertisement(told) => neighbors.advertisement(context, &told, upcalls)?,
            Inspected::RouterAdvertisement | Inspected::Redirect if guard_ra => {
                return Err(DropReason::GuardedRouter);
            }
            Inspected::DhcpServer if guard_dhcp => return Err(DropReason::GuardedDhcp),
            Inspected::Igmp(told) | Inspected::Mld(told) => self.note_groups(port, ethernet, &told),
            // Other switches ask without an address, and want nothing themselves.
            Inspected::Query { source } if !source.is_unspecified() => {
                let vlan = ethernet.vlan;
                let _ = raise(&mut self.upcalls, Upcall::Querier { vlan, port });
            }
            Inspected::Wrapped if !self.config.policy.carry_wrapped => {
                return Err(DropReason::LlcWrapped);
            }
            Inspected::Malformed => return Err(DropReason::NeighborMalformed),
            _ => {}
        }
        Ok(None)
    }

    /// Looks into a peer's frame that [`is_to_be_inspected`].
    pub(super) fn judge_peer(
        &mut self,
        now: Instant,
        peer: PeerId,
        inner: &[u8],
        ethernet: &Ethernet,
    ) -> Result<(), DropReason> {
        let known = self.peers.get(peer);
        let grants = known.and_then(|peer| peer.policy.grants.clone());
        let context = Context {
            now,
            vlan: ethernet.vlan,
            ethernet,
            owner: Owner::Peer(peer),
            grants: grants.as_deref(),
        };
        let (neighbors, upcalls) = (&mut self.neighbors, &mut self.upcalls);
        match inspect(inner, ethernet) {
            Inspected::Arp(arp) => neighbors.arp(context, &arp, upcalls).map(|_| ()),
            Inspected::Solicitation(asked) => {
                neighbors.solicitation(context, &asked, upcalls).map(|_| ())
            }
            Inspected::Advertisement(told) => neighbors.advertisement(context, &told, upcalls),
            Inspected::Wrapped if !self.config.policy.carry_wrapped => Err(DropReason::LlcWrapped),
            Inspected::Malformed => Err(DropReason::NeighborMalformed),
            _ => Ok(()),
        }
    }

    /// Reports which groups a host joins and leaves. What is not heard is told again when the
    /// host is asked the next time.
    fn note_groups(&mut self, port: PortId, ethernet: &Ethernet, told: &Membership<'_>) {
        if !self.config.policy.snoop {
            return;
        }
        let vlan = ethernet.vlan;
        for change in told.changes() {
            let told = Upcall::Group {
                vlan,
                port,
                group: change.group,
                join: change.join,
            };
            if raise(&mut self.upcalls, told).is_err() {
                return;
            }
        }
    }
}

/// Whether a frame may be one that `inspect` tells more of.
#[inline]
pub(super) fn is_to_be_inspected(inner: &[u8], ethernet: &Ethernet, guards_dhcp: bool) -> bool {
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => {
            // IGMP goes to groups.
            guards_dhcp || ethernet.destination.is_multicast()
        }
        ETHERTYPE_IPV6 => {
            // TCP, and UDP where no server is to be kept away, tell nothing.
            let next_header = inner.get(ethernet.payload_offset + 6);
            !matches!(next_header, Some(6)) && (guards_dhcp || !matches!(next_header, Some(17)))
        }
        ETHERTYPE_ARP => true,
        ethertype => ethertype < ETHERTYPE_MIN,
    }
}
