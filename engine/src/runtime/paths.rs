//! The way to each peer's endpoint, kept in step with the kernel's addresses, routes and
//! neighbours.
//!
//! ```text
//!   Ganglion               kernel events, every second
//!      | want                | touched_by, unresolved
//!      v                     v
//!   endpoint, ------> kernel decides ---> path ---> workers
//!   our address          (resolve)         |
//!      ^                                   |
//!      +------- kept while valid ----------+
//! ```
//!
//! Our address on a way is chosen once: by the Ganglion, which knows the one that the peer spoke
//! to last, or else by the kernel. After that it stays while the kernel would let a socket send
//! from it, whatever other addresses come up: peers see us move only when we must.

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
    /// Our address that messages leave from, as long as it can be used. `None`: any.
    source: Option<IpAddr>,
    state: State,
    /// What the workers were told: a way, or that there is none.
    told: Option<Option<Path>>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Not asked yet.
    New,
    /// The kernel is looking for the next hop. A way told before is used on meanwhile: the
    /// neighbour may only have been quiet.
    Pending(Hop),
    /// Known, and told.
    Ready(Hop),
    /// Not by the underlay, as things are; why was logged.
    Unresolvable(String),
}

/// A way, to be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Look {
    /// What the workers go by.
    pub(super) path: Option<Path>,
    /// Whose MAC address that takes.
    pub(super) next_hop: Option<IpAddr>,
    /// Why there is none.
    pub(super) trouble: Option<String>,
}

/// A neighbour on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hop {
    ifindex: u32,
    address: IpAddr,
}

impl Wanted {
    fn new(endpoint: SocketAddr, source: Option<IpAddr>) -> Self {
        Self {
            endpoint,
            source,
            state: State::New,
            told: None,
        }
    }

    /// Takes in what the kernel decided. `Some` when the workers have to be told.
    fn take(&mut self, found: Resolution, name: &str) -> Option<Option<Path>> {
        match found {
            Resolution::Ready {
                path,
                source_kept,
                next_hop,
                ifindex,
                ..
            } => {
                if let Some(address) = self.source.filter(|_| !source_kept) {
                    info!(peer = name, %address, "an address of ours can no longer be used");
                }
                // What the kernel chose stays, too.
                self.source = Some(path.source);
                self.state = State::Ready(Hop {
                    ifindex,
                    address: next_hop,
                });
                let (endpoint, mac, source) = (self.endpoint, path.next_hop_mac, path.source);
                let told = self.tell(Some(path));
                if told.is_some() {
                    info!(peer = name, %endpoint, %next_hop, %mac, %source, "path");
                }
                told
            }
            Resolution::Pending { next_hop, ifindex } => {
                self.state = State::Pending(Hop {
                    ifindex,
                    address: next_hop,
                });
                None
            }
            Resolution::Unresolvable { why } => {
                let endpoint = self.endpoint;
                let state = State::Unresolvable(why);
                if let (true, State::Unresolvable(why)) = (self.state != state, &state) {
                    warn!(peer = name, %endpoint, why, "no path to a peer");
                }
                self.state = state;
                self.tell(None)
            }
        }
    }

    fn tell(&mut self, path: Option<Path>) -> Option<Option<Path>> {
        let changed = self.told != Some(path);
        self.told = Some(path);
        changed.then_some(path)
    }

    /// Whether the way may be another one after what the kernel told.
    fn is_touched_by(&self, event: &KernelEvent, underlay: u32) -> bool {
        // While a way is known, what happens to an interface that it does not use cannot end it.
        let concerns = |ifindex: u32| match self.state {
            State::Ready(hop) => ifindex == underlay || ifindex == hop.ifindex,
            _ => true,
        };
        match event {
            KernelEvent::NeighborChanged {
                ifindex,
                address,
                mac,
                ..
            } => {
                let neighbor = Hop {
                    ifindex: *ifindex,
                    address: *address,
                };
                match self.state {
                    State::Pending(hop) => hop == neighbor,
                    // One that does not answer any more may have the kernel take another way.
                    State::Ready(hop) => hop == neighbor && *mac != self.next_hop_mac(),
                    State::New | State::Unresolvable(_) => false,
                }
            }
            KernelEvent::AddressAdded { ifindex, .. }
            | KernelEvent::AddressRemoved { ifindex, .. }
            | KernelEvent::LinkGone { ifindex, .. } => concerns(*ifindex),
            // One that comes up may attract a route without another word.
            KernelEvent::LinkChanged { ifindex, up, .. } => *up || concerns(*ifindex),
            KernelEvent::RoutesChanged | KernelEvent::Resync => true,
        }
    }

