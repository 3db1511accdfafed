//! What each key does.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Model, Page};

/// Rows of a page up or down.
const LEAP: isize = 10;

/// Keys and what they do, for the help.
pub(super) const HELP: [(&str, &str); 10] = [
    ("Tab, left, right", "the next page, and the one before"),
    ("1 to 5", "overview, peers, queues, ports, drops"),
    (
        "up, down, j, k",
        "choose a row; PgUp, PgDn, Home, End go further",
    ),
    ("Enter", "look into the row"),
    ("Esc, Backspace", "back to the table"),
    ("s", "sort by the next column"),
    ("r", "sort the other way round"),
    ("p, space", "hold still, and go on"),
    ("?, h", "this, and back"),
    ("q, Ctrl-C", "quit"),
];

/// A key was pressed.
pub(super) fn press(model: &mut Model, key: KeyEvent) {
    let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if with_control => model.end(),
        _ if with_control => {}
        KeyCode::Char('q') => model.end(),
        KeyCode::Char('?' | 'h') => model.help(),
        KeyCode::Char('p' | ' ') => model.pause(),
        KeyCode::Esc | KeyCode::Backspace => model.close(),
        KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => model.go_on(1),
        KeyCode::BackTab | KeyCode::Left => model.go_on(-1),
        KeyCode::Char(digit @ '1'..='5') => {
            let place = digit as usize - '1' as usize;
            model.go(Page::ALL[place]);
        }
        // There are no rows to choose from.
        _ if model.opened.is_some() || model.is_helping => {}
        KeyCode::Char('s') => model.order_by_next(),
        KeyCode::Char('r') => model.turn_order(),
        KeyCode::Enter => model.open(),
        KeyCode::Up | KeyCode::Char('k') => model.choose(-1),
        KeyCode::Down | KeyCode::Char('j') => model.choose(1),
        KeyCode::PageUp => model.choose(-LEAP),
        KeyCode::PageDown => model.choose(LEAP),
        KeyCode::Home => model.choose(isize::MIN),
        KeyCode::End => model.choose(isize::MAX),
        _ => {}
    }
}
