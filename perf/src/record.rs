//! Initiations of configured peers, each delivered once: what someone on the wire can replay.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::Failure;
use crate::flood::messages;
use crate::stranger::Acquaintance;

/// Between two initiations: under the rate from which cookies are asked for, so that each is
/// worked on, and with enough keys above the least time between two of one peer.
const PAUSE: Duration = Duration::from_millis(6);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    with: Acquaintance,
    /// How many initiations.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Where to write them, one a line in hex.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Makes, delivers and writes them.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let keys = arguments.with.keys()?;
    let unspecified = match arguments.with.target {
        SocketAddr::V4(_) => "0.0.0.0:0",
        SocketAddr::V6(_) => "[::]:0",
    };
    let socket = UdpSocket::bind(unspecified)?;
    socket.connect(arguments.with.target)?;
    let mut recorded = Vec::with_capacity(arguments.count);
    for key in keys.iter().cycle().take(arguments.count) {
        let mut stranger = arguments.with.stranger(key)?;
        if let Some(initiation) = stranger.poll_transmit() {
            // What cannot be delivered now is refused as a replay of nothing: no harm done.
            let _ = socket.send(&initiation);
            recorded.push(initiation);
        }
        thread::sleep(PAUSE);
    }
    std::fs::write(&arguments.out, messages::to_lines(&recorded))?;
    Ok(())
}
