//! The tables: their columns and rows, and their order. Pure.

use std::cmp::Ordering;

use omni_engine::show::{PeerView, PortView, QueueView, Show};
use omni_engine::stages::{NodeStages, QueueStages};
use omni_engine::stats::Percentiles;

use super::model::{Model, Order, Page};
use crate::rates::{Flow, Rates};
use crate::render::{self, meaning};
use crate::table::{Tone, printable};
use crate::units::{ago, bits, count, latency, octets, rate};

/// A column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// Its heading.
    pub(super) title: &'static str,
    /// How wide it is, in characters; the last column that is shown gets what is left.
    pub(super) width: u16,
    /// Whether it has numbers: they stand on the right, and the greatest come first.
    pub(super) is_number: bool,
    /// The narrowest screen that it is shown on.
    pub(super) from: u16,
}

const fn text(title: &'static str, width: u16) -> Head {
    Head {
        title,
        width,
        is_number: false,
        from: 0,
    }
}

const fn number(title: &'static str, width: u16) -> Head {
    Head {
        is_number: true,
        ..text(title, width)
    }
}

impl Head {
    const fn from(self, from: u16) -> Self {
        Self { from, ..self }
    }
}

const PEERS: &[Head] = &[
    text("peer", 16),
    text("state", 11),
    number("rx bit/s", 9),
    number("rx/s", 7),
    number("tx bit/s", 9),
    number("tx/s", 7),
    text("handshake", 10),
    number("rx", 8).from(100),
    number("tx", 8).from(100),
    number("limit", 5).from(100),
    text("endpoint", 28).from(130),
];

const QUEUES: &[Head] = &[
    text("port", 15),
    number("queue", 5),
    number("worker", 6),
    number("core", 4),
    text("mode", 8),
    number("rx/s", 7),
    number("tx/s", 7),
    number("p50", 8),
    number("p99", 8),
    number("stalls", 6).from(92),
    number("p99.9", 8).from(101),
    number("max", 8).from(110),
    number("rx", 8).from(128),
    number("tx", 8).from(128),
    text("copy", 9).from(138),
];

const PORTS: &[Head] = &[
    text("port", 15),
    text("side", 8),
    text("mode", 8),
    text("state", 5),
    number("mtu", 5),
    number("rx bit/s", 9),
    number("tx bit/s", 9),
    number("drops/s", 7),
    number("rx/s", 7).from(92),
    number("tx/s", 7).from(92),
    number("dropped", 7).from(100),
    text("driver", 10).from(112),
    text("vlans", 20).from(132),
];

const DROPS: &[Head] = &[
    text("reason", 24),
    number("count", 8),
    number("per s", 7),
    text("meaning", 38),
];

/// The columns of a page; none where it is no table.
pub(super) const fn heads(page: Page) -> &'static [Head] {
    match page {
        Page::Overview => &[],
        Page::Peers => PEERS,
        Page::Queues => QUEUES,
        Page::Ports => PORTS,
        Page::Drops => DROPS,
    }
}

/// How a page is ordered until somebody wants it otherwise: what is busiest comes first, but
/// interfaces and queues stay in their places.
pub(super) const fn first_order(page: Page) -> Order {
    let (column, falling) = match page {
        Page::Peers => (2, true),
        Page::Drops => (2, true),
        Page::Overview | Page::Queues | Page::Ports => (0, false),
    };
    Order { column, falling }
}

/// What stands in a place, and what it is ordered by.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Cell {
    /// As it is read.
    pub(super) text: String,
    /// How it stands out.
    pub(super) tone: Tone,
    /// Numbers come before texts.
    key: Key,
}

#[derive(Clone, PartialEq, Debug)]
enum Key {
    Number(f64),
    Text(String),
}

impl Cell {
    fn text(text: &str) -> Self {
        Self::toned(text, Tone::Plain)
    }

    fn toned(text: &str, tone: Tone) -> Self {
        let text = printable(text);
        let key = Key::Text(text.clone());
        Self { text, tone, key }
    }

    fn number(value: f64, text: String) -> Self {
        let tone = if value == 0.0 { Tone::Dim } else { Tone::Plain };
        let key = Key::Number(value);
        Self { text, tone, key }
    }

    /// Less than every number.
    fn absent() -> Self {
        Self {
            text: "-".to_owned(),
            tone: Tone::Dim,
            key: Key::Number(-1.0),
        }
    }

