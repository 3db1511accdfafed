//! What is wrong with a configuration, in one line.

use std::fmt;
use std::path::Path;

use crate::secret::may_be_key;

/// The longest value of the file that an error repeats, in characters.
const SHOWN_CHARS: usize = 60;

/// The longest text of a whole error after the key, in characters: a remedy may repeat a path.
const WHAT_CHARS: usize = 6000;

/// The longest path that an error repeats in full, in characters.
const PATH_CHARS: usize = 200;

/// What is wrong with a configuration.
///
/// Its `Display` is one line: `FILE:LINE: KEY: what is wrong, what is allowed`, or
/// `FILE: what is wrong` when it is about the file itself. It never repeats what may be a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    file: String,
    place: Option<(usize, String)>,
    what: String,
}

impl ConfigError {
    pub(crate) fn about_file(file: &Path, what: &str) -> Self {
        Self {
            file: path_line(file),
            place: None,
            what: one_line(what, WHAT_CHARS),
        }
    }

    pub(crate) fn in_file(file: &Path, problem: Problem) -> Self {
        let what = one_line(&problem.what, WHAT_CHARS);
        Self {
            file: path_line(file),
            place: Some((problem.line, problem.key)),
            what,
        }
    }

    /// The file's name, as it was given.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, counted from 1; `None` when the error is about the file itself.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.place.as_ref().map(|(line, _)| *line)
    }

    /// The dotted path of the key, such as `peers[1].endpoint`; `None` when the error is about
    /// the file itself.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.place.as_ref().map(|(_, key)| key.as_str())
    }

    /// What is wrong and what is allowed.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some((line, key)) => write!(f, "{}:{line}: {key}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

impl std::error::Error for ConfigError {}

/// An error inside the file, before the file's name is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    line: usize,
    key: String,
    what: String,
}

/// A place in the file: a chain from a value up to the top level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    /// The line of the key, or of the element of a list.
    pub(crate) line: usize,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Top,
    Key(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    pub(crate) fn top(line: usize) -> Self {
        Self {
            line,
            step: Step::Top,
        }
    }

    pub(crate) fn key(&'a self, key: &'a str, line: usize) -> Self {
        Self {
            line,
            step: Step::Key(self, key),
        }
    }

    pub(crate) fn index(&'a self, index: usize, line: usize) -> Self {
        Self {
            line,
            step: Step::Index(self, index),
        }
    }

    /// The same key, pointing at another of its lines.
    pub(crate) fn on_line(&self, line: usize) -> Self {
        Self { line, ..*self }
    }

    pub(crate) fn problem(&self, what: impl Into<String>) -> Problem {
        Problem {
            line: self.line,
            key: self.to_string(),
            what: what.into(),
        }
    }
}

impl fmt::Display for At<'_> {
    /// The dotted path, such as `peers[1].endpoint`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::Top => f.write_str("(top level)"),
            Step::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Step::Key(parent, key) => match parent.step {
                Step::Top => f.write_str(&shown_key(key)),
                _ => write!(f, "{parent}.{}", shown_key(key)),
            },
        }
    }
}

/// A key of the file as an error shows it: quoted unless it is an ordinary word.
fn shown_key(key: &str) -> String {
    let is_word_char = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    let is_word = !key.is_empty() && key.len() < 40 && key.bytes().all(is_word_char);
    if is_word { key.to_owned() } else { shown(key) }
}

/// A text of the file as an error shows it: quoted, on one line, cut when long, and not at all
/// when it may be a key.
pub(crate) fn shown(text: &str) -> String {
    if may_be_key(text) {
        return format!(
            "a text of {} octets (not shown, it may be a secret)",
            text.len()
        );
    }
    format!("\"{}\"", one_line(text, SHOWN_CHARS))
}

/// `text` without line breaks, control characters and characters that reorder a terminal's
/// line, and cut to `limit` characters.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == limit {
            line.push_str("...");
            break;
        }
        match c {
            '\n' | '\r' | '\t' => line.extend(c.escape_default()),
            c if is_unprintable(c) => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
    line
}

/// Control characters, line and paragraph separators, and marks of writing direction.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A path on one line, in full.
pub(crate) fn path_line(path: &Path) -> String {
    one_line(&path.to_string_lossy(), usize::MAX)
}

/// A path of the file as an error shows it.
pub(crate) fn shown_path(path: &Path) -> String {
    one_line(&path.to_string_lossy(), PATH_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_dotted_and_odd_keys_are_quoted() {
        let top = At::top(1);
        let peers = top.key("peers", 3);
        let second = peers.index(1, 7);
        assert_eq!(second.key("endpoint", 8).to_string(), "peers[1].endpoint");
        assert_eq!(second.key("a.b\n", 8).to_string(), "peers[1].\"a.b\\n\"");
        assert_eq!(top.key("", 8).to_string(), "\"\"");
        assert_eq!(top.to_string(), "(top level)");
    }

    #[test]
    fn what_may_be_a_key_is_not_repeated() {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        for secret in [
            key,
            &key[..43],
            &key[..41],
            &format!(" {key} "),
            &"ab".repeat(32),
        ] {
            assert!(!shown(secret).contains(secret.trim()), "{secret}");
        }
        assert_eq!(shown("alpha.key"), "\"alpha.key\"");
    }

    #[test]
    fn a_line_stays_one_line_and_short() {
        let line = one_line("a\nb\u{2028}c\u{1b}[1m\u{202e}", 100);
        assert_eq!(line, "a\\nb\\u{2028}c\\u{1b}[1m\\u{202e}");
        assert_eq!(one_line(&"x".repeat(9), 4), "xxxx...");
    }
}
