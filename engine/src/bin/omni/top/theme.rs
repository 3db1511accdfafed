//! Tones as the terminal shows them.

use ratatui::style::{Color, Modifier, Style};

use crate::table::Tone;

/// With colours, or with brightness alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Theme {
    colors: bool,
}

impl Theme {
    pub(super) const fn new(colors: bool) -> Self {
        Self { colors }
    }

    /// How a text of this tone looks.
    pub(super) fn of(self, tone: Tone) -> Style {
        let style = Style::new();
        let color = |color| match self.colors {
            true => style.fg(color),
            false => style,
        };
        match tone {
            Tone::Plain => style,
            Tone::Strong => style.add_modifier(Modifier::BOLD),
            Tone::Dim => style.add_modifier(Modifier::DIM),
            Tone::Good => color(Color::Green),
            Tone::Warning => color(Color::Yellow),
            Tone::Alarm => color(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// What is chosen.
    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A line of traffic over time.
    pub(super) fn line(self) -> Style {
        match self.colors {
            true => Style::new().fg(Color::Cyan),
            false => Style::new(),
        }
    }
}
