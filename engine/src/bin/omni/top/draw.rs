//! The screen.
//!
//! ```text
//! who, since when                        how it is watched
//! rates, sessions, drops, memory
//! what needs attention, or that nothing does
//! pages
//! the page, or one row of it, or the keys
//! the keys that matter here
//! ```

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState, Wrap};

use super::detail::facts;
use super::grid::{Grid, Head};
use super::keys::HELP;
use super::model::{Model, Page};
use super::overview;
use super::theme::Theme;
use crate::rates::Rates;
use crate::render::{alarm_lines, attention};
use crate::table::{Tone, printable};
use crate::units::{bits, rate, span};

/// The smallest screen, in characters.
const LEAST: (u16, u16) = (80, 24);
/// How long a start of the engine is told, in seconds.
const RESTART_TOLD: u64 = 60;
/// How much later than it should be a reading may come before that is told, in seconds.
const LATE: u64 = 2;
/// Between two columns.
const GAP: u16 = 1;

/// Draws all of it. `now` is when.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, theme: Theme, now: Instant) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!(
            "omni top needs {} by {} characters; here are {} by {}. q quits.",
            LEAST.0, LEAST.1, area.width, area.height
        );
        let text = Paragraph::new(text).wrap(Wrap { trim: true });
        return frame.render_widget(text, area);
    }
    let one = Constraint::Length(1);
    let rows = [one, one, one, one, Constraint::Min(0), one];
    let [top, sums, state, pages, body, keys] = Layout::vertical(rows).areas(area);
    who(frame, top, model, theme);
    frame.render_widget(summary(model, theme), sums);
    frame.render_widget(condition(model, theme, now), state);
    frame.render_widget(titles(model, theme), pages);
    // What is past is dim as long as nothing newer comes.
    if model.is_helping {
        help(frame, body, theme);
    } else if model.opened.is_some() {
        opened(frame, body, model, theme);
    } else if let Some(grid) = model.grid() {
        table(frame, body, model, &grid, theme);
    } else {
        overview::draw(frame, body, model, theme);
    }
    if model.absence.is_some() {
        frame.buffer_mut().set_style(body, theme.of(Tone::Dim));
    }
    frame.render_widget(hints(model, theme), keys);
}

fn who(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let (dim, strong) = (theme.of(Tone::Dim), theme.of(Tone::Strong));
    let mut left = Vec::new();
    if let Some(reading) = &model.shown {
        let node = &reading.show.node;
        left = vec![
            Span::styled(printable(&node.name), strong),
            Span::styled("  fabric ", dim),
            Span::raw(printable(&node.fabric)),
            Span::styled("  up ", dim),
            Span::raw(span(node.uptime_seconds)),
        ];
    }
    let how = match model.is_paused {
        true => Span::styled("PAUSED: p goes on", theme.of(Tone::Warning)),
        false => {
            let seconds = model.interval.as_secs_f64();
            Span::styled(format!("every {seconds} s  ? help"), dim)
        }
    };
    let width = u16::try_from(how.width()).unwrap_or(u16::MAX);
    let parts = [Constraint::Min(0), Constraint::Length(width + 1)];
    let [left_area, right_area] = Layout::horizontal(parts).areas(area);
    frame.render_widget(Line::from(left), left_area);
    frame.render_widget(Line::from(how).right_aligned(), right_area);
}

