//! The section of the queues: what each carried, how long that took, and what did not go on.

use omni_engine::show::{QueueView, RecoveryView};
use omni_engine::stats::Percentiles;

use super::{Body, Section};
use crate::table::{Cell, Column, Tone};
use crate::units::{count, latency, rate};

impl Body<'_> {
    pub(super) fn queues(self, queues: &[QueueView]) -> String {
        const COLUMNS: &[Column] = &[
            Column::right("worker"),
            Column::right("core"),
            Column::left("port").key(),
            Column::right("queue").key(),
            Column::left("mode"),
            Column::right("rx"),
            Column::right("tx"),
            Column::right("rx/s"),
            Column::right("tx/s"),
            Column::right("measured").fold(),
            Column::right("p50"),
            Column::right("p90"),
            Column::right("p99"),
            Column::right("p99.9"),
            Column::right("p99.99"),
            Column::right("max"),
        ];
        if queues.is_empty() {
            return self.line(Tone::Dim, "no queues");
        }
        let columns: Vec<_> = COLUMNS
            .iter()
            .filter(|column| self.view.rates.is_some() || !column.is_rate())
            .copied()
            .collect();
        self.table(&columns, queues, Section::Queues, |queue| {
            let key = (queue.port.clone(), queue.queue);
            let flow = self.view.rates.map(|rates| rates.queues.get(&key));
            let per_second = flow.map(|flow| match flow {
                Some(flow) => [flow.in_frames, flow.out_frames].map(|it| rate(it).into()),
                None => [Cell::absent(), Cell::absent()],
            });
            let carried = [
                queue.worker.to_string().into(),
                queue
                    .core
                    .map_or_else(Cell::absent, |core| core.to_string().into()),
                (&queue.port).into(),
                queue.queue.to_string().into(),
                format!("{}, {}", queue.mode, queue.copy.replace('_', "-")).into(),
                count(queue.rx_frames).into(),
                count(queue.tx_frames).into(),
            ];
            let carried = carried.into_iter().chain(per_second.into_iter().flatten());
            carried.chain(latencies(&queue.latency_ns))
        })
    }

    /// What did not go on; nothing when all did.
    pub(super) fn recovery(self, recovery: &RecoveryView) -> String {
        let counts = [
            (recovery.worker_stalls, "times a worker did not come round"),
            (recovery.queue_stalls, "times a queue stood still"),
            (recovery.reopened, "times sockets were made anew"),
            (recovery.reattached, "programs attached again"),
        ];
        let counts = counts.iter().filter(|(times, _)| *times > 0);
        let counts: Vec<String> = counts
            .map(|(times, what)| format!("{} {what}", count(*times)))
            .collect();
        if counts.is_empty() {
            return String::new();
        }
        self.line(Tone::Warning, &counts.join(", "))
    }
}

/// How many were measured and the percentiles, or nothing where nothing was.
pub(crate) fn latencies(seen: &Percentiles) -> Vec<Cell> {
    if seen.count == 0 {
        return vec![Cell::absent(); 7];
    }
    let times = [
        seen.p50, seen.p90, seen.p99, seen.p999, seen.p9999, seen.max,
    ];
    let times = times.map(|time| latency(time).into());
    std::iter::once(count(seen.count).into())
        .chain(times)
        .collect()
}
