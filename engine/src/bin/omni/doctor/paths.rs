//! The ways to peers and Nuclei: whether they leave by the underlay, what they carry, and whether
//! somebody is there.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use omni_config::Config;
use rustix::net::sockopt::{ip_mtu, ipv6_mtu};

use super::finding::Finding;
use super::host::Host;
use super::subject::Subject;

/// The most endpoints that are looked at.
const ENDPOINTS_MAX: usize = 16;
/// How long a Nucleus is given to take a connection.
const PATIENCE: Duration = Duration::from_secs(1);
/// What IP and ICMP add to a ping, in octets.
const PING_OVERHEAD: u32 = 28;
const PING_OVERHEAD_IPV6: u32 = 48;

/// What the kernel says of a way, and pings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Way {
    /// This host's address on it.
    source: IpAddr,
    /// The longest packet that the kernel knows to fit.
    mtu: Option<u32>,
    /// Whether small and full packets come back; `None` where nobody answers any.
    full: Option<bool>,
}

pub(super) fn look(
    host: &Host,
    config: &Config,
    subject: &Subject<'_>,
    addresses: &[IpAddr],
) -> Vec<Finding> {
    let endpoints = subject.endpoints();
    let looked: Vec<Finding> = thread::scope(|scope| {
        let endpoints = endpoints.iter().take(ENDPOINTS_MAX);
        let threads: Vec<_> = endpoints
            .map(|(name, endpoint)| {
                scope.spawn(move || {
                    let way = way(host, *endpoint, subject.link.map_or(1500, |link| link.mtu));
                    judge(name, *endpoint, &way, config, subject, addresses)
                })
            })
            .collect();
        let ended = threads.into_iter().filter_map(|thread| thread.join().ok());
        ended.collect()
    });
    let mut found = looked;
    found.push(reverse_path(host, config));
    found.extend(nuclei(config));
    found
}

