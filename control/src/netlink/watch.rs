//! What changes in the kernel's network.

use core::net::IpAddr;
use std::collections::VecDeque;
use std::io;
use std::sync::PoisonError;
use std::time::Duration;

use omni_wire::MacAddr;
use rtnetlink::proto::sys::AsyncSocketExt;
use rtnetlink::sys::{AsyncSocket, SocketAddr};

use super::error::errno;
use super::socket::{Reply, notifications};
use super::{Netlink, decode};

/// How many events are gathered before they are handed out, so that a storm in one place does
/// not keep the caller from acting.
const GATHERED_MAX: usize = 1024;

/// How long is waited after an error of the socket that is none of the known ones.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// A change that the kernel told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KernelEvent {
    /// An interface was made, or something about it changed; may repeat what is known.
    LinkChanged {
        /// Which.
        ifindex: u32,
        /// Its name now.
        name: String,
        /// Switched on and with a carrier. When this ends, IPv4 routes by it go without an event
        /// of their own.
        up: bool,
        /// In octets, without the Ethernet header.
        mtu: u32,
        /// Zero when it has none of six octets.
        mac: MacAddr,
    },
    /// An interface was deleted, or moved to another network namespace.
    LinkGone {
        /// Which.
        ifindex: u32,
        /// Its last name.
        name: String,
    },
    /// An address can be used from now on; may repeat what is known. Of IPv6 addresses this is
    /// told once duplicate address detection is over.
    AddressAdded {
        /// On which interface.
        ifindex: u32,
        /// The address.
        address: IpAddr,
    },
    /// An address was taken away.
    AddressRemoved {
        /// From which interface.
        ifindex: u32,
        /// The address.
        address: IpAddr,
    },
    /// Routes or routing rules changed: any path may be another one now.
    RoutesChanged,
    /// A neighbour entry changed; may repeat what is known.
    NeighborChanged {
        /// On which interface.
        ifindex: u32,
        /// Whose.
        address: IpAddr,
        /// Its MAC address, when one is known and usable.
        mac: Option<MacAddr>,
        /// Whether frames may be sent to it now.
        usable: bool,
    },
    /// Notifications were lost: whatever was read before may be out of date, read it again.
    Resync,
}

/// Events read from the socket and not handed out yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    events: VecDeque<KernelEvent>,
    /// Notifications were lost, and what is left of the time before has not been read up.
    overrun: bool,
}

impl Pending {
    /// Several changes of routes that nobody has heard of yet are one.
    fn push(&mut self, event: KernelEvent) {
        if event != KernelEvent::RoutesChanged || !self.events.contains(&event) {
            self.events.push_back(event);
        }
    }

    fn take(&mut self, received: io::Result<(Vec<u8>, SocketAddr)>) -> Intake {
        match received {
            Ok((datagram, sender)) => {
                if !self.overrun && sender.port_number() == 0 {
                    notifications(&datagram)
                        .filter_map(event)
                        .for_each(|one| self.push(one));
                }
                Intake::More
            }
            Err(error) if error.raw_os_error() == Some(errno::ENOBUFS) => {
                self.overrun = true;
                Intake::More
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Intake::More,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.end_overrun();
                Intake::Empty
            }
            Err(error) => Intake::Failed(error),
        }
    }

    fn end_overrun(&mut self) {
        if core::mem::take(&mut self.overrun) {
            self.lose();
        }
    }

    /// What was told before the loss is dropped: it is older than what the caller reads after
    /// [`KernelEvent::Resync`], and would overwrite that.
    fn lose(&mut self) {
        self.events.clear();
        self.events.push_back(KernelEvent::Resync);
    }
}

enum Intake {
    More,
    Empty,
    Failed(io::Error),
}

