//! `omni top`: watches a running engine on the whole terminal.
//!
//! ```text
//!  reader's thread                 this thread
//!  engine --> readings --mailbox--> Model --> draw --> terminal
//!                                     ^
//!  keyboard, signals -----------------+
//! ```
//!
//! The model knows neither the clock nor the terminal.

mod detail;
mod draw;
mod grid;
mod keys;
mod model;
mod overview;
mod screen;
mod sources;
mod theme;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::{Args, ColorChoice};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use thiserror::Error;

use crate::client::ClientError;
use crate::rates::Reading;
use crate::show::seconds;
use crate::{colors, socket_of};
use model::{Model, Told};
use screen::Screen;
use theme::Theme;

/// How soon a key is seen.
const TICK: Duration = Duration::from_millis(50);
/// How often what is drawn is drawn anew though nothing was told: ages grow.
const REDRAW: Duration = Duration::from_millis(500);

pub(crate) const EXAMPLES: &str = "\
Needs a terminal of 80 by 24 characters, or larger ones. An engine that ends is waited for, and one
that was started again is told as such.

  Tab, arrows, 1 to 5   overview, peers, queues, ports, drops; up and down choose a row
  Enter, Esc            look into the row, and back
  s, r                  sort by the next column, the other way round
  p                     hold still, and go on
  ?, q                  help, quit

Examples:
  omni top
  omni top --interval 0.5 --socket /run/omni/beta.sock";

/// How it is watched.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Between two readings (0.1 to 60)
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: f64,

    /// Colours; auto: unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
}

fn interval(text: &str) -> Result<f64, String> {
    seconds(text, 60.0)
}

/// Why it cannot be watched.
#[derive(Debug, Error)]
pub(crate) enum TopError {
    /// There is no engine to begin with.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Output or input is a file or a pipe.
    #[error("omni top needs a terminal; for files and pipes there is omni show --watch")]
    NoTerminal,
    /// The terminal does not do what it should.
    #[error("cannot use the terminal: {0}")]
    Terminal(io::Error),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

/// Watches until somebody quits.
pub(crate) fn run(arguments: &Arguments, socket: Option<&PathBuf>) -> Result<(), TopError> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(TopError::NoTerminal);
    }
    let path = socket_of(socket)?;
    let interval = Duration::from_secs_f64(arguments.interval);
    let mut model = Model::new(interval);
    model.tell(Told::Reading(Box::new(Reading::whole(&path)?)));
    let theme = Theme::new(colors(arguments.color));
    let (sender, told) = mpsc::channel();
    sources::signals(sender.clone()).map_err(TopError::Signals)?;
    sources::readings(path, interval, sender);
    let mut screen = Screen::open().map_err(TopError::Terminal)?;
    let mut drawn = None::<Instant>;
    while !model.is_over() {
        let now = Instant::now();
        if drawn.is_none_or(|at| now.saturating_duration_since(at) >= REDRAW) {
            screen
                .draw(|frame| draw::draw(frame, &model, theme, now))
                .map_err(TopError::Terminal)?;
            drawn = Some(now);
        }
        if event::poll(TICK).map_err(TopError::Terminal)? {
            match event::read().map_err(TopError::Terminal)? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    keys::press(&mut model, key)
                }
                // Another size draws anew, too.
                _ => {}
            }
            drawn = None;
        }
        for news in told.try_iter() {
            model.tell(news);
            drawn = None;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
