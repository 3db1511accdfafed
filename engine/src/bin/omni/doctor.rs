//! `omni doctor`: what on this host is in the way of the fabric, why it matters, and what mends it.
//!
//! One file for each area. Each looks at a [`Host`], which may be a tree of files, and at a
//! [`Subject`]; what it finds is a list of [`Finding`]s.

mod clock;
mod engine;
mod finding;
mod host;
mod kernel;
mod paths;
mod port;
mod subject;
mod underlay;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use omni_config::Config;
use omni_control::netlink::{Link, Netlink};
use omni_engine::show::Show;
use omni_engine::ways::{Choice, Seen, Way, Ways};
use serde::Serialize;
use thiserror::Error;

use crate::client;
use finding::{Finding, Level};
use host::Host;
use subject::{Engine, Subject};

pub(crate) const EXAMPLES: &str = "\
Looked at: the configuration, kernel, capabilities, limits, clock and certificate, the underlay with
its driver, XDP, zero copy, offloads, queues, RSS, interrupts and MTU, the fabric's UDP port and the
firewall, bridges, routes and path MTU to each peer (by pings), Nuclei; and what a running engine
says. Nothing is changed. What is found holds for this process: run it as root, or as the engine's
user where the engine does not run yet.

Examples:
  omni doctor --config /etc/omni/alpha.yaml
  omni doctor --config fabric.yaml --json | jq '.findings[] | select(.level != \"fine\")'

Exit status: 0 all is well, 1 there are warnings, 2 something is broken.";

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
    /// There is no way to ask the kernel.
    #[error("cannot ask the kernel for interfaces: {0}")]
    Kernel(String),
    /// What was found cannot be put into JSON.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    /// The worst of the findings.
    verdict: Level,
    interface: Option<String>,
    seen: Option<Seen>,
    configured: Option<Ways>,
    best: Option<Ways>,
    findings: Vec<Finding>,
}

/// What is to be printed, and the exit status.
pub(crate) struct Done {
    pub(crate) text: String,
    pub(crate) status: u8,
}

/// Looks, and says it in text or JSON. `socket`: where the engine answers, if it is not where the
/// configuration has it.
pub(crate) fn run(arguments: &Arguments, socket: Option<&Path>) -> Result<Done, DoctorError> {
    let host = Host::here();
    let report = match omni_config::load(&arguments.config) {
        Ok(config) => examined(&host, &config, socket)?,
        Err(error) => without_config(&host, &error.to_string()),
    };
    let text = if arguments.json {
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        report.text()
    };
    Ok(Done {
        text,
        status: report.verdict.status(),
    })
}

/// What can be said where the configuration is wrong.
fn without_config(host: &Host, error: &str) -> Report {
    let subject = Subject {
        config: None,
        link: None,
        seen: None,
        ways: None,
        engine: None,
    };
    let mut findings = vec![
        Finding::broken("configuration", error)
            .why("the engine does not start with it, and a reload changes nothing")
            .fix("mend that line: config/KEYS.md has every key; `omni init` writes a file anew"),
    ];
    findings.extend(kernel::look(host, &subject));
    findings.push(clock::look(host, clock::now_seconds()));
    Report {
        verdict: finding::worst(&findings),
        interface: None,
        seen: None,
        configured: None,
        best: None,
        findings,
    }
}

fn examined(host: &Host, config: &Config, socket: Option<&Path>) -> Result<Report, DoctorError> {
    let interface = &config.underlay.interface;
    let (link, addresses) = ask_kernel(interface)?;
    let socket = socket.unwrap_or(&config.control.socket);
    let (engine, unheard) = ask_engine(socket);
    let there = link.is_some();
    let seen = there.then(|| Seen::look(interface, config.underlay.zero_copy));
    let ways = seen
        .as_ref()
        .map(|seen| Ways::choose(&config.underlay, seen));
    let subject = Subject {
        config: Some(config),
        link: link.as_ref(),
        seen: seen.as_ref(),
        ways,
        engine: engine.as_ref(),
    };
    let now = clock::now_seconds();
    let mut findings = vec![Finding::fine("configuration", "is good")];
    findings.extend(unheard);
    findings.extend(kernel::look(host, &subject));
    findings.push(clock::look(host, now));
    findings.extend(clock::certificate(config, now));
    findings.extend(underlay::look(host, config, &subject, &addresses));
    findings.extend(underlay::ways(&subject));
    findings.extend(port::look(host, config, &subject));
    findings.push(kernel::bridge_filter(host, config, &subject));
    if there {
        findings.extend(paths::look(host, config, &subject, &addresses));
    }
    if let Some(engine) = &engine {
        findings.extend(engine::look(&engine.show));
    }
    Ok(Report {
        verdict: finding::worst(&findings),
        interface: Some(interface.clone()),
        configured: ways,
        best: seen.as_ref().map(Seen::best),
        seen,
        findings,
    })
}

/// An interface, and its addresses.
fn ask_kernel(interface: &str) -> Result<(Option<Link>, Vec<IpAddr>), DoctorError> {
    let failed = |error: String| DoctorError::Kernel(error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        let netlink = Netlink::connect().map_err(|error| failed(error.to_string()))?;
        let link = netlink.link(interface).await;
        let link = link.map_err(|error| failed(error.to_string()))?;
        let addresses = match &link {
            Some(link) => netlink.local_addresses(link.index).await,
            None => Ok(Vec::new()),
        };
        Ok((link, addresses.map_err(|error| failed(error.to_string()))?))
    })
}

/// The engine that answers there, or why none does although something is there.
fn ask_engine(socket: &Path) -> (Option<Engine>, Option<Finding>) {
    if !socket.exists() {
        let text = "none runs: what it would tell of peers is not known";
        return (None, Some(Finding::unknown("engine", text)));
    }
    match client::show(socket) {
        Ok(show) => {
            let pid = client::process_at(socket);
            let text = describe(&show);
            let engine = Engine { pid, show };
            (Some(engine), Some(Finding::fine("engine", text)))
        }
        Err(error) => (None, Some(Finding::unknown("engine", error.to_string()))),
    }
}

fn describe(show: &Show) -> String {
    let node = &show.node;
    format!(
        "{} runs in fabric {}, for {} s, with key {}",
        node.name, node.fabric, node.uptime_seconds, node.public_key
    )
}

impl Report {
    fn text(&self) -> String {
        let mut text = self.drivers();
        if !text.is_empty() {
            text.push('\n');
        }
        text += &finding::text(&self.findings);
        let count = |level| {
            let levels = self.findings.iter().filter(|each| each.level == level);
            levels.count()
        };
        let (broken, warnings) = (count(Level::Broken), count(Level::Warning));
        // Writing to a string does not fail.
        let _ = match self.verdict {
            Level::Fine | Level::Unknown => writeln!(text, "\nAll is well, as far as can be seen."),
            _ => writeln!(text, "\n{broken} broken, {warnings} warnings."),
        };
        text
    }

    /// Which driver suits the underlay, and why.
    fn drivers(&self) -> String {
        let (Some(interface), Some(seen)) = (&self.interface, &self.seen) else {
            return String::new();
        };
        let (Some(configured), Some(best)) = (self.configured, self.best) else {
            return String::new();
        };
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
        text
    }
}

const fn name(way: Way) -> &'static str {
    match way {
        Way::Afxdp => "afxdp",
        Way::Udp => "udp",
    }
}
