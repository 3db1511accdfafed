//! Errors in the YAML itself, in words for people who do not know its grammar.
//!
//! The parser tells where it could not go on. With tabs and forgotten colons that is a line or
//! more after the mistake; these are pointed at where they were made.

use saphyr_parser::ScanError;

/// The line of the mistake, and what it is.
pub(crate) fn explain(error: &ScanError, text: &str) -> (usize, String) {
    let (info, line) = (error.info(), error.marker().line());
    if let Some(line) = tab_indentation(text, line) {
        let what = "this line is indented by a tab, allowed are spaces";
        return (line, format!("is not valid YAML: {what}"));
    }
    if info.contains("simple key expect") {
        let what = "this line has no colon, allowed is KEY: VALUE";
        return (
            last_content(text, line),
            format!("is not valid YAML: {what}"),
        );
    }
    if info.contains("unknown anchor") {
        return (
            line,
            "an alias (*) is used, allowed are plain values".to_owned(),
        );
    }
    let known = WORDS.iter().find(|(part, _)| info.contains(part));
    (
        line,
        format!(
            "is not valid YAML: {}",
            known.map_or(info, |(_, words)| words)
        ),
    )
}

/// Parts of what the parser says, and what a person may do about it.
const WORDS: &[(&str, &str)] = &[
    (
        "mapping values are not allowed",
        "a colon where no key can be, allowed are keys that are indented alike, and values with \
         a colon in quotes",
    ),
    (
        "illegal placement of ':'",
        "a colon where no key can be, allowed is a list that ends with ] on its line",
    ),
    (
        "did not find expected key",
        "this line does not go on with the mapping before it, allowed are keys that are indented \
         alike",
    ),
    (
        "did not find expected '-'",
        "this line does not go on with the list before it, allowed are elements that begin with \
         - and are indented alike",
    ),
    (
        "in quoted scalar",
        "a quote is not closed, allowed are values in a pair of quotes",
    ),
    (
        "quoted scalar, found unexpected end",
        "a quote is not closed, allowed are values in a pair of quotes",
    ),
    (
        "expected ',' or",
        "a bracket is not closed, allowed are lists in a pair of brackets",
    ),
    (
        "unexpected character",
        "a value begins with a sign that has a meaning in YAML, allowed is such a value in quotes",
    ),
    (
        "misplaced bracket",
        "a bracket closes what was not opened, allowed are pairs of brackets",
    ),
];

/// How many lines there are: each ends with CR, LF or both (YAML 1.2 s.5.4), or with the text.
pub(crate) fn lines(text: &str) -> usize {
    let octets = text.as_bytes();
    let is_break = |(i, &octet): (usize, &u8)| match octet {
        b'\n' => true,
        b'\r' => octets.get(i + 1) != Some(&b'\n'),
        _ => false,
    };
    let breaks = octets.iter().enumerate().filter(|&at| is_break(at)).count();
    1.max(breaks + usize::from(!text.ends_with(['\n', '\r'])))
}

/// The line at `line` or right after it that is indented by a tab.
fn tab_indentation(text: &str, line: usize) -> Option<usize> {
    let is_tabbed = |text: &str| text.trim_start_matches(' ').starts_with('\t');
    let mut lines = text
        .lines()
        .enumerate()
        .skip(line.saturating_sub(1))
        .take(2);
    lines
        .find(|(_, text)| is_tabbed(text) && !text.trim().is_empty())
        .map(|(index, _)| index + 1)
}

/// The last line before `line` that holds more than white space and comments.
fn last_content(text: &str, line: usize) -> usize {
    let has_content = |text: &str| !matches!(text.trim().chars().next(), None | Some('#'));
    let before = text.lines().take(line.saturating_sub(1)).enumerate();
    before
        .filter(|(_, text)| has_content(text))
        .last()
        .map_or(line, |(index, _)| index + 1)
}
