//! `omni`: the operator's tool. It makes keys and certificates, shows what a running engine or
//! Nucleus does, makes an engine follow a changed configuration, and hands a fabric's traffic over
//! to another device.
//!
//! Exit status: 0 when done, 1 when something failed, 2 for wrong arguments. What was asked for
//! goes to standard output, everything else to standard error.
#![forbid(unsafe_code)]

mod authority;
mod capture;
mod client;
mod dates;
mod doctor;
mod handover;
mod interrupt;
mod keys;
mod nucleus;
mod rates;
mod ping;
mod render;
mod report;
mod show;
mod table;
mod top;
mod trace;
mod units;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ColorChoice, Parser, Subcommand};
use thiserror::Error;

use authority::AuthorityError;
use capture::CaptureError;
use client::ClientError;
use handover::HandoverError;
use keys::KeyError;
use nucleus::NucleusError;
use ping::PingError;
use table::Pen;
use top::TopError;

/// Make keys and certificates for an OmniNervous fabric, and look into a running node.
#[derive(Debug, Parser)]
#[command(name = "omni", version, after_help = EXAMPLES)]
struct Arguments {
    /// Control socket [default: the engine's or the Nucleus's in /run/omni]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  (umask 077 && omni keygen > alpha.key)   make a node's identity
  omni pubkey < alpha.key                  print what its peers need to know
  omni show                                look at the engine that runs here
  omni top                                 watch it
  omni reload                              make it follow its changed fabric.yaml
  omni authority init                      make the key that certifies members of a fabric

Exit status: 0 done, 1 failed, 2 wrong arguments.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a new private key
    #[command(after_help = KEYGEN_EXAMPLES)]
    Keygen,
    /// Read a private key on standard input, print its public key
    #[command(after_help = PUBKEY_EXAMPLES)]
    Pubkey,
    /// Print a new preshared key, a second secret that two peers may mix into their handshakes
    #[command(after_help = GENPSK_EXAMPLES)]
    Genpsk,
    /// Show what a running engine does: peers, addresses, VLANs, ports, queues, drops, memory
    #[command(after_help = show::EXAMPLES)]
    Show(show::Arguments),
    /// Watch a running engine: rates, latencies, drops, queues and peers, drawn anew each second
    #[command(after_help = top::EXAMPLES)]
    Top(top::Arguments),
    /// Show how long frames take, stage by stage, over one engine or the engines of a fabric
    #[command(after_help = report::EXAMPLES)]
    Report(report::Arguments),
    /// Ask a peer for echoes through the session: round trips, loss, path MTU
    #[command(after_help = ping::EXAMPLES)]
    Ping(ping::Arguments),
    /// Say which way a frame would take from here, and what decides
    #[command(after_help = trace::EXAMPLES)]
    Trace(trace::Arguments),
    /// Write frames, and why some are dropped, to a file or into Wireshark (pcapng)
    #[command(after_help = capture::EXAMPLES)]
    Capture(capture::Arguments),
    /// Make a running engine read its configuration again and follow it
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload(ReloadArguments),
    /// Say which driver suits the underlay of a configuration, and why
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Arguments),
    /// Hand the fabric's traffic over to an engine behind another device, a SmartNIC's
    #[command(after_help = handover::EXAMPLES)]
    Handover(handover::Arguments),
    /// Certify who belongs to a fabric, offline: keys, certificates, revocations
    #[command(subcommand, after_help = authority::EXAMPLES)]
    Authority(Box<authority::Command>),
    /// Show what a running Nucleus knows, and tell it what the authority signed
    #[command(subcommand, after_help = nucleus::EXAMPLES)]
    Nucleus(nucleus::Command),
}

const KEYGEN_EXAMPLES: &str = "\
The key is an X25519 private key: 32 octets in base64. The engine takes it from a file that gives
nothing to group and others.

Examples:
  (umask 077 && omni keygen > alpha.key)
  (umask 077 && omni keygen | tee alpha.key | omni pubkey > alpha.pub)";

const PUBKEY_EXAMPLES: &str = "\
Example:
  omni pubkey < alpha.key";

const GENPSK_EXAMPLES: &str = "\
The key is 32 random octets in base64. Both peers name a file that holds it: preshared_key_file.

