//! A forwarder between two interfaces that impairs what passes, for kernels without netem.
//!
//! ```text
//!   interface A                                                            interface B
//!  -----------> read, cut super-frames, loss, duplicate, rate, delay, send ----------->
//!  <----------- send, delay, rate, duplicate, loss, cut super-frames, read <-----------
//! ```
//!
//! Each way has a thread, a queue ordered by time and dice of its own. Both interfaces should be
//! without addresses, in a namespace of their own, as the kernel goes on answering for addresses
//! that it has. Frames that the kernel carries as one, or leaves a checksum to do in, are cut and
//! completed first: what is impaired is what would be on a wire.
//!
//! 802.1Q tags that the kernel carries beside a frame are lost; `ethtool -K IFACE rxvlan off txvlan
//! off` on both interfaces and their peers keeps them inside.

mod forward;
mod frames;
mod queue;
mod settings;
mod socket;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::Failure;
use crate::workload::{Ending, join, now_text, parse_seconds, write_json};
use forward::Way;
use settings::{Both, Impairment};
use socket::Port;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// One interface.
    #[arg(long, value_name = "IFACE")]
    a: String,
    /// The other one.
    #[arg(long, value_name = "IFACE")]
    b: String,
    #[command(flatten)]
    settings: settings::Options,
    /// Of all dice: the same seed loses the same frames.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The end, should no SIGTERM come before.
    #[arg(long, default_value_t = 86_400.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Keep two cores busy instead of sleeping until something is due: for cores of one's own.
    #[arg(long)]
    spin: bool,
    /// Write the counts to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What passed.
#[derive(Debug, Serialize)]
struct Report {
    kind: &'static str,
    began: String,
    seed: u64,
    settings: Both<Impairment>,
    a_to_b: Way,
    b_to_a: Way,
}

/// Says `ready` once frames pass, and prints the counts as one line of JSON at the end.
///
/// # Errors
/// When an interface is not there or goes away, or without the right to packet sockets; and when
/// the counts do not add up.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let ending = Ending::take()?;
    let began = now_text();
    let settings = arguments.settings.both();
    let (a, b) = (Port::open(&arguments.a)?, Port::open(&arguments.b)?);
    println!("ready");
    std::io::stdout().flush()?;
    let is_over = AtomicBool::new(false);
    let forward = |from, to, impairment, stream| {
        let way = forward::Forwarder {
            from,
            to,
            impairment,
            seed: arguments.seed,
            stream,
            spin: arguments.spin,
        };
        way.run(&is_over)
    };
    let [a_to_b, b_to_a] = thread::scope(|scope| {
        let ways = [
            scope.spawn(|| forward(&a, &b, settings.a_to_b, 0)),
            scope.spawn(|| forward(&b, &a, settings.b_to_a, 1)),
        ];
        let failed = || ways.iter().any(thread::ScopedJoinHandle::is_finished);
        let waited = ending.wait(Duration::from_secs_f64(arguments.seconds), failed);
        is_over.store(true, Ordering::Relaxed);
        waited.map(|()| ways.map(join))
    })?;
    let report = Report {
        kind: "impair",
        began,
        seed: arguments.seed,
        settings,
        a_to_b: a_to_b?,
        b_to_a: b_to_a?,
    };
    println!("{}", serde_json::to_string(&report)?);
    if let Some(path) = &arguments.json {
        write_json(path, &report)?;
    }
    for (name, way) in [("a to b", &report.a_to_b), ("b to a", &report.b_to_a)] {
        if !way.adds_up() {
            return Err(format!("{name}: the counts do not add up").into());
        }
    }
    Ok(())
}
