//! The underlay interface: whether it is there and up, how frames come off it, and by how many
//! queues.

use std::collections::BTreeSet;
use std::net::IpAddr;

use omni_config::{Config, Mtu, Queues, XdpMode, ZeroCopy};
use omni_control::netlink::Link;
use omni_engine::ways::{Seen, Way};

use super::finding::Finding;
use super::host::Host;
use super::subject::Subject;

/// What the fabric adds to a frame's packet over IPv4 and over IPv6, in octets.
const OVERHEAD: u32 = 74;
const OVERHEAD_IPV6: u32 = 94;
/// Drivers whose buffers an AF_XDP socket may use, in the kernels that the project knows.
const ZERO_COPY: [&str; 9] = [
    "bnxt_en",
    "gve",
    "i40e",
    "ice",
    "igc",
    "ixgbe",
    "mlx5_core",
    "stmmac",
    "virtio_net",
];
/// Drivers without native XDP, or without a queue to speak of.
const GENERIC_ONLY: [&str; 4] = ["bridge", "dummy", "r8169", "e1000"];

/// Looks at an interface that may not be there.
pub(super) fn look(
    host: &Host,
    config: &Config,
    subject: &Subject<'_>,
    addresses: &[IpAddr],
) -> Vec<Finding> {
    const CHECK: &str = "underlay";
    let name = &config.underlay.interface;
    let Some(link) = subject.link else {
        let what = format!("underlay.interface: there is no interface {name}");
        let missing = Finding::broken(CHECK, what)
            .why("the engine has no way to other nodes, and does not start")
            .fix("ip -brief link shows those that there are: put one into underlay.interface");
        return vec![missing];
    };
    let mut found = vec![state(link, addresses)];
    found.push(program(link, subject));
    if let Some(seen) = subject.seen {
        if subject.uses_afxdp() {
            found.push(mode(config, seen, subject));
            found.push(zero_copy(config, seen));
            found.push(offloads(host, name));
        }
        found.push(queues(config, seen, cores(host)));
        found.extend(steering(host, config, seen));
        found.extend(interrupts(host, name, seen));
    }
    found.extend(mtu(config, link));
    found
}

fn state(link: &Link, addresses: &[IpAddr]) -> Finding {
    const CHECK: &str = "underlay";
    let name = &link.name;
    if !link.up {
        return Finding::broken(CHECK, format!("{name} is down"))
            .why("nothing is received or sent")
            .fix(format!("ip link set {name} up"));
    }
    if !link.carrier {
        return Finding::broken(CHECK, format!("{name} is up and has no carrier"))
            .why("nothing is received or sent")
            .fix("look at the cable, or at the other side");
    }
    if addresses.is_empty() {
        return Finding::broken(CHECK, format!("{name} has no IP address"))
            .why("messages to other nodes have no source, and nobody finds this one")
            .fix(format!(
                "ip address add ADDRESS/PREFIX dev {name}, or by DHCP"
            ));
    }
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Finding::fine(CHECK, format!("{name} is up: {}", list.join(", ")))
}

/// Somebody else's XDP program.
fn program(link: &Link, subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "XDP program";
    let name = &link.name;
    match (&link.xdp_programs[..], subject.engine) {
        ([], _) => Finding::fine(CHECK, format!("none on {name} but the engine's")),
        (_, Some(_)) => Finding::fine(CHECK, format!("the running engine's is on {name}")),
        (_, None) if !subject.uses_afxdp() => Finding::fine(
            CHECK,
            format!("one is on {name}, where the engine needs none"),
        ),
        ([program, ..], None) => {
            let what = format!("another XDP program, number {program}, is on {name}");
            Finding::broken(CHECK, what)
                .why("one interface takes one program: the engine does not start")
                .fix(format!(
                    "stop what attached it (bpftool net; bpftool prog show id {program}), or: ip \
                     link set dev {name} xdp off"
                ))
        }
    }
}

