//! `omni-engine --config fabric.yaml`: a node of the fabric, in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use omni_config::Config;
use omni_control::service::process::{abort_on_panic, forbid_dumps, lock_memory};
use omni_control::service::seccomp::Seccomp;
use omni_engine::privileges::{self, Folder};
use tracing_subscriber::EnvFilter;

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

    /// Become this user once the configuration was read as root, and keep the capabilities that
    /// the engine needs. The user has to be able to read the configuration and its key files.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// What becomes of system calls that the engine does not make: `on` ends the process, `log`
    /// lets the kernel log them, `off` does without filters.
    #[arg(long, value_name = "on|log|off", default_value = "on")]
    seccomp: Seccomp,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let locked = (!arguments.check).then(|| forbid_dumps().and_then(|()| lock_memory()));
    let config = match omni_config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let Some(locked) = locked else {
        println!("{}: configuration is good", arguments.config.display());
        return ExitCode::SUCCESS;
    };
    let filter = EnvFilter::try_from_env("OMNI_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
    abort_on_panic();
    if let Err(error) = locked {
        tracing::warn!(%error, "keys may be swapped out; it takes `ulimit -l unlimited`, or root");
    }
    let config = match give_up_privileges(&arguments, config) {
        Ok(config) => config,
        Err(end) => return end,
    };
    match omni_engine::runtime::run(config, &arguments.config, arguments.seccomp) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Gives up what starting does not take, and reads the configuration again, as a reload would: what
/// cannot be read then is better known now.
fn give_up_privileges(arguments: &Arguments, config: Config) -> Result<Config, ExitCode> {
    let folders = [
        (&config.control.socket, 0o755),
        (&config.node.state_file, 0o700),
    ];
    let folders = folders.map(|(file, mode)| file.parent().map(|path| Folder { path, mode }));
    let folders: Vec<Folder<'_>> = folders.into_iter().flatten().collect();
    if let Err(error) = privileges::enter(arguments.user.as_deref(), &folders) {
        tracing::error!("{error}");
        return Err(ExitCode::FAILURE);
    }
    match (omni_config::load(&arguments.config), &arguments.user) {
        (Ok(config), _) => Ok(config),
        (Err(error), Some(user)) => {
            tracing::error!(
                user,
                "cannot be read by the user that the engine is to be: {error}"
            );
            Err(ExitCode::from(2))
        }
        (Err(error), None) => {
            tracing::warn!("a reload will not be possible: {error}");
            Ok(config)
        }
    }
}
