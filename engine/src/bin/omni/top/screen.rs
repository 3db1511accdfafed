//! The terminal: taken over, and given back whatever happens.

use std::io::{self, Stdout, Write};
use std::panic;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{Frame, Terminal};

/// The terminal while it is ours.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal over. A panic gives it back before it says what happened.
    pub(super) fn open() -> io::Result<Self> {
        on_panic(|| restore(&mut io::stdout()));
        enable_raw_mode()?;
        // From here on it is given back by being dropped.
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
        let screen = terminal.map(|terminal| Self { terminal });
        if screen.is_err() {
            restore(&mut io::stdout());
        }
        let screen = screen?;
        // Asking ratatui to clear asks the terminal where its cursor is, which slow ones do not
        // answer in time.
        let all = Clear(ClearType::All);
        execute!(io::stdout(), EnterAlternateScreen, all, Hide)?;
        Ok(screen)
    }

    /// Draws all of it.
    pub(super) fn draw(&mut self, how: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(how).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore(&mut io::stdout());
    }
}

/// Gives the terminal back. Nothing can be done where that fails.
fn restore(output: &mut impl Write) {
    let _ = disable_raw_mode();
    let _ = execute!(output, LeaveAlternateScreen, Show);
}

/// Does something before whatever a panic did until now.
fn on_panic(first: impl Fn() + Send + Sync + 'static) {
    let then = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        first();
        then(info);
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn the_screen_that_was_there_and_the_cursor_come_back() {
        let mut written = Vec::new();
        restore(&mut written);
        assert_eq!(written, b"\x1b[?1049l\x1b[?25h");
    }

    #[test]
    fn a_panic_of_any_thread_gives_it_back_first() {
        let times = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&times);
        let name = "the thread of this test";
        on_panic(move || {
            if thread::current().name() == Some(name) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let panics = thread::Builder::new().name(name.to_owned());
        let panics = panics
            .spawn(|| panic!("as the test wants it"))
            .expect("a thread");
        panics.join().expect_err("it panics");
        assert_eq!(times.load(Ordering::Relaxed), 1);
    }
}
