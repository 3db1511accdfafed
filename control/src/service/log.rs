//! The log of a service: on stderr, as text or as JSON, without more of one kind than people read.
//!
//! What is said is told apart by the place in the source that says it. Of the warnings and errors
//! of one place, [`TOLD_MAX`] within [`SPAN`] are told. How many were left out is told afterwards.

use std::fmt;
use std::io::{IsTerminal as _, stderr};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, callsite, warn};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt as lines};

/// The environment's variable that has a [`Filter`].
pub const VARIABLE: &str = "OMNI_LOG";
/// Warnings and errors of one kind that are told within [`SPAN`].
pub const TOLD_MAX: u32 = 10;
/// Over how long they are counted.
pub const SPAN: Duration = Duration::from_secs(10);

/// The most of a message that is kept, to say later what was left out, in letters.
const MESSAGE_MAX: usize = 120;

/// How lines of the log are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// An object of JSON a line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("it is text or json".to_owned()),
        }
    }
}

/// What is worth a line: a level, or levels by module, such as `info,omni_control=debug`.
#[derive(Clone, Debug)]
pub struct Filter(String);

impl FromStr for Filter {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        match EnvFilter::try_new(words) {
            Ok(_) => Ok(Self(words.to_owned())),
            Err(_) => Err("it is error, warn, info, debug or trace".to_owned()),
        }
    }
}

/// Begins to write everything that is worth it by `filter`, by [`VARIABLE`] where there is none,
/// and by `info` where neither is. To be called once, before anything is said.
pub fn start(format: Format, filter: Option<&Filter>) {
    let filter = filter.and_then(|Filter(words)| EnvFilter::try_new(words).ok());
    let filter = filter.or_else(|| EnvFilter::try_from_env(VARIABLE).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new("info"));
    let all = tracing_subscriber::registry().with(filter).with(Rare);
    let lines = lines::layer()
        .with_writer(stderr)
        // Where the log has no room left it goes on without: to say so on stderr would panic.
        .log_internal_errors(false)
        .with_target(false);
    match format {
        Format::Text => all.with(lines.with_ansi(stderr().is_terminal())).init(),
        Format::Json => {
            let lines = lines.with_ansi(false).json().flatten_event(true);
            let lines = lines.with_current_span(false).with_span_list(false);
            all.with(lines).init();
        }
    }
}

/// Tells what was left out, once its time is over. To be called about every second.
pub fn tell_left_out() {
    let over = LIMITER.over(Instant::now());
    for LeftOut { count, like } in over {
        let seconds = SPAN.as_secs();
        warn!(count, like, seconds, "more of one kind was left out");
    }
}

/// How many lines were left out since the start.
#[must_use]
pub fn left_out() -> u64 {
    LIMITER.left_out.load(Ordering::Relaxed)
}

/// Of all that is said in this process.
static LIMITER: Limiter = Limiter {
    kinds: Mutex::new(Vec::new()),
    left_out: AtomicU64::new(0),
};

/// How much of each kind was told lately. There are as many kinds as places in the source.
#[derive(Debug)]
struct Limiter {
    kinds: Mutex<Vec<(callsite::Identifier, Lately)>>,
    left_out: AtomicU64,
}

/// What there was of one kind.
#[derive(Debug)]
struct Lately {
    since: Instant,
    told: u32,
    left_out: u64,
    /// The last message that was left out.
    like: String,
}

/// What was not told of one kind.
#[derive(Clone, PartialEq, Eq, Debug)]
struct LeftOut {
    count: u64,
    like: String,
}

