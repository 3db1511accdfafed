//! What happened between two readings of an engine, by the second. Pure: two readings in, rates
//! out.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use omni_engine::show::{PeerView, PortView, QueueView, Show};
use omni_engine::stages::NodeStages;

use crate::client::{self, ClientError};
use crate::report;

/// How much less than the time between two readings an engine may have aged, in seconds: both ages
/// are cut to whole seconds, and answers are not given at once.
const AGE_SLACK: f64 = 3.0;

/// What an engine said, and when.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// When it had answered.
    pub(crate) at: Instant,
    /// Its state.
    pub(crate) show: Show,
    /// How long its frames took; `None` where that was not asked.
    pub(crate) stages: Option<NodeStages>,
}

impl Reading {
    /// Asks for the state alone.
    pub(crate) fn state(path: &Path) -> Result<Self, ClientError> {
        let show = client::show(path)?;
        Ok(Self {
            at: Instant::now(),
            show,
            stages: None,
        })
    }

    /// Asks for the state, and for how long frames take.
    pub(crate) fn whole(path: &Path) -> Result<Self, ClientError> {
        let reading = Self::state(path)?;
        // An engine that went away between the two is noticed by the next reading.
        let stages = client::stages(path).ok();
        Ok(Self { stages, ..reading })
    }

    /// Whether the engine was started again since `earlier`: its counts began anew.
    pub(crate) fn is_another_run(&self, earlier: &Self) -> bool {
        let (now, then) = (&self.show.node, &earlier.show.node);
        let between = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        let aged = now.uptime_seconds as f64 - then.uptime_seconds as f64;
        now.public_key != then.public_key || aged < 0.0 || aged + AGE_SLACK < between
    }
}

/// Traffic, per second. In is into the engine: from the wire or from hosts where a port or queue
/// has it, from the peer where a peer has it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Flow {
    /// Frames received.
    pub(crate) in_frames: f64,
    /// Their bits; 0 where octets are not counted.
    pub(crate) in_bits: f64,
    /// Frames sent.
    pub(crate) out_frames: f64,
    /// Their bits.
    pub(crate) out_bits: f64,
}

impl Flow {
    fn plus(self, other: Self) -> Self {
        Self {
            in_frames: self.in_frames + other.in_frames,
            in_bits: self.in_bits + other.in_bits,
            out_frames: self.out_frames + other.out_frames,
            out_bits: self.out_bits + other.out_bits,
        }
    }
}

/// All rates of a node.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Rates {
    /// Over how long, in seconds.
    pub(crate) seconds: f64,
    /// With all peers together.
    pub(crate) total: Flow,
    /// By public key.
    pub(crate) peers: BTreeMap<String, Flow>,
    /// By interface and number; frames alone.
    pub(crate) queues: BTreeMap<(String, u32), Flow>,
    /// By interface.
    pub(crate) ports: BTreeMap<String, Flow>,
    /// Of each interface, what it dropped either way.
    pub(crate) port_drops: BTreeMap<String, f64>,
    /// By reason.
    pub(crate) drops: BTreeMap<String, f64>,
}

/// Frames and octets: received, received, sent, sent.
type Counts = [u64; 4];

impl Rates {
    /// What happened from `earlier` to `later`. `None` when there is no telling: no time passed, or
    /// the engine was started again. What counts less than before was made anew and has no rate;
    /// what was not there before began at nothing.
    pub(crate) fn between(earlier: &Reading, later: &Reading) -> Option<Self> {
        let between = later.at.saturating_duration_since(earlier.at);
        if between < Duration::from_millis(1) || later.is_another_run(earlier) {
            return None;
        }
        let seconds = between.as_secs_f64();
        let (then, now) = (&earlier.show, &later.show);
        let peers = flows(&then.peers, &now.peers, seconds, |peer: &PeerView| {
            let counts = [peer.rx_frames, peer.rx_bytes, peer.tx_frames, peer.tx_bytes];
            (peer.public_key.clone(), counts)
        });
        Some(Self {
            seconds,
            total: peers.values().copied().fold(Flow::default(), Flow::plus),
            peers,
            queues: flows(&then.queues, &now.queues, seconds, |queue: &QueueView| {
                let key = (queue.port.clone(), queue.queue);
                (key, [queue.rx_frames, 0, queue.tx_frames, 0])
            }),
            ports: flows(&then.ports, &now.ports, seconds, |port: &PortView| {
                let counts = [port.rx_frames, port.rx_bytes, port.tx_frames, port.tx_bytes];
                (port.name.clone(), counts)
            }),
            port_drops: drops(&port_drops(then), &port_drops(now), seconds),
            drops: drops(&then.drops, &now.drops, seconds),
        })
    }

    /// All drops together.
    pub(crate) fn dropped(&self) -> f64 {
        self.drops.values().sum()
    }
}

/// How long frames took from `earlier` to `later`; since the start where that cannot be told.
pub(crate) fn stages_between(earlier: Option<&Reading>, later: &Reading) -> Option<NodeStages> {
    let now = later.stages.as_ref()?;
    let then = earlier.filter(|earlier| !later.is_another_run(earlier));
    let between = then
        .and_then(|earlier| earlier.stages.as_ref())
        .and_then(|then| report::since(now, then));
    Some(between.unwrap_or_else(|| now.clone()))
}

