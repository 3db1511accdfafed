//! What a frame of an unknown session costs: dropped by the XDP program, or by a worker.
//!
//! ```text
//!  namespace "sender"                         namespace "receiver"
//!  UDP socket -> b0out ===== veth, native XDP ===== b0in   floor: a program drops all, unread
//!  UDP socket -> b1out =====                  ===== b1in   the check of sessions drops it
//!  UDP socket -> b2out =====                  ===== b2in   steered: AF_XDP, worker, data path
//! ```
//!
//! Each contender has a veth pair of its own, and gets the same flood in turn. The receiving
//! device is polled by a kernel thread (threaded NAPI), so that its work, which would else hide in
//! whatever thread was interrupted, has a CPU time that can be read, as the worker's can. Their
//! sum by the frames that reached the program is the cost of a frame on the receiving side. The
//! sender does not count, and other load on the machine hardly does.
//!
//! The floor is what a veth takes to bring a frame before a program, on any of the three ways. A
//! network card takes much less, so the ratio of two contenders is larger there. Contenders are
//! compared round by round, as what disturbs one disturbs its neighbours too.

mod flood;
mod host;
mod verdicts;

use std::error::Error;

use crate::rounds::summary;

/// What ends a measurement early.
type Failure = Box<dyn Error + Send + Sync>;
type Outcome<T> = Result<T, Failure>;

/// Live sessions that the programs know while the flood comes.
const SESSIONS: u32 = 4096;

/// The number of a live session. All are even.
const fn live_session(nth: u32) -> u32 {
    spread(nth) & !1
}

/// The number of a session that does not exist. All are odd.
const fn unknown_session(nth: u32) -> u32 {
    spread(nth) | 1
}

/// Spreads numbers over their whole range, as random ones are, and makes none zero.
const fn spread(nth: u32) -> u32 {
    nth.wrapping_mul(0x9e37_79b2) | 1 << 31
}

/// Measures both and prints two tables.
pub(crate) fn run(rounds: u32) -> Outcome<()> {
    let flood = flood::Flood::new()?;
    flood.measure(rounds)?;
    println!();
    verdicts::measure(rounds, flood.steered_socket())
}

/// Runs every contender once a round, until one fails, and returns the times of each. The first
/// rounds warm up and do not count.
fn in_turn<C>(
    rounds: u32,
    contenders: &mut [C],
    mut run: impl FnMut(&mut C) -> Outcome<f64>,
) -> Outcome<Vec<Vec<f64>>> {
    let mut times = vec![Vec::with_capacity(rounds as usize); contenders.len()];
    let warm_up = rounds / 10;
    for round in 0..rounds + warm_up {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let time = run(contender)?;
            if round >= warm_up {
                times.push(time);
            }
        }
    }
    Ok(times)
}

/// Median and quartiles, with so many decimals.
fn show(times: impl IntoIterator<Item = f64>, decimals: usize) -> String {
    summary(times.into_iter().collect()).shown(decimals)
}
