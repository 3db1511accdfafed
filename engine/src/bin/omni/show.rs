//! `omni show`: the state of a running engine, once or again and again.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::{Args, ColorChoice, ValueEnum as _};
use omni_engine::show::Show;
use ratatui::crossterm::terminal;
use serde::Serialize;

use crate::rates::{Rates, Reading};
use crate::render::{self, Section, View};
use crate::table::{Pen, Tone};
use crate::{Failure, colors, print, socket_of};

/// The narrowest and the widest screen, in characters.
const WIDTHS: (usize, usize) = (60, 180);
/// Between two readings unless told otherwise, in seconds.
const SECONDS: f64 = 1.0;

pub(crate) const EXAMPLES: &str = "\
Numbers have SI prefixes (1 kB is 1000 octets). Everything that is counted is so since the engine
started. What needs attention is on top: alarms, interfaces that are down, peers without a session.
Latencies of a queue run from the driver's receive stamp until the frame was sent: `omni report` has
them stage by stage. --watch draws anew each second, or each so many, with rates; Ctrl-C ends it.

Examples:
  omni show                      everything, on one screen
  omni show drops                what was dropped, and what that means
  omni show drops --watch        the same each second, with rates
  omni show fdb                  behind whom each MAC address is, and alarms
  omni show vlans                which ports and peers carry which VLAN
  omni show ports --watch 5      what each interface carries, over five seconds
  omni show peers --full-keys    keys to copy from
  omni show --json | jq '.peers[] | select(.state != \"established\") | .name'
  omni show --socket /run/omni/beta.sock fdb";

/// What `omni show` shows, and how.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only this; without it everything
    section: Option<Section>,

    /// Print JSON: exact numbers, whole keys; with --watch one line for each reading
    #[arg(long)]
    json: bool,

    /// Show it again each so many seconds (0.1 to 3600), by default 1, with rates
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "1",
        value_parser = watch,
    )]
    watch: Option<Watch>,

    /// Keys and names whole, however wide the screen gets
    #[arg(long)]
    full_keys: bool,

    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
}

/// What follows `--watch`: `omni show --watch peers` means what it says.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Watch {
    Seconds(f64),
    Section(Section),
}

fn watch(text: &str) -> Result<Watch, String> {
    if let Ok(section) = Section::from_str(text, false) {
        return Ok(Watch::Section(section));
    }
    seconds(text, 3600.0).map(Watch::Seconds)
}

/// A number of seconds from 0.1 to `most`.
pub(crate) fn seconds(text: &str, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=most).contains(&seconds) => Ok(seconds),
        _ => Err(format!("allowed is a number of seconds from 0.1 to {most}")),
    }
}

/// Shows it.
pub(crate) fn run(arguments: &Arguments, socket: Option<&PathBuf>) -> Result<(), Failure> {
    let path = socket_of(socket)?;
    let (interval, section) = match arguments.watch {
        Some(Watch::Seconds(seconds)) => (Some(seconds), arguments.section),
        Some(Watch::Section(section)) => (Some(SECONDS), Some(section)),
        None => (None, arguments.section),
    };
    let mut screen = Screen {
        arguments,
        section,
        drawn: false,
    };
    let reading = Reading::state(&path)?;
    match interval {
        Some(seconds) => screen.follow(&path, reading, seconds),
        None => print(&screen.text(&reading.show, None)?),
    }
}

/// What is shown, and how.
struct Screen<'a> {
    arguments: &'a Arguments,
    section: Option<Section>,
    /// Whether something was drawn that is to be drawn over.
    drawn: bool,
}

impl Screen<'_> {
    /// Shows each reading, for ever. An engine that ends is waited for.
    fn follow(&mut self, path: &Path, first: Reading, seconds: f64) -> Result<(), Failure> {
        let (mut last, mut rates) = (first, None);
        let mut trouble = None;
        loop {
            self.draw(&last.show, rates.as_ref(), trouble.as_deref(), seconds)?;
            thread::sleep(Duration::from_secs_f64(seconds));
            match Reading::state(path) {
                Ok(reading) => {
                    trouble = reading
                        .is_another_run(&last)
                        .then(|| "WARNING  the engine was started again: rates follow".to_owned());
                    rates = Rates::between(&last, &reading);
                    last = reading;
                }
                Err(error) => {
                    rates = None;
                    trouble = Some(format!("ALARM  {error}: waiting for it; below is the past"));
                }
            }
        }
    }

    fn draw(
        &mut self,
        show: &Show,
        rates: Option<&Rates>,
        trouble: Option<&str>,
        seconds: f64,
    ) -> Result<(), Failure> {
        if self.arguments.json {
            // What is past is no reading.
            return match trouble.is_some_and(|it| it.starts_with("ALARM")) {
                true => Ok(()),
                false => print(&json(show, self.section, Json::Line)?),
            };
        }
        let pen = self.pen();
        let over = rates.map_or(seconds, |rates| rates.seconds);
        let mut text = pen.paint(
            Tone::Dim,
            &format!("{}  rates over {over:.1} s  Ctrl-C ends", show.node.name),
        ) + "\n";
        if let Some(trouble) = trouble {
            text += &(pen.paint(Tone::Alarm, trouble) + "\n");
        }
        text += &self.text(show, rates)?;
        if !io::stdout().is_terminal() {
            return print(&(text + "\n"));
        }
        let rows = terminal::size().map_or(usize::MAX, |(_, rows)| usize::from(rows));
        let first = !std::mem::replace(&mut self.drawn, true);
        print(&in_place(&text, rows, first))
    }

    fn pen(&self) -> Pen {
        Pen {
            colors: colors(self.arguments.color),
        }
    }

    fn text(&self, show: &Show, rates: Option<&Rates>) -> Result<String, Failure> {
        if self.arguments.json {
            return Ok(json(show, self.section, Json::Pretty)?);
        }
        let view = View {
            pen: self.pen(),
            full_keys: self.arguments.full_keys,
            width: width(),
            rates,
        };
        Ok(match self.section {
            Some(section) => render::section(show, section, view),
            None => render::screen(show, view),
        })
    }
}

