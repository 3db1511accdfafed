//! `omni-engine --config fabric.yaml`: a node of the fabric, in the foreground.

mod arguments;

use std::process::ExitCode;

use clap::Parser;
use omni_config::Config;
use omni_control::service::log;
use omni_control::service::process::{abort_on_panic, files_remedy, forbid_dumps, lock_memory};
use omni_engine::privileges::{self, Folder, Other, PrivilegeError};

use arguments::Arguments;

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
            let text = error.to_string();
            tracing::error!("{text}{}", files_remedy(&text));
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
