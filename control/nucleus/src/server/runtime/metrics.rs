//! Metrics in the text format of Prometheus, over HTTP/1.1. `GET /metrics` and nothing else.

use std::fmt::Write as _;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::timeout;
use tracing::debug;

use super::hub::Hub;
use crate::show::Status;

/// The longest request, in octets.
const REQUEST_MAX: usize = 8192;

/// How long a request and its answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most connections at once.
const CONNECTIONS: usize = 16;

/// What is measured and is no counter: name, meaning, value.
type Gauge = (&'static str, &'static str, fn(&Status) -> u64);

/// All of them.
const GAUGES: [Gauge; 8] = [
    ("uptime_seconds", "Since the server started.", |status| {
        status.uptime_seconds
    }),
    ("loaded", "1 once the store was read.", |status| {
        status.loaded.into()
    }),
    (
        "revision",
        "Everything up to this revision of the store is known.",
        |status| status.revision,
    ),
    ("connections", "Nodes that are connected here.", |status| {
        status.connections
    }),
    (
        "strangers",
        "Of those, not known to be members.",
        |status| status.strangers,
    ),
    ("members", "Registrations that are stored.", |status| {
        status.members
    }),
    ("bindings", "Addresses that somebody holds.", |status| {
        status.bindings
    }),
    ("pending", "Requests that wait for the store.", |status| {
        status.pending
    }),
];

/// What is counted, with its meaning.
const COUNTERS: [(&str, &str); 17] = [
    ("connected", "Nodes that connected."),
    ("closed", "Connections that were closed here."),
    ("messages", "Messages of nodes."),
    ("accepted", "Requests that were carried out."),
    ("refused", "Requests that were refused."),
    ("limited", "Requests, calls and messages beyond a limit."),
    ("moved", "Addresses that went from one node to another."),
    ("called", "Calls that were passed on."),
    ("commits", "Transactions that the store carried out."),
    (
        "conflicts",
        "Transactions that another server was ahead of.",
    ),
    ("store_errors", "Transactions and reads that failed."),
    ("garbage", "Items in the store that are no records."),
    ("loads", "Times that the store was read as a whole."),
    (
        "doubted",
        "Times that less than half of what was known was in the store, so that it was read again.",
    ),
    ("expired", "Records that were removed as they had expired."),
    ("reflected", "Probes for reflection that were answered."),
    (
        "turned_away",
        "Connections beyond those that may be without a handshake.",
    ),
];

/// All metrics.
fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, meaning: &str, kind: &str, value: u64| {
        let name = format!("omni_nucleus_{name}");
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "# HELP {name} {meaning}\n# TYPE {name} {kind}\n{name} {value}"
        );
    };
    for (name, meaning, value) in GAUGES {
        metric(name, meaning, "gauge", value(status));
    }
    for (name, meaning) in COUNTERS {
        let value = status.counters.get(name).copied().unwrap_or(0);
        metric(&format!("{name}_total"), meaning, "counter", value);
    }
    text
}

/// Serves metrics for ever.
pub(super) async fn serve(listener: TcpListener, hub: Rc<Hub>) {
    let all = Rc::new(());
    loop {
        match listener.accept().await {
            Ok(_) if Rc::strong_count(&all) > CONNECTIONS => {}
            Ok((stream, _)) => {
                let (hub, one) = (Rc::clone(&hub), Rc::clone(&all));
                spawn_local(async move {
                    let served = timeout(PATIENCE, respond(stream, &hub)).await;
                    if let Ok(Err(error)) = served {
                        debug!(%error, "a connection for metrics");
                    }
                    drop(one);
                });
            }
            Err(error) => {
                debug!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn respond(mut stream: TcpStream, hub: &Hub) -> io::Result<()> {
    let mut request = Vec::new();
    let ends = |request: &[u8]| request.windows(4).any(|four| four == b"\r\n\r\n");
    while !ends(&request) && request.len() < REQUEST_MAX {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let (code, body) = match is_for_metrics(&request) {
        true => ("200 OK", text(&hub.status())),
        false => ("404 Not Found", "see /metrics\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {code}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await
}

fn is_for_metrics(request: &[u8]) -> bool {
    let mut words = request.split(|octet| *octet == b' ');
    let path = (words.next(), words.next());
    path == (Some(b"GET"), Some(b"/metrics"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::core::Counters;

    /// The operator's page.
    const PAGE: &str = include_str!("../../../../../docs/nucleus.md");

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
    fn every_metric_has_a_row_on_the_operators_page() {
        let gauges = GAUGES
            .iter()
            .map(|(name, ..)| format!("omni_nucleus_{name}"));
        let counters = COUNTERS.iter();
        let counters = counters.map(|(name, _)| format!("omni_nucleus_{name}_total"));
        let named: Vec<_> = gauges.chain(counters).collect();
        for name in &named {
            assert!(PAGE.contains(&format!("| `{name}` |")), "{name}");
        }
        let rows = PAGE
            .lines()
            .filter(|line| line.starts_with("| `omni_nucleus_"));
        assert_eq!(rows.count(), named.len());
    }

    #[test]
    fn only_metrics_are_served() {
        assert!(is_for_metrics(b"GET /metrics HTTP/1.1\r\n\r\n"));
        for other in [
            "GET / HTTP/1.1\r\n\r\n",
            "POST /metrics HTTP/1.1\r\n\r\n",
            "",
        ] {
            assert!(!is_for_metrics(other.as_bytes()), "{other}");
        }
    }
}
