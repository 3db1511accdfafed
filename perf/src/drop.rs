//! An interface whose driver drops all that it receives: what a flood costs that nobody looks at.

use std::io::{self, Read as _, Write as _};

use omni_xdp_redirect::{Kind, Mode, Redirect};

use crate::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The interface.
    #[arg(long)]
    interface: String,
}

/// Says `ready` once every frame is dropped, and how many were when standard input ended.
///
/// The program is the one of the access port. Without a socket to steer to, all it does is to look
/// for one, count and drop.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut redirect = Redirect::load(Kind::Access)?;
    redirect.attach(&arguments.interface, Mode::Native)?;
    println!("ready");
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    println!("{}", redirect.counters()?.no_socket);
    Ok(())
}
