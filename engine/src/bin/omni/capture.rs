//! `omni capture`: frames on their way through an engine, as pcapng.

use std::fs::OpenOptions;
use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use omni_engine::capture::pcapng::Block;
use omni_engine::capture::{CaptureBegun, CaptureRequest, SNAPLEN};
use omni_engine::runtime::request::Command;
use thiserror::Error;

use crate::client::{self, ClientError, Program};
use crate::interrupt::Interrupt;

pub(crate) const EXAMPLES: &str = "\
Inner frames are in the clear: the file is for its owner only, and the engine's log says that a
capture begins and ends. A frame is there once at the access port, as hosts have it, and once in the
session with a peer, as the fabric carries it; --outer has it sealed, with the headers of the
underlay. Each has its direction and a comment: from whom or to whom, and why it is dropped. A
frame that is dropped is there where it came from, and again with the reason. What the kernel, the
driver or a full ring dropped was in no worker's hands: omni show drops counts it.

One capture runs at a time. It ends with Ctrl-C, -c or -d, or when its reader goes. What was too
much for the reader is counted, and told at the end. --peer leaves out what is seen at access ports.

Examples:
  omni capture -w lab.pcapng
  omni capture --drops -d 10 -w drops.pcapng; tshark -r drops.pcapng -T fields -e frame.comment
  omni capture --peer beta --vlan 20 -w - | wireshark -k -i -
  ssh alpha omni capture -w - | tshark -r - -Y arp";

/// What is captured, and where to.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Inner frames, in the clear; what there is without --outer
    #[arg(long)]
    inner: bool,

    /// Sealed messages, with the headers of the underlay
    #[arg(long)]
    outer: bool,

    /// Only what is dropped, and why
    #[arg(long)]
    drops: bool,

    /// Only what is from or to this peer: its name, or the beginning of its public key
    #[arg(long, value_name = "PEER")]
    peer: Option<String>,

    /// Only inner frames of this VLAN, 0 for untagged
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=4094))]
    vlan: Option<u16>,

    /// End after so many frames
    #[arg(short = 'c', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after so many seconds
    #[arg(short = 'd', value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,

    /// Octets kept of each frame [default: all]
    #[arg(short = 's', value_name = "SNAPLEN", default_value_t = SNAPLEN, hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(14..=i64::from(SNAPLEN)))]
    snaplen: u32,

    /// The file to write; -: standard output
    #[arg(short = 'w', value_name = "FILE")]
    file: PathBuf,
}

/// Why there is no capture, or not all of it.
#[derive(Debug, Error)]
pub(crate) enum CaptureError {
    /// The engine cannot be asked, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The request cannot be written as JSON.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Binary data is nothing for a screen.
    #[error("-w - writes binary data: pipe it into wireshark -k -i -, or name a file")]
    Terminal,
    /// The file cannot be written.
    #[error("cannot write {0}: {1}")]
    Output(String, io::Error),
    /// What the engine sends cannot be read.
    #[error("the capture broke off: {0}")]
    Read(io::Error),
    /// Ctrl-C cannot be listened to.
    #[error("cannot listen to Ctrl-C: {0}")]
    Interrupt(io::Error),
}

/// What there was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Copied {
    frames: u64,
    lost: u64,
}

/// Captures until the end.
pub(crate) fn run(arguments: &Arguments, socket: &Path) -> Result<(), CaptureError> {
    let to_output = arguments.file.as_os_str() == "-";
    if to_output && io::stdout().is_terminal() {
        return Err(CaptureError::Terminal);
    }
    let name = if to_output {
        "to standard output".to_owned()
    } else {
        arguments.file.display().to_string()
    };
    let request = Command::Capture(CaptureRequest {
        inner: arguments.inner || !arguments.outer,
        outer: arguments.outer,
        drops: arguments.drops,
        peer: arguments.peer.clone(),
        vlan: arguments.vlan,
        count: arguments.count,
        seconds: arguments.seconds,
        snaplen: arguments.snaplen,
    });
    let mut request = serde_json::to_vec(&request)?;
    request.push(b'\n');
    let interrupt = Interrupt::listen().map_err(CaptureError::Interrupt)?;
    let failed = |error| CaptureError::Output(name.clone(), error);
    // Before anything is captured.
    let mut out: Box<dyn Write> = if to_output {
        Box::new(io::stdout())
    } else {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        Box::new(options.open(&arguments.file).map_err(failed)?)
    };
    let (begun, mut frames): (CaptureBegun, _) = client::begin(Program::Engine, socket, &request)?;
    say(&format!("capturing at {}, Ctrl-C ends it", begun.capturing));
    let ours = frames.get_ref().try_clone().map_err(CaptureError::Read)?;
    thread::spawn(move || {
        if interrupt.within(Duration::MAX) {
            // The engine sends what it has, and how much was lost.
            let _ = ours.shutdown(Shutdown::Write);
        }
    });
    let copied = copy(&mut frames, &mut out).map_err(|error| match error {
        Broken::Read(error) => CaptureError::Read(error),
        Broken::Write(error) => failed(error),
    })?;
    say(&format!(
        "{} frames captured, {} lost as they came too fast",
        copied.frames, copied.lost
    ));
    Ok(())
}

/// Beside the frames, which may be on standard output.
fn say(text: &str) {
    // Nobody may be listening.
    let _ = writeln!(io::stderr(), "omni: {text}");
}

/// On which side copying failed.
#[derive(Debug)]
enum Broken {
    Read(io::Error),
    Write(io::Error),
}

/// Copies whole blocks to the end, so that what was written can be read whatever ends it.
fn copy(from: &mut BufReader<impl Read>, to: &mut impl Write) -> Result<Copied, Broken> {
    let mut to = BufWriter::new(to);
    let mut copied = Copied::default();
    while let Some(block) = Block::read(from).map_err(Broken::Read)? {
        copied.frames += u64::from(block.is_packet());
        copied.lost += block.lost().unwrap_or(0);
        to.write_all(&block.octets).map_err(Broken::Write)?;
        // Whoever looks at it live sees frames as they come.
        if from.buffer().is_empty() {
            to.flush().map_err(Broken::Write)?;
        }
    }
    to.flush().map_err(Broken::Write)?;
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use omni_engine::capture::pcapng::{Packet, Writer};

    use super::*;

    #[test]
    fn whole_blocks_are_copied_and_counted() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, "test").unwrap();
        writer.interface("omni0", "port", 100).unwrap();
        for _ in 0..3 {
            let packet = Packet {
                interface: 0,
                at: 1,
                octets: &[0; 60],
                len: 60,
                inbound: false,
                comment: "to hosts",
            };
            writer.packet(packet).unwrap();
        }
        drop(writer);
        let frames_end = file.len();
        let mut rest = Vec::new();
        let mut statistics = Writer::new(&mut rest, "test").unwrap();
        statistics.statistics(0, 2, 10, 7).unwrap();
        file.extend(rest);
        let mut copy_of = Vec::new();
        let copied = copy(&mut BufReader::new(&file[..]), &mut copy_of).unwrap();
        assert_eq!(copied, Copied { frames: 3, lost: 7 });
        assert_eq!(copy_of, file);
        // The engine is killed in the middle of the third frame.
        let cut = &file[..frames_end - 20];
        let mut copy_of = Vec::new();
        let copied = copy(&mut BufReader::new(cut), &mut copy_of).unwrap();
        assert_eq!(copied.frames, 2);
        assert!(copy_of.len() < cut.len() && cut.starts_with(&copy_of));
    }
}
