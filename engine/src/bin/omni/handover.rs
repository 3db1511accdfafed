//! `omni handover`: hands the fabric's traffic over to an engine behind another device.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use clap::{Args, ValueEnum};
use omni_control::netlink::{Link, Netlink, NetlinkError};
use omni_xdp_redirect::{Device, Handed, Handover, Mode, Owner, RedirectError};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

pub(crate) const EXAMPLES: &str = "\
Runs until SIGINT or SIGTERM; then, and also when it is killed, everything is as before. SIGUSR1
prints what was counted. docs/hand-over.md says what the other side needs.

Without --address, all addresses of the interface are shared: of what comes to them only the
fabric's datagrams are handed over, and the host keeps the rest. An address that is named and that
the interface does not have is the other engine's alone: all that is for it is handed over, ARP and
neighbour solicitations too. Everything that comes from the device goes out of the interface.

Examples:
  omni handover --interface eth0 --to pf0hpf --address 192.0.2.9
  omni handover --interface p0 --to pf0hpf --port 51820";

/// How often interfaces and addresses are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What is handed over, and to where.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where the fabric's messages come in
    #[arg(long, value_name = "NAME")]
    interface: String,

    /// The device behind which the engine is: a SmartNIC's representor, a veth
    #[arg(long, value_name = "NAME")]
    to: String,

    /// UDP port of the fabric
    #[arg(long, default_value_t = 51820, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// An address of the engine behind the device; may be repeated [default: the interface's]
    #[arg(long = "address", value_name = "IP")]
    addresses: Vec<IpAddr>,

    /// Where the programs run; auto: in the driver where it can
    #[arg(long, value_enum, default_value_t = Xdp::Auto)]
    xdp: Xdp,
}

/// As `underlay.xdp` of the engine's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Xdp {
    Auto,
    Native,
    Generic,
}

/// What can go wrong.
#[derive(Debug, Error)]
pub(crate) enum HandoverError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    #[error("interface {0} does not exist")]
    NoInterface(String),
    #[error("interface {0} was deleted")]
    Deleted(String),
    #[error("--to names the interface that the messages come in on: {0}")]
    ToItself(String),
    #[error("interface {0} has no address: give it one, or name the other engine's by --address")]
    NoAddress(String),
    #[error("cannot join the group that is asked where {address} is: {error}")]
    Group { address: Ipv6Addr, error: io::Error },
    #[error("cannot {what}: {error}")]
    System {
        what: &'static str,
        error: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> HandoverError {
    move |error| HandoverError::System { what, error }
}

/// Hands over until a signal comes, or an interface goes.
pub(crate) fn run(arguments: &Arguments) -> Result<(), HandoverError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start"))?
        .block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> Result<(), HandoverError> {
    let listen = |kind| signal(kind).map_err(system("listen for signals"));
    let (mut interrupt, mut terminate) = (
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
    );
    let mut asked = listen(SignalKind::user_defined1())?;
    let mut running = Running::start(arguments).await?;
    say(&running);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = asked.recv() => say(Told(running.handover.counters()?)),
            _ = look.tick() => running.follow().await?,
        }
    }
    running.handover.detach();
    say(Told(running.handover.counters()?));
    Ok(())
}

/// Whoever reads may have gone; that is no reason to end.
fn say(what: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{what}");
}

/// A hand-over under way.
struct Running<'a> {
    netlink: Netlink,
    handover: Handover,
    wire: Device,
    other: Device,
    /// What was asked for: none for those of the interface.
    wanted: &'a [IpAddr],
    /// What the programs know.
    known: BTreeMap<IpAddr, Owner>,
    groups: Groups,
}

impl<'a> Running<'a> {
    async fn start(arguments: &'a Arguments) -> Result<Self, HandoverError> {
        let (interface, to) = (&arguments.interface, &arguments.to);
        let netlink = Netlink::connect()?;
        let wire = find(&netlink, interface).await?;
        let other = find(&netlink, to).await?;
        if wire.index == other.index {
            return Err(HandoverError::ToItself(to.clone()));
        }
        let mut handover = Handover::load()?;
        handover.set_port(arguments.port)?;
        let device = |link: Link| Device {
            name: link.name,
            index: link.index,
            mode: Mode::Native,
        };
        let mut running = Self {
            netlink,
            handover,
            wire: device(wire),
            other: device(other),
            wanted: &arguments.addresses,
            known: BTreeMap::new(),
            groups: Groups::default(),
        };
        running.follow_addresses().await?;
        if running.known.is_empty() {
            return Err(HandoverError::NoAddress(interface.clone()));
        }
        running.attach(arguments.xdp)?;
        Ok(running)
    }