    fn next_hop_mac(&self) -> Option<omni_wire::MacAddr> {
        self.told.flatten().map(|path| path.next_hop_mac)
    }
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

    /// The way to a peer is to be known from now on, or another one: to another endpoint, or from
    /// another address of ours. Without a `source` the kernel chooses anew.
    pub(super) fn want(&mut self, peer: PeerId, endpoint: SocketAddr, source: Option<IpAddr>) {
        self.wanted.insert(peer, Wanted::new(endpoint, source));
    }

    /// No way to a peer is wanted any more.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.wanted.remove(&peer);
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
        let (endpoint, source) = (wanted.endpoint, wanted.source);
        let found = netlink.resolve(endpoint, source, self.underlay, self.source_port);
        match found.await {
            Ok(found) => wanted.take(found, name).map(|path| (endpoint, path)),
            Err(error) => {
                warn!(peer = name, %endpoint, %error, "cannot ask for the way to a peer");
                None
            }
        }
    }

    /// What is known of the way to a peer; `None` while none is wanted.
    pub(super) fn look(&self, peer: PeerId) -> Option<Look> {
        let wanted = self.wanted.get(&peer)?;
        let (next_hop, trouble) = match &wanted.state {
            State::New => (None, None),
            State::Pending(hop) | State::Ready(hop) => (Some(hop.address), None),
            State::Unresolvable(why) => (None, Some(why.clone())),
        };
        Some(Look {
            path: wanted.told.flatten(),
            next_hop,
            trouble,
        })
    }

    /// Our address on the way to a peer, if it is known.
    pub(super) fn source(&self, peer: PeerId) -> Option<IpAddr> {
        self.wanted.get(&peer)?.source
    }

    /// From now on, ways leave by the interface `underlay`, which took the place of another. The
    /// peers whose way has to be asked for again.
    pub(super) fn move_to(&mut self, underlay: u32) -> Vec<PeerId> {
        self.underlay = underlay;
        self.peers(|_| true)
    }

    /// The peers whose way is still looked for.
    pub(super) fn unresolved(&self) -> Vec<PeerId> {
        self.peers(|wanted| !matches!(wanted.state, State::Ready(_)))
    }

    /// The peers whose way may have changed by what the kernel told.
    pub(super) fn touched_by(&self, event: &KernelEvent) -> Vec<PeerId> {
        self.peers(|wanted| wanted.is_touched_by(event, self.underlay))
    }

    fn peers(&self, which: impl Fn(&Wanted) -> bool) -> Vec<PeerId> {
        let which = |(id, wanted): (&PeerId, &Wanted)| which(wanted).then_some(*id);
        self.wanted.iter().filter_map(which).collect()
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
            .filter_map(|wanted| match wanted.state {
                State::Ready(hop) => Some(hop),
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

#[cfg(test)]
mod tests {
    use omni_wire::MacAddr;

    use super::*;

    const UNDERLAY: u32 = 2;
    const ELSEWHERE: u32 = 7;
    const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn endpoint() -> SocketAddr {
        SocketAddr::new(ip("198.51.100.2"), 51820)
    }

    fn gateway() -> IpAddr {
        ip("192.0.2.254")
    }

    fn path(source: &str, next_hop_mac: MacAddr) -> Path {
        Path {
            source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            next_hop_mac,
            vlan: None,
            source: ip(source),
            source_port: 51820,
            endpoint: endpoint(),
        }
    }

    fn ready(path: Path, source_kept: bool) -> Resolution {
        Resolution::Ready {
            path,
            source_kept,
            mtu: 1500,
            next_hop: gateway(),
            ifindex: UNDERLAY,
        }
    }

    fn pending(next_hop: IpAddr) -> Resolution {
        Resolution::Pending {
            next_hop,
            ifindex: UNDERLAY,
        }
    }

    fn unresolvable(why: &str) -> Resolution {
        Resolution::Unresolvable {
            why: why.to_owned(),
        }
    }

    /// A way that is known and told.
    fn known() -> Wanted {
        let mut wanted = Wanted::new(endpoint(), None);
        let way = path("192.0.2.1", GATEWAY_MAC);
        assert_eq!(wanted.take(ready(way, true), "b"), Some(Some(way)));
        wanted
    }

    fn neighbor(address: IpAddr, ifindex: u32, mac: Option<MacAddr>) -> KernelEvent {
        KernelEvent::NeighborChanged {
            ifindex,
            address,
            mac,
            usable: mac.is_some(),
        }
    }

    fn link(ifindex: u32, up: bool) -> KernelEvent {
        KernelEvent::LinkChanged {
            ifindex,
            name: "eth".to_owned(),
            up,
            mtu: 1500,
            mac: MacAddr::ZERO,
        }
    }

    fn address_removed(ifindex: u32) -> KernelEvent {
        KernelEvent::AddressRemoved {
            ifindex,
            address: ip("192.0.2.1"),
        }
    }

    #[test]
    fn the_kernels_first_choice_is_asked_for_from_then_on() {
        let wanted = known();
        assert_eq!(wanted.source, Some(ip("192.0.2.1")));
    }

    #[test]
    fn an_address_that_is_lost_is_forgotten() {
        let mut wanted = known();
        let instead = path("192.0.2.11", GATEWAY_MAC);
        assert_eq!(wanted.take(ready(instead, false), "b"), Some(Some(instead)));
        assert_eq!(wanted.source, Some(ip("192.0.2.11")));
    }

    #[test]
    fn the_workers_are_told_changes_only() {
        let mut wanted = known();
        let way = path("192.0.2.1", GATEWAY_MAC);
        assert_eq!(wanted.take(ready(way, true), "b"), None);
        assert_eq!(wanted.take(unresolvable("no route"), "b"), Some(None));
        assert_eq!(wanted.take(unresolvable("no route"), "b"), None);
        assert_eq!(wanted.take(unresolvable("no address"), "b"), None);
        assert_eq!(wanted.take(ready(way, true), "b"), Some(Some(way)));
    }

    /// A link that went down and up has lost its neighbours and may have lost an address: the
    /// neighbour is the same again, the way is not.
    #[test]
    fn a_way_whose_next_hop_is_looked_for_again_is_asked_for_again() {
        let mut wanted = known();
        assert_eq!(wanted.take(pending(gateway()), "b"), None);
        let same = neighbor(gateway(), UNDERLAY, Some(GATEWAY_MAC));
        assert!(wanted.is_touched_by(&same, UNDERLAY));
        let moved = path("192.0.2.11", GATEWAY_MAC);
        assert_eq!(wanted.take(ready(moved, false), "b"), Some(Some(moved)));
    }

    #[test]
    fn of_neighbours_only_the_next_hop_matters_and_only_when_it_changes() {
        let wanted = known();
        let touched = |event| wanted.is_touched_by(&event, UNDERLAY);
        let other_mac = MacAddr([2, 0, 0, 0, 0, 8]);
        assert!(touched(neighbor(gateway(), UNDERLAY, Some(other_mac))));
        assert!(touched(neighbor(gateway(), UNDERLAY, None)), "it failed");
        assert!(!touched(neighbor(gateway(), UNDERLAY, Some(GATEWAY_MAC))));
        assert!(!touched(neighbor(gateway(), ELSEWHERE, Some(other_mac))));
        let other = ip("192.0.2.9");
        assert!(!touched(neighbor(other, UNDERLAY, Some(other_mac))));
    }

    #[test]
    fn what_happens_to_other_interfaces_leaves_a_known_way_alone() {
        let wanted = known();
        let touched = |event| wanted.is_touched_by(&event, UNDERLAY);
        assert!(touched(link(UNDERLAY, false)) && touched(link(UNDERLAY, true)));
        assert!(touched(address_removed(UNDERLAY)));
        assert!(!touched(link(ELSEWHERE, false)));
        assert!(!touched(address_removed(ELSEWHERE)));
        assert!(touched(link(ELSEWHERE, true)), "it may attract a route");
        assert!(touched(KernelEvent::RoutesChanged) && touched(KernelEvent::Resync));
    }

    #[test]
    fn without_a_way_whatever_happens_may_bring_one() {
        let mut wanted = Wanted::new(endpoint(), None);
        wanted.take(unresolvable("no route"), "b");
        for event in [link(ELSEWHERE, false), address_removed(ELSEWHERE)] {
            assert!(wanted.is_touched_by(&event, UNDERLAY), "{event:?}");
        }
    }

    #[test]
    fn what_is_wanted_anew_is_told_anew() {
        let mut paths = Paths::new(UNDERLAY, 51820);
        let peer = PeerId(0);
        let way = path("192.0.2.1", GATEWAY_MAC);
        for _ in 0..2 {
            paths.want(peer, endpoint(), Some(ip("192.0.2.1")));
            assert_eq!(paths.unresolved(), [peer]);
            let wanted = paths.wanted.get_mut(&peer).expect("wanted");
            assert_eq!(wanted.take(ready(way, true), "b"), Some(Some(way)));
            assert!(paths.unresolved().is_empty());
        }
    }
}
