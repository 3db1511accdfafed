//! How messages are received from the underlay and sent to it: by AF_XDP or by UDP sockets, each
//! side chosen apart.

use omni_config::{Driver, Underlay, ZeroCopy};
use omni_control::netlink::Link;
use tracing::info;

use crate::io::kernel::{afxdp_is_there, has_feature};

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Afxdp,
    Udp,
}

/// What was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ways {
    pub(super) receive: Way,
    pub(super) send: Way,
}

/// What the choice depends on.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// The kernel has AF_XDP, and gives this process sockets of it.
    afxdp: bool,
    /// Frames cross in memory: the other side may hand over what nobody has cut yet.
    virtual_pair: bool,
    /// What arrives is put together again before it is delivered.
    gro: bool,
    /// The driver may work in the engine's buffers.
    zero_copy: bool,
}

impl Ways {
    /// As configured; what is `auto` is found out.
    pub(super) fn choose(underlay: &Underlay, link: &Link) -> Self {
        let seen = Seen {
            afxdp: afxdp_is_there(),
            virtual_pair: link.kind.as_deref() == Some("veth"),
            gro: has_feature(&link.name, "rx-gro"),
            zero_copy: link.kind.is_none() && underlay.zero_copy != ZeroCopy::Off,
        };
        let (receive, why_receive) = match underlay.driver {
            Driver::Afxdp => (Way::Afxdp, "configured"),
            Driver::Udp => (Way::Udp, "configured"),
            Driver::Auto => seen.receive(),
        };
        let (send, why_send) = match underlay.send {
            Driver::Afxdp => (Way::Afxdp, "configured"),
            Driver::Udp => (Way::Udp, "configured"),
            Driver::Auto => seen.send(receive),
        };
        info!(?receive, why_receive, ?send, why_send, "underlay");
        Self { receive, send }
    }
}

impl Seen {
    fn receive(self) -> (Way, &'static str) {
        if !self.afxdp {
            (Way::Udp, "no AF_XDP for this process")
        } else if self.virtual_pair && self.gro {
            (Way::Udp, "the interface hands over many messages at once")
        } else {
            (Way::Afxdp, "one copy less, and no stack")
        }
    }

    fn send(self, receive: Way) -> (Way, &'static str) {
        if receive == Way::Udp {
            // A queue of its own for sending alone would cost an XDP program for nothing.
            (Way::Udp, "as received")
        } else if self.zero_copy {
            (Way::Afxdp, "the driver may do without copies")
        } else {
            (Way::Udp, "one call for many messages")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_gets_what_serves_it() {
        let seen = |afxdp, virtual_pair, gro, zero_copy| Seen {
            afxdp,
            virtual_pair,
            gro,
            zero_copy,
        };
        let chosen = |seen: Seen| {
            let (receive, _) = seen.receive();
            (receive, seen.send(receive).0)
        };
        // A card, its driver in generic mode or with copies, namespaces, a container without
        // capabilities.
        assert_eq!(
            chosen(seen(true, false, true, true)),
            (Way::Afxdp, Way::Afxdp)
        );
        assert_eq!(
            chosen(seen(true, false, true, false)),
            (Way::Afxdp, Way::Udp)
        );
        assert_eq!(chosen(seen(true, true, true, false)), (Way::Udp, Way::Udp));
        assert_eq!(
            chosen(seen(true, true, false, false)),
            (Way::Afxdp, Way::Udp)
        );
        assert_eq!(chosen(seen(false, false, true, true)), (Way::Udp, Way::Udp));
    }
}
