//! The underlay between two nodes, and the nodes' configurations on it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use omni_control::{PrivateKey, PublicKey};
use tempfile::TempDir;

use super::netns::{Namespace, ip};
use super::node::{Node, NodeSpec};

/// Tests that load the processors, or measure how much of them is taken, run alone.
static TURN: RwLock<()> = RwLock::new(());

/// A test's turn: the next begins when everything of this one is gone.
#[derive(Debug)]
enum Turn {
    Shared {
        _guard: RwLockReadGuard<'static, ()>,
    },
    Alone {
        _guard: RwLockWriteGuard<'static, ()>,
    },
}

/// The UDP port of all nodes.
pub(crate) const PORT: u16 = 51820;

/// What lies between the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wire {
    /// One veth pair.
    Direct,
    /// A bridge in a namespace between them.
    Bridged,
    /// A router in a namespace between them.
    Routed,
    /// A host in a namespace between them, which passes nothing on by itself.
    Host,
}

/// What an underlay is to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// What lies between the nodes.
    pub(crate) wire: Wire,
    /// MTU of the underlay.
    pub(crate) mtu: u32,
    /// Queues of the underlay, each way.
    pub(crate) queues: u32,
    /// What access ports that are made are to be.
    pub(crate) access: &'static str,
    /// How messages travel.
    pub(crate) underlay: &'static str,
}

impl Plan {
    /// With access ports that are veth pairs.
    pub(crate) fn xdp() -> Self {
        Self {
            access: "xdp",
            ..Self::default()
        }
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            wire: Wire::Direct,
            mtu: 1500,
            queues: 1,
            access: "auto",
            underlay: "afxdp",
        }
    }
}

/// One of the two nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    A,
    B,
}

impl Side {
    /// The node's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    /// Its IPv4 address in the fabric.
    pub(crate) fn inner_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 7, 0, self.number())
    }

    /// Its IPv6 address in the fabric.
    pub(crate) fn inner_v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, self.number().into())
    }
}

/// Two namespaces, what connects them, and a folder for files.
#[derive(Debug)]
pub(crate) struct Lab {
    /// Where node a lives, on interface `ua`.
    pub(crate) a: Namespace,
    /// Where node b lives, on interface `ub`.
    pub(crate) b: Namespace,
    /// What is between them, with interfaces `ra` and `rb`.
    pub(crate) middle: Option<Namespace>,
    plan: Plan,
    folder: TempDir,
    // The last field: everything else is gone before.
    _turn: Turn,
}

impl Lab {
    /// Waits for its turn and lays the underlay. Others may run beside it.
    pub(crate) fn new(plan: Plan) -> Self {
        let guard = TURN.read().unwrap_or_else(PoisonError::into_inner);
        Self::lay(plan, Turn::Shared { _guard: guard })
    }

    /// The same, and no other runs beside it.
    pub(crate) fn alone(plan: Plan) -> Self {
        let guard = TURN.write().unwrap_or_else(PoisonError::into_inner);
        Self::lay(plan, Turn::Alone { _guard: guard })
    }