Example:
  (umask 077 && omni genpsk > alpha-beta.psk)";

const RELOAD_EXAMPLES: &str = "\
The engine follows peers (added, removed, names, endpoints, preshared keys, VLANs and limits), the
fabric's name, its own name and key, access[].mtu and underlay.filter. Sessions with peers of which
nothing changed go on. A file that is wrong, or that changes anything else, changes nothing at all:
what is wrong is said here, exit status 1. SIGHUP does the same and says it in the engine's log.

Examples:
  omni-engine --config fabric.yaml --check && omni reload
  omni reload --socket /run/omni/beta.sock";

/// What `omni reload` prints.
#[derive(Debug, Args)]
struct ReloadArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What ends the tool with exit status 1.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Doctor(#[from] doctor::DoctorError),
    #[error(transparent)]
    Handover(#[from] HandoverError),
    #[error(transparent)]
    Nucleus(#[from] NucleusError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Ping(#[from] PingError),
    #[error(transparent)]
    Report(#[from] report::ReportError),
    #[error(transparent)]
    Top(#[from] TopError),
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough, as `head` has.
        Err(
            Failure::Output(error)
            | Failure::Key(KeyError::Output(error))
            | Failure::Ping(PingError::Output(error))
            | Failure::Capture(CaptureError::Output(_, error))
            | Failure::Nucleus(NucleusError::Output(error)),
        ) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            // Standard error may be gone as well; the exit status still tells.
            let _ = writeln!(io::stderr(), "omni: {failure}");
            match failure {
                Failure::Authority(AuthorityError::Argument { .. }) => ExitCode::from(2),
                Failure::Ping(error) => ExitCode::from(error.status()),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Keygen => Ok(keys::keygen()?),
        Command::Pubkey => Ok(keys::pubkey()?),
        Command::Genpsk => Ok(keys::genpsk()?),
        Command::Show(how) => show::run(how, arguments.socket.as_ref()),
        Command::Top(how) => Ok(top::run(how, arguments.socket.as_ref())?),
        Command::Report(how) => {
            let pen = Pen {
                colors: colors(ColorChoice::Auto),
            };
            print(&report::run(how, arguments.socket.as_ref(), pen)?)
        }
        Command::Ping(how) => {
            let socket = socket_of(arguments.socket.as_ref()).map_err(PingError::Client)?;
            Ok(ping::run(how, &socket)?)
        }
        Command::Trace(how) => {
            let pen = Pen {
                colors: colors(ColorChoice::Auto),
            };
            print(&trace::run(
                how,
                &socket_of(arguments.socket.as_ref())?,
                pen,
            )?)
        }
        Command::Capture(how) => Ok(capture::run(how, &socket_of(arguments.socket.as_ref())?)?),
        Command::Reload(how) => reload(how, arguments.socket.as_ref()),
        Command::Doctor(how) => print(&(doctor::run(how)? + "\n")),
        Command::Handover(how) => Ok(handover::run(how)?),
        Command::Authority(command) => {
            let done = authority::run(command)?;
            print(&done.text)?;
            done.refused.map_or(Ok(()), |refused| Err(refused.into()))
        }
        Command::Nucleus(command) => {
            let pen = Pen {
                colors: colors(ColorChoice::Auto),
            };
            Ok(nucleus::run(command, arguments.socket.as_deref(), pen)?)
        }
    }
}

/// The socket that was named, or the only one.
fn socket_of(named: Option<&PathBuf>) -> Result<PathBuf, ClientError> {
    match named {
        Some(path) => Ok(path.clone()),
        None => client::find_socket(Path::new(client::FOLDER)),
    }
}

fn reload(arguments: &ReloadArguments, socket: Option<&PathBuf>) -> Result<(), Failure> {
    let reloaded = client::reload(&socket_of(socket)?)?;
    let text = match (arguments.json, &reloaded.changes[..]) {
        (true, _) => serde_json::to_string_pretty(&reloaded)? + "\n",
        (false, []) => "nothing changed\n".to_owned(),
        (false, changes) => changes.join("\n") + "\n",
    };
    print(&text)
}

fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(Failure::Output)
}

fn colors(choice: ColorChoice) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            io::stdout().is_terminal() && !is_set("NO_COLOR") && !dumb
        }
    }
}
