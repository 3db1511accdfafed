//! The first page: traffic over time, latencies by stage, and what is dropped most.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use super::grid::drop_rows;
use super::model::{Model, Order};
use super::theme::Theme;
use crate::rates::Flow;
use crate::report;
use crate::table::Tone;
use crate::units::{bits, count, latency, rate};

/// Rows of the traffic, a title and bars: on the smallest screen, and at most.
const TRAFFIC: (u16, u16) = (5, 14);
/// Rows of latencies: a title, a heading, six stages, and one between.
const LATENCIES: u16 = 9;
/// Rows of the page on the smallest screen.
const SMALLEST: u16 = 19;
/// Reasons that are shown at least.
const DROPS: usize = 4;

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let spare = area.height.saturating_sub(SMALLEST);
    let rows = [
        Constraint::Length((TRAFFIC.0 + spare / 2).min(TRAFFIC.1)),
        Constraint::Length(LATENCIES),
        Constraint::Min(0),
    ];
    let [traffic_area, latency_area, drop_area] = Layout::vertical(rows).areas(area);
    traffic(frame, traffic_area, &model.history, theme, true);
    let lines = latencies(model, theme);
    frame.render_widget(Paragraph::new(lines), latency_area);
    let most = usize::from(drop_area.height).saturating_sub(1).max(DROPS);
    frame.render_widget(Paragraph::new(drops(model, theme, most)), drop_area);
}

/// Two lines of traffic side by side: in and out. Bits where there are some, else frames.
pub(super) fn traffic(
    frame: &mut Frame<'_>,
    area: Rect,
    history: &VecDeque<Flow>,
    theme: Theme,
    has_bits: bool,
) {
    let halves = [
        Constraint::Fill(1),
        Constraint::Length(2),
        Constraint::Fill(1),
    ];
    let [left, _, right] = Layout::horizontal(halves).areas(area);
    type Half = (&'static str, fn(&Flow) -> f64, fn(&Flow) -> f64);
    let into: Half = ("in", |flow| flow.in_bits, |flow| flow.in_frames);
    let out: Half = ("out", |flow| flow.out_bits, |flow| flow.out_frames);
    for (half, (title, bits_of, frames_of)) in [(left, into), (right, out)] {
        let of = if has_bits { bits_of } else { frames_of };
        let write = if has_bits { bits } else { rate };
        let what = if has_bits { "" } else { " frames" };
        let peak = history.iter().map(of).fold(0.0, f64::max);
        let now = history.back().map_or(0.0, of);
        let [head, bars] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(half);
        let words = format!("{what} {}/s, at most {}/s", write(now), write(peak));
        let head_line = Line::from(vec![
            Span::styled(title, theme.of(Tone::Strong)),
            Span::styled(words, theme.of(Tone::Dim)),
        ]);
        frame.render_widget(Paragraph::new(head_line), head);
        // The newest stands on the right.
        let seen = history.iter().rev().take(usize::from(bars.width));
        let mut seen: Vec<u64> = seen.map(|flow| of(flow).round() as u64).collect();
        seen.resize(usize::from(bars.width), 0);
        seen.reverse();
        let line = Sparkline::default().data(seen).style(theme.line());
        frame.render_widget(line, bars);
    }
}

/// How long frames took, stage by stage.
fn latencies(model: &Model, theme: Theme) -> Vec<Line<'static>> {
    let dim = theme.of(Tone::Dim);
    let title = Span::styled("latency by stage", theme.of(Tone::Strong));
    let Some(stages) = &model.stages else {
        let told = Span::styled("  not told by this engine", dim);
        return vec![Line::from(vec![title, told])];
    };
    let over = match &model.rates {
        Some(rates) => format!("  over the last {:.1} s", rates.seconds),
        None => "  since the engine started".to_owned(),
    };
    let heads = ["frames", "p50", "p90", "p99", "p99.9", "max"];
    let heads = heads.map(|head| format!("{head:>9}")).concat();
    let mut lines = vec![
        Line::from(vec![title, Span::styled(over, dim)]),
        Line::styled(format!("{:<8} {:<12}{heads}", "stage", "frames from"), dim),
    ];
    for part in report::merge(std::slice::from_ref(stages)) {
        let seen = part.histogram.percentiles();
        let cells = match seen.count {
            0 => ["-"; 6].map(str::to_owned),
            _ => [
                count(seen.count),
                latency(seen.p50),
                latency(seen.p90),
                latency(seen.p99),
                latency(seen.p999),
                latency(seen.max),
            ],
        };
        let cells = cells.map(|cell| format!("{cell:>9}")).concat();
        let tone = if seen.count == 0 {
            Tone::Dim
        } else {
            Tone::Plain
        };
        lines.push(Line::styled(
            format!("{:<8} {:<12}{cells}", part.stage.as_str(), part.from()),
            theme.of(tone),
        ));
    }
    lines
}

/// The reasons that most is dropped for now.
fn drops(model: &Model, theme: Theme, most: usize) -> Vec<Line<'static>> {
    let title = Span::styled("drops", theme.of(Tone::Strong));
    let Some(reading) = &model.shown else {
        return vec![Line::from(title)];
    };
    let rows = drop_rows(&reading.show, model.rates.as_ref());
    if rows.is_empty() {
        let none = Span::styled("  nothing was dropped", theme.of(Tone::Good));
        return vec![Line::from(vec![title, none])];
    }
    let heads = super::grid::heads(super::model::Page::Drops);
    let mut grid = super::grid::Grid { heads, rows };
    // By their counts, and then by what happens now: the order before stays among equals.
    for column in [1, 2] {
        let falling = true;
        grid.sort(Order { column, falling });
    }
    let rest = match grid.rows.len().checked_sub(most) {
        Some(more @ 1..) => format!("  and {more} more reasons: page 5"),
        _ => String::new(),
    };
    let head = Line::from(vec![title, Span::styled(rest, theme.of(Tone::Dim))]);
    let rows = grid.rows.iter().take(most).map(|row| {
        let [reason, times, now, meaning] = [0, 1, 2, 3].map(|n| &row.cells[n]);
        Line::from(vec![
            Span::raw(format!("{:<24}{:>8}", reason.text, times.text)),
            Span::styled(format!("{:>8}/s", now.text), theme.of(now.tone)),
            Span::styled(format!("  {}", meaning.text), theme.of(Tone::Dim)),
        ])
    });
    std::iter::once(head).chain(rows).collect()
}