fn mode(config: &Config, seen: &Seen, subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "XDP mode";
    let (name, driver) = (&config.underlay.interface, &seen.driver);
    let modes = subject.engine.map(|engine| {
        let queues = engine.show.queues.iter();
        let own = queues.filter(|queue| queue.port == *name);
        own.map(|queue| queue.mode.clone()).collect::<BTreeSet<_>>()
    });
    let generic = match &modes {
        Some(modes) => modes.contains("generic"),
        None => GENERIC_ONLY.contains(&driver.as_str()),
    };
    match (config.underlay.xdp, generic) {
        (XdpMode::Generic, _) => Finding::warning(CHECK, "underlay.xdp: generic is configured")
            .why("every packet is copied by the kernel first: about half the rate")
            .fix("remove underlay.xdp, which takes native where the driver can"),
        (XdpMode::Native, true) => Finding::broken(
            CHECK,
            format!("{driver} has no native XDP, and xdp: native insists"),
        )
        .why("the engine does not start")
        .fix("remove underlay.xdp, or set underlay.driver: udp"),
        (_, true) => Finding::warning(CHECK, format!("generic: {driver} has no native XDP"))
            .why("every packet is copied by the kernel first: UDP sockets may do better")
            .fix("set underlay.driver: udp, and measure"),
        (_, false) => Finding::fine(CHECK, format!("native, as far as driver {driver} tells")),
    }
}

fn zero_copy(config: &Config, seen: &Seen) -> Finding {
    const CHECK: &str = "zero copy";
    let driver = &seen.driver;
    let able = ZERO_COPY.contains(&driver.as_str());
    match (config.underlay.zero_copy, able) {
        (ZeroCopy::Off, true) => Finding::warning(CHECK, format!("off, and {driver} has it"))
            .why("each packet is copied once more")
            .fix("remove underlay.zero_copy"),
        (ZeroCopy::On, false) => Finding::broken(
            CHECK,
            format!("zero_copy: on, which driver {driver} does not have"),
        )
        .why("the engine does not start without it")
        .fix("set underlay.zero_copy: auto"),
        (_, true) => Finding::fine(CHECK, format!("{driver} has it")),
        (_, false) => Finding::fine(CHECK, format!("driver {driver} copies")),
    }
}

/// What keeps native XDP off a card.
fn offloads(host: &Host, name: &str) -> Finding {
    const CHECK: &str = "offloads";
    let Some(features) = host.ask("ethtool", &["--show-features", name]) else {
        return Finding::unknown(CHECK, "ethtool is not installed, or tells nothing");
    };
    let on = |feature: &str| {
        let mut lines = features.lines().map(str::trim);
        lines.any(|line| line.starts_with(&format!("{feature}: on")))
    };
    let bad = ["large-receive-offload", "rx-gro-hw"].map(|it| (it, on(it)));
    match bad.iter().find(|(_, on)| *on) {
        Some((feature, _)) => Finding::warning(CHECK, format!("{feature} is on"))
            .why("the card joins packets before XDP sees them: drivers refuse native XDP then")
            .fix(format!("ethtool --features {name} {feature} off")),
        None => Finding::fine(CHECK, "none that is in the way of XDP"),
    }
}

