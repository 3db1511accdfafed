//! `omni-engine --config fabric.yaml`: a node of the fabric, in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use omni_config::Config;
use omni_control::service::log;
use omni_control::service::process::{abort_on_panic, forbid_dumps, lock_memory};
use omni_control::service::seccomp::Seccomp;
use omni_engine::privileges::{self, Folder, Other, PrivilegeError};

/// A node of an OmniNervous fabric: an encrypted layer-2 switch among hosts.
///
/// Runs in the foreground and logs on stderr. SIGTERM or SIGINT ends it and removes all that it
/// made. Exit status: 0 after a clean stop, 1 when it could not start or go on, 2 for an error in
/// the configuration.
#[derive(Debug, Parser)]
#[command(name = "omni-engine", version)]
struct Arguments {
    /// The configuration; `config/KEYS.md` documents every key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Check the configuration and exit; nothing is touched.
    #[arg(long)]
    check: bool,

    /// Become this user, which takes root, and keep the capabilities that the engine needs. The
    /// user has to be able to read the configuration and its key files.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// What becomes of system calls that the engine does not make: `on` ends the process, `log`
    /// lets the kernel log them, `off` does without filters.
    #[arg(long, value_name = "on|log|off", default_value = "on")]
    seccomp: Seccomp,

    /// How lines of the log are written.
    #[arg(long, value_name = "text|json", default_value = "text")]
    log_format: log::Format,

    /// What is logged: error, warn, info, debug or trace, or levels by module such as
    /// `info,omni_control=debug`. Without it OMNI_LOG says so, and info where nothing does.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<log::Filter>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let locked = (!arguments.check).then(|| forbid_dumps().and_then(|()| lock_memory()));
    let user = arguments.user.as_deref().map(Other::find).transpose();
    let load = || omni_config::load(&arguments.config);
    let loaded = user.and_then(|user| match user {
        Some(user) => Ok((user.can(load)?, Some(user))),
        None => Ok((load(), None)),
    });
    let (config, user) = match loaded {
        Ok((Ok(config), user)) => (config, user),
        Ok((Err(error), _)) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let Some(locked) = locked else {
        println!("{}: configuration is good", arguments.config.display());
        return ExitCode::SUCCESS;
    };
    log::start(arguments.log_format, arguments.log_level.as_ref());
    abort_on_panic();
    if let Err(error) = locked {
        tracing::warn!(%error, "keys may be swapped out; it takes `ulimit -l unlimited`, or root");
    }
    if let Err(error) = give_up_privileges(user.as_ref(), &config) {
        tracing::error!("{error}");
        return ExitCode::FAILURE;
    }
    // As a reload would: what cannot be read any more is better known now.
    if let Err(error) = load() {
        tracing::warn!("a reload will not be possible: {error}");
    }
    match omni_engine::runtime::run(config, &arguments.config, arguments.seccomp) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Gives up what starting does not take.
fn give_up_privileges(user: Option<&Other>, config: &Config) -> Result<(), PrivilegeError> {
    let folders = [
        (&config.control.socket, 0o755),
        (&config.node.state_file, 0o700),
    ];
    let folders = folders.map(|(file, mode)| file.parent().map(|path| Folder { path, mode }));
    let folders: Vec<Folder<'_>> = folders.into_iter().flatten().collect();
    privileges::enter(user, &folders)
}