fn summary(model: &Model, theme: Theme) -> Line<'static> {
    let dim = theme.of(Tone::Dim);
    let Some(reading) = &model.shown else {
        return Line::default();
    };
    let show = &reading.show;
    let mut spans = Vec::new();
    let mut tell = |label: &'static str, value: String, tone: Tone| {
        spans.push(Span::styled(label, dim));
        spans.push(Span::styled(value, theme.of(tone)));
    };
    let established = show.peers.iter().filter(|peer| peer.state == "established");
    let (established, peers) = (established.count(), show.peers.len());
    let tone = match established == peers {
        true => Tone::Good,
        false => Tone::Warning,
    };
    tell("sessions ", format!("{established}/{peers}"), tone);
    match &model.rates {
        Some(rates) => {
            let dropped = rates.dropped();
            let tone = match dropped > 0.0 {
                true => Tone::Warning,
                false => Tone::Plain,
            };
            tell("  drops ", format!("{}/s", rate(dropped)), tone);
            let flow = rates.total;
            let both = |of_bits, of_frames| format!("{}/s {}/s", bits(of_bits), rate(of_frames));
            tell("  in ", both(flow.in_bits, flow.in_frames), Tone::Plain);
            tell("  out ", both(flow.out_bits, flow.out_frames), Tone::Plain);
        }
        None => tell("  rates ", "with the next reading".to_owned(), Tone::Dim),
    }
    let umem = show.umem;
    let free = umem.frames_free.saturating_mul(100);
    if let Some(part) = free.checked_div(umem.frames_total) {
        // The last: what a narrow screen cuts off.
        tell("  memory free ", format!("{part} %"), Tone::Plain);
    }
    Line::from(spans)
}

/// The worst thing in words, and how many others there are.
fn condition(model: &Model, theme: Theme, now: Instant) -> Line<'static> {
    let since = |at: Instant| now.saturating_duration_since(at).as_secs();
    if let Some(absence) = &model.absence {
        let text = format!(
            "ENGINE GONE {}, waiting for it: {}",
            span(since(absence.since)),
            absence.why
        );
        // What else is known is of the past.
        return Line::styled(printable(&text), theme.of(Tone::Alarm));
    }
    let mut found = Vec::new();
    if let Some((at, times)) = model.restarted
        && since(at) < RESTART_TOLD
    {
        let noun = if times == 1 { "time" } else { "times" };
        let ago = span(since(at));
        let text = format!("RESTARTED {ago} ago, {times} {noun} since this began: counts are new");
        found.push((Tone::Warning, text));
    }
    if let Some(reading) = &model.shown {
        let age = since(reading.at);
        if !model.is_paused && age > model.interval.as_secs() + LATE {
            let text = format!("NO ANSWER for {}: the engine is slow, or hangs", span(age));
            found.insert(0, (Tone::Warning, text));
        }
        found.extend(alarm_lines(&reading.show));
        found.extend(attention(&reading.show));
    }
    found.extend(model.rates.as_ref().and_then(dropping));
    let Some((tone, text)) = found.first() else {
        return Line::styled("nothing needs attention", theme.of(Tone::Good));
    };
    let more = match found.len() {
        1 => String::new(),
        all => format!("  (and {} more: omni show)", all - 1),
    };
    Line::from(vec![
        Span::styled(printable(text), theme.of(*tone)),
        Span::styled(more, theme.of(Tone::Dim)),
    ])
}

/// What is dropped now, and for which reason most of it.
fn dropping(rates: &Rates) -> Option<(Tone, String)> {
    let drops = rates.drops.iter().filter(|(_, now)| **now > 0.0);
    let (reason, _) = drops.max_by(|one, other| one.1.total_cmp(other.1))?;
    let all = rate(rates.dropped());
    Some((
        Tone::Warning,
        format!("DROPPING {all} frames/s, most of them as {reason}"),
    ))
}

fn titles(model: &Model, theme: Theme) -> Line<'static> {
    let pages = Page::ALL.iter().enumerate();
    let spans = pages.flat_map(|(n, &page)| {
        let style = if page == model.page {
            theme.chosen()
        } else {
            theme.of(Tone::Dim)
        };
        let title = format!(" {} {} ", n + 1, page.title());
        [Span::styled(title, style), Span::raw(" ")]
    });
    Line::from(spans.collect::<Vec<_>>())
}

/// The columns that there is room for, with their widths; the last text takes what is left.
fn columns(heads: &[Head], width: u16) -> Vec<(usize, u16)> {
    let shown = heads
        .iter()
        .enumerate()
        .filter(|(_, head)| head.from <= width);
    let mut shown: Vec<_> = shown.map(|(n, head)| (n, head.width)).collect();
    let taken: u16 = shown.iter().map(|(_, width)| width + GAP).sum();
    if let Some((n, last)) = shown.last_mut()
        && !heads[*n].is_number
    {
        *last += (width + GAP).saturating_sub(taken);
    }
    shown
}

