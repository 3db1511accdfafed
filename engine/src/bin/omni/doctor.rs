//! `omni doctor`: which driver suits the underlay, and why.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use omni_engine::ways::{Choice, Seen, Way, Ways};
use serde::Serialize;
use thiserror::Error;

pub(crate) const EXAMPLES: &str = "\
Nothing is changed, and the engine may be running. What is found holds for this process: run it as
the engine's user.

Examples:
  omni doctor --config /etc/omni/fabric.yaml
  omni doctor --config fabric.yaml --json";

/// What is looked at.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The engine's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why nothing can be said.
#[derive(Debug, Error)]
pub(crate) enum DoctorError {
    /// The file is wrong.
    #[error("{0}")]
    Config(String),
    /// The underlay is not there.
    #[error("underlay.interface: there is no interface {0}")]
    NoInterface(String),
}

/// What was found.
#[derive(Debug, Serialize)]
struct Findings {
    interface: String,
    seen: Seen,
    configured: Ways,
    best: Ways,
}

/// Looks, and says it in text or JSON.
pub(crate) fn run(arguments: &Arguments) -> Result<String, DoctorError> {
    let config = omni_config::load(&arguments.config);
    let config = config.map_err(|error| DoctorError::Config(error.to_string()))?;
    let underlay = &config.underlay;
    if !Path::new("/sys/class/net")
        .join(&underlay.interface)
        .exists()
    {
        return Err(DoctorError::NoInterface(underlay.interface.clone()));
    }
    let seen = Seen::look(&underlay.interface, underlay.zero_copy);
    let findings = Findings {
        interface: underlay.interface.clone(),
        configured: Ways::choose(underlay, &seen),
        best: seen.best(),
        seen,
    };
    if arguments.json {
        let text = serde_json::to_string_pretty(&findings);
        return text.map_err(|error| DoctorError::Config(error.to_string()));
    }
    Ok(findings.text())
}

impl Findings {
    fn text(&self) -> String {
        let Self {
            interface,
            seen,
            configured,
            best,
        } = self;
        let driver = if seen.driver.is_empty() {
            "unknown"
        } else {
            &seen.driver
        };
        let is = |it: bool| if it { "yes" } else { "no" };
        let mut text = format!(
            "underlay {interface}: driver {driver}, {} receive queues\n\
             \u{20} AF_XDP sockets for this process  {}\n\
             \u{20} zero copy may be tried           {}\n\
             \u{20} GRO (rx-gro)                     {}\n\
             \u{20} UDP cut late (tx-udp-segmentation) {}\n",
            seen.queues,
            is(seen.afxdp),
            is(seen.zero_copy),
            is(seen.gro),
            is(seen.cuts_udp)
        );
        let mut side = |key, what, now: Choice, best: Choice| {
            let verdict = if now.way == best.way {
                format!("{}: {}", name(now.way), best.why)
            } else {
                format!(
                    "{} now; {} would suit: {}. Set {key}: {} or auto",
                    name(now.way),
                    name(best.way),
                    best.why,
                    name(best.way)
                )
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {what:9}  {verdict}");
        };
        side(
            "underlay.driver",
            "receiving",
            configured.receive,
            best.receive,
        );
        side("underlay.send", "sending", configured.send, best.send);
        text.truncate(text.trim_end().len());
        text
    }
}

const fn name(way: Way) -> &'static str {
    match way {
        Way::Afxdp => "afxdp",
        Way::Udp => "udp",
    }
}
