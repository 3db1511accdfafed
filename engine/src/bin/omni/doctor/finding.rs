//! What `omni doctor` says of one thing.

use std::fmt::Write as _;

use serde::Serialize;

/// How well a thing is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Fine,
    /// It cannot be seen from here.
    Unknown,
    /// The fabric works, but not as well as it could, or not for long.
    Warning,
    /// The engine does not start, or traffic does not pass.
    Broken,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Unknown => "unknown",
            Self::Warning => "WARNING",
            Self::Broken => "BROKEN",
        }
    }

    /// The exit status that tells of it.
    pub(crate) const fn status(self) -> u8 {
        match self {
            Self::Fine | Self::Unknown => 0,
            Self::Warning => 1,
            Self::Broken => 2,
        }
    }
}

/// What was found of one thing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Finding {
    /// Which thing: a word or two.
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    /// What is there, or what is wrong.
    pub(crate) what: String,
    /// Why that matters; empty where all is well.
    pub(crate) why: String,
    /// The command, or the change, that mends it; empty where there is none.
    pub(crate) fix: String,
}

impl Finding {
    fn new(check: &'static str, level: Level, what: impl Into<String>) -> Self {
        Self {
            check,
            level,
            what: what.into(),
            why: String::new(),
            fix: String::new(),
        }
    }

    pub(crate) fn fine(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Level::Fine, what)
    }

    pub(crate) fn unknown(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Level::Unknown, what)
    }

    pub(crate) fn warning(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Level::Warning, what)
    }

    pub(crate) fn broken(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Level::Broken, what)
    }

    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }
}

/// All findings as text: what is wrong with its reason and its remedy.
pub(crate) fn text(findings: &[Finding]) -> String {
    const INDENT: &str = "                        ";
    let mut text = String::new();
    for each in findings {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:8} {:14} {}",
            each.level.word(),
            each.check,
            each.what
        );
        if !each.why.is_empty() {
            let _ = writeln!(text, "{INDENT}why: {}", each.why);
        }
        if !each.fix.is_empty() {
            let _ = writeln!(text, "{INDENT}fix: {}", each.fix);
        }
    }
    text
}

/// The worst of all.
pub(crate) fn worst(findings: &[Finding]) -> Level {
    let levels = findings.iter().map(|each| each.level);
    levels.max().unwrap_or(Level::Fine)
}
