//! The model from readings and keys, and the screens from the model.

use std::time::{Duration, Instant};

use omni_engine::stages::{Histogram, NodeStages, QueueStages, Side, WorkerStages};
use omni_engine::stats::Latency;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use super::draw::draw;
use super::keys::press;
use super::model::{Model, Page, Told};
use super::theme::Theme;
use crate::rates::Reading;
use crate::render::tests::sample;

/// Readings of one engine, a second from each other.
struct Engine {
    start: Instant,
    seconds: u64,
    uptime_seconds: u64,
    /// Frames and octets of beta, both ways, and drops.
    frames: u64,
    times: Latency,
}

impl Engine {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            seconds: 0,
            uptime_seconds: 11_533,
            frames: 0,
            times: Latency::default(),
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.seconds)
    }

    /// A second later, `frames` more of 1000 octets passed, each within `nanoseconds`.
    fn next(&mut self, frames: u64, nanoseconds: u64) -> Told {
        self.seconds += 1;
        self.uptime_seconds += 1;
        self.frames += frames;
        let (from, to) = (omni_wire::Instant(0), omni_wire::Instant(nanoseconds));
        self.times.record_many(from, to, frames);
        let mut show = sample();
        show.alarms.clear();
        show.node.uptime_seconds = self.uptime_seconds;
        let beta = &mut show.peers[0];
        beta.rx_frames += self.frames;
        beta.rx_bytes += self.frames * 1_000;
        show.queues[0].rx_frames += self.frames;
        show.ports[0].rx_bytes += self.frames * 1_000;
        show.drops
            .insert("bad_tag".to_owned(), 3 + self.frames / 10);
        Told::Reading(Box::new(Reading {
            at: self.now(),
            show,
            stages: Some(self.stages()),
        }))
    }

    fn stages(&self) -> NodeStages {
        let times = Histogram::from(&self.times);
        NodeStages {
            node: "alpha".to_owned(),
            public_key: "key".to_owned(),
            uptime_seconds: self.uptime_seconds,
            workers: vec![WorkerStages {
                worker: 0,
                core: Some(2),
                queues: vec![QueueStages {
                    port: "eth0".to_owned(),
                    side: Side::Underlay,
                    queue: 0,
                    mode: "native".to_owned(),
                    wait: times.clone(),
                    through: times.clone(),
                }],
                work: times.clone(),
                send: times,
            }],
        }
    }

    /// It was started again.
    fn restart(&mut self) {
        (self.uptime_seconds, self.frames) = (0, 0);
        self.times = Latency::default();
    }
}

/// A model that saw an engine for two seconds.
fn watched() -> (Model, Engine) {
    let mut model = Model::new(Duration::from_secs(1));
    let mut engine = Engine::new();
    model.tell(engine.next(0, 1_000));
    model.tell(engine.next(125, 20_000));
    (model, engine)
}

fn keys(model: &mut Model, keys: &[KeyCode]) {
    for &code in keys {
        press(model, KeyEvent::new(code, KeyModifiers::NONE));
    }
}

fn screen_of(model: &Model, now: Instant, (width, height): (u16, u16)) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
    let drawn = terminal.draw(|frame| draw(frame, model, Theme::new(true), now));
    drawn.expect("it is drawn");
    terminal
}

/// The screen as lines without the blanks at their ends.
fn lines_at(model: &Model, now: Instant, size: (u16, u16)) -> Vec<String> {
    let terminal = screen_of(model, now, size);
    let buffer = terminal.backend().buffer();
    let rows = (0..size.1).map(|y| {
        let symbols = (0..size.0).map(|x| buffer[(x, y)].symbol());
        symbols.collect::<String>().trim_end().to_owned()
    });
    rows.collect()
}

fn lines(model: &Model, engine: &Engine) -> Vec<String> {
    lines_at(model, engine.now(), (80, 24))
}

#[test]
fn the_first_page_has_rates_stages_and_drops() {
    let (model, engine) = watched();
    let seen = lines(&model, &engine);
    let text = seen.join("\n");
    assert!(
        seen[0].starts_with("alpha  fabric lab  up 3h 12m"),
        "{text}"
    );
    assert!(seen[0].ends_with("every 1 s  ? help"), "{text}");
    let sums = "sessions 1/2  drops 12/s  in 1.0 Mbit/s 125/s  out 0 bit/s 0/s  memory free 74 %";
    assert!(seen[1].starts_with(sums), "{text}");
    assert_eq!(seen[2], "DROPPING 12 frames/s, most of them as bad_tag");
    assert_eq!(
        seen[3],
        " 1 Overview   2 Peers   3 Queues   4 Ports   5 Drops"
    );
    assert!(
        seen[4].starts_with("in 1.0 Mbit/s, at most 1.0 Mbit/s"),
        "{text}"
    );
    assert!(
        seen[9].starts_with("latency by stage  over the last 1.0 s"),
        "{text}"
    );
    // Of this second alone: what took 1 us before is not in it.
    let work = seen
        .iter()
        .find(|line| line.starts_with("work "))
        .expect("a stage");
    let words: Vec<_> = work.split_whitespace().collect();
    assert_eq!(words[..3], ["work", "both", "125"], "{text}");
    assert!(words[3].starts_with("20."), "{text}");
    let drops: Vec<_> = seen
        .iter()
        .skip_while(|line| !line.starts_with("drops"))
        .collect();
    assert!(
        drops[1].starts_with("bad_tag "),
        "what grows comes first: {text}"
    );
    assert!(drops[1].contains("12/s  Poly1305"), "{text}");
    assert!(
        drops[2].starts_with("no_destination "),
        "then the most: {text}"
    );
}