/// The terminal's, within reason; of what is no terminal always the same.
fn width() -> usize {
    let is_terminal = io::stdout().is_terminal();
    let columns = is_terminal.then(terminal::size).and_then(Result::ok);
    columns.map_or(render::WIDTH, |(columns, _)| {
        usize::from(columns).clamp(WIDTHS.0, WIDTHS.1)
    })
}

/// The text over what was drawn before: as many lines as there is room for, each cleared to its end
/// (ECMA-48 s.8.3.39 and 8.3.41, ED and EL), and nothing below.
fn in_place(text: &str, rows: usize, first: bool) -> String {
    let lines: Vec<_> = text.lines().collect();
    let room = rows.saturating_sub(1).max(2);
    let mut out = String::from(if first { "\x1b[2J\x1b[H" } else { "\x1b[H" });
    let shown = if lines.len() > room {
        room - 1
    } else {
        lines.len()
    };
    for line in &lines[..shown] {
        out.push_str(line);
        out.push_str("\x1b[K\n");
    }
    if shown < lines.len() {
        let more = lines.len() - shown;
        out.push_str(&format!("and {more} more lines: name a section\x1b[K\n"));
    }
    out + "\x1b[J"
}

/// The state in JSON; of a section, the same object with this member alone, so that a path such
/// as `.peers[]` finds the same in both.
fn json(show: &Show, section: Option<Section>, how: Json) -> serde_json::Result<String> {
    let Some(section) = section else {
        return how.text(show);
    };
    let name = render::title(section);
    match section {
        Section::Peers => how.member(name, &show.peers),
        Section::Nuclei => how.member(name, &show.nuclei),
        Section::Fdb => how.member(name, &show.fdb),
        Section::Neighbors => how.member(name, &show.neighbors),
        Section::Vlans => how.member(name, &show.vlans),
        Section::Groups => how.member(name, &show.groups),
        Section::Switch => how.member(name, &show.switch),
        Section::Ports => how.member(name, &show.ports),
        Section::Queues => how.member(name, &show.queues),
        Section::Drops => how.member(name, &show.drops),
        Section::Umem => how.member(name, &show.umem),
    }
}

/// For people, or a line for each reading.
#[derive(Clone, Copy, Debug)]
enum Json {
    Pretty,
    Line,
}

impl Json {
    fn text(self, value: &impl Serialize) -> serde_json::Result<String> {
        let text = match self {
            Self::Pretty => serde_json::to_string_pretty(value),
            Self::Line => serde_json::to_string(value),
        };
        text.map(|text| text + "\n")
    }

    fn member(self, name: &str, value: &impl Serialize) -> serde_json::Result<String> {
        self.text(&BTreeMap::from([(name, value)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::tests::sample;

    #[test]
    fn seconds_and_sections_may_follow_watch() {
        assert_eq!(watch("2.5"), Ok(Watch::Seconds(2.5)));
        assert_eq!(watch("peers"), Ok(Watch::Section(Section::Peers)));
        for wrong in ["0", "-1", "4000", "NaN", "inf", "peer"] {
            let error = watch(wrong).expect_err(wrong);
            assert!(error.ends_with("from 0.1 to 3600"), "{error}");
        }
    }

    #[test]
    fn what_is_drawn_again_covers_what_was_there_and_fits_the_screen() {
        let drawn = in_place("one\ntwo\nthree\n", 24, false);
        assert_eq!(drawn, "\x1b[Hone\x1b[K\ntwo\x1b[K\nthree\x1b[K\n\x1b[J");
        let cut = in_place("1\n2\n3\n4\n5\n", 4, true);
        let want = "\x1b[2J\x1b[H1\x1b[K\n2\x1b[K\nand 3 more lines: name a section\x1b[K\n\x1b[J";
        assert_eq!(cut, want);
        assert_eq!(cut.matches('\n').count(), 3, "the last row stays empty");
    }

    #[test]
    fn every_section_is_a_member_of_the_state() {
        for &section in Section::value_variants() {
            let text = json(&sample(), Some(section), Json::Line).expect("it is written");
            let value: serde_json::Value = serde_json::from_str(&text).expect("it is read");
            let member = value.get(render::title(section)).expect("it is named");
            assert!(!member.is_null(), "{section:?}: {text}");
        }
    }
}