impl Limiter {
    fn kinds(&self) -> MutexGuard<'_, Vec<(callsite::Identifier, Lately)>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more of this kind is told.
    fn admit(
        &self,
        now: Instant,
        kind: callsite::Identifier,
        like: impl FnOnce() -> String,
    ) -> bool {
        let mut kinds = self.kinds();
        let lately = kinds.iter_mut().find(|(other, _)| *other == kind);
        let Some((_, lately)) = lately else {
            let lately = Lately {
                since: now,
                told: 1,
                left_out: 0,
                like: String::new(),
            };
            kinds.push((kind, lately));
            return true;
        };
        // With something left out, it begins anew once that was told.
        if now.duration_since(lately.since) >= SPAN && lately.left_out == 0 {
            (lately.since, lately.told) = (now, 0);
        }
        if lately.told < TOLD_MAX {
            lately.told += 1;
            return true;
        }
        if lately.left_out == 0 {
            lately.like = like();
        }
        lately.left_out += 1;
        self.left_out.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// What was left out over a time that is over.
    fn over(&self, now: Instant) -> Vec<LeftOut> {
        let mut kinds = self.kinds();
        let over = |lately: &Lately| now.duration_since(lately.since) >= SPAN;
        let told = kinds.extract_if(.., |(_, lately)| over(lately));
        told.filter(|(_, lately)| lately.left_out > 0)
            .map(|(_, lately)| LeftOut {
                count: lately.left_out,
                like: lately.like,
            })
            .collect()
    }
}

/// Leaves out what there is too much of.
struct Rare;

impl<S: Subscriber> Layer<S> for Rare {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // What was left out is told in any case.
        if *metadata.level() > Level::WARN || metadata.target() == module_path!() {
            return true;
        }
        LIMITER.admit(Instant::now(), metadata.callsite(), || {
            let mut message = Message::default();
            event.record(&mut message);
            message.0
        })
    }
}

/// An event's message without its fields.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}").chars().take(MESSAGE_MAX).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::Callsite;
    use tracing::callsite::DefaultCallsite;

    use super::*;

    /// The identities of two places in this source.
    fn kinds() -> [callsite::Identifier; 2] {
        static ONE: DefaultCallsite = DefaultCallsite::new(&METADATA_ONE);
        static METADATA_ONE: tracing::Metadata<'static> = tracing::metadata! {
            name: "one", target: "test", level: Level::WARN, fields: &[],
            callsite: &ONE, kind: tracing::metadata::Kind::EVENT
        };
        static TWO: DefaultCallsite = DefaultCallsite::new(&METADATA_TWO);
        static METADATA_TWO: tracing::Metadata<'static> = tracing::metadata! {
            name: "two", target: "test", level: Level::WARN, fields: &[],
            callsite: &TWO, kind: tracing::metadata::Kind::EVENT
        };
        [&ONE, &TWO].map(|place| place.metadata().callsite())
    }

    fn limiter() -> Limiter {
        Limiter {
            kinds: Mutex::default(),
            left_out: AtomicU64::new(0),
        }
    }

    #[test]
    fn of_one_kind_a_few_are_told_and_then_how_many_were_not() {
        let (limiter, [one, two], start) = (limiter(), kinds(), Instant::now());
        let admit = |after, kind: &callsite::Identifier| {
            let like = || "like this".to_owned();
            limiter.admit(start + Duration::from_secs(after), kind.clone(), like)
        };
        let told = (0..30).filter(|_| admit(1, &one)).count();
        assert_eq!(told, TOLD_MAX as usize);
        assert!(admit(1, &two), "another kind has an account of its own");
        assert_eq!(limiter.over(start + Duration::from_secs(10)), []);
        let over = limiter.over(start + Duration::from_secs(11));
        let want = LeftOut {
            count: 20,
            like: "like this".to_owned(),
        };
        assert_eq!(over, [want]);
        assert_eq!(limiter.over(start + Duration::from_secs(12)), []);
        assert!(admit(12, &one), "from then on it is told again");
        assert_eq!(limiter.left_out.load(Ordering::Relaxed), 20);
    }

    #[test]
    fn what_is_said_now_and_then_is_always_told() {
        let (limiter, [one, _], start) = (limiter(), kinds(), Instant::now());
        for seconds in 0..1000 {
            let now = start + Duration::from_secs(seconds);
            assert!(limiter.admit(now, one.clone(), String::new), "{seconds}");
        }
        assert_eq!(limiter.kinds().len(), 1);
    }

    #[test]
    fn words_that_are_none_are_refused() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert!("xml".parse::<Format>().is_err());
        assert!("info,omni_control=debug".parse::<Filter>().is_ok());
        assert!("loud=very".parse::<Filter>().is_err());
    }
}
