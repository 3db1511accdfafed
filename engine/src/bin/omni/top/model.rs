//! What is known of the engine, and what is looked at. Pure: news and keys in; nothing is drawn and
//! no clock is read.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use omni_engine::stages::NodeStages;

use super::grid::{self, Grid};
use crate::rates::{Flow, Rates, Reading, stages_between};

/// Rates that are kept: a wide screen's worth.
const HISTORY: usize = 240;

/// News.
#[derive(Debug)]
pub(super) enum Told {
    /// The engine answered.
    Reading(Box<Reading>),
    /// It did not.
    Gone {
        /// When that was found.
        at: Instant,
        /// In words for people.
        why: String,
    },
    /// It is time to end.
    End,
}

/// A page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Page {
    Overview,
    Peers,
    Queues,
    Ports,
    Drops,
}

impl Page {
    /// In their order on the screen.
    pub(super) const ALL: [Self; 5] = [
        Self::Overview,
        Self::Peers,
        Self::Queues,
        Self::Ports,
        Self::Drops,
    ];

    /// Its title.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Peers => "Peers",
            Self::Queues => "Queues",
            Self::Ports => "Ports",
            Self::Drops => "Drops",
        }
    }

    fn place(self) -> usize {
        Self::ALL.iter().position(|&page| page == self).unwrap_or(0)
    }
}

/// How a table is ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Order {
    /// By which column.
    pub(super) column: usize,
    /// The greatest first.
    pub(super) falling: bool,
}

/// What a table remembers while others are looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// How it is ordered.
    pub(super) order: Order,
    /// The chosen row's name: it stays chosen when rows change places.
    chosen: Option<String>,
    /// Where that was, for when it is gone.
    at: usize,
}

/// An engine that does not answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Absence {
    /// Since when.
    pub(super) since: Instant,
    /// Why, in words.
    pub(super) why: String,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Model {
    /// Between two readings.
    pub(super) interval: Duration,
    /// What is shown.
    pub(super) shown: Option<Reading>,
    /// What happened before that.
    pub(super) rates: Option<Rates>,
    /// How long frames took then; since the start where that is not known.
    pub(super) stages: Option<NodeStages>,
    /// The last one told, be it shown or not.
    newest: Option<Reading>,
    /// Traffic with all peers, the newest last.
    pub(super) history: VecDeque<Flow>,
    /// Traffic of what is looked into, the same way.
    pub(super) opened_history: VecDeque<Flow>,
    /// It does not answer.
    pub(super) absence: Option<Absence>,
    /// When it was found to be another run of the engine, and how often.
    pub(super) restarted: Option<(Instant, u32)>,
    /// Nothing new is shown.
    pub(super) is_paused: bool,
    /// The keys are explained.
    pub(super) is_helping: bool,
    /// The page that is looked at.
    pub(super) page: Page,
    /// The row that is looked into, by its name.
    pub(super) opened: Option<String>,
    places: BTreeMap<Page, Place>,
    is_over: bool,
}

impl Model {
    /// Nothing is known yet.
    pub(super) fn new(interval: Duration) -> Self {
        let places = Page::ALL.map(|page| {
            let place = Place {
                order: grid::first_order(page),
                chosen: None,
                at: 0,
            };
            (page, place)
        });
        Self {
            interval,
            shown: None,
            rates: None,
            stages: None,
            newest: None,
            history: VecDeque::new(),
            opened_history: VecDeque::new(),
            absence: None,
            restarted: None,
            is_paused: false,
            is_helping: false,
            page: Page::Overview,
            opened: None,
            places: BTreeMap::from(places),
            is_over: false,
        }
    }

    /// Takes news in.
    pub(super) fn tell(&mut self, news: Told) {
        match news {
            Told::Reading(reading) => self.take(*reading),
            Told::Gone { at, why } => {
                let since = self.absence.take().map_or(at, |absence| absence.since);
                self.absence = Some(Absence { since, why });
            }
            Told::End => self.is_over = true,
        }
    }

