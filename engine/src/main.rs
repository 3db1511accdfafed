//! `omni-engine --config fabric.yaml`: a node of the fabric, in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
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
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match omni_config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if arguments.check {
        println!("{}: configuration is good", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    let filter = EnvFilter::try_from_env("OMNI_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Where the log has no room left it goes on without: to say so on stderr would panic.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
    match omni_engine::runtime::run(config, &arguments.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