#[test]
fn tables_are_ordered_by_any_column_and_the_chosen_row_stays_chosen() {
    let (mut model, mut engine) = watched();
    keys(&mut model, &[KeyCode::Char('2')]);
    let names = |model: &Model| {
        let grid = model.grid().expect("a table");
        let chosen = model.chosen(&grid).expect("a row");
        let rows = grid.rows.iter();
        let names: Vec<_> = rows.map(|row| row.cells[0].text.clone()).collect();
        (names.join(" "), grid.rows[chosen].cells[0].text.clone())
    };
    let pair = |order: &str, chosen: &str| (order.to_owned(), chosen.to_owned());
    assert_eq!(
        names(&model),
        pair("beta gamma", "beta"),
        "the busiest first"
    );
    keys(&mut model, &[KeyCode::Down, KeyCode::Char('r')]);
    assert_eq!(
        names(&model),
        pair("gamma beta", "gamma"),
        "it went up with its row"
    );
    for _ in 0..model.grid().expect("a table").heads.len() - 2 {
        keys(&mut model, &[KeyCode::Char('s')]);
    }
    assert_eq!(
        model.order().column,
        0,
        "after the last column comes the first"
    );
    assert_eq!(names(&model), pair("beta gamma", "gamma"), "names rise");
    // The chosen one goes; the nearest takes its place.
    let Told::Reading(mut reading) = engine.next(1, 1) else {
        unreachable!("a reading was made")
    };
    reading.show.peers.remove(1);
    model.tell(Told::Reading(reading));
    assert_eq!(names(&model), pair("beta", "beta"));
    keys(
        &mut model,
        &[KeyCode::End, KeyCode::Home, KeyCode::PageDown],
    );
    assert_eq!(names(&model), pair("beta", "beta"));
}

#[test]
fn a_peer_and_a_queue_are_looked_into_and_left_again() {
    let (mut model, mut engine) = watched();
    keys(&mut model, &[KeyCode::Char('2'), KeyCode::Enter]);
    model.tell(engine.next(250, 20_000));
    let text = lines(&model, &engine).join("\n");
    let facts = [
        "key             hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=",
        "endpoint        192.0.2.2:51820",
        "state           established",
        "MAC addresses   02:00:00:00:00:02",
        "IP addresses    2001:db8::2",
        "in 2.0 Mbit/s, at most 2.0 Mbit/s",
    ];
    for fact in facts {
        assert!(text.contains(fact), "{fact} in {text}");
    }
    keys(&mut model, &[KeyCode::Esc, KeyCode::Tab, KeyCode::Enter]);
    model.tell(engine.next(100, 50_000));
    let text = lines(&model, &engine).join("\n");
    for fact in [
        "eth0 queue 0",
        "worker          0, core 2",
        "through         p50 50.",
    ] {
        assert!(text.contains(fact), "{fact} in {text}");
    }
    assert!(text.contains("in frames 100/s, at most 100/s"), "{text}");
    keys(&mut model, &[KeyCode::Esc]);
    assert!(lines(&model, &engine)[4].starts_with("port "));
    for (page, fact) in [('4', "made "), ('5', "meaning ")] {
        keys(&mut model, &[KeyCode::Char(page), KeyCode::Enter]);
        let text = lines(&model, &engine).join("\n");
        assert!(text.contains(fact), "{text}");
    }
}

