//! Typed access to the tree: from a mapping to its fields, from a field to a text, a number, a
//! choice or a list. Every refusal names the field's line and path and what is allowed there.

use std::ops::RangeInclusive;

use crate::error::{At, Problem, shown};
use crate::raw::{Entry, Node, Value};
use crate::schema::{self, Key, REQUIRED, Section};

/// A mapping whose keys are all known.
pub(crate) struct Fields<'a> {
    at: &'a At<'a>,
    entries: &'a [Entry],
    section: &'static Section,
}

/// A value in its place.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) at: At<'a>,
    node: &'a Node,
    allowed: &'static str,
}

impl<'a> Fields<'a> {
    /// Opens a mapping. An absent value (`workers:` with nothing below it) is an empty one.
    pub(crate) fn open(
        node: &'a Node,
        at: &'a At<'a>,
        section: &'static Section,
    ) -> Result<Self, Problem> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Plain(text) if is_nothing(text) => &[],
            other => {
                let (what, names) = (describe(other), section.names());
                return Err(at.problem(format!("{what} is given, allowed is a mapping of {names}")));
            }
        };
        match entries
            .iter()
            .find(|entry| section.key(&entry.key).is_none())
        {
            Some(entry) => Err(unknown_key(entry, at, section)),
            None => Ok(Self {
                at,
                entries,
                section,
            }),
        }
    }

    /// The field, when the file has it.
    pub(crate) fn optional(&self, name: &'static str) -> Option<Field<'a>> {
        let key = self.section.key(name);
        debug_assert!(key.is_some(), "{name} is not in the schema");
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        let at = self.at.key(&entry.key, entry.line);
        Some(Field {
            at,
            node: &entry.value,
            allowed: key?.allowed,
        })
    }

    /// The field, which the file must have.
    pub(crate) fn required(&self, name: &'static str) -> Result<Field<'a>, Problem> {
        debug_assert!(
            self.section
                .key(name)
                .is_some_and(|key| key.default == REQUIRED)
        );
        self.optional(name).ok_or_else(|| {
            let allowed = self.section.key(name).map_or("", |key: &Key| key.allowed);
            let at = self.at.key(name, self.at.line);
            at.problem(format!("is required and missing, allowed is {allowed}"))
        })
    }
}

fn unknown_key(entry: &Entry, at: &At<'_>, section: &Section) -> Problem {
    let home = || {
        let mut sections = schema::of_file_with(section).iter();
        sections.find(|other| other.key(&entry.key).is_some())
    };
    let hint = match nearest(&entry.key, section.keys.iter().map(|key| key.name)) {
        Some(name) => format!(" (did you mean {name}?)"),
        None => home().map_or(String::new(), |home| match home.path {
            "" => " (it belongs to the top level)".to_owned(),
            path => format!(" (it belongs to {path})"),
        }),
    };
    let names = section.names();
    at.key(&entry.key, entry.line).problem(format!(
        "is not a key of this mapping{hint}, allowed are {names}"
    ))
}

impl<'a> Field<'a> {
    /// An error in this field: what is wrong, then what is allowed.
    pub(crate) fn wrong(&self, what: impl AsRef<str>) -> Problem {
        self.at
            .problem(format!("{}, allowed is {}", what.as_ref(), self.allowed))
    }

    /// Opens the field as a mapping.
    pub(crate) fn fields(&'a self, section: &'static Section) -> Result<Fields<'a>, Problem> {
        Fields::open(self.node, &self.at, section)
    }

    /// The elements of a list. An absent value (`peers:` with nothing below it) is an empty one.
    pub(crate) fn items(&'a self) -> Result<Vec<Field<'a>>, Problem> {
        let items = match &self.node.value {
            Value::List(items) => items.as_slice(),
            Value::Plain(text) if is_nothing(text) => &[],
            other => return Err(self.wrong(format!("{} is given", describe(other)))),
        };
        let item = |(index, node): (usize, &'a Node)| {
            let at = self.at.index(index, node.line);
            Field {
                at,
                node,
                allowed: self.allowed,
            }
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// Whether it is the word `word`, in quotes or not.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(&self.node.value, Value::Plain(text) | Value::Quoted(text) if text == word)
    }

    /// A text. What YAML takes for a number or a truth value must stand in quotes.
    pub(crate) fn text(&self) -> Result<&'a str, Problem> {
        match &self.node.value {
            Value::Quoted(text) => Ok(text),
            Value::Plain(text) if reads_as_text(text) => Ok(text),
            Value::Plain(text) if !is_nothing(text) => {
                let what = describe(&self.node.value);
                Err(self.wrong(format!("{} is {what} unless put in quotes", shown(text))))
            }
            other => Err(self.wrong(format!("{} is given", describe(other)))),
        }
    }

    /// A whole number in `range`.
    pub(crate) fn number(&self, range: RangeInclusive<u64>) -> Result<u64, Problem> {
        let text = match &self.node.value {
            Value::Plain(text) if !is_nothing(text) => text,
            Value::Quoted(text) if whole_number(text).is_some() => {
                return Err(self.wrong(format!("{} is a text because of its quotes", shown(text))));
            }
            Value::Quoted(text) => {
                return Err(self.wrong(format!("{} is not a whole number", shown(text))));
            }
            other => return Err(self.wrong(format!("{} is given", describe(other)))),
        };
        match whole_number(text) {
            Some(Some(number)) if range.contains(&number) => Ok(number),
            Some(_) => Err(self.wrong(format!("{} is out of range", unquoted(text)))),
            None => Err(self.wrong(format!("{} is not a whole number", shown(text)))),
        }
    }

    /// A whole number, or a text of two with a `-` between them and all in between.
    pub(crate) fn span(&self, range: RangeInclusive<u64>) -> Result<RangeInclusive<u64>, Problem> {
        let ends = match &self.node.value {
            Value::Plain(text) | Value::Quoted(text) => text
                .split_once('-')
                .filter(|(first, _)| !first.is_empty())
                .map(|ends| (text, ends)),
            Value::List(_) | Value::Map(_) => None,
        };
        let Some((text, (first, last))) = ends else {
            return self.number(range).map(|number| number..=number);
        };
        span_between(first, last, &range)
            .map_err(|what| self.wrong(format!("{} {what}", shown(text))))
    }

    /// One of several words, in quotes or not.
    pub(crate) fn choice<T: Copy>(&self, words: &[(&'static str, T)]) -> Result<T, Problem> {
        let text = match &self.node.value {
            Value::Quoted(text) => text,
            Value::Plain(text) if !is_nothing(text) => text,
            other => return Err(self.wrong(format!("{} is given", describe(other)))),
        };
        if let Some((_, choice)) = words.iter().find(|(word, _)| word == text) {
            return Ok(*choice);
        }
        let hint = nearest(text, words.iter().map(|(word, _)| *word))
            .map_or(String::new(), |word| format!(" (did you mean {word}?)"));
        Err(self.wrong(format!("{} is unknown{hint}", shown(text))))
    }
}

/// All whole numbers from `first` to `last`, both in `range`; or what is wrong with them.
pub(crate) fn span_between(
    first: &str,
    last: &str,
    range: &RangeInclusive<u64>,
) -> Result<RangeInclusive<u64>, &'static str> {
    match (whole_number(first), whole_number(last)) {
        (Some(Some(first)), Some(Some(last)))
            if range.contains(&first) && range.contains(&last) =>
        {
            match first <= last {
                true => Ok(first..=last),
                false => Err("ends before it begins"),
            }
        }
        (Some(_), Some(_)) => Err("is out of range"),
        _ => Err("is not a range of whole numbers"),
    }
}

/// Whether a plain scalar stands for nothing (YAML 1.2 s.10.3.2, null).
fn is_nothing(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Whether a plain scalar stands for truth (YAML 1.2 s.10.3.2, bool).
fn is_truth(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

/// Whether a plain scalar is none of null, bool, int and float.
fn reads_as_text(text: &str) -> bool {
    let is_float_char = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let is_float = text.chars().all(is_float_char) && text.parse::<f64>().is_ok();
    let unsigned = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
    let is_special = matches!(unsigned.as_str(), ".inf" | ".nan");
    !(is_nothing(text) || is_truth(text) || is_float || is_special || whole_number(text).is_some())
}

/// Reads a plain scalar as YAML 1.2 s.10.3.2 does: decimal, `0o` octal or `0x` hexadecimal.
/// `None` when it is no whole number; `Some(None)` when it is one that no value can be: negative,
/// or over 64 bits.
fn whole_number(text: &str) -> Option<Option<u64>> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'o', ..] => (&text[2..], 8),
        [b'0', b'x', ..] => (&text[2..], 16),
        [b'+' | b'-', ..] => (&text[1..], 10),
        _ => (text, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let number = u64::from_str_radix(digits, radix).ok();
    Some(number.filter(|&n| n == 0 || !text.starts_with('-')))
}

/// A number of the file as an error shows it.
fn unquoted(number: &str) -> String {
    shown(number).trim_matches('"').to_owned()
}

/// What kind of value it is, for errors.
fn describe(value: &Value) -> &'static str {
    match value {
        Value::Quoted(_) => "a text",
        Value::Plain(text) if is_nothing(text) => "nothing",
        Value::Plain(text) if is_truth(text) => "a truth value",
        Value::Plain(text) if reads_as_text(text) => "a text",
        Value::Plain(_) => "a number",
        Value::List(_) => "a list",
        Value::Map(_) => "a mapping",
    }
}

/// The candidate that `word` was probably meant to be: few letters away, or cut off.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.len() > 40 {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .filter_map(|candidate| {
            let is_cut = word.len() >= 3 && candidate.starts_with(&word);
            let far = if is_cut {
                0
            } else {
                distance(&word, candidate)
            };
            (far <= 1.max(candidate.len() / 3)).then_some((far, candidate))
        })
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// How many letters to insert, remove, replace or swap with their neighbour to get from one
/// word to the other (restricted Damerau-Levenshtein distance).
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, &a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in to.iter().enumerate() {
            let replace = last[j] + usize::from(a != b);
            let mut best = replace.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a == to[j - 1] && from[i - 1] == b {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_find_the_word_that_was_meant() {
        let keys = ["interface", "port", "queues", "driver", "xdp", "zero_copy"];
        let meant = |word| nearest(word, keys.into_iter());
        assert_eq!(meant("prot"), Some("port"));
        assert_eq!(meant("zero-copy"), Some("zero_copy"));
        assert_eq!(meant("Interface"), Some("interface"));
        assert_eq!(meant("inter"), Some("interface"));
        assert_eq!(meant("que"), Some("queues"));
        assert_eq!(meant("mtu"), None);
        assert_eq!(meant(""), None);
        assert_eq!(meant(&"port".repeat(1000)), None);
    }

    #[test]
    fn plain_scalars_are_sorted_as_yaml_1_2_does() {
        for text in [
            "alpha", "10.7.0.1", "1_000", "yes", "on", "0b1", "e5", "-", "1:30", "0o8",
        ] {
            assert!(reads_as_text(text), "{text}");
        }
        for other in [
            "", "~", "null", "true", "12", "-1", "+7", "0x1F", "0o17", "1.5", "1e3",
        ] {
            assert!(!reads_as_text(other), "{other}");
        }
        for other in [".5", "5.", ".inf", "-.INF", ".NaN", "99999999999999999999"] {
            assert!(!reads_as_text(other), "{other}");
        }
    }

    #[test]
    fn whole_numbers_have_three_notations_and_one_sign() {
        assert_eq!(whole_number("0x1F"), Some(Some(31)));
        assert_eq!(whole_number("0o17"), Some(Some(15)));
        assert_eq!(whole_number("+7"), Some(Some(7)));
        assert_eq!(whole_number("-0"), Some(Some(0)));
        assert_eq!(whole_number("-7"), Some(None));
        assert_eq!(whole_number("18446744073709551616"), Some(None));
        for text in [
            "", "+", "0x", "0x-1", "+-1", "--1", "1.0", "1e3", "1_000", "\u{0663}",
        ] {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }
}