impl Netlink {
    /// Waits for the next change. Dropping the wait loses nothing.
    ///
    /// Nothing is read while nobody waits: then the kernel's buffer fills, and what does not fit
    /// is told as one [`KernelEvent::Resync`]. Meant for one caller at a time.
    pub async fn next_event(&self) -> KernelEvent {
        loop {
            if let Some(event) = self.with_pending(|pending| pending.events.pop_front()) {
                return event;
            }
            let first = self.notifications.recv_from_full().await;
            if let Some(error) = self.gather(first) {
                tracing::warn!(%error, "cannot read the kernel's notifications");
                self.with_pending(Pending::lose);
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }

    /// Reads on until the socket is empty, or much was gathered.
    fn gather(&self, first: io::Result<(Vec<u8>, SocketAddr)>) -> Option<io::Error> {
        self.with_pending(|pending| {
            let mut received = first;
            loop {
                match pending.take(received) {
                    Intake::More => {}
                    Intake::Empty => return None,
                    Intake::Failed(error) => return Some(error),
                }
                // During an overrun nothing is kept, hence nothing limits the reading up.
                if !pending.overrun && pending.events.len() >= GATHERED_MAX {
                    return None;
                }
                // Not by way of the runtime: its readiness may end early, to let others run, and
                // would be taken for an empty socket.
                received = self.notifications.socket_ref().recv_from_full();
            }
        })
    }

    fn with_pending<T>(&self, use_it: impl FnOnce(&mut Pending) -> T) -> T {
        use_it(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn event(reply: Reply) -> Option<KernelEvent> {
    let body = &reply.body;
    match reply.kind {
        decode::RTM_NEWLINK => decode::link(body).map(|link| KernelEvent::LinkChanged {
            ifindex: link.index,
            up: link.is_running(),
            mtu: link.mtu,
            mac: link.mac,
            name: link.name,
        }),
        decode::RTM_DELLINK => decode::link(body).map(|link| KernelEvent::LinkGone {
            ifindex: link.index,
            name: link.name,
        }),
        decode::RTM_NEWADDR => {
            decode::address(body)
                .filter(|one| one.usable)
                .map(|one| KernelEvent::AddressAdded {
                    ifindex: one.ifindex,
                    address: one.address,
                })
        }
        decode::RTM_DELADDR => decode::address(body).map(|one| KernelEvent::AddressRemoved {
            ifindex: one.ifindex,
            address: one.address,
        }),
        decode::RTM_NEWROUTE | decode::RTM_DELROUTE => {
            (!decode::is_cloned_route(body)).then_some(KernelEvent::RoutesChanged)
        }
        decode::RTM_NEWRULE | decode::RTM_DELRULE => Some(KernelEvent::RoutesChanged),
        decode::RTM_NEWNEIGH => neighbor_event(body, |mac| mac),
        decode::RTM_DELNEIGH => neighbor_event(body, |_| None),
        _ => None,
    }
}

fn neighbor_event(
    body: &[u8],
    mac: impl Fn(Option<MacAddr>) -> Option<MacAddr>,
) -> Option<KernelEvent> {
    let neighbor = decode::neighbor(body)?;
    let mac = mac(neighbor.mac);
    Some(KernelEvent::NeighborChanged {
        ifindex: neighbor.ifindex,
        address: neighbor.address,
        usable: mac.is_some(),
        mac,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(ifindex: u32) -> KernelEvent {
        KernelEvent::LinkGone {
            ifindex,
            name: String::new(),
        }
    }

    fn empty() -> io::Result<(Vec<u8>, SocketAddr)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    #[test]
    fn changes_of_routes_are_told_once() {
        let mut pending = Pending::default();
        pending.push(KernelEvent::RoutesChanged);
        pending.push(gone(1));
        pending.push(KernelEvent::RoutesChanged);
        assert_eq!(pending.events, [KernelEvent::RoutesChanged, gone(1)]);
    }

    #[test]
    fn an_overrun_replaces_what_was_told_before_by_a_resync() {
        let mut pending = Pending::default();
        pending.push(gone(1));
        let overrun = Err(io::Error::from_raw_os_error(errno::ENOBUFS));
        assert!(matches!(pending.take(overrun), Intake::More));
        // A rule's notification from before the loss: a header with nothing behind it.
        let mut octets = 16_u32.to_ne_bytes().to_vec();
        octets.extend(decode::RTM_NEWRULE.to_ne_bytes());
        octets.extend([0; 10]);
        assert!(matches!(
            pending.take(Ok((octets.clone(), SocketAddr::new(0, 0)))),
            Intake::More
        ));
        assert!(matches!(pending.take(empty()), Intake::Empty));
        assert_eq!(pending.events, [KernelEvent::Resync]);
        // After it, notifications count again.
        assert!(matches!(
            pending.take(Ok((octets, SocketAddr::new(0, 0)))),
            Intake::More
        ));
        assert!(matches!(pending.take(empty()), Intake::Empty));
        assert_eq!(
            pending.events,
            [KernelEvent::Resync, KernelEvent::RoutesChanged]
        );
    }

    #[test]
    fn what_does_not_come_from_the_kernel_is_ignored() {
        let mut pending = Pending::default();
        let mut octets = 16_u32.to_ne_bytes().to_vec();
        octets.extend(decode::RTM_NEWRULE.to_ne_bytes());
        octets.extend([0; 10]);
        assert!(matches!(
            pending.take(Ok((octets, SocketAddr::new(4242, 0)))),
            Intake::More
        ));
        assert!(pending.events.is_empty());
    }
}