fn flows<T, K: Ord>(
    then: &[T],
    now: &[T],
    seconds: f64,
    counts: impl Fn(&T) -> (K, Counts),
) -> BTreeMap<K, Flow> {
    let then: BTreeMap<K, Counts> = then.iter().map(&counts).collect();
    let now = now.iter().map(counts);
    now.filter_map(|(key, now)| {
        let then = then.get(&key).copied().unwrap_or_default();
        let mut rates = [0.0; 4];
        for (n, rate) in rates.iter_mut().enumerate() {
            *rate = now[n].checked_sub(then[n])? as f64 / seconds;
        }
        let [in_frames, in_octets, out_frames, out_octets] = rates;
        let flow = Flow {
            in_frames,
            in_bits: in_octets * 8.0,
            out_frames,
            out_bits: out_octets * 8.0,
        };
        Some((key, flow))
    })
    .collect()
}

fn port_drops(show: &Show) -> BTreeMap<String, u64> {
    let ports = show.ports.iter();
    ports
        .map(|port| {
            let dropped = port.rx_dropped.saturating_add(port.tx_dropped);
            (port.name.clone(), dropped)
        })
        .collect()
}

fn drops(
    then: &BTreeMap<String, u64>,
    now: &BTreeMap<String, u64>,
    seconds: f64,
) -> BTreeMap<String, f64> {
    let now = now.iter();
    now.filter_map(|(what, count)| {
        let before = then.get(what).copied().unwrap_or_default();
        Some((what.clone(), count.checked_sub(before)? as f64 / seconds))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::tests::sample;

    fn reading(start: Instant, milliseconds: u64, uptime_seconds: u64) -> Reading {
        let mut show = sample();
        show.node.uptime_seconds = uptime_seconds;
        Reading {
            at: start + Duration::from_millis(milliseconds),
            show,
            stages: None,
        }
    }

    #[test]
    fn rates_are_differences_by_the_second_and_bits_are_eight_to_the_octet() {
        let start = Instant::now();
        let (then, mut now) = (reading(start, 0, 100), reading(start, 2_000, 102));
        let beta = &mut now.show.peers[0];
        (beta.rx_frames, beta.rx_bytes) = (beta.rx_frames + 20, beta.rx_bytes + 2_000);
        let key = beta.public_key.clone();
        now.show.queues[0].tx_frames += 7;
        now.show.drops.insert("bad_tag".to_owned(), 3 + 10);
        now.show.drops.insert("nonce_replayed".to_owned(), 1);
        now.show.ports[0].rx_dropped += 4;
        let rates = Rates::between(&then, &now).expect("two seconds passed");
        assert_eq!(rates.seconds, 2.0);
        assert_eq!(rates.peers[&key].in_frames, 10.0);
        assert_eq!(rates.peers[&key].in_bits, 8_000.0);
        assert_eq!(rates.total, rates.peers[&key]);
        assert_eq!(rates.queues[&("eth0".to_owned(), 0)].out_frames, 3.5);
        assert_eq!(rates.drops["bad_tag"], 5.0);
        assert_eq!(rates.drops["nonce_replayed"], 0.5);
        assert_eq!(rates.drops["vlan_invalid"], 0.0);
        assert_eq!(rates.port_drops["eth0"], 2.0);
        assert_eq!(rates.dropped(), 5.5);
    }

    #[test]
    fn an_engine_that_was_started_again_has_no_rates_and_is_known_by_its_age() {
        let start = Instant::now();
        let before = reading(start, 0, 100);
        let younger = reading(start, 1_000, 1);
        assert!(younger.is_another_run(&before));
        assert_eq!(Rates::between(&before, &younger), None);
        // Older than it was, and still another: an hour passed and it aged ten minutes.
        let hour = reading(start, 3_600_000, 700);
        assert!(hour.is_another_run(&before));
        let mut other = reading(start, 1_000, 101);
        assert!(!other.is_another_run(&before));
        other.show.node.public_key = "another".to_owned();
        assert!(other.is_another_run(&before));
        assert_eq!(Rates::between(&before, &before), None, "no time passed");
    }

    #[test]
    fn what_counts_less_than_before_has_no_rate_and_what_is_new_began_at_nothing() {
        let start = Instant::now();
        let (mut then, mut now) = (reading(start, 0, 100), reading(start, 1_000, 101));
        now.show.peers[0].rx_frames -= 1;
        let gamma = then.show.peers.remove(1);
        now.show.peers[1].tx_frames = 9;
        now.show.drops.insert("bad_tag".to_owned(), 1);
        let rates = Rates::between(&then, &now).expect("a second passed");
        assert_eq!(rates.peers.len(), 1, "beta was made anew");
        assert_eq!(rates.peers[&gamma.public_key].out_frames, 9.0);
        assert!(!rates.drops.contains_key("bad_tag"));
    }
}