/// Asks the kernel for the way, and whether full packets come back.
fn way(host: &Host, endpoint: SocketAddr, underlay_mtu: u32) -> io::Result<Way> {
    let any: IpAddr = match endpoint {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Sends nothing: the kernel looks up the route.
    socket.connect(endpoint)?;
    let source = socket.local_addr()?.ip();
    let address = endpoint.ip().to_string();
    let ping = |octets: u32| {
        let size = octets.to_string();
        let arguments = [
            "-n", "-q", "-c", "1", "-W", "1", "-M", "do", "-s", &size, &address,
        ];
        host.ask("ping", &arguments).is_some()
    };
    let overhead = match endpoint {
        SocketAddr::V4(_) => PING_OVERHEAD,
        SocketAddr::V6(_) => PING_OVERHEAD_IPV6,
    };
    let full = ping(8).then(|| ping(underlay_mtu.saturating_sub(overhead)));
    // After the pings: what comes back may have told the kernel more.
    let mtu = match endpoint {
        SocketAddr::V4(_) => ip_mtu(&socket),
        SocketAddr::V6(_) => ipv6_mtu(&socket),
    };
    Ok(Way {
        source,
        mtu: mtu.ok(),
        full,
    })
}

fn judge(
    name: &str,
    endpoint: SocketAddr,
    way: &io::Result<Way>,
    config: &Config,
    subject: &Subject<'_>,
    addresses: &[IpAddr],
) -> Finding {
    const CHECK: &str = "path";
    let underlay = &config.underlay.interface;
    let to = format!("to {name} ({endpoint})");
    let way = match way {
        Ok(way) => way,
        Err(error) => {
            return Finding::broken(CHECK, format!("{to}: there is no route: {error}"))
                .why("nothing can be sent there")
                .fix(format!(
                    "ip route get {}; ip route add ... dev {underlay}",
                    endpoint.ip()
                ));
        }
    };
    if !addresses.contains(&way.source) {
        let what = format!(
            "{to}: the route does not leave by {underlay} (source {})",
            way.source
        );
        return Finding::broken(CHECK, what)
            .why("the engine says `no path`, and counts no_path: it sends by the underlay alone")
            .fix(format!(
                "ip route get {}; route it by {underlay}, or set underlay.interface",
                endpoint.ip()
            ));
    }
    let mtu = subject.link.map_or(1500, |link| link.mtu);
    let known = way.mtu.filter(|known| *known < mtu);
    if way.full == Some(false) || known.is_some() {
        let carries = known.map_or_else(
            || format!("packets of {mtu} octets do not come back, small ones do"),
            |known| format!("the path carries {known} octets, the underlay {mtu}"),
        );
        let probed = if config.switch.path_mtu {
            "the engine finds that out and tells hosts by ICMP; where they do not listen"
        } else {
            "switch.path_mtu is off: full frames are lost, ping works"
        };
        let most = known.unwrap_or(1280).saturating_sub(94);
        return Finding::warning(CHECK, format!("{to}: MTU: {carries}"))
            .why(format!("{probed}, large transfers hang"))
            .fix(format!(
                "set access[].mtu: {most} on all nodes, or raise the MTU on the path; switch.\
                 path_mtu: on"
            ));
    }
    let pinged = match way.full {
        Some(_) => "full packets come back",
        None => "nobody answers pings, which proves nothing",
    };
    Finding::fine(
        CHECK,
        format!("{to}: from {}, MTU {mtu}, {pinged}", way.source),
    )
}

/// Whether the kernel refuses what comes in where it would not answer.
fn reverse_path(host: &Host, config: &Config) -> Finding {
    const CHECK: &str = "rp_filter";
    let name = &config.underlay.interface;
    let of = |name: &str| host.number(&format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
    let mode = of("all").max(of(name));
    match mode {
        None => Finding::unknown(CHECK, "/proc/sys has none"),
        Some(1) if several_routes(host, name) => Finding::warning(
            CHECK,
            format!("strict on {name}, and there are other default routes"),
        )
        .why("a peer to which another interface leads is not heard: its handshakes are lost")
        .fix(format!("sysctl net.ipv4.conf.{name}.rp_filter=2")),
        Some(1) => Finding::fine(CHECK, format!("strict on {name}, and one way out")),
        Some(_) => Finding::fine(CHECK, format!("not strict on {name}")),
    }
}

/// Whether a default route leaves by another interface.
fn several_routes(host: &Host, name: &str) -> bool {
    let table = host.read("/proc/net/route").unwrap_or_default();
    let mut rows = table.lines().skip(1).map(|row| row.split_whitespace());
    rows.any(|mut row| {
        let interface = row.next();
        let to = row.next();
        interface.is_some_and(|it| it != name && it != "lo") && to == Some("00000000")
    })
}

/// Whether each Nucleus takes connections.
fn nuclei(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "Nucleus";
    let each = config.nucleus.iter().map(|nucleus| {
        let endpoint = nucleus.endpoint;
        let Err(error) = TcpStream::connect_timeout(&endpoint, PATIENCE) else {
            return Finding::fine(CHECK, format!("{endpoint} takes connections"));
        };
        let how = match error.kind() {
            ErrorKind::ConnectionRefused => "refuses connections: no omni-nucleus listens there",
            ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                "does not answer: a firewall, or no host"
            }
            _ => "cannot be reached",
        };
        Finding::broken(CHECK, format!("{endpoint} is unreachable: {how} ({error})"))
            .why("nodes that are known from it alone are not found, and this one is not either")
            .fix(format!(
                "there: systemctl status omni-nucleus, and let TCP {} in",
                endpoint.port()
            ))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::host::fake::host;
    use super::super::subject::tests::udp;
    use super::*;

    fn config(switch: &str) -> Config {
        let text = format!(
            "fabric: f\nnode: {{name: a, private_key_file: k}}\nunderlay: {{interface: eth0}}\n\
             access: [{{interface: omni0}}]\n{switch}"
        );
        let key =
            |_: &std::path::Path| Ok(b"CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=".to_vec());
        omni_config::load_octets(std::path::Path::new("x"), text.as_bytes(), &key).unwrap()
    }

    #[test]
    fn a_way_is_judged_by_its_source_and_by_what_it_carries() {
        let source = "192.0.2.1".parse().unwrap();
        let endpoint = "192.0.2.2:51820".parse().unwrap();
        let judged = |mtu, full, addresses: &[IpAddr]| {
            let way = Ok(Way { source, mtu, full });
            judge("peer b", endpoint, &way, &config(""), &udp(), addresses)
        };
        assert_eq!(judged(Some(1500), Some(true), &[source]).level, Level::Fine);
        assert_eq!(judged(None, None, &[source]).level, Level::Fine);
        let small = judged(Some(1400), Some(false), &[source]);
        assert!(small.what.contains("carries 1400 octets"), "{}", small.what);
        assert!(small.fix.contains("access[].mtu: 1306"), "{}", small.fix);
        assert_eq!(judged(None, Some(false), &[source]).level, Level::Warning);
        let elsewhere = judged(Some(1500), Some(true), &[]);
        assert_eq!(elsewhere.level, Level::Broken);
        let none = Err(io::Error::from(ErrorKind::NetworkUnreachable));
        let lost = judge("peer b", endpoint, &none, &config(""), &udp(), &[source]);
        assert!(lost.what.contains("no route"), "{}", lost.what);
    }

    #[test]
    fn strict_reverse_paths_matter_with_two_ways_out() {
        let head = "Iface Destination Gateway Flags RefCnt Use Metric Mask\n";
        let look = |strict: &str, routes: &str| {
            let (_folder, host) = host(&[
                ("/proc/sys/net/ipv4/conf/all/rp_filter", "0\n"),
                ("/proc/sys/net/ipv4/conf/eth0/rp_filter", strict),
                ("/proc/net/route", &format!("{head}{routes}")),
            ]);
            reverse_path(&host, &config("")).level
        };
        let both =
            "eth0 00000000 0102000A 3 0 0 0 00000000\neth1 00000000 0102000B 3 0 0 0 00000000\n";
        assert_eq!(look("1\n", both), Level::Warning);
        assert_eq!(look("2\n", both), Level::Fine);
        assert_eq!(
            look("1\n", "eth0 00000000 0102000A 3 0 0 0 00000000\n"),
            Level::Fine
        );
    }

    #[test]
    fn a_nucleus_that_nobody_runs_is_named() {
        // A port that was just given up is nobody's.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap();
        let nucleus = format!(
            "nucleus: [{{endpoint: \"{endpoint}\", public_key: \
             \"hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\"}}]\n"
        );
        let config = config(&nucleus);
        assert_eq!(nuclei(&config)[0].level, Level::Fine);
        drop(listener);
        let gone = &nuclei(&config)[0];
        assert!(gone.what.contains("unreachable: refuses"), "{}", gone.what);
    }
}
