//! What is said of a run: when it kept every rule, and when it broke one.

use std::fmt;
use std::process::Command;
use std::time::Duration;

/// A rule was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation(pub String);

impl Violation {
    /// As the error of a check.
    pub(crate) fn because<T>(what: impl Into<String>) -> Result<T, Self> {
        Err(Self(what.into()))
    }
}

/// A run that kept every rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// What decided it.
    pub seed: u64,
    /// Digest of every step and every octet on the wire.
    pub digest: u64,
    /// How many steps it had.
    pub steps: u64,
    /// Frames that stations sent.
    pub frames: u64,
    /// Messages sealed.
    pub sealed: u64,
    /// Sessions that both or one of two hosts got keys for, counted on each side.
    pub sessions: u64,
    /// Frames that came out behind hosts.
    pub delivered: u64,
    /// Messages sealed that carry control records.
    pub records: u64,
    /// Questions of stations that engines answered.
    pub answered: u64,
    /// Addresses that went from one owner to another, counted on each host since its last start.
    pub moves: u64,
    /// From the end of all faults until every host had reached every other.
    pub healed_in: Duration,
    /// From then on until every station was known to be where it is.
    pub settled_in: Duration,
    /// Hosts that had to be restarted by hand, as they had lost each other by both moving.
    pub lost_contact: u64,
}

/// A run that broke a rule: all that is needed to see it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// What decided it.
    pub seed: u64,
    /// The rule, and how it was broken.
    pub violation: Violation,
    /// How many steps there had been.
    pub step: u64,
    /// Virtual time since the start.
    pub elapsed: Duration,
    /// The last steps, oldest first.
    pub tail: Vec<String>,
    /// The command that runs it again.
    pub again: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.violation.0)?;
        writeln!(
            f,
            "  seed {}, revision {}, step {}, virtual time {:?}",
            self.seed,
            revision(),
            self.step,
            self.elapsed
        )?;
        writeln!(f, "  the last {} steps:", self.tail.len())?;
        for line in &self.tail {
            writeln!(f, "    {line}")?;
        }
        write!(f, "  again: {}", self.again)
    }
}

/// The revision of the sources, or "unknown" away from their repository.
fn revision() -> String {
    let asked = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let said = asked.ok().filter(|output| output.status.success());
    said.and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}