#[test]
fn an_engine_that_ends_is_waited_for_and_one_that_comes_back_is_told_as_another() {
    let (mut model, mut engine) = watched();
    let why = "nobody listens at /run/omni/alpha.sock: is the engine running?";
    for _ in 0..2 {
        model.tell(Told::Gone {
            at: engine.now(),
            why: why.to_owned(),
        });
        engine.seconds += 5;
    }
    let seen = lines_at(&model, engine.now(), (120, 24));
    assert_eq!(seen[2], format!("ENGINE GONE 10s, waiting for it: {why}"));
    assert!(
        seen[1].contains("in 1.0 Mbit/s"),
        "the past stays: {}",
        seen[1]
    );
    let terminal = screen_of(&model, engine.now(), (120, 24));
    assert_eq!(terminal.backend().buffer()[(0, 2)].fg, Color::Red);
    engine.restart();
    model.tell(engine.next(5, 1_000));
    let seen = lines(&model, &engine);
    let told = "RESTARTED 0s ago, 1 time since this began: counts are new";
    assert_eq!(seen[2], told);
    assert!(
        seen[1].contains("  rates with the next reading  "),
        "{}",
        seen[1]
    );
    assert!(model.history.is_empty(), "the line begins anew");
    model.tell(engine.next(125, 1_000));
    assert!(lines(&model, &engine)[1].contains("in 1.0 Mbit/s 125/s"));
    model.tell(engine.next(0, 1_000));
    assert!(lines(&model, &engine)[2].starts_with("RESTARTED 2s ago"));
    let late = engine.now() + Duration::from_secs(5);
    let told = "NO ANSWER for 5s: the engine is slow, or hangs  (and 1 more: omni show)";
    assert_eq!(lines_at(&model, late, (80, 24))[2], told);
    engine.seconds += 60;
    engine.uptime_seconds += 60;
    model.tell(engine.next(0, 1_000));
    assert_eq!(lines(&model, &engine)[2], "nothing needs attention");
}

#[test]
fn nothing_moves_while_it_is_paused_and_what_follows_is_of_one_reading() {
    let (mut model, mut engine) = watched();
    keys(&mut model, &[KeyCode::Char('p')]);
    let before = lines(&model, &engine);
    assert!(before[0].ends_with("PAUSED: p goes on"), "{}", before[0]);
    model.tell(engine.next(9_000, 1_000));
    assert_eq!(lines(&model, &engine)[1..], before[1..]);
    keys(&mut model, &[KeyCode::Char('p')]);
    model.tell(engine.next(250, 1_000));
    assert!(lines(&model, &engine)[1].contains("in 2.0 Mbit/s 250/s"));
}

#[test]
fn what_needs_attention_is_said_in_words_with_the_number_of_the_others() {
    let (mut model, mut engine) = watched();
    let Told::Reading(mut reading) = engine.next(1, 1) else {
        unreachable!("a reading was made")
    };
    reading.show.peers[1].state = "handshaking".to_owned();
    reading.show.ports[0].state = "down".to_owned();
    model.tell(Told::Reading(reading));
    let seen = lines(&model, &engine);
    assert_eq!(
        seen[2],
        "ALARM  underlay eth0 is down  (and 1 more: omni show)"
    );
}

#[test]
fn pages_follow_each_other_round_and_help_covers_them() {
    let (mut model, engine) = watched();
    let mut pages = Vec::new();
    for _ in 0..Page::ALL.len() {
        pages.push(model.page);
        keys(&mut model, &[KeyCode::Right]);
    }
    assert_eq!(pages, Page::ALL);
    keys(&mut model, &[KeyCode::Left]);
    assert_eq!(model.page, Page::Drops);
    keys(&mut model, &[KeyCode::Char('?'), KeyCode::Down]);
    let text = lines(&model, &engine).join("\n");
    assert!(text.contains("  q, Ctrl-C         quit"), "{text}");
    keys(&mut model, &[KeyCode::Char('?')]);
    assert!(lines(&model, &engine)[4].starts_with("reason "));
    assert!(!model.is_over());
    press(
        &mut model,
        KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL),
    );
    assert!(model.is_over());
}

#[test]
fn every_page_fits_every_size_and_too_small_a_screen_says_what_is_needed() {
    let (mut model, engine) = watched();
    for page in '1'..='5' {
        keys(&mut model, &[KeyCode::Char(page)]);
        for size in [(80, 24), (81, 25), (100, 30), (140, 50), (250, 80)] {
            let seen = lines_at(&model, engine.now(), size);
            assert!(
                seen[usize::from(size.1) - 1].contains("q quit"),
                "{seen:#?}"
            );
        }
        let text = lines_at(&model, engine.now(), (79, 24)).join(" ");
        assert!(
            text.contains("needs 80 by 24 characters; here are 79 by 24"),
            "{text}"
        );
        lines_at(&model, engine.now(), (1, 1));
    }
}

#[test]
fn before_anything_is_known_nothing_is_claimed() {
    let mut model = Model::new(Duration::from_millis(500));
    let engine = Engine::new();
    for page in '1'..='5' {
        keys(
            &mut model,
            &[KeyCode::Char(page), KeyCode::Down, KeyCode::Enter],
        );
        let text = lines(&model, &engine).join("\n");
        assert!(text.contains("every 0.5 s"), "{text}");
    }
}
