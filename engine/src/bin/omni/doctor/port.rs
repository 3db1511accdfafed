//! The fabric's UDP port: whether somebody else has it, and whether the firewall lets it in.

mod rules;

use omni_config::Config;

use super::finding::Finding;
use super::host::Host;
use super::subject::Subject;
use rules::{Packet, Verdict};

/// The number of processes whose open files are looked through for who has a port.
const PROCESSES_MAX: usize = 20_000;

pub(super) fn look(host: &Host, config: &Config, subject: &Subject<'_>) -> Vec<Finding> {
    vec![taken(host, config, subject), firewall(host, config)]
}

fn taken(host: &Host, config: &Config, subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "port";
    let port = config.underlay.port;
    let inodes = ["udp", "udp6"].map(|table| host.read(&format!("/proc/net/{table}")));
    if inodes.iter().all(Option::is_none) {
        return Finding::unknown(CHECK, "/proc/net/udp cannot be read");
    }
    let tables = inodes.iter().flatten();
    let inodes: Vec<u64> = tables.flat_map(|table| inodes_of(table, port)).collect();
    if inodes.is_empty() {
        return match subject.engine {
            None => Finding::fine(CHECK, format!("UDP {port} is free")),
            Some(_) => Finding::broken(CHECK, format!("nobody has UDP {port}, and an engine runs"))
                .why("it runs by another configuration than this")
                .fix("omni reload, or restart it where underlay.port changed"),
        };
    }
    if subject.engine.is_some() {
        return Finding::fine(CHECK, format!("the running engine has UDP {port}"));
    }
    let who = match inodes.contains(&0) {
        true => "the kernel itself: WireGuard (`wg show`), VXLAN or the like".to_owned(),
        false => owner(host, &inodes).unwrap_or_else(|| "a process that cannot be seen".to_owned()),
    };
    Finding::broken(CHECK, format!("UDP {port} is taken by {who}"))
        .why("the engine cannot bind it, and does not start")
        .fix(format!(
            "stop that (ss -lunp sport = :{port}), or set another underlay.port on all nodes"
        ))
}

/// The inodes of sockets that are bound to a port, in a table as `/proc/net/udp`; 0 for those of
/// the kernel itself.
fn inodes_of(table: &str, port: u16) -> Vec<u64> {
    let rows = table.lines().skip(1);
    let rows = rows.map(|row| row.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| {
        let local = row.get(1).and_then(|local| local.rsplit_once(':'));
        local.and_then(|(_, text)| u16::from_str_radix(text, 16).ok()) == Some(port)
    });
    let inodes = rows.filter_map(|row| row.get(9)?.parse().ok());
    inodes.collect()
}

/// Which process has one of these sockets open.
fn owner(host: &Host, inodes: &[u64]) -> Option<String> {
    let names = host.names("/proc");
    let ids = names.iter().filter(|name| name.parse::<u32>().is_ok());
    for id in ids.take(PROCESSES_MAX) {
        let folder = format!("/proc/{id}/fd");
        for descriptor in host.names(&folder) {
            let target = host.link(&format!("{folder}/{descriptor}"));
            let inode = target.as_deref().and_then(|it| it.strip_prefix("socket:["));
            let inode = inode.and_then(|it| it.strip_suffix(']')?.parse().ok());
            if inode.is_some_and(|inode| inodes.contains(&inode)) {
                let name = host.read(&format!("/proc/{id}/comm")).unwrap_or_default();
                return Some(format!("{name} (process {id})"));
            }
        }
    }
    None
}

fn firewall(host: &Host, config: &Config) -> Finding {
    const CHECK: &str = "firewall";
    let port = config.underlay.port;
    let packet = Packet {
        interface: &config.underlay.interface,
        port,
    };
    let accept = format!("nft add rule inet filter input udp dport {port} accept");
    let accept_old = format!("iptables -I INPUT -p udp --dport {port} -j ACCEPT");
    let judged = [
        (
            host.ask("nft", &["--json", "list", "ruleset"])
                .and_then(|text| rules::nftables(&text, &packet)),
            "nft list ruleset",
            accept,
        ),
        (
            host.ask("iptables-save", &["-t", "filter"])
                .and_then(|text| rules::iptables(&text, &packet)),
            "iptables-save",
            accept_old,
        ),
    ];
    let why = "handshakes pass it: no session comes about, or none after three minutes";
    let mut known = None;
    for (verdict, shows, fix) in judged {
        match verdict {
            Some(Verdict::Drop(by)) => {
                return Finding::broken(CHECK, format!("UDP {port} is dropped by {by}"))
                    .why(why)
                    .fix(fix);
            }
            Some(Verdict::Maybe(by)) => {
                known = Some(
                    Finding::warning(CHECK, format!("UDP {port} may be dropped by {by}"))
                        .why(why)
                        .fix(format!("look at `{shows}`; {fix}")),
                );
            }
            Some(Verdict::Accept) if known.is_none() => {
                known = Some(Finding::fine(CHECK, format!("UDP {port} gets in")));
            }
            Some(Verdict::Accept) | None => {}
        }
    }
    known.unwrap_or_else(|| {
        Finding::unknown(
            CHECK,
            "neither nft nor iptables-save tells (not root, or not there)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::host::fake::host;
    use super::super::subject::tests::udp;
    use super::*;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when \
                        retrnsmt uid  timeout inode ref pointer drops\n";

    fn row(port: u16, inode: u64) -> String {
        format!(
            "  12: 00000000:{port:04X} 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 \
             {inode} 2 0000000000000000 0\n"
        )
    }

    fn config() -> Config {
        let text = "fabric: f\nnode: {name: a, private_key_file: k}\n\
                    underlay: {interface: eth0}\naccess: [{interface: omni0}]\n";
        let key =
            |_: &std::path::Path| Ok(b"CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=".to_vec());
        omni_config::load_octets(std::path::Path::new("x"), text.as_bytes(), &key).unwrap()
    }

    #[test]
    fn who_has_the_port_is_named() {
        let look = |table: String| {
            let (_folder, host) = host(&[
                ("/proc/net/udp", &table),
                ("/proc/88/comm", "dnsmasq\n"),
                ("/proc/88/fd/3", "-> /dev/null"),
                ("/proc/88/fd/4", "-> socket:[4711]"),
            ]);
            taken(&host, &config(), &udp())
        };
        let free = look(format!("{HEAD}{}", row(53, 1)));
        assert_eq!(free.level, Level::Fine);
        let process = look(format!("{HEAD}{}{}", row(53, 1), row(51820, 4711)));
        assert_eq!(process.what, "UDP 51820 is taken by dnsmasq (process 88)");
        let kernel = look(format!("{HEAD}{}", row(51820, 0)));
        assert!(kernel.what.contains("WireGuard"), "{}", kernel.what);
        assert_eq!(kernel.level, Level::Broken);
    }

    #[test]
    fn a_firewall_that_nobody_shows_is_unknown_and_one_that_drops_is_broken() {
        let look = |files: &[(&str, &str)]| {
            let (_folder, host) = host(files);
            firewall(&host, &config())
        };
        assert_eq!(look(&[]).level, Level::Unknown);
        let drops = "*filter\n:INPUT DROP [0:0]\nCOMMIT\n";
        let found = look(&[("commands/iptables-save", drops)]);
        assert_eq!(found.level, Level::Broken);
        assert!(found.fix.starts_with("iptables -I INPUT"), "{}", found.fix);
        let none = look(&[("commands/nft", "{\"nftables\": []}")]);
        assert_eq!(none.level, Level::Fine);
    }
}
