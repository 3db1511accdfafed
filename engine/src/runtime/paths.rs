//! The way to each peer's endpoint, kept in step with the kernel's routes and neighbours.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use omni_control::message::PeerId;
use omni_control::netlink::{KernelEvent, Netlink, Resolution};
use omni_wire::Instant;
use omni_wire::outer::Path;
use tracing::{info, warn};

/// AF_XDP traffic does not tell the kernel that a neighbour is in use: this often, we do.
const REFRESH: Duration = Duration::from_secs(15);

/// What is known about a peer's way.
#[derive(Debug)]
struct Wanted {
    endpoint: SocketAddr,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Not asked yet.
    New,
    /// The kernel is looking for the next hop.
    Pending(Hop),
    /// Known.
    Ready(Hop, Path),
    /// Not by the underlay, as things are; why was logged.
    Unresolvable(String),
}

/// A neighbour on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hop {
    ifindex: u32,
    address: IpAddr,
}

/// The ways to all peers.
#[derive(Debug)]
pub(super) struct Paths {
    underlay: u32,
    source_port: u16,
    wanted: BTreeMap<PeerId, Wanted>,
    refreshed: Instant,
}

impl Paths {
    /// Ways that leave by the interface `underlay`, from UDP port `source_port`.
    pub(super) fn new(underlay: u32, source_port: u16) -> Self {
        Self {
            underlay,
            source_port,
            wanted: BTreeMap::new(),
            refreshed: Instant(0),
        }
    }

    /// The way to a peer is to be known from now on, or to another endpoint of it.
    pub(super) fn want(&mut self, peer: PeerId, endpoint: SocketAddr) {
        self.wanted.insert(
            peer,
            Wanted {
                endpoint,
                state: State::New,
            },
        );
    }

    /// Asks the kernel. `Some` when what the workers should use has changed: the endpoint, and
    /// its way unless there is none now.
    pub(super) async fn resolve(
        &mut self,
        netlink: &Netlink,
        peer: PeerId,
        name: &str,
    ) -> Option<(SocketAddr, Option<Path>)> {
        let wanted = self.wanted.get_mut(&peer)?;
        let endpoint = wanted.endpoint;
        let found = match netlink
            .resolve(endpoint, self.underlay, self.source_port)
            .await
        {
            Ok(found) => found,
            Err(error) => {
                warn!(peer = name, %endpoint, %error, "cannot ask for the way to a peer");
                return None;
            }
        };
        match found {
            Resolution::Ready {
                path,
                next_hop,
                ifindex,
                ..
            } => {
                let state = State::Ready(
                    Hop {
                        ifindex,
                        address: next_hop,
                    },
                    path,
                );
                let changed = wanted.state != state;
                if changed {
                    info!(peer = name, %endpoint, %next_hop, mac = %path.next_hop_mac, "path");
                }
                wanted.state = state;
                changed.then_some((endpoint, Some(path)))
            }
            Resolution::Pending { next_hop, ifindex } => {
                // A way that was known is used on while the kernel looks: the neighbour may
                // only have been quiet.
                if !matches!(&wanted.state, State::Ready(hop, _) if hop.address == next_hop) {
                    wanted.state = State::Pending(Hop {
                        ifindex,
                        address: next_hop,
                    });
                }
                None
            }
            Resolution::Unresolvable { why } => {
                let state = State::Unresolvable(why);
                let changed = wanted.state != state;
                if let (true, State::Unresolvable(why)) = (changed, &state) {
                    warn!(peer = name, %endpoint, why, "no path to a peer");
                }
                wanted.state = state;
                changed.then_some((endpoint, None))
            }
        }
    }

    /// The peers whose way is still looked for.
    pub(super) fn unresolved(&self) -> Vec<PeerId> {
        let known = |wanted: &Wanted| matches!(wanted.state, State::Ready(..));
        self.wanted
            .iter()
            .filter(|(_, wanted)| !known(wanted))
            .map(|(&id, _)| id)
            .collect()
    }

    /// The peers whose way may have changed by what the kernel told.
    pub(super) fn touched_by(&self, event: &KernelEvent) -> Vec<PeerId> {
        let touched = |wanted: &Wanted| match event {
            KernelEvent::NeighborChanged {
                ifindex,
                address,
                mac,
                ..
            } => match &wanted.state {
                State::Pending(hop) => hop.ifindex == *ifindex && hop.address == *address,
                State::Ready(hop, path) => {
                    hop.ifindex == *ifindex
                        && hop.address == *address
                        && mac.is_some_and(|mac| mac != path.next_hop_mac)
                }
                State::New | State::Unresolvable(_) => false,
            },
            _ => true,
        };
        self.wanted
            .iter()
            .filter(|(_, wanted)| touched(wanted))
            .map(|(&id, _)| id)
            .collect()
    }

    /// Keeps the kernel's entries of neighbours that are in use alive.
    pub(super) async fn refresh(&mut self, netlink: &Netlink, now: Instant) {
        if now.since(self.refreshed) < REFRESH {
            return;
        }
        self.refreshed = now;
        let mut hops: Vec<Hop> = self
            .wanted
            .values()
            .filter_map(|wanted| match &wanted.state {
                State::Ready(hop, _) => Some(*hop),
                _ => None,
            })
            .collect();
        hops.sort_unstable();
        hops.dedup();
        for hop in hops {
            if let Err(error) = netlink.refresh(hop.address, hop.ifindex).await {
                warn!(next_hop = %hop.address, %error, "cannot refresh a neighbour");
            }
        }
    }
}