    fn per_second(value: Option<f64>, write: fn(f64) -> String) -> Self {
        value.map_or_else(Self::absent, |value| Self::number(value, write(value)))
    }

    /// What should not be there: it stands out where it is.
    fn alarming(self) -> Self {
        match self.key {
            Key::Number(value) if value > 0.0 => Self {
                tone: Tone::Alarm,
                ..self
            },
            _ => self,
        }
    }

    fn count(value: u64) -> Self {
        Self::number(value as f64, count(value))
    }

    fn octets(value: u64) -> Self {
        Self::number(value as f64, octets(value))
    }

    fn plain(value: Option<u64>) -> Self {
        value.map_or_else(Self::absent, |value| Self {
            tone: Tone::Plain,
            ..Self::number(value as f64, value.to_string())
        })
    }

    fn latency(seen: &Percentiles, of: fn(&Percentiles) -> u64) -> Self {
        match seen.count {
            0 => Self::absent(),
            _ => Self::number(of(seen) as f64, latency(of(seen))),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (&self.key, &other.key) {
            (Key::Number(one), Key::Number(two)) => one.total_cmp(two),
            (Key::Text(one), Key::Text(two)) => one.cmp(two),
            (Key::Number(_), Key::Text(_)) => Ordering::Less,
            (Key::Text(_), Key::Number(_)) => Ordering::Greater,
        }
    }
}

/// A row, and the name by which it is known from one reading to the next.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) cells: Vec<Cell>,
}

/// A table.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Grid {
    pub(super) heads: &'static [Head],
    pub(super) rows: Vec<Row>,
}

impl Grid {
    /// Puts the rows in order; those that are equal there stay as they were.
    pub(super) fn sort(&mut self, order: Order) {
        self.rows.sort_by(|one, other| {
            let cells = one
                .cells
                .get(order.column)
                .zip(other.cells.get(order.column));
            let by_cell = cells.map_or(Ordering::Equal, |(one, other)| one.order(other));
            match order.falling {
                true => by_cell.reverse(),
                false => by_cell,
            }
        });
    }
}

/// The table of the page that is looked at, in the engine's order.
pub(super) fn of(model: &Model) -> Option<Grid> {
    let show = &model.shown.as_ref()?.show;
    let rates = model.rates.as_ref();
    let heads = heads(model.page);
    let rows = match model.page {
        Page::Overview => return None,
        Page::Peers => show
            .peers
            .iter()
            .map(|peer| peer_row(peer, rates))
            .collect(),
        Page::Queues => {
            let stages = model.stages.as_ref();
            let queues = show.queues.iter();
            queues
                .map(|queue| queue_row(queue, rates, stages))
                .collect()
        }
        Page::Ports => show
            .ports
            .iter()
            .map(|port| port_row(port, rates))
            .collect(),
        Page::Drops => drop_rows(show, rates),
    };
    Some(Grid { heads, rows })
}

/// The traffic of a row.
pub(super) fn flow(page: Page, rates: &Rates, name: &str) -> Option<Flow> {
    match page {
        Page::Peers => rates.peers.get(name).copied(),
        Page::Ports => rates.ports.get(name).copied(),
        Page::Queues => {
            let mut queues = rates.queues.iter();
            let found = queues.find(|((port, queue), _)| queue_name(port, *queue) == name);
            found.map(|(_, flow)| *flow)
        }
        Page::Overview | Page::Drops => None,
    }
}

/// What a queue is called.
pub(super) fn queue_name(port: &str, queue: u32) -> String {
    format!("{port} queue {queue}")
}

/// How long the frames of a queue took; of all since the start where nothing newer is known.
pub(super) fn through(queue: &QueueView, stages: Option<&NodeStages>) -> Percentiles {
    let found = stages.and_then(|stages| stages_of(queue, stages));
    found.map_or(queue.latency_ns, |found| found.through.percentiles())
}

/// The stages of a queue.
pub(super) fn stages_of<'a>(queue: &QueueView, stages: &'a NodeStages) -> Option<&'a QueueStages> {
    let mut all = stages.workers.iter().flat_map(|worker| &worker.queues);
    all.find(|one| one.port == queue.port && one.queue == queue.queue)
}

