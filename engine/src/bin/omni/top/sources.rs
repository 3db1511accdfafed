//! Where news come from: the engine, and signals.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::model::Told;
use crate::rates::Reading;

/// Asks the engine again and again, until nobody listens.
pub(super) fn readings(path: PathBuf, interval: Duration, told: Sender<Told>) {
    thread::spawn(move || {
        let mut next = Instant::now();
        loop {
            next += interval;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            let news = match Reading::whole(&path) {
                Ok(reading) => Told::Reading(Box::new(reading)),
                Err(error) => Told::Gone {
                    at: Instant::now(),
                    why: error.to_string(),
                },
            };
            // What a slow answer made late is not caught up with.
            next = next.max(Instant::now() - interval.min(Duration::from_secs(1)));
            if told.send(news).is_err() {
                return;
            }
        }
    });
}

/// Tells of the signals that end a program, so that the terminal is put in order first.
pub(super) fn signals(told: Sender<Told>) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut terminated, mut hung_up, mut interrupted) = {
        let _within = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = hung_up.recv() => {}
                _ = interrupted.recv() => {}
            }
        });
        // Who listened may have gone already.
        let _ = told.send(Told::End);
    });
    Ok(())
}
