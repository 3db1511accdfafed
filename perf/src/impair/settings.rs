//! What is done to frames, each way.

use std::str::FromStr;

use serde::Serialize;

use crate::workload::{parse_octets, parse_share};

/// What applies to both ways, or to each its own: `VALUE` or `A_TO_B:B_TO_A`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Both<T> {
    pub(super) a_to_b: T,
    pub(super) b_to_a: T,
}

/// As they are typed.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    /// Microseconds from a frame's arrival, or from when the rate lets it go, until it is sent on:
    /// up to 10 s. Like all of these, `A_TO_B:B_TO_A` where both ways are not alike.
    #[arg(long, default_value = "0", value_name = "US[:US]", value_parser = parse_us)]
    delay_us: Both<u64>,
    /// Up to so many microseconds more, evenly. Frames stay in order.
    #[arg(long, default_value = "0", value_name = "US[:US]", value_parser = parse_us)]
    jitter_us: Both<u64>,
    /// Share of frames that are lost.
    #[arg(long, default_value = "0", value_name = "P[:P]", value_parser = parse_shares)]
    loss: Both<f64>,
    /// Share of frames that come twice.
    #[arg(long, default_value = "0", value_name = "P[:P]", value_parser = parse_shares)]
    duplicate: Both<f64>,
    /// Share of frames that are sent without delay, and so overtake others.
    #[arg(long, default_value = "0", value_name = "P[:P]", value_parser = parse_shares)]
    reorder: Both<f64>,
    /// Bits a second of frames without preamble and checksum: 1000 or more; 0 is no limit.
    #[arg(long, default_value = "0", value_name = "BPS[:BPS]", value_parser = parse_rate)]
    rate_bps: Both<u64>,
    /// Octets that wait for the rate at most; what comes beyond is dropped.
    #[arg(long, default_value = "256K", value_name = "OCTETS[:OCTETS]",
        value_parser = parse_queue)]
    queue_octets: Both<u64>,
}

/// What is done to frames one way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Impairment {
    pub(super) delay_us: u64,
    pub(super) jitter_us: u64,
    pub(super) loss: f64,
    pub(super) duplicate: f64,
    pub(super) reorder: f64,
    /// No limit where it is 0.
    pub(super) rate_bps: u64,
    pub(super) queue_octets: u64,
}

impl Options {
    /// What they mean for each way.
    pub(super) fn both(&self) -> Both<Impairment> {
        let way = |of: fn(Both<u64>) -> u64, share: fn(Both<f64>) -> f64| Impairment {
            delay_us: of(self.delay_us),
            jitter_us: of(self.jitter_us),
            loss: share(self.loss),
            duplicate: share(self.duplicate),
            reorder: share(self.reorder),
            rate_bps: of(self.rate_bps),
            queue_octets: of(self.queue_octets),
        };
        Both {
            a_to_b: way(|both| both.a_to_b, |both| both.a_to_b),
            b_to_a: way(|both| both.b_to_a, |both| both.b_to_a),
        }
    }
}

/// One value or two, each by `parse`.
fn parse_both<T: Copy>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Both<T>, String> {
    let (a_to_b, b_to_a) = text.split_once(':').unwrap_or((text, text));
    Ok(Both {
        a_to_b: parse(a_to_b)?,
        b_to_a: parse(b_to_a)?,
    })
}

fn parse_us(text: &str) -> Result<Both<u64>, String> {
    parse_both(text, |text| {
        let us = u64::from_str(text).ok().filter(|&us| us <= 10_000_000);
        us.ok_or_else(|| "allowed is 0 to 10000000".to_owned())
    })
}

fn parse_shares(text: &str) -> Result<Both<f64>, String> {
    parse_both(text, parse_share)
}

fn parse_rate(text: &str) -> Result<Both<u64>, String> {
    parse_both(text, |text| {
        let allowed = 1000..=1_000_000_000_000;
        let rate = u64::from_str(text).ok();
        let rate = rate.filter(|rate| *rate == 0 || allowed.contains(rate));
        rate.ok_or_else(|| format!("allowed is 0 and {allowed:?}"))
    })
}

fn parse_queue(text: &str) -> Result<Both<u64>, String> {
    parse_both(text, |text| {
        let octets = parse_octets(text)?;
        // The longest Ethernet frame of the usual MTU.
        let allowed = 1518..=1 << 30;
        if allowed.contains(&octets) {
            return Ok(octets);
        }
        Err(format!("allowed is {allowed:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_for_both_ways_and_two_are_one_each() {
        let both = |a_to_b, b_to_a| Both { a_to_b, b_to_a };
        assert_eq!(parse_us("5"), Ok(both(5, 5)));
        assert_eq!(parse_us("5:0"), Ok(both(5, 0)));
        assert_eq!(parse_rate("1000:0"), Ok(both(1000, 0)));
        assert_eq!(parse_queue("64K:1M"), Ok(both(65_536, 1 << 20)));
        for wrong in ["", "5:", ":5", "1:2:3", "-1", "10000001"] {
            assert!(parse_us(wrong).is_err(), "{wrong}");
        }
        assert!(parse_shares("0.1:2").is_err());
        assert!(parse_rate("999").is_err());
        assert!(parse_queue("100").is_err());
    }
}