    /// Attaches in the first of the wanted modes that both drivers take.
    fn attach(&mut self, wanted: Xdp) -> Result<(), HandoverError> {
        let (native, generic) = (Mode::Native, Mode::Generic);
        let modes: &[(Mode, Mode)] = match wanted {
            Xdp::Native => &[(native, native)],
            Xdp::Generic => &[(generic, generic)],
            Xdp::Auto => &[
                (native, native),
                (native, generic),
                (generic, native),
                (generic, generic),
            ],
        };
        let mut outcome = Ok(());
        for &(wire, other) in modes {
            (self.wire.mode, self.other.mode) = (wire, other);
            outcome = self.handover.attach(&self.wire, &self.other);
            match outcome {
                Err(
                    RedirectError::NativeUnsupported { .. }
                    | RedirectError::TooFewQueues { .. }
                    | RedirectError::MtuTooLarge { .. }
                    | RedirectError::Attach { .. },
                ) => {}
                _ => break,
            }
        }
        Ok(outcome?)
    }

    /// Sees that both interfaces are there, and follows the addresses of the first.
    async fn follow(&mut self) -> Result<(), HandoverError> {
        for device in [&self.wire, &self.other] {
            if self.netlink.link_by_index(device.index).await?.is_none() {
                return Err(HandoverError::Deleted(device.name.clone()));
            }
        }
        self.follow_addresses().await
    }

    async fn follow_addresses(&mut self) -> Result<(), HandoverError> {
        let local = self.netlink.local_addresses(self.wire.index).await?;
        let now = owners(self.wanted, &local.into_iter().collect());
        for (&address, &owner) in &now {
            if self.known.get(&address) != Some(&owner) {
                self.handover.set_address(address, owner)?;
            }
            if let (IpAddr::V6(address), Owner::Engine) = (address, owner) {
                self.groups.join(address, self.wire.index)?;
            }
        }
        for &address in self.known.keys().filter(|known| !now.contains_key(known)) {
            self.handover.remove_address(address)?;
        }
        self.known = now;
        Ok(())
    }
}

impl fmt::Display for Running<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wire, other, .. } = self;
        write!(
            f,
            "{} ({} XDP) hands over to {} ({} XDP):",
            wire.name, wire.mode, other.name, other.mode
        )?;
        for (nth, (address, owner)) in self.known.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            let owner = match owner {
                Owner::Shared => "the fabric's datagrams to",
                Owner::Engine => "all for",
            };
            write!(f, "{comma} {owner} {address}")?;
        }
        Ok(())
    }
}

/// Counts as a line of text.
struct Told(Handed);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Handed {
            data,
            handshakes,
            rest,
            back,
            no_device,
        } = self.0;
        write!(
            f,
            "frames handed over: data {data}, handshakes {handshakes}, rest {rest}; \
             taken back {back}; left to the host without a device {no_device}"
        )
    }
}

async fn find(netlink: &Netlink, name: &str) -> Result<Link, HandoverError> {
    let link = netlink.link(name).await?;
    link.ok_or_else(|| HandoverError::NoInterface(name.to_owned()))
}

/// Whose each address is: those that are wanted, or else the interface's own.
fn owners(wanted: &[IpAddr], local: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Owner> {
    let shared = |address: &IpAddr| (*address, Owner::Shared);
    if wanted.is_empty() {
        return local.iter().map(shared).collect();
    }
    let owner = |address: &IpAddr| match local.contains(address) {
        true => shared(address),
        false => (*address, Owner::Engine),
    };
    wanted.iter().map(owner).collect()
}

/// The groups by which others ask where the engine's IPv6 addresses are. A network card drops what
/// is for a group that nobody on its host has joined.
#[derive(Default)]
struct Groups {
    /// A host without IPv6 has none.
    socket: Option<UdpSocket>,
    joined: BTreeSet<Ipv6Addr>,
}

impl Groups {
    /// Stays in the group of an address until the process ends.
    fn join(&mut self, address: Ipv6Addr, interface: u32) -> Result<(), HandoverError> {
        let group = solicited_node(address);
        if self.joined.contains(&group) {
            return Ok(());
        }
        let socket = match self.socket.take() {
            Some(socket) => Ok(socket),
            None => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let joined = socket.and_then(|socket| {
            socket.join_multicast_v6(&group, interface)?;
            Ok(socket)
        });
        self.socket = Some(joined.map_err(|error| HandoverError::Group { address, error })?);
        self.joined.insert(group);
        Ok(())
    }
}

/// The group of an address (RFC 4291 s.2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_that_the_interface_lacks_is_the_engines_alone() {
        let local = BTreeSet::from([address("192.0.2.1"), address("2001:db8::1")]);
        let all = [("192.0.2.1", Owner::Shared), ("2001:db8::1", Owner::Shared)];
        assert_eq!(
            owners(&[], &local),
            all.map(|(a, o)| (address(a), o)).into()
        );
        let wanted = [address("192.0.2.1"), address("192.0.2.9")];
        let some = [("192.0.2.1", Owner::Shared), ("192.0.2.9", Owner::Engine)];
        assert_eq!(
            owners(&wanted, &local),
            some.map(|(a, o)| (address(a), o)).into()
        );
    }

    #[test]
    fn who_asks_for_an_address_asks_its_group() {
        let group = solicited_node("2001:db8::1234:5678:9abc".parse().expect("an address"));
        assert_eq!(group.to_string(), "ff02::1:ff78:9abc");
    }
}
