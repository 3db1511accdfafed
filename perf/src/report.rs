//! How a benchmark ends: a JSON file for programs, and an exit status that says whether targets
//! were met.

use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use crate::Failure;
use crate::disclosure::Disclosure;

/// What every benchmark with targets can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Write all results, what they were measured on and which targets were missed to this file,
    /// as one JSON object. Tables go to standard output either way.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Report only: leave the exit status alone when a target is missed.
    #[arg(long)]
    pub(crate) no_check: bool,
}

/// What the JSON file holds.
#[derive(Serialize)]
struct Document<'a, R> {
    machine: &'a Disclosure,
    #[serde(flatten)]
    results: &'a R,
    missed: &'a [String],
}

impl Options {
    /// Writes the JSON file where one is wanted, and fails when a target was missed.
    pub(crate) fn finish<R: Serialize>(
        &self,
        machine: &Disclosure,
        results: &R,
        missed: &[String],
    ) -> Result<(), Failure> {
        if let Some(path) = &self.json {
            let document = Document {
                machine,
                results,
                missed,
            };
            let text = serde_json::to_string_pretty(&document)? + "\n";
            fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if missed.is_empty() {
            return Ok(());
        }
        let said = format!("targets missed:\n  {}", missed.join("\n  "));
        if self.no_check {
            println!("{said}");
            return Ok(());
        }
        Err(said.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Results {
        rows: [u8; 2],
    }

    #[test]
    fn a_missed_target_fails_unless_it_is_only_reported_and_stands_in_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.json");
        let (machine, results) = (Disclosure::take(), Results { rows: [1, 2] });
        let options = |no_check| Options {
            json: Some(path.clone()),
            no_check,
        };
        let missed = ["too slow".to_owned()];
        let checked = options(false).finish(&machine, &results, &missed);
        let said = checked.expect_err("a target was missed").to_string();
        assert!(said.contains("too slow"), "{said}");
        let text = fs::read_to_string(&path).expect("written although a target was missed");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["rows"], serde_json::json!([1, 2]));
        assert_eq!(json["missed"], serde_json::json!(["too slow"]));
        assert!(json["machine"]["compiler"].is_string());
        assert!(options(true).finish(&machine, &results, &missed).is_ok());
        assert!(options(false).finish(&machine, &results, &[]).is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let options = Options {
            json: Some("/nowhere/out.json".into()),
            no_check: false,
        };
        let done = options.finish(&Disclosure::take(), &Results { rows: [0, 0] }, &[]);
        let said = done.expect_err("no such folder").to_string();
        assert!(said.contains("/nowhere/out.json"), "{said}");
    }
}
