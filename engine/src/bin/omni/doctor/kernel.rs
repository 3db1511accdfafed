//! The kernel's version, and what the engine's process may do.

use omni_config::Config;

use super::finding::Finding;
use super::host::Host;
use super::subject::Subject;

/// Octets of packet memory that an AF_XDP queue locks, and each tap's queue.
const QUEUE_OCTETS: u64 = 12 << 20;
/// Open files that an engine may need with one queue: it has 28 then, and who asks it takes more.
const FILES_MIN: u64 = 64;
/// From where on nobody has to think of it, whatever number of queues there is.
const FILES_PLENTY: u64 = 512;
/// The MTU up to which a received packet is in one piece, whatever the driver.
const ONE_PIECE: u32 = 3498;

/// The capabilities that moving frames by AF_XDP takes, as `/proc` numbers them.
const CAPABILITIES: [(u32, &str); 3] =
    [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (39, "CAP_BPF")];
/// All of them in one.
const SYS_ADMIN: u32 = 21;
const IPC_LOCK: u32 = 14;

pub(super) fn look(host: &Host, subject: &Subject<'_>) -> Vec<Finding> {
    let mut found = vec![version(host, subject)];
    found.extend(capabilities(host, subject));
    found.push(memlock(host, subject));
    found.push(files(host, subject));
    found
}

fn version(host: &Host, subject: &Subject<'_>) -> Finding {
    let release = host.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let Some(version) = parsed(&release) else {
        return Finding::unknown("kernel", format!("its version is {release:?}"));
    };
    let jumbo = subject.link.is_some_and(|link| link.mtu > ONE_PIECE);
    let driver = subject.seen.map_or("", |seen| seen.driver.as_str());
    let newer = "install a newer kernel (Debian 12: apt-get install -t bookworm-backports \
                 linux-image-amd64), or set underlay.driver: udp";
    let linux = format!("Linux {release}");
    if !subject.uses_afxdp() {
        return Finding::fine("kernel", linux);
    }
    if version < (5, 9) {
        return Finding::broken("kernel", format!("{linux}: XDP links take 5.9"))
            .why("without them an XDP program would outlive the engine, so it does not start")
            .fix(newer);
    }
    if version < (6, 6) && jumbo {
        let what = format!("{linux}: AF_XDP takes packets of one page at most before 6.6");
        return Finding::broken("kernel", what)
            .why("the underlay's MTU is larger: long messages are lost")
            .fix(newer);
    }
    if version < (6, 13) && driver == "virtio_net" && subject.wants_zero_copy() {
        let what = format!("{linux}: virtio-net sends without copies from 6.13 on");
        return Finding::broken("kernel", what)
            .why("underlay.zero_copy: on insists on that")
            .fix("set underlay.zero_copy: auto, or install a newer kernel");
    }
    if version < (5, 18) {
        return Finding::warning("kernel", format!("{linux} is older than 5.18"))
            .why("the engine was never tried on it")
            .fix(newer);
    }
    if version < (6, 6) {
        return Finding::warning("kernel", format!("{linux} is older than 6.6"))
            .why("AF_XDP carries no jumbo frames there; all else should do, and is hardly tried")
            .fix(newer);
    }
    Finding::fine("kernel", linux)
}

