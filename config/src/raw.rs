//! The file as typed: a tree of texts, lists and mappings in which everything has a line.
//!
//! Only the plain part of YAML 1.2 is taken: one document, no anchors, aliases or tags. What a
//! configuration does not need cannot be used to blow one up. Nothing here has `Debug`: a key that
//! was pasted into the file by mistake must not reach a log.

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};

use crate::error::{At, Problem};
use crate::syntax;

/// How deep lists and mappings may be nested. The format itself needs 5.
const MAX_DEPTH: usize = 8;

/// How many values a file may hold, so that 1 MiB of `[~,~,~` costs little time and memory. A peer
/// takes 3 to 9 of them and more, a static entry 4 and more.
const MAX_NODES: usize = 40_000;

/// How long a value may be, in octets: as long as Linux takes a path.
const MAX_SCALAR: usize = 4096;

/// How many keys one mapping may hold. The format itself needs 10.
const MAX_KEYS: usize = 64;

/// A value with the line on which it begins.
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) value: Value,
}

/// What is written there.
pub(crate) enum Value {
    /// A scalar without quotes, or nothing at all (empty): what it means depends on its form.
    Plain(String),
    /// A scalar in quotes, or a block scalar: always a text.
    Quoted(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
pub(crate) struct Entry {
    pub(crate) key: String,
    /// The line of the key, which may be above that of the value.
    pub(crate) line: usize,
    pub(crate) value: Node,
}

/// Reads YAML.
pub(crate) fn read(text: &[u8]) -> Result<Node, Problem> {
    let bad = |before: &[u8], what: &str| {
        let line = 1 + before.iter().filter(|&&octet| octet == b'\n').count();
        At::top(line).problem(what)
    };
    let text = std::str::from_utf8(text).map_err(|error| {
        let before = &text[..error.valid_up_to()];
        bad(
            before,
            "holds octets that are not UTF-8, allowed is UTF-8 text",
        )
    })?;
    // YAML 1.2 s.5.1 allows none of these in a file. Terminals and logs would act on them.
    let is_stray = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    if let Some(position) = text.find(is_stray) {
        let before = &text.as_bytes()[..position];
        return Err(bad(before, "holds a control character, allowed is text"));
    }
    let events = Parser::new_from_str(text);
    Reader {
        text,
        lines: syntax::lines(text),
        events,
        nodes: 0,
    }
    .document()
}

struct Reader<'a> {
    text: &'a str,
    lines: usize,
    events: Parser<'a, StrInput<'a>>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Node, Problem> {
        let mut root = None;
        let mut top = At::top(1);
        loop {
            let (event, line) = self.next(&top)?;
            top = At::top(line);
            match event {
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(_) if root.is_some() => {
                    let what = "a second document begins here, allowed is one document";
                    return Err(top.problem(what));
                }
                Event::DocumentStart(_) => {
                    let (event, line) = self.next(&top)?;
                    root = Some(self.node(event, line, &At::top(line), 0)?);
                }
                // The end is the only event that is left between documents.
                _ => break,
            }
        }
        Ok(root.unwrap_or(Node {
            line: 1,
            value: Value::Plain(String::new()),
        }))
    }

    /// The next event and its line. An error in the YAML names the innermost open key.
    fn next(&mut self, at: &At<'_>) -> Result<(Event<'a>, usize), Problem> {
        match self.events.next_event() {
            // What is nothing at the end of the file stands on its last line.
            Some(Ok((event, span))) => Ok((event, span.start.line().min(self.lines))),
            Some(Err(error)) => {
                let (line, what) = syntax::explain(&error, self.text);
                Err(at.on_line(line.min(self.lines)).problem(what))
            }
            None => Err(at.problem("is not valid YAML: it ends too early")),
        }
    }

    fn node(
        &mut self,
        event: Event<'a>,
        line: usize,
        at: &At<'_>,
        depth: usize,
    ) -> Result<Node, Problem> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let what = format!("one value too many, allowed are {MAX_NODES} in a file");
            return Err(at.on_line(line).problem(what));
        }
        if depth > MAX_DEPTH {
            let what = format!("is nested too deep, allowed are {MAX_DEPTH} levels");
            return Err(at.on_line(line).problem(what));
        }
        let value = match plain_yaml(event, &at.on_line(line))? {
            Event::Scalar(text, ..) if text.len() > MAX_SCALAR => {
                let what = format!("a value of {} octets, allowed are {MAX_SCALAR}", text.len());
                return Err(at.on_line(line).problem(what));
            }
            Event::Scalar(text, ScalarStyle::Plain, ..) => Value::Plain(text.into_owned()),
            Event::Scalar(text, ..) => Value::Quoted(text.into_owned()),
            Event::SequenceStart(..) => Value::List(self.list(at, depth)?),
            Event::MappingStart(..) => Value::Map(self.map(at, depth)?),
            _ => {
                return Err(at
                    .on_line(line)
                    .problem("is not valid YAML: a value is missing"));
            }
        };
        Ok(Node { line, value })
    }

    fn list(&mut self, at: &At<'_>, depth: usize) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, line) = self.next(at)?;
            if event == Event::SequenceEnd {
                return Ok(items);
            }
            items.push(self.node(event, line, &at.index(items.len(), line), depth + 1)?);
        }
    }

    fn map(&mut self, at: &At<'_>, depth: usize) -> Result<Vec<Entry>, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, line) = self.next(at)?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let here = at.on_line(line);
            let Event::Scalar(key, ..) = plain_yaml(event, &here)? else {
                return Err(here.problem("a key is a list or mapping, allowed are words"));
            };
            let here = at.key(&key, line);
            if let Some(first) = entries.iter().find(|entry| entry.key == *key) {
                let what = format!(
                    "is given twice, first on line {}, allowed is once",
                    first.line
                );
                return Err(here.problem(what));
            }
            if entries.len() == MAX_KEYS {
                let what = format!("one key too many, allowed are {MAX_KEYS} in a mapping");
                return Err(here.problem(what));
            }
            let (event, value_line) = self.next(&here)?;
            let value = self.node(event, value_line, &here, depth + 1)?;
            entries.push(Entry {
                key: key.into_owned(),
                line,
                value,
            });
        }
    }
}

/// Refuses aliases, anchors and tags.
fn plain_yaml<'a>(event: Event<'a>, at: &At<'_>) -> Result<Event<'a>, Problem> {
    let (anchor, tag) = match &event {
        Event::Alias(_) => return Err(at.problem("an alias (*) is used, allowed are plain values")),
        Event::Scalar(_, _, anchor, tag) => (*anchor, tag),
        Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => (*anchor, tag),
        _ => return Ok(event),
    };
    if anchor != 0 {
        return Err(at.problem("an anchor (&) is used, allowed are plain values"));
    }
    if tag.is_some() {
        return Err(at.problem("a tag (!) is used, allowed are plain values"));
    }
    Ok(event)
}
