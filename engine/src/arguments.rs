//! What `omni-engine` takes. The manual page and the completions are made of this file, too.

use std::path::PathBuf;

use clap::Parser;
use omni_control::service::log;
use omni_control::service::seccomp::Seccomp;

const EXAMPLES: &str = "\
Examples:
  omni init                                     makes a configuration and a key
  omni-engine --config fabric.yaml --check      says what is wrong with them, or that they are good
  omni-engine --config fabric.yaml              runs the node
  systemctl enable --now omni-engine@alpha      runs it of /etc/omni/alpha.yaml, as user omni

Environment:
  OMNI_LOG      what is logged: error, warn, info (default), debug, trace
  OMNI_KEYLOG   a file for the keys of all sessions, to read captured traffic; for tests alone

Exit status: 0 stopped cleanly, or --check found nothing wrong; 1 it could not start or go on, and
the log's last line says why; 2 an error in the configuration or in the arguments.";

/// A node of an OmniNervous fabric: an encrypted layer-2 switch among hosts.
///
/// Runs in the foreground and logs on stderr. SIGTERM or SIGINT ends it and removes all that it
/// made; SIGHUP makes it read its configuration again, as `omni reload` does.
#[derive(Debug, Parser)]
#[command(name = "omni-engine", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The configuration; `config/KEYS.md` documents every key.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,

    /// Check the configuration and exit; nothing is touched.
    #[arg(long)]
    pub(crate) check: bool,

    /// Become this user, which takes root, and keep the capabilities that the engine needs. The
    /// user has to be able to read the configuration and its key files.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// What becomes of system calls that the engine does not make: `on` ends the process, `log`
    /// lets the kernel log them, `off` does without filters.
    #[arg(long, value_name = "on|log|off", default_value = "on")]
    pub(crate) seccomp: Seccomp,

    /// How lines of the log are written.
    #[arg(long, value_name = "text|json", default_value = "text")]
    pub(crate) log_format: log::Format,

    /// What is logged: error, warn, info, debug or trace, or levels by module such as
    /// `info,omni_control=debug`. Without it OMNI_LOG says so, and info where nothing does.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<log::Filter>,
}
