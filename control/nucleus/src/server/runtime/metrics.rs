//! What Prometheus is told of a server.

use std::rc::Rc;
use std::sync::Arc;

use omni_config::MetricsAt;
use omni_control::service::log;
use omni_control::service::metrics::{Desc, Family, Kind, Listener, Scrape, serve};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use super::error::RuntimeError;
use super::hub::Hub;
use crate::show::Status;

/// Scrapes that wait for the hub.
const SCRAPES: usize = 4;

/// Which server it is.
static BUILD: Desc = Desc {
    name: "omni_nucleus_build_info",
    kind: Kind::Info,
    labels: &["version", "fabric", "public_key"],
    help: "The server, and whose.",
};

/// What is so now, and is no counter.
type Gauge = (Desc, fn(&Status) -> u64);

const fn gauge(name: &'static str, help: &'static str) -> Desc {
    Desc {
        name,
        kind: Kind::Gauge,
        labels: &[],
        help,
    }
}

/// All of them.
static GAUGES: [Gauge; 9] = [
    (
        gauge("omni_nucleus_uptime_seconds", "Since the server started."),
        |status| status.uptime_seconds,
    ),
    (
        gauge("omni_nucleus_loaded", "1 once the store was read."),
        |status| status.loaded.into(),
    ),
    (
        gauge(
            "omni_nucleus_revision",
            "Everything up to this revision of the store is known.",
        ),
        |status| status.revision,
    ),
    (
        gauge("omni_nucleus_connections", "Nodes that are connected here."),
        |status| status.connections,
    ),
    (
        gauge(
            "omni_nucleus_strangers",
            "Of those, not known to be members.",
        ),
        |status| status.strangers,
    ),
    (
        gauge("omni_nucleus_members", "Registrations that are stored."),
        |status| status.members,
    ),
    (
        gauge("omni_nucleus_bindings", "Addresses that somebody holds."),
        |status| status.bindings,
    ),
    (
        gauge(
            "omni_nucleus_pending",
            "Requests that wait for the store. Growing: the store is too slow.",
        ),
        |status| status.pending,
    ),
    (
        gauge(
            "omni_nucleus_revocations",
            "Keys with certificates that were taken back.",
        ),
        |status| status.revocations,
    ),
];

const fn counter(name: &'static str, help: &'static str) -> Desc {
    Desc {
        name,
        kind: Kind::Counter,
        labels: &[],
        help,
    }
}

/// What is counted: by which name, and as what.
static COUNTERS: [(&str, Desc); 17] = [
    (
        "connected",
        counter("omni_nucleus_connected_total", "Nodes that connected."),
    ),
    (
        "closed",
        counter(
            "omni_nucleus_closed_total",
            "Connections that were closed here, for one of the limits.",
        ),
    ),
    (
        "messages",
        counter("omni_nucleus_messages_total", "Messages of nodes."),
    ),
    (
        "accepted",
        counter(
            "omni_nucleus_accepted_total",
            "Requests that were carried out.",
        ),
    ),
    (
        "refused",
        counter("omni_nucleus_refused_total", "Requests that were refused."),
    ),
    (
        "limited",
        counter(
            "omni_nucleus_limited_total",
            "Requests, calls and messages beyond a limit.",
        ),
    ),
    (
        "moved",
        counter(
            "omni_nucleus_moved_total",
            "Addresses that went from one node to another.",
        ),
    ),
    (
        "called",
        counter("omni_nucleus_called_total", "Calls that were passed on."),
    ),
    (
        "commits",
        counter(
            "omni_nucleus_commits_total",
            "Transactions that the store carried out.",
        ),
    ),
    (
        "conflicts",
        counter(
            "omni_nucleus_conflicts_total",
            "Transactions that another server was ahead of.",
        ),
    ),
    (
        "store_errors",
        counter(
            "omni_nucleus_store_errors_total",
            "Transactions and reads that failed.",
        ),
    ),
    (
        "garbage",
        counter(
            "omni_nucleus_garbage_total",
            "Items in the store that are no records: somebody else writes there.",
        ),
    ),
    (
        "loads",
        counter(
            "omni_nucleus_loads_total",
            "Times that the store was read as a whole.",
        ),
    ),
    (
        "doubted",
        counter(
            "omni_nucleus_doubted_total",
            "Times that the store had less than half of what was known, so that it was read again.",
        ),
    ),
    (
        "expired",
        counter(
            "omni_nucleus_expired_total",
            "Records that were removed as they had expired.",
        ),
    ),
    (
        "reflected",
        counter(
            "omni_nucleus_reflected_total",
            "Probes for reflection that were answered.",
        ),
    ),
    (
        "turned_away",
        counter(
            "omni_nucleus_turned_away_total",
            "Connections beyond those that may be without a handshake.",
        ),
    ),
];

