//! What `omni-nucleus` takes. The manual page and the completions are made of this file, too.

use std::path::PathBuf;

use clap::Parser;
use omni_control::service::log;
use omni_control::service::seccomp::Seccomp;

const EXAMPLES: &str = "\
Examples:
  omni-nucleus --config nucleus.yaml --check    says what is wrong with it, or that it is good
  omni-nucleus --config nucleus.yaml            runs the rendezvous
  systemctl enable --now omni-nucleus           runs it of /etc/omni/nucleus.yaml, as user omni
  omni nucleus status                           asks it how it is

Environment:
  OMNI_LOG      what is logged: error, warn, info (default), debug, trace

Exit status: 0 stopped cleanly, or --check found nothing wrong; 1 it could not start or go on, and
the log's last line says why; 2 an error in the configuration or in the arguments.";

/// The rendezvous of an OmniNervous fabric: where its nodes meet.
///
/// Runs in the foreground and logs on stderr. SIGTERM or SIGINT ends it.
#[derive(Debug, Parser)]
#[command(name = "omni-nucleus", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The configuration; `config/NUCLEUS-KEYS.md` documents every key.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,

    /// Check the configuration and exit; nothing is touched.
    #[arg(long)]
    pub(crate) check: bool,

    /// What becomes of system calls that no service makes: `on` ends the process, `log` lets the
    /// kernel log them, `off` does without a filter.
    #[arg(long, value_name = "on|log|off", default_value = "on")]
    pub(crate) seccomp: Seccomp,

    /// How lines of the log are written.
    #[arg(long, value_name = "text|json", default_value = "text")]
    pub(crate) log_format: log::Format,

    /// What is logged: error, warn, info, debug or trace, or levels by module. Without it OMNI_LOG
    /// says so, and info where nothing does.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<log::Filter>,
}
