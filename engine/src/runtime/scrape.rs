//! What Prometheus is told: from what the control thread knows, and from what workers show by
//! themselves. No worker is asked, and nothing here waits for one.

use std::sync::Arc;
use std::time::Duration;

use omni_config::MetricsAt;
use omni_control::service::log;
use omni_control::service::metrics::{Families, Listener, Scrape, serve};
use omni_wire::Instant;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{EngineError, Node, report};
use crate::clock;
use crate::metrics::{QueueName, Snapshot, families};
use crate::stats::WorkerReport;

/// Whoever asks again within so long is told the same.
const FRESH: Duration = Duration::from_millis(500);
/// Scrapes that wait for the control thread.
const SCRAPES: usize = 4;

/// Where metrics are asked for, if anywhere.
#[derive(Debug)]
pub(super) struct Scrapes {
    asked: mpsc::Receiver<Scrape>,
    /// Ended, its socket goes.
    task: Option<JoinHandle<()>>,
    /// What was told last, and when.
    told: Option<(Instant, Families)>,
}

impl Drop for Scrapes {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Scrapes {
    /// Listens where the configuration says so.
    pub(super) fn listen(at: Option<&MetricsAt>) -> Result<Self, EngineError> {
        let (scrapes, asked) = mpsc::channel(SCRAPES);
        let listener = at.map(|at| match at {
            MetricsAt::Tcp(address) => {
                Listener::tcp(*address).map_err(|source| (address.to_string(), source))
            }
            MetricsAt::Unix(path) => {
                Listener::unix(path).map_err(|source| (path.display().to_string(), source))
            }
        });
        let listener = listener.transpose();
        let listener = listener.map_err(|(at, source)| EngineError::Metrics { at, source })?;
        Ok(Self {
            asked,
            task: listener.map(|listener| serve(listener, scrapes)),
            told: None,
        })
    }

    /// Who asks next; `None` at once where nobody can.
    pub(super) async fn next(&mut self) -> Option<Scrape> {
        self.asked.recv().await
    }
}

impl Node {
    /// Tells whoever asks.
    pub(super) async fn tell_metrics(&mut self, asking: Scrape) {
        let now = clock::instant();
        let told = self.scrapes.told.as_ref();
        let fresh = told.filter(|(at, _)| now.since(*at) < FRESH);
        let told = match fresh {
            Some((_, told)) => Arc::clone(told),
            None => {
                let told = Arc::new(families(&self.snapshot(now).await));
                self.scrapes.told = Some((now, Arc::clone(&told)));
                told
            }
        };
        // Who asked may be gone.
        let _ = asking.send(told);
    }

    async fn snapshot(&self, now: Instant) -> Snapshot {
        let shown = self.pulses.iter().filter_map(|pulse| pulse.seen().report);
        let reports: Vec<Arc<WorkerReport>> = shown.collect();
        let drops = self.all_drops(reports.iter().map(|report| &report.drops));
        let drops = drops.await;
        let macs = report::peer_macs(self);
        Snapshot {
            node: report::node(self, now),
            peers: report::peers(self, now).into_iter().zip(macs).collect(),
            nuclei: report::nuclei(self, now),
            switch: report::switch_counters(self, now, reports.iter().map(|it| &it.counted)),
            tables: self.plane.switch.sizes(),
            frozen: {
                let alarms = self.plane.switch.alarms();
                alarms.filter(|alarm| now < alarm.until).count()
            },
            handshakes: self.plane.ganglion.handshakes(),
            drops,
            recovery: self.recovery.counted,
            log_left_out: log::left_out(),
            workers: {
                let named = reports.into_iter().map(|report| {
                    let names = self.queue_names(&report);
                    (report, names)
                });
                named.collect()
            },
        }
    }

    fn queue_names(&self, report: &WorkerReport) -> Vec<QueueName> {
        let queues = report.queues.iter().map(|queue| {
            let counters = queue.counters;
            QueueName {
                port: self.ports.name_of(counters.port).to_owned(),
                mode: self.ports.mode_of(counters.port),
                stalls: self.recovery.stalls_of(counters.port, counters.queue),
            }
        });
        queues.collect()
    }
}