/// Whether the last word on the store was that it fails.
static STORE_FAILS: Desc = gauge(
    "omni_nucleus_store_fails",
    "1 while the last word on the store is that it fails.",
);

/// Lines of the log left out.
static LOG_LEFT_OUT: Desc = counter(
    "omni_nucleus_log_left_out_total",
    "Lines of the log left out, as there were too many of one kind.",
);

/// All metrics.
fn families(status: &Status, store_fails: bool, log_left_out: u64) -> Vec<Family> {
    let mut build = Family::new(&BUILD);
    let version = env!("CARGO_PKG_VERSION");
    build.add([version, &status.fabric, &status.public_key], true);
    let mut families = vec![build];
    let gauges = GAUGES.iter();
    families.extend(gauges.map(|(desc, value)| Family::one(desc, value(status))));
    families.push(Family::one(&STORE_FAILS, store_fails));
    families.extend(COUNTERS.iter().map(|(name, desc)| {
        let value = status.counters.get(*name).copied().unwrap_or(0);
        Family::one(desc, value)
    }));
    families.push(Family::one(&LOG_LEFT_OUT, log_left_out));
    families
}

/// Serves metrics from now on.
///
/// # Errors
/// `Metrics`.
pub(super) fn listen(at: &MetricsAt, hub: &Rc<Hub>) -> Result<(), RuntimeError> {
    let (name, listener) = match at {
        MetricsAt::Tcp(address) => (address.to_string(), Listener::tcp(*address)),
        MetricsAt::Unix(path) => (path.display().to_string(), Listener::unix(path)),
    };
    let listener = listener.map_err(|source| RuntimeError::Metrics { at: name, source })?;
    let (scrapes, asked) = mpsc::channel(SCRAPES);
    // Both end with the runtime.
    drop(serve(listener, scrapes));
    spawn_local(tell(asked, Rc::clone(hub)));
    Ok(())
}

/// Tells whoever asks, for ever.
async fn tell(mut asked: mpsc::Receiver<Scrape>, hub: Rc<Hub>) {
    while let Some(asking) = asked.recv().await {
        let told = families(&hub.status(), hub.store_fails(), log::left_out());
        // Who asked may be gone.
        let _ = asking.send(Arc::new(told));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::core::Counters;

    /// The operator's page.
    const PAGE: &str = include_str!("../../../../../docs/metrics.md");

    fn status() -> Status {
        Status {
            fabric: "lab".to_owned(),
            public_key: "KEY".to_owned(),
            uptime_seconds: 1,
            loaded: true,
            incarnation: "00".to_owned(),
            revision: 2,
            connections: 3,
            strangers: 4,
            members: 5,
            bindings: 6,
            revocations: 7,
            pending: 8,
            counters: Counters::default().named(),
        }
    }

    #[test]
    fn all_that_is_counted_is_a_metric() {
        let known: Vec<&str> = COUNTERS.iter().map(|(name, _)| *name).collect();
        let counted = Counters::default().named();
        assert!(counted.keys().all(|name| known.contains(&name.as_str())));
        assert_eq!(
            counted.len() + 2,
            known.len(),
            "and what the runtime counts"
        );
    }

    #[test]
    fn every_metric_has_a_row_on_the_operators_page_and_every_row_is_one() {
        let rows: Vec<&str> = PAGE
            .lines()
            .filter(|line| line.starts_with("| `omni_nucleus_"))
            .collect();
        let told = families(&status(), false, 0);
        let want: Vec<String> = told.iter().map(|family| row(family.desc)).collect();
        assert_eq!(
            rows,
            want,
            "docs/metrics.md should have:\n{}",
            want.join("\n")
        );
    }

    /// A metric's row of the page.
    fn row(desc: &Desc) -> String {
        let (name, kind, labels) = (desc.name, desc.kind.as_str(), desc.labels.join(", "));
        format!("| `{name}` | {kind} | {labels} | {} |", desc.help)
    }
}