/// A peer's state, in a word.
pub(super) fn state_of(peer: &PeerView) -> (&str, Tone) {
    match peer.state.as_str() {
        _ if peer.throttled => ("throttled", Tone::Alarm),
        "established" => ("established", Tone::Good),
        "handshaking" => ("handshaking", Tone::Warning),
        other => (other, Tone::Dim),
    }
}

fn peer_row(peer: &PeerView, rates: Option<&Rates>) -> Row {
    let flow = rates.and_then(|rates| rates.peers.get(&peer.public_key));
    let (state, tone) = state_of(peer);
    let handshake = peer
        .last_handshake_seconds
        .map_or_else(Cell::absent, |age| Cell::number(age as f64, ago(age)));
    Row {
        name: peer.public_key.clone(),
        cells: vec![
            Cell::text(&render::peer_name(peer)),
            Cell::toned(state, tone),
            Cell::per_second(flow.map(|flow| flow.in_bits), bits),
            Cell::per_second(flow.map(|flow| flow.in_frames), rate),
            Cell::per_second(flow.map(|flow| flow.out_bits), bits),
            Cell::per_second(flow.map(|flow| flow.out_frames), rate),
            handshake,
            Cell::octets(peer.rx_bytes),
            Cell::octets(peer.tx_bytes),
            Cell::plain(peer.frame_limit.map(u64::from)),
            peer.endpoint
                .as_ref()
                .map_or_else(Cell::absent, |endpoint| Cell::text(endpoint)),
        ],
    }
}

fn queue_row(queue: &QueueView, rates: Option<&Rates>, stages: Option<&NodeStages>) -> Row {
    let key = (queue.port.clone(), queue.queue);
    let flow = rates.and_then(|rates| rates.queues.get(&key));
    let seen = through(queue, stages);
    Row {
        name: queue_name(&queue.port, queue.queue),
        cells: vec![
            Cell::text(&queue.port),
            Cell::plain(Some(u64::from(queue.queue))),
            Cell::plain(Some(queue.worker as u64)),
            Cell::plain(queue.core.map(|core| core as u64)),
            Cell::text(&queue.mode),
            Cell::per_second(flow.map(|flow| flow.in_frames), rate),
            Cell::per_second(flow.map(|flow| flow.out_frames), rate),
            Cell::latency(&seen, |seen| seen.p50),
            Cell::latency(&seen, |seen| seen.p99),
            Cell::count(queue.stalls).alarming(),
            Cell::latency(&seen, |seen| seen.p999),
            Cell::latency(&seen, |seen| seen.max),
            Cell::count(queue.rx_frames),
            Cell::count(queue.tx_frames),
            Cell::text(&queue.copy.replace('_', "-")),
        ],
    }
}

fn port_row(port: &PortView, rates: Option<&Rates>) -> Row {
    let flow = rates.and_then(|rates| rates.ports.get(&port.name));
    let dropped = rates.and_then(|rates| rates.port_drops.get(&port.name));
    Row {
        name: port.name.clone(),
        cells: vec![
            Cell::text(&port.name),
            Cell::text(&port.side),
            Cell::text(&port.mode),
            Cell::toned(&port.state, render::port_tone(&port.state)),
            Cell::plain(Some(u64::from(port.mtu))),
            Cell::per_second(flow.map(|flow| flow.in_bits), bits),
            Cell::per_second(flow.map(|flow| flow.out_bits), bits),
            Cell::per_second(dropped.copied(), rate).alarming(),
            Cell::per_second(flow.map(|flow| flow.in_frames), rate),
            Cell::per_second(flow.map(|flow| flow.out_frames), rate),
            Cell::count(port.rx_dropped.saturating_add(port.tx_dropped)),
            Cell::text(&render::driver(port)),
            port.vlans
                .as_ref()
                .map_or_else(Cell::absent, |vlans| Cell::text(vlans)),
        ],
    }
}

/// A row for each reason that occurred.
pub(super) fn drop_rows(show: &Show, rates: Option<&Rates>) -> Vec<Row> {
    let drops = show.drops.iter();
    drops
        .map(|(reason, &count)| {
            let now = rates.and_then(|rates| rates.drops.get(reason));
            Row {
                name: reason.clone(),
                cells: vec![
                    Cell::text(reason),
                    Cell::count(count),
                    Cell::per_second(now.copied(), rate).alarming(),
                    Cell::text(meaning(reason)),
                ],
            }
        })
        .collect()
}
