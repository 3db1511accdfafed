//! From what one core does to how many cores a line takes.

use serde::Serialize;

use crate::in_memory::OVERHEAD;

/// Lines, in Gb/s.
pub(super) const LINES: [f64; 4] = [100.0, 200.0, 400.0, 800.0];
/// Octets that a frame takes on a wire beside its headers and payload: preamble 8, FCS 4, gap 12
/// (IEEE 802.3 s.3.1, s.4.4).
const WIRE: usize = 24;

/// What one core does, and how many of them each line takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Need {
    /// Octets of an inner frame.
    pub(super) octets: usize,
    /// Nanoseconds of a core for a frame out and a frame in.
    pub(super) egress_ns: f64,
    pub(super) ingress_ns: f64,
    /// Cores for a full line out, a full line in, and both at once, for each of [`LINES`].
    pub(super) cores: [Cores; LINES.len()],
}

/// Cores for one line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Cores {
    pub(super) line_gbps: f64,
    /// Millions of frames a second that fill the line in one direction.
    pub(super) frames_mpps: f64,
    pub(super) egress: f64,
    pub(super) ingress: f64,
    pub(super) both: f64,
}

/// Frames a second that fill a line with messages of inner frames this long.
fn frames_per_second(line_gbps: f64, octets: usize) -> f64 {
    line_gbps * 1e9 / ((octets + OVERHEAD + WIRE) as f64 * 8.0)
}

/// How many cores each line takes, when `linear` of a core's rate is left on each of many.
pub(super) fn need(octets: usize, egress_ns: f64, ingress_ns: f64, linear: f64) -> Need {
    let cores = LINES.map(|line_gbps| {
        let frames = frames_per_second(line_gbps, octets);
        let busy = |ns: f64| frames * ns * 1e-9 / linear;
        Cores {
            line_gbps,
            frames_mpps: frames / 1e6,
            egress: busy(egress_ns),
            ingress: busy(ingress_ns),
            both: busy(egress_ns + ingress_ns),
        }
    });
    Need {
        octets,
        egress_ns,
        ingress_ns,
        cores,
    }
}

/// What the numbers of cores rest on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Assumption {
    pub(super) says: &'static str,
    /// What was measured of it, and whether it holds; `None` where nothing here can tell.
    pub(super) checked: Option<Check>,
}

/// A measured ratio and what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Check {
    pub(super) ratio: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Check {
    pub(super) fn holds(self) -> bool {
        (self.least..=self.most).contains(&self.ratio)
    }
}

/// What nothing here can measure.
pub(super) const UNCHECKED: [&str; 4] = [
    "the driver and the card take no time of these cores: zero copy, rings on the same NUMA node",
    "receive queues get equal shares: many peers, or lanes with source ports of their own",
    "memory and the card's bus carry the line: frames come and go through the shared cache",
    "cores keep their clock when all of them run vector instructions, beyond those measured here",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_what_its_frames_take() {
        // 1500 octets on the wire at 100 Gb/s are 8.33 million frames a second.
        let octets = 1500 - OVERHEAD - WIRE;
        let need = need(octets, 600.0, 400.0, 1.0);
        let [line, .., widest] = need.cores;
        assert!((line.frames_mpps - 8.3333).abs() < 1e-3, "{line:?}");
        assert!((line.egress - 5.0).abs() < 1e-9 && (line.both - 8.3333).abs() < 1e-3);
        assert!((widest.both / line.both - 8.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_lost_to_others_has_to_be_made_up() {
        let (alone, shared) = (need(64, 100.0, 100.0, 1.0), need(64, 100.0, 100.0, 0.5));
        assert!((shared.cores[0].ingress / alone.cores[0].ingress - 2.0).abs() < 1e-9);
    }

    #[test]
    fn checks_hold_within_their_bounds() {
        let check = |ratio| Check {
            ratio,
            least: 0.9,
            most: 1.1,
        };
        assert!(check(0.9).holds() && check(1.1).holds());
        assert!(!check(0.89).holds() && !check(1.2).holds() && !check(f64::NAN).holds());
    }
}