    fn lay(plan: Plan, turn: Turn) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("omni")
            .tempdir()
            .expect("a folder");
        let middle = (plan.wire != Wire::Direct).then(|| Namespace::new("m"));
        let (a, b) = (Namespace::new("a"), Namespace::new("b"));
        let lab = Self {
            a,
            b,
            middle,
            plan,
            folder,
            _turn: turn,
        };
        match &lab.middle {
            None => cable((&lab.a, "ua"), (&lab.b, "ub"), plan),
            Some(middle) => {
                if plan.wire == Wire::Bridged {
                    // The bridge carries frames and says nothing itself.
                    middle.sysctl("ipv6/conf/all/disable_ipv6", "1");
                    middle.sysctl("ipv6/conf/default/disable_ipv6", "1");
                }
                cable((&lab.a, "ua"), (middle, "ra"), plan);
                cable((&lab.b, "ub"), (middle, "rb"), plan);
            }
        }
        lab.address();
        lab
    }

    /// Lays the cable between the nodes once more, after it was deleted.
    pub(crate) fn lay_again(&self) {
        assert_eq!(self.plan.wire, Wire::Direct, "the rest is still there");
        cable((&self.a, "ua"), (&self.b, "ub"), self.plan);
        self.address();
    }

    fn address(&self) {
        for side in [Side::A, Side::B] {
            let (namespace, interface) = (self.namespace(side), format!("u{}", side.name()));
            let (v4, v6) = self.outer(side);
            namespace.ip(&format!("addr add {v4}/24 dev {interface}"));
            namespace.ip(&format!("addr add {v6}/64 dev {interface}"));
        }
        let Some(middle) = &self.middle else { return };
        match self.plan.wire {
            Wire::Bridged => {
                middle.ip("link add br0 type bridge mcast_snooping 0");
                middle.ip("link set br0 up");
                for port in ["ra", "rb"] {
                    middle.ip(&format!("link set {port} master br0"));
                }
            }
            Wire::Routed => {
                middle.sysctl("ipv4/ip_forward", "1");
                middle.sysctl("ipv6/conf/all/forwarding", "1");
                for side in [Side::A, Side::B] {
                    self.connect_to_router(side, middle);
                }
            }
            Wire::Direct | Wire::Host => {}
        }
    }

    fn connect_to_router(&self, side: Side, router: &Namespace) {
        let (v4, v6) = self.outer(side);
        let [a, b, c, _] = v4.octets();
        let gateway_v4 = Ipv4Addr::new(a, b, c, 254);
        let mut words = v6.segments();
        words[7] = 0xfe;
        let gateway_v6 = Ipv6Addr::from(words);
        router.ip(&format!("addr add {gateway_v4}/24 dev r{}", side.name()));
        router.ip(&format!("addr add {gateway_v6}/64 dev r{}", side.name()));
        let namespace = self.namespace(side);
        namespace.ip(&format!("route add default via {gateway_v4}"));
        namespace.ip(&format!("-6 route add default via {gateway_v6}"));
    }

    /// A node's namespace.
    pub(crate) fn namespace(&self, side: Side) -> &Namespace {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// A node's addresses on the underlay.
    pub(crate) fn outer(&self, side: Side) -> (Ipv4Addr, Ipv6Addr) {
        let host = side.number();
        let net = match (self.plan.wire, side) {
            (Wire::Routed, Side::B) => 0xb,
            _ => 0xa,
        };
        let v4 = if net == 0xb {
            [198, 51, 100, host]
        } else {
            [192, 0, 2, host]
        };
        (
            v4.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, host.into()),
        )
    }

    /// A folder for files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A node's configuration: IPv4 underlay, `omni0` with addresses of both families.
    pub(crate) fn spec(&self, side: Side) -> NodeSpec {
        let other = side.other();
        NodeSpec {
            name: side.name().to_owned(),
            namespace: self.namespace(side).name().to_owned(),
            folder: self.folder().to_owned(),
            underlay: format!("u{}", side.name()),
            spread_ports: false,
            filter: true,
            private_key: private_key(side),
            peer: (other.name().to_owned(), public_key(other)),
            endpoint: SocketAddr::from((self.outer(other).0, PORT)),
            access: "omni0".to_owned(),
            drivers: (self.plan.access, self.plan.underlay),
            addresses: vec![
                format!("{}/24", side.inner_v4()),
                format!("{}/64", side.inner_v6()),
            ],
            mtu: "auto".to_owned(),
            cores: "auto".to_owned(),
            poll: "adaptive".to_owned(),
        }
    }

    /// The same over an IPv6 underlay.
    pub(crate) fn spec_v6(&self, side: Side) -> NodeSpec {
        let endpoint = SocketAddr::from((self.outer(side.other()).1, PORT));
        NodeSpec {
            endpoint,
            ..self.spec(side)
        }
    }

    /// Starts both nodes over IPv4.
    pub(crate) fn start(&self) -> (Node, Node) {
        (self.spec(Side::A).start(), self.spec(Side::B).start())
    }

    /// Starts both nodes over IPv6.
    pub(crate) fn start_v6(&self) -> (Node, Node) {
        (self.spec_v6(Side::A).start(), self.spec_v6(Side::B).start())
    }
}

fn private_key(side: Side) -> PrivateKey {
    PrivateKey([side.number() * 7; 32])
}

/// A node's public key.
pub(crate) fn public_key(side: Side) -> PublicKey {
    PublicKey::from_private(&private_key(side))
}

/// Connects two namespaces by a veth pair, both ends up.
fn cable(near: (&Namespace, &str), far: (&Namespace, &str), plan: Plan) {
    let Plan { mtu, queues, .. } = plan;
    let like = format!("numrxqueues {queues} numtxqueues {queues} mtu {mtu}");
    let end = |(namespace, interface): (&Namespace, &str)| {
        format!("{interface} netns {} {like}", namespace.name())
    };
    ip(&format!(
        "link add {} type veth peer name {}",
        end(near),
        end(far)
    ));
    for (namespace, interface) in [near, far] {
        namespace.ip(&format!("link set {interface} up"));
    }
}