/// Major and minor.
fn parsed(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn effective(host: &Host, process: &str) -> Option<u64> {
    let text = host.line_of(process, "status", "CapEff:")?;
    u64::from_str_radix(&text, 16).ok()
}

const fn has(set: u64, bit: u32) -> bool {
    set & (1 << bit) != 0
}

/// What this process may do is what an engine may that is started in its place. One that runs has
/// given most of it up.
fn capabilities(host: &Host, subject: &Subject<'_>) -> Option<Finding> {
    if subject.engine.is_some() {
        return None;
    }
    let Some(set) = effective(host, "self") else {
        return Some(Finding::unknown(
            "capabilities",
            "/proc/self/status has none",
        ));
    };
    let wanted = CAPABILITIES.iter().filter(|(bit, _)| match bit {
        12 => true,
        39 => subject.uses_afxdp() && !has(set, SYS_ADMIN),
        _ => subject.uses_afxdp(),
    });
    let missing: Vec<&str> = wanted
        .filter(|(bit, _)| !has(set, *bit))
        .map(|(_, name)| *name)
        .collect();
    Some(match &missing[..] {
        [] => Finding::fine("capabilities", "all that the engine needs"),
        missing => Finding::broken(
            "capabilities",
            format!("this process lacks {}", missing.join(", ")),
        )
        .why("an engine that is started in its place cannot make interfaces or load XDP programs")
        .fix(
            "start it by systemctl start omni-engine@NAME, or as root; in a container add them \
              (--cap-add)",
        ),
    })
}

/// A limit of a process in `/proc`: the soft one; `None` in it: unlimited.
fn limit(host: &Host, process: &str, name: &str) -> Option<Option<u64>> {
    let values = host.line_of(process, "limits", name)?;
    match values.split_whitespace().next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

fn memlock(host: &Host, subject: &Subject<'_>) -> Finding {
    let process = subject.process();
    if !subject.uses_afxdp() {
        return Finding::fine("memlock", "AF_XDP, which locks memory, is not used");
    }
    let may_lock = effective(host, &process).is_some_and(|set| has(set, IPC_LOCK));
    if may_lock {
        return Finding::fine("memlock", "CAP_IPC_LOCK: no limit");
    }
    let queues = subject.queues().max(1);
    let needed = QUEUE_OCTETS * queues;
    match limit(host, &process, "Max locked memory") {
        None => Finding::unknown("memlock", "/proc has no limit of locked memory"),
        Some(None) => Finding::fine("memlock", "unlimited"),
        Some(Some(octets)) if octets >= needed => {
            Finding::fine("memlock", format!("{} MiB", octets >> 20))
        }
        Some(Some(octets)) => {
            let what = format!(
                "{} KiB of locked memory are allowed, {queues} AF_XDP queues take {} MiB",
                octets >> 10,
                needed >> 20
            );
            Finding::broken("memlock", what)
                .why("packet memory is locked: the engine says `cannot map packet memory`")
                .fix("ulimit -l unlimited; LimitMEMLOCK=infinity in the unit; or CAP_IPC_LOCK")
        }
    }
}

fn files(host: &Host, subject: &Subject<'_>) -> Finding {
    let needed = FILES_MIN + 8 * subject.queues();
    match limit(host, &subject.process(), "Max open files") {
        None => Finding::unknown("open files", "/proc has no limit of open files"),
        Some(None) => Finding::fine("open files", "unlimited"),
        Some(Some(count)) if count >= needed || count >= FILES_PLENTY => {
            Finding::fine("open files", format!("{count} are allowed"))
        }
        Some(Some(count)) => {
            let what = format!("{count} are allowed, the engine may need {needed}");
            Finding::broken("open files", what)
                .why("it says `Too many open files` and does not start")
                .fix("ulimit -n 1024; LimitNOFILE=1024 in the unit")
        }
    }
}

/// Bridged frames that pass the firewall of packets.
pub(super) fn bridge_filter(host: &Host, config: &Config, subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "bridge-nf";
    let bridged = config.access.iter().filter(|access| {
        let path = format!("/sys/class/net/{}/brport", access.interface);
        host.has(&path)
    });
    let bridged: Vec<&str> = bridged.map(|access| access.interface.as_str()).collect();
    let on = host.number("/proc/sys/net/bridge/bridge-nf-call-iptables") == Some(1);
    let engine = if subject.engine.is_some() { "" } else { " yet" };
    match (on, &bridged[..]) {
        (false, _) => Finding::fine(CHECK, "bridged frames pass no packet filter"),
        (true, []) => Finding::fine(
            CHECK,
            format!("on, and no access port is in a bridge{engine}"),
        ),
        (true, ports) => Finding::warning(
            CHECK,
            format!("frames of the bridge of {} pass iptables", ports.join(", ")),
        )
        .why("a FORWARD policy of DROP, as Docker sets, drops what machines on the bridge send")
        .fix("sysctl net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::host::fake::host;
    use super::super::subject::tests::{afxdp, jumbo, udp};
    use super::*;

    const LIMITS: &str = "Limit  Soft  Hard\nMax open files  32  4096  files\n\
                          Max locked memory  65536  65536  bytes\n";

    #[test]
    fn each_age_of_a_kernel_has_its_verdict() {
        let verdict = |release: &str, subject: &Subject<'_>| {
            let (_folder, host) = host(&[("/proc/sys/kernel/osrelease", release)]);
            version(&host, subject).level
        };
        assert_eq!(verdict("5.4.0-1-amd64\n", &afxdp()), Level::Broken);
        assert_eq!(verdict("5.4.0-1-amd64\n", &udp()), Level::Fine);
        assert_eq!(verdict("5.15.0", &afxdp()), Level::Warning);
        assert_eq!(verdict("6.1.0-28-amd64", &afxdp()), Level::Warning);
        assert_eq!(verdict("6.1.0-28-amd64", &jumbo()), Level::Broken);
        assert_eq!(verdict("6.18.1", &jumbo()), Level::Fine);
        assert_eq!(verdict("strange", &afxdp()), Level::Unknown);
    }

    #[test]
    fn what_a_process_may_not_do_is_named() {
        let with = |set: &str, subject: &Subject<'_>| {
            let (_folder, host) = host(&[("/proc/self/status", &format!("CapEff:\t{set}\n"))]);
            capabilities(&host, subject).unwrap()
        };
        assert_eq!(with("000001ffffffffff", &afxdp()).level, Level::Fine);
        let none = with("0000000000000000", &afxdp());
        assert!(
            none.what.ends_with("CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF"),
            "{}",
            none.what
        );
        assert_eq!(with("0000000000001000", &udp()).level, Level::Fine);
        // CAP_SYS_ADMIN stands for CAP_BPF.
        assert_eq!(with("0000000000203000", &afxdp()).level, Level::Fine);
    }

    #[test]
    fn small_limits_are_broken_unless_the_capability_lifts_them() {
        let looked = |status: &str, subject: &Subject<'_>| {
            let (_folder, host) =
                host(&[("/proc/self/limits", LIMITS), ("/proc/self/status", status)]);
            (memlock(&host, subject).level, files(&host, subject).level)
        };
        let none = "CapEff:\t0000000000000000\n";
        assert_eq!(looked(none, &afxdp()), (Level::Broken, Level::Broken));
        assert_eq!(looked(none, &udp()).0, Level::Fine);
        assert_eq!(
            looked("CapEff:\t0000000000004000\n", &afxdp()).0,
            Level::Fine
        );
    }
}