fn table(frame: &mut Frame<'_>, area: Rect, model: &Model, grid: &Grid, theme: Theme) {
    if grid.rows.is_empty() {
        let nothing = match model.page {
            Page::Drops => ("nothing was dropped", Tone::Good),
            _ => ("nothing here", Tone::Dim),
        };
        let line = Line::styled(nothing.0, theme.of(nothing.1));
        return frame.render_widget(line, area);
    }
    let columns = columns(grid.heads, area.width);
    let order = model.order();
    let heads = columns.iter().map(|&(n, _)| {
        let head = &grid.heads[n];
        let tone = if n == order.column {
            Tone::Strong
        } else {
            Tone::Dim
        };
        aligned(head, Line::styled(head.title, theme.of(tone)))
    });
    let heads = Row::new(heads.collect::<Vec<_>>());
    let rows = grid.rows.iter().map(|row| {
        let cells = columns.iter().map(|&(n, _)| {
            let cell = &row.cells[n];
            let line = Line::styled(cell.text.clone(), theme.of(cell.tone));
            aligned(&grid.heads[n], line)
        });
        Row::new(cells.collect::<Vec<_>>())
    });
    let widths = columns.iter().map(|&(_, width)| Constraint::Length(width));
    let table = Table::new(rows, widths)
        .header(heads)
        .column_spacing(GAP)
        .row_highlight_style(theme.chosen());
    let mut state = TableState::default().with_selected(model.chosen(grid));
    frame.render_stateful_widget(table, area, &mut state);
}

fn aligned<'a>(head: &Head, line: Line<'a>) -> Cell<'a> {
    match head.is_number {
        true => Cell::from(line.right_aligned()),
        false => Cell::from(line),
    }
}

/// One row, with its traffic over time below where it has some.
fn opened(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let Some(facts) = facts(model) else {
        let gone = Line::styled("it is gone; Esc goes back", theme.of(Tone::Warning));
        return frame.render_widget(gone, area);
    };
    let lines: Vec<_> = facts
        .iter()
        .map(|(label, value, tone)| {
            Line::from(vec![
                Span::styled(format!("{label:<16}"), theme.of(Tone::Dim)),
                Span::styled(printable(value), theme.of(*tone)),
            ])
        })
        .collect();
    let height = u16::try_from(lines.len() + 1).unwrap_or(u16::MAX);
    let parts = [
        Constraint::Length(height),
        Constraint::Max(6),
        Constraint::Min(0),
    ];
    let [text_area, traffic_area, _] = Layout::vertical(parts).areas(area);
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(text, text_area);
    if model.page != Page::Drops {
        let has_bits = model.page != Page::Queues;
        overview::traffic(frame, traffic_area, &model.opened_history, theme, has_bits);
    }
}

fn help(frame: &mut Frame<'_>, area: Rect, theme: Theme) {
    let keys = HELP.iter().map(|(keys, what)| {
        Line::from(vec![
            Span::styled(format!("  {keys:<18}"), theme.of(Tone::Strong)),
            Span::raw(*what),
        ])
    });
    let about = [
        "",
        "rx and in are towards this node, tx and out away from it. Rates are over the",
        "last reading. Stages: wait for the worker's turn, its work, its sending;",
        "through is all of it. What was dropped counts under one reason alone.",
    ];
    let about = about.map(|line| Line::styled(line, theme.of(Tone::Dim)));
    let lines: Vec<_> = keys.chain(about).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn hints(model: &Model, theme: Theme) -> Line<'static> {
    let text = if model.is_helping || model.opened.is_some() {
        "Esc back  Tab next page  p pause  ? help  q quit".to_owned()
    } else if model.page == Page::Overview {
        "Tab next page  1-5 pages  p pause  ? help  q quit".to_owned()
    } else {
        let order = model.order();
        let by = super::grid::heads(model.page)[order.column].title;
        let way = if order.falling { "falling" } else { "rising" };
        format!("s sort ({by}, {way})  r reverse  Enter open  p pause  ? help  q quit")
    };
    Line::styled(text, theme.of(Tone::Dim))
}
