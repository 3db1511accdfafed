//! How many instructions a frame may take, as recorded in `perf/budgets.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::disclosure::{COMPILER, TARGET};

/// More than this share beyond a budget is a failure: a compiler's choices move by less.
const BEYOND: f64 = 0.03;
/// Less than this share below it, the budget is no longer one.
const BELOW: f64 = 0.05;

/// Budgets, and what they hold for. Compilers differ, and so do their optimisations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budgets {
    compiler: String,
    target: String,
    /// Of programs as they are installed.
    release: BTreeMap<String, f64>,
    /// Of programs as they are tested, with debug assertions.
    test: BTreeMap<String, f64>,
}

/// What a count is by its budget.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Within,
    /// So far below that the budget should follow.
    Below,
    /// More than is allowed, or there is no budget: which of them.
    Beyond(String),
}

/// Holds a count against a budget.
pub(super) fn judge(own: f64, budget: Option<f64>) -> Verdict {
    let Some(budget) = budget else {
        return Verdict::Beyond("and no budget is recorded".to_owned());
    };
    let share = own / budget - 1.0;
    if share > BEYOND {
        let (percent, most) = (100.0 * share, 100.0 * BEYOND);
        Verdict::Beyond(format!(
            "{percent:.1} % beyond {budget:.1}, allowed are {most} %"
        ))
    } else if share < -BELOW {
        Verdict::Below
    } else {
        Verdict::Within
    }
}

impl Budgets {
    /// Those that this program was built with.
    pub(super) fn recorded() -> Result<Self, Failure> {
        let text = include_str!("../../budgets.json");
        serde_json::from_str(text).map_err(|error| format!("perf/budgets.json: {error}").into())
    }

    /// Whether they say anything of this program.
    pub(super) fn hold_here(&self) -> bool {
        self.compiler == COMPILER && self.target == TARGET
    }

    /// What they hold for.
    pub(super) fn recorded_with(&self) -> String {
        format!("{} for {}", self.compiler, self.target)
    }

    /// The budget of this name for a program that was built as this one.
    pub(super) fn of(&self, name: &str) -> Option<f64> {
        let budgets = if cfg!(debug_assertions) {
            &self.test
        } else {
            &self.release
        };
        budgets.get(name).copied()
    }

    /// Writes counts as budgets of programs that are built as this one. Those of the other sort
    /// stay, unless they are another compiler's.
    pub(super) fn record(
        &self,
        path: &Path,
        counted: BTreeMap<String, f64>,
    ) -> Result<(), Failure> {
        let rounded = counted.into_iter();
        let counted = rounded.map(|(name, own)| (name, (own * 10.0).round() / 10.0));
        // The file may be newer than this program: the other sort may just have been recorded.
        let there = fs::read_to_string(path).ok();
        let there = there.and_then(|text| serde_json::from_str::<Self>(&text).ok());
        let before = there.unwrap_or_else(|| self.clone());
        let is_ours = before.hold_here();
        let mut new = Self {
            compiler: COMPILER.to_owned(),
            target: TARGET.to_owned(),
            ..before
        };
        if !is_ours {
            new.release.clear();
            new.test.clear();
        }
        if cfg!(debug_assertions) {
            new.test = counted.collect();
        } else {
            new.release = counted.collect();
        }
        let text = serde_json::to_string_pretty(&new)? + "\n";
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_percent_more_is_allowed_and_five_less_is_told() {
        assert_eq!(judge(102.9, Some(100.0)), Verdict::Within);
        assert_eq!(judge(95.1, Some(100.0)), Verdict::Within);
        assert_eq!(judge(94.9, Some(100.0)), Verdict::Below);
        assert!(matches!(judge(103.1, Some(100.0)), Verdict::Beyond(_)));
        assert!(matches!(judge(1.0, None), Verdict::Beyond(_)));
    }

    #[test]
    fn recording_replaces_what_this_build_counts_and_keeps_the_rest() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("budgets.json");
        let one = |name: &str, own| BTreeMap::from([(name.to_owned(), own)]);
        let old = Budgets {
            compiler: COMPILER.to_owned(),
            target: TARGET.to_owned(),
            release: one("egress", 1.0),
            test: one("egress", 2.0),
        };
        let read = || -> Budgets {
            let text = fs::read_to_string(&path).expect("written");
            serde_json::from_str(&text).expect("what was written")
        };
        old.record(&path, one("egress", 3.06)).expect("a place");
        let new = read();
        assert_eq!(new.of("egress"), Some(3.1));
        let all: Vec<f64> = new
            .release
            .values()
            .chain(new.test.values())
            .copied()
            .collect();
        assert_eq!(
            all.iter().sum::<f64>(),
            3.1 + if cfg!(debug_assertions) { 1.0 } else { 2.0 }
        );
        let others = Budgets {
            compiler: "another".to_owned(),
            ..old
        };
        assert!(!others.hold_here());
        let text = serde_json::to_string(&others).expect("JSON");
        fs::write(&path, text).expect("a place");
        others.record(&path, one("egress", 3.0)).expect("a place");
        assert_eq!(read().release.len() + read().test.len(), 1);
    }

    #[test]
    fn what_is_recorded_can_be_read() {
        let recorded = Budgets::recorded().expect("readable");
        assert!(recorded.release.values().all(|own| *own > 0.0));
        assert!(!recorded.release.is_empty() && !recorded.test.is_empty());
    }
}
