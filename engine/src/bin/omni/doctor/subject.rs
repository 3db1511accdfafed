//! What `omni doctor` looks at: a configuration, its underlay, and the engine if one runs.

use std::net::SocketAddr;

use omni_config::{Config, Queues, ZeroCopy};
use omni_control::netlink::Link;
use omni_engine::show::Show;
use omni_engine::ways::{Seen, Way, Ways};

/// All of it; what is not there is `None`.
pub(super) struct Subject<'a> {
    pub(super) config: Option<&'a Config>,
    pub(super) link: Option<&'a Link>,
    pub(super) seen: Option<&'a Seen>,
    pub(super) ways: Option<Ways>,
    pub(super) engine: Option<&'a Engine>,
}

/// An engine that answered.
pub(super) struct Engine {
    pub(super) pid: Option<u32>,
    pub(super) show: Show,
}

impl Subject<'_> {
    /// Whether messages are received by AF_XDP; it is taken for granted where it is not known.
    pub(super) fn uses_afxdp(&self) -> bool {
        self.ways.is_none_or(|ways| ways.receive.way == Way::Afxdp)
    }

    /// Whether the engine refuses to start without zero copy.
    pub(super) fn wants_zero_copy(&self) -> bool {
        let underlay = self.config.map(|config| &config.underlay);
        underlay.is_some_and(|underlay| underlay.zero_copy == ZeroCopy::On)
    }

    /// The underlay's queues that are served.
    pub(super) fn queues(&self) -> u64 {
        match self.config.map(|config| &config.underlay.queues) {
            Some(Queues::List(queues)) => queues.len() as u64,
            _ => self.seen.map_or(1, |seen| u64::from(seen.queues)),
        }
    }

    /// Whose limits count, as a folder of `/proc`: the engine's, or this one's in its place.
    pub(super) fn process(&self) -> String {
        let pid = self.engine.and_then(|engine| engine.pid);
        pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string())
    }

    /// Where peers and Nuclei are, with their names.
    pub(super) fn endpoints(&self) -> Vec<(String, SocketAddr)> {
        let Some(config) = self.config else {
            return Vec::new();
        };
        let peers = config
            .peers
            .iter()
            .filter_map(|peer| Some((format!("peer {}", peer.name), peer.endpoint?)));
        let nuclei = config
            .nucleus
            .iter()
            .map(|nucleus| (format!("Nucleus {}", nucleus.endpoint), nucleus.endpoint));
        peers.chain(nuclei).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use omni_engine::ways::Choice;

    use super::*;

    static JUMBO: LazyLock<Link> = LazyLock::new(|| Link {
        mtu: 9000,
        ..Link::default()
    });

    fn ways(way: Way) -> Ways {
        let choice = Choice { way, why: "" };
        Ways {
            receive: choice,
            send: choice,
        }
    }

    fn nothing() -> Subject<'static> {
        Subject {
            config: None,
            link: None,
            seen: None,
            ways: None,
            engine: None,
        }
    }

    pub(in super::super) fn afxdp() -> Subject<'static> {
        Subject {
            ways: Some(ways(Way::Afxdp)),
            ..nothing()
        }
    }

    pub(in super::super) fn udp() -> Subject<'static> {
        Subject {
            ways: Some(ways(Way::Udp)),
            ..nothing()
        }
    }

    pub(in super::super) fn jumbo() -> Subject<'static> {
        Subject {
            link: Some(&JUMBO),
            ..afxdp()
        }
    }
}