    fn take(&mut self, reading: Reading) {
        self.absence = None;
        let before = self.newest.replace(reading.clone());
        let is_another = before
            .as_ref()
            .is_some_and(|before| reading.is_another_run(before));
        if is_another {
            let times = self.restarted.map_or(0, |(_, times)| times);
            self.restarted = Some((reading.at, times + 1));
            self.history.clear();
            self.opened_history.clear();
        }
        if self.is_paused {
            return;
        }
        let rates = before
            .as_ref()
            .and_then(|before| Rates::between(before, &reading));
        if let Some(rates) = &rates {
            keep(&mut self.history, rates.total);
            let opened = self.opened.as_ref();
            if let Some(flow) = opened.and_then(|name| grid::flow(self.page, rates, name)) {
                keep(&mut self.opened_history, flow);
            }
        }
        self.stages = stages_between(before.as_ref(), &reading);
        self.rates = rates;
        self.shown = Some(reading);
    }

    /// Whether it is time to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Ends.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// Goes to a page.
    pub(super) fn go(&mut self, page: Page) {
        self.close();
        self.page = page;
    }

    /// Goes so many pages on; there is one after the last.
    pub(super) fn go_on(&mut self, by: isize) {
        let count = Page::ALL.len() as isize;
        let place = (self.page.place() as isize + by).rem_euclid(count);
        self.go(Page::ALL[place as usize]);
    }

    /// What the page has, in order; `None` where it is no table, and before anything is known.
    pub(super) fn grid(&self) -> Option<Grid> {
        let mut grid = grid::of(self)?;
        grid.sort(self.order());
        Some(grid)
    }

    /// How the page is ordered.
    pub(super) fn order(&self) -> Order {
        self.place().order
    }

    fn place(&self) -> &Place {
        &self.places[&self.page]
    }

    /// Changes what the page remembers.
    fn place_mut(&mut self) -> Option<&mut Place> {
        self.places.get_mut(&self.page)
    }

    /// The chosen row: where the one chosen is now, or as near as can be to where it was.
    pub(super) fn chosen(&self, grid: &Grid) -> Option<usize> {
        let place = self.place();
        let mut rows = grid.rows.iter();
        let found = rows.position(|row| Some(&row.name) == place.chosen.as_ref());
        let last = grid.rows.len().checked_sub(1)?;
        Some(found.unwrap_or(place.at).min(last))
    }

    /// Chooses the row so many further on.
    pub(super) fn choose(&mut self, by: isize) {
        let Some(grid) = self.grid() else { return };
        let Some(at) = self.chosen(&grid) else { return };
        let last = grid.rows.len() - 1;
        let at = at.saturating_add_signed(by).min(last);
        let name = grid.rows[at].name.clone();
        if let Some(place) = self.place_mut() {
            (place.chosen, place.at) = (Some(name), at);
        }
    }

    /// Orders by the next column: numbers begin with the greatest, names with the first.
    pub(super) fn order_by_next(&mut self) {
        let heads = grid::heads(self.page);
        if heads.is_empty() {
            return;
        }
        if let Some(place) = self.place_mut() {
            let column = (place.order.column + 1) % heads.len();
            let falling = heads[column].is_number;
            place.order = Order { column, falling };
        }
    }

    /// Orders the other way round.
    pub(super) fn turn_order(&mut self) {
        if let Some(place) = self.place_mut() {
            place.order.falling = !place.order.falling;
        }
    }

    /// Looks into the chosen row.
    pub(super) fn open(&mut self) {
        let Some(grid) = self.grid() else { return };
        if let Some(at) = self.chosen(&grid) {
            self.opened = Some(grid.rows[at].name.clone());
            self.opened_history.clear();
            self.choose(0);
        }
    }

    /// Goes back to the page.
    pub(super) fn close(&mut self) {
        self.opened = None;
        self.is_helping = false;
    }

    /// Holds still, or goes on.
    pub(super) fn pause(&mut self) {
        self.is_paused = !self.is_paused;
    }

    /// Explains the keys, or no longer.
    pub(super) fn help(&mut self) {
        self.is_helping = !self.is_helping;
    }
}

fn keep(history: &mut VecDeque<Flow>, flow: Flow) {
    if history.len() == HISTORY {
        history.pop_front();
    }
    history.push_back(flow);
}
