//! Ctrl-C as something to wait for, so that what was found out until then is still told.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// The exit status after a second one, as shells have it: 128 and the signal's number.
const INTERRUPTED: i32 = 128 + 2;

/// The first Ctrl-C.
#[derive(Debug)]
pub(crate) struct Interrupt(Receiver<()>);

impl Interrupt {
    /// From now on Ctrl-C ends nothing by itself.
    ///
    /// # Errors
    /// When the system has no thread or descriptor left.
    pub(crate) fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let (sender, receiver) = channel();
        let (ready, is_ready) = channel();
        thread::Builder::new()
            .name("omni-interrupt".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let kind = tokio::signal::unix::SignalKind::interrupt();
                    let signal = tokio::signal::unix::signal(kind);
                    // Who listens is there until the program ends.
                    let _ = ready.send(signal.as_ref().map(drop).map_err(io::Error::kind));
                    if let Ok(mut signal) = signal {
                        signal.recv().await;
                        let _ = sender.send(());
                        // Who asks twice does not want to wait for what is left to be done.
                        signal.recv().await;
                        std::process::exit(INTERRUPTED);
                    }
                });
            })?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(Self(receiver)),
            Ok(Err(kind)) => Err(kind.into()),
            Err(_) => Err(io::ErrorKind::Other.into()),
        }
    }

    /// Waits for it, for so long; whether it came.
    pub(crate) fn within(&self, span: Duration) -> bool {
        !matches!(self.0.recv_timeout(span), Err(RecvTimeoutError::Timeout))
    }
}