fn cores(host: &Host) -> u64 {
    let names = host.names("/sys/devices/system/cpu");
    let is_core = |name: &&String| {
        let number = name.strip_prefix("cpu");
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    (names.iter().filter(is_core).count() as u64).max(1)
}

fn queues(config: &Config, seen: &Seen, cores: u64) -> Finding {
    const CHECK: &str = "queues";
    let name = &config.underlay.interface;
    let count = u64::from(seen.queues);
    if let Queues::List(list) = &config.underlay.queues
        && let Some(missing) = list.iter().find(|queue| u64::from(**queue) >= count)
    {
        let what = format!("underlay.queues: {name} has no queue {missing}, it has {count}");
        return Finding::broken(CHECK, what)
            .why("the engine does not start")
            .fix(format!(
                "ethtool --set-channels {name} combined {}",
                missing + 1
            ));
    }
    let is_card = !matches!(
        seen.driver.as_str(),
        "" | "veth" | "tun" | "bridge" | "dummy"
    );
    if count == 1 && cores > 1 && is_card {
        return Finding::warning(
            CHECK,
            format!("{name} has one receive queue, there are {cores} cores"),
        )
        .why("one queue has one worker: the others do nothing")
        .fix(format!("ethtool --set-channels {name} combined {cores}"));
    }
    Finding::fine(CHECK, format!("{count} receive queues, {cores} cores"))
}

/// Whether the card sends packets to queues that nobody serves.
fn steering(host: &Host, config: &Config, seen: &Seen) -> Option<Finding> {
    const CHECK: &str = "RSS";
    let name = &config.underlay.interface;
    if seen.queues < 2 {
        return None;
    }
    let Some(table) = host.ask("ethtool", &["--show-rxfh-indir", name]) else {
        return Some(Finding::unknown(
            CHECK,
            format!("{name} shows no indirection table"),
        ));
    };
    let steered = indirection(&table);
    let served: BTreeSet<u32> = match &config.underlay.queues {
        Queues::List(list) => list.iter().copied().collect(),
        Queues::Auto => (0..seen.queues).collect(),
    };
    let stray: Vec<String> = steered
        .difference(&served)
        .map(ToString::to_string)
        .collect();
    if !stray.is_empty() {
        let what = format!("{name} steers packets to queues {}", stray.join(", "));
        let most = served.len();
        return Some(
            Finding::warning(CHECK, what)
                .why("no worker has these: their messages take the slow way (message_unsteered)")
                .fix(format!("ethtool --set-rxfh-indir {name} equal {most}")),
        );
    }
    if steered.len() < served.len() && !steered.is_empty() {
        let what = format!(
            "{name} steers packets to {} of {} queues",
            steered.len(),
            served.len()
        );
        return Some(
            Finding::warning(CHECK, what)
                .why("workers of the others do nothing")
                .fix(format!("ethtool --set-rxfh-indir {name} default")),
        );
    }
    Some(Finding::fine(CHECK, "all queues are served"))
}

/// The queues in the table that `ethtool --show-rxfh-indir` prints: rows `AT: QUEUE QUEUE ...`.
fn indirection(table: &str) -> BTreeSet<u32> {
    let rows = table.lines().filter_map(|line| line.split_once(':'));
    let rows = rows.filter(|(at, _)| at.trim().parse::<u32>().is_ok());
    let queues = rows.flat_map(|(_, queues)| queues.split_whitespace());
    queues.filter_map(|queue| queue.parse().ok()).collect()
}

/// Whether one core gets the interrupts of several queues.
fn interrupts(host: &Host, name: &str, seen: &Seen) -> Option<Finding> {
    const CHECK: &str = "interrupts";
    let numbers = host.names(&format!("/sys/class/net/{name}/device/msi_irqs"));
    let cores: Vec<String> = numbers
        .iter()
        .filter_map(|irq| host.read(&format!("/proc/irq/{irq}/effective_affinity_list")))
        .filter(|list| !list.is_empty())
        .collect();
    if cores.is_empty() || seen.queues < 2 {
        return None;
    }
    let distinct: BTreeSet<&String> = cores.iter().collect();
    if distinct.len() == 1 && self::cores(host) > 1 {
        let what = format!(
            "all {} interrupts of {name} go to core {}",
            cores.len(),
            cores[0]
        );
        return Some(
            Finding::warning(CHECK, what)
                .why("that core does the driver's work for all queues")
                .fix(
                    "systemctl enable --now irqbalance, or write cores to \
                      /proc/irq/N/smp_affinity_list",
                ),
        );
    }
    Some(Finding::fine(
        CHECK,
        format!("{} over {} cores", cores.len(), distinct.len()),
    ))
}

/// Whether what applications send fits into the underlay.
fn mtu(config: &Config, link: &Link) -> Vec<Finding> {
    const CHECK: &str = "MTU";
    let ipv6 = config
        .peers
        .iter()
        .filter_map(|peer| peer.endpoint)
        .any(|it| it.is_ipv6());
    let most = link
        .mtu
        .saturating_sub(if ipv6 { OVERHEAD_IPV6 } else { OVERHEAD });
    let mut found = Vec::new();
    for (port, access) in config.access.iter().enumerate() {
        let Mtu::Octets(wanted) = access.mtu else {
            continue;
        };
        if u32::from(wanted) > most {
            let what = format!(
                "access[{port}].mtu: {wanted} does not fit: {} has {}, which leaves {most}",
                link.name, link.mtu
            );
            found.push(
                Finding::broken(CHECK, what)
                    .why("the engine does not start")
                    .fix(format!(
                        "set access[{port}].mtu: {most}, or raise the underlay's"
                    )),
            );
        }
    }
    if most < 1280 {
        let what = format!("{} has {}, which leaves {most}", link.name, link.mtu);
        found.push(
            Finding::warning(CHECK, what)
                .why("IPv6 takes 1280 at least, and does not work in the fabric")
                .fix(format!("ip link set {} mtu 1500", link.name)),
        );
    }
    if found.is_empty() {
        let what = format!(
            "{} has {}, the fabric's packets {most}",
            link.name, link.mtu
        );
        found.push(Finding::fine(CHECK, what));
    }
    found
}

/// What the engine's choice of drivers comes to.
pub(super) fn ways(subject: &Subject<'_>) -> Option<Finding> {
    const CHECK: &str = "driver";
    let (seen, ways) = (subject.seen?, subject.ways?);
    let best = seen.best();
    let name = |way| match way {
        Way::Afxdp => "afxdp",
        Way::Udp => "udp",
    };
    let what = format!(
        "receives by {}, sends by {}",
        name(ways.receive.way),
        name(ways.send.way)
    );
    if ways.receive.way == Way::Afxdp && !seen.afxdp {
        return Some(
            Finding::broken(
                CHECK,
                "underlay.driver: afxdp, and this process gets no AF_XDP sockets",
            )
            .why("the kernel lacks them (CONFIG_XDP_SOCKETS), or the process CAP_NET_RAW")
            .fix("set underlay.driver: udp, or auto"),
        );
    }
    Some(
        if (ways.receive.way, ways.send.way) == (best.receive.way, best.send.way) {
            Finding::fine(CHECK, what)
        } else {
            Finding::fine(CHECK, what + "; see above for what would suit better")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Level, worst};
    use super::super::host::fake::host;
    use super::super::subject::tests::{afxdp, udp};
    use super::*;

    const KEY: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";

    fn config(underlay: &str, access: &str) -> Config {
        let text = format!(
            "fabric: f\nnode: {{name: a, private_key_file: k}}\n\
             underlay: {{interface: eth0{underlay}}}\naccess: [{{interface: omni0{access}}}]\n"
        );
        let key = |_: &std::path::Path| Ok(KEY.as_bytes().to_vec());
        omni_config::load_octets(std::path::Path::new("x"), text.as_bytes(), &key).unwrap()
    }

    fn seen(driver: &str, queues: u32) -> Seen {
        Seen {
            driver: driver.to_owned(),
            queues,
            afxdp: true,
            gro: false,
            cuts_udp: false,
            zero_copy: false,
        }
    }

    fn link() -> Link {
        Link {
            name: "eth0".to_owned(),
            up: true,
            carrier: true,
            mtu: 1500,
            ..Link::default()
        }
    }

    #[test]
    fn an_interface_that_carries_nothing_is_broken() {
        let address = ["192.0.2.1".parse().unwrap()];
        assert_eq!(state(&link(), &address).level, Level::Fine);
        assert!(state(&link(), &[]).what.contains("no IP address"));
        let down = Link {
            up: false,
            ..link()
        };
        assert_eq!(state(&down, &address).fix, "ip link set eth0 up");
        let loose = Link {
            carrier: false,
            ..link()
        };
        assert!(state(&loose, &address).what.contains("carrier"));
        let (_folder, host) = host(&[]);
        let found = look(&host, &config("", ""), &afxdp(), &[]);
        assert_eq!(worst(&found), Level::Broken);
        assert!(found[0].what.contains("no interface eth0"));
    }

    #[test]
    fn a_program_of_somebody_else_matters_where_the_engine_needs_its_own() {
        let taken = Link {
            xdp_programs: vec![7],
            ..link()
        };
        assert_eq!(program(&taken, &afxdp()).level, Level::Broken);
        assert_eq!(program(&taken, &udp()).level, Level::Fine);
        assert_eq!(program(&link(), &afxdp()).level, Level::Fine);
    }

    #[test]
    fn what_the_driver_cannot_do_is_broken_only_where_it_is_insisted_on() {
        let of = |underlay: &str, driver: &str| {
            let (config, seen) = (config(underlay, ""), seen(driver, 1));
            let mode = mode(&config, &seen, &afxdp()).level;
            (mode, zero_copy(&config, &seen).level)
        };
        assert_eq!(of("", "ice"), (Level::Fine, Level::Fine));
        assert_eq!(of(", xdp: native", "bridge").0, Level::Broken);
        assert_eq!(of("", "bridge").0, Level::Warning);
        assert_eq!(of(", zero_copy: on", "veth").1, Level::Broken);
        assert_eq!(of(", zero_copy: off", "ice").1, Level::Warning);
    }

    #[test]
    fn queues_without_workers_and_workers_without_queues_are_told() {
        let files = [(
            "commands/ethtool",
            "RX flow hash:\n    0:  0 1 2 3\n    4:  0 1 2 3\n",
        )];
        let (_folder, host) = host(&files);
        let of = |underlay: &str| steering(&host, &config(underlay, ""), &seen("ice", 4)).unwrap();
        assert_eq!(of("").level, Level::Fine);
        let few = of(", queues: [0, 1]");
        assert!(few.what.ends_with("queues 2, 3"), "{}", few.what);
        assert_eq!(few.fix, "ethtool --set-rxfh-indir eth0 equal 2");
        let many = steering(&host, &config("", ""), &seen("ice", 8)).unwrap();
        assert_eq!(many.level, Level::Warning);
        let of =
            |underlay: &str, count| queues(&config(underlay, ""), &seen("ice", count), 4).level;
        assert_eq!(of("", 1), Level::Warning);
        assert_eq!(of(", queues: [5]", 4), Level::Broken);
        assert_eq!(of("", 4), Level::Fine);
    }

    #[test]
    fn interrupts_on_one_core_and_joined_packets_are_warned_of() {
        let (_folder, host) = host(&[
            ("/sys/class/net/eth0/device/msi_irqs/40", "msix"),
            ("/sys/class/net/eth0/device/msi_irqs/41", "msix"),
            ("/proc/irq/40/effective_affinity_list", "0\n"),
            ("/proc/irq/41/effective_affinity_list", "0\n"),
            ("/sys/devices/system/cpu/cpu0/online", "1"),
            ("/sys/devices/system/cpu/cpu1/online", "1"),
            ("/sys/devices/system/cpu/cpufreq/x", "1"),
            (
                "commands/ethtool",
                "rx-gro-hw: off [fixed]\nlarge-receive-offload: on\n",
            ),
        ]);
        assert_eq!(cores(&host), 2);
        let found = interrupts(&host, "eth0", &seen("ice", 2)).unwrap();
        assert!(found.what.ends_with("go to core 0"), "{}", found.what);
        assert!(
            offloads(&host, "eth0")
                .what
                .starts_with("large-receive-offload")
        );
    }

    #[test]
    fn an_mtu_that_does_not_fit_is_named_with_what_fits() {
        let found = mtu(&config("", ", mtu: 1500"), &link());
        assert_eq!(found[0].level, Level::Broken);
        assert!(
            found[0].fix.contains("access[0].mtu: 1426"),
            "{}",
            found[0].fix
        );
        assert_eq!(mtu(&config("", ""), &link())[0].level, Level::Fine);
        let small = Link {
            mtu: 1300,
            ..link()
        };
        assert_eq!(mtu(&config("", ""), &small)[0].level, Level::Warning);
    }
}
