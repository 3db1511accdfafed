//! Small tables for a terminal: aligned columns, colours, and a fold where they get too wide.
//!
//! ```text
//! name  key         state             rx  frames
//! beta  hSDwCYkw..  established  12.3 MB  81.2 k
//!
//! the same folded before `rx`; the key column comes again:
//! name  key         state
//! beta  hSDwCYkw..  established
//!
//! name       rx  frames
//! beta  12.3 MB  81.2 k
//! ```
//!
//! Widths are counted in characters. Nothing here knows what the cells mean.

/// Spaces between two columns.
const GAP: usize = 2;
/// The least room for a column of running text, in characters.
const FLOW_MIN: usize = 24;

/// How a text stands out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tone {
    /// Not at all.
    Plain,
    /// A title.
    Strong,
    /// Less important than what is around it.
    Dim,
    /// All is well.
    Good,
    /// Soon well, or soon not.
    Warning,
    /// Somebody should look at it.
    Alarm,
}

/// Writes colours, or leaves them out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pen {
    /// Whether the text goes to where colours are understood.
    pub(crate) colors: bool,
}

impl Pen {
    /// The text within the escape sequences of its tone (ECMA-48 s.8.3.117, SGR).
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let sgr = match tone {
            _ if !self.colors || text.is_empty() => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Strong => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Alarm => "1;31",
        };
        format!("\x1b[{sgr}m{text}\x1b[0m")
    }
}

/// The text with every control character replaced, so that no name moves the cursor.
pub(crate) fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// What stands in one row and column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text that stands out.
    pub(crate) fn toned(text: &str, tone: Tone) -> Self {
        Self {
            text: printable(text),
            tone,
        }
    }

    /// Where there is no value.
    pub(crate) fn absent() -> Self {
        Self::toned("-", Tone::Dim)
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text.as_ref(), Tone::Plain)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Align {
    Left,
    Right,
    /// Running text that takes the room left and breaks into lines: for the last column.
    Flow,
}

/// A column's heading and layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    head: &'static str,
    align: Align,
    key: bool,
    fold: bool,
}

impl Column {
    /// A column of texts.
    pub(crate) const fn left(head: &'static str) -> Self {
        Self {
            head,
            align: Align::Left,
            key: false,
            fold: false,
        }
    }

    /// A column of numbers.
    pub(crate) const fn right(head: &'static str) -> Self {
        Self {
            align: Align::Right,
            ..Self::left(head)
        }
    }

    /// The last column, of running text.
    pub(crate) const fn flow(head: &'static str) -> Self {
        Self {
            align: Align::Flow,
            ..Self::left(head)
        }
    }

    /// Whether it has what happens by the second.
    pub(crate) fn is_rate(&self) -> bool {
        self.head.ends_with("/s")
    }

    /// Names the row: repeated after a fold.
    pub(crate) const fn key(self) -> Self {
        Self { key: true, ..self }
    }

    /// A table that is too wide may be folded before this column.
    pub(crate) const fn fold(self) -> Self {
        Self { fold: true, ..self }
    }
}

/// Headings and rows.
#[derive(Clone, Debug)]
pub(crate) struct Table<'a> {
    columns: &'a [Column],
    rows: Vec<Vec<Cell>>,
}

impl<'a> Table<'a> {
    /// A table without rows.
    pub(crate) fn new(columns: &'a [Column]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells beyond the columns are not shown.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut cells: Vec<_> = cells.into_iter().take(self.columns.len()).collect();
        cells.resize_with(self.columns.len(), || Cell::from(""));
        self.rows.push(cells);
    }

    /// Lines of at most `width` characters as far as folding allows, each ended by a newline.
    pub(crate) fn render(&self, pen: Pen, indent: usize, width: usize) -> String {
        let widths: Vec<_> = (0..self.columns.len())
            .map(|column| self.width(column))
            .collect();
        let sheet = Sheet {
            table: self,
            widths,
            pen,
            indent,
            width,
        };
        let parts: Vec<_> = sheet.parts().iter().map(|part| sheet.part(part)).collect();
        parts.join("\n")
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].width());
        cells.fold(self.columns[column].head.chars().count(), usize::max)
    }
}

/// A table about to be written.
struct Sheet<'a> {
    table: &'a Table<'a>,
    /// Of each column, its heading included.
    widths: Vec<usize>,
    pen: Pen,
    indent: usize,
    /// Of the whole line, the indent included.
    width: usize,
}

impl Sheet<'_> {
    /// The columns of each part: as many as fit, broken only where a fold is allowed.
    fn parts(&self) -> Vec<Vec<usize>> {
        let columns = self.table.columns;
        let all: Vec<usize> = (0..columns.len()).collect();
        let (mut parts, mut part) = (Vec::new(), Vec::new());
        for block in all.chunk_by(|_, &next| !columns[next].fold) {
            let longer = [&part, block].concat();
            if part.is_empty() || self.least_width(&longer) <= self.width {
                part = longer;
                continue;
            }
            let keys = all.iter().copied().filter(|&column| columns[column].key);
            let rest = block.iter().copied().filter(|&column| !columns[column].key);
            let folded = keys.chain(rest).collect();
            parts.push(std::mem::replace(&mut part, folded));
        }
        parts.push(part);
        parts
    }

    fn least_width(&self, part: &[usize]) -> usize {
        let widths = part
            .iter()
            .map(|&column| match self.table.columns[column].align {
                Align::Flow => self.widths[column].min(FLOW_MIN),
                Align::Left | Align::Right => self.widths[column],
            });
        self.indent + widths.sum::<usize>() + GAP * part.len().saturating_sub(1)
    }

    fn part(&self, part: &[usize]) -> String {
        let columns = self.table.columns.iter();
        let heads: Vec<_> = columns
            .map(|column| Cell::toned(column.head, Tone::Dim))
            .collect();
        let mut out = String::new();
        self.row(&mut out, &heads, part);
        for row in &self.table.rows {
            self.row(&mut out, row, part);
        }
        out
    }

    /// One row. Spaces are written only once something follows them: no line ends in one.
    fn row(&self, out: &mut String, row: &[Cell], part: &[usize]) {
        let (mut at, mut written) = (self.indent, 0);
        for &column in part {
            let (cell, width) = (&row[column], self.widths[column]);
            let lead = match self.table.columns[column].align {
                Align::Left => 0,
                Align::Right => width - cell.width(),
                Align::Flow => {
                    self.flow(out, cell, at, at - written);
                    break;
                }
            };
            if !cell.text.is_empty() {
                out.extend(std::iter::repeat_n(' ', at + lead - written));
                out.push_str(&self.pen.paint(cell.tone, &cell.text));
                written = at + lead + cell.width();
            }
            at += width + GAP;
        }
        out.push('\n');
    }

    /// Running text from column `at`, which is `gap` characters on; later lines begin there too.
    fn flow(&self, out: &mut String, cell: &Cell, at: usize, gap: usize) {
        let room = self.width.saturating_sub(at).max(FLOW_MIN);
        for (n, line) in wrap(&cell.text, room).iter().enumerate() {
            if n > 0 {
                out.push('\n');
            }
            out.extend(std::iter::repeat_n(' ', if n == 0 { gap } else { at }));
            out.push_str(&self.pen.paint(cell.tone, line));
        }
    }
}

/// Breaks a text between words into lines of at most `room` characters; a longer word stays whole.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Pen = Pen { colors: false };
    const COLUMNS: &[Column] = &[
        Column::left("name").key(),
        Column::left("state"),
        Column::right("rx").fold(),
        Column::right("frames"),
        Column::right("tx").fold(),
    ];

    fn sample() -> Table<'static> {
        let mut table = Table::new(COLUMNS);
        let cells = ["beta", "established", "12.3 MB", "81.2 k", "7 B"];
        table.row(cells.map(Cell::from));
        table.row([
            Cell::from("g\u{e4}mma"),
            Cell::toned("idle", Tone::Dim),
            Cell::absent(),
        ]);
        table
    }

    #[test]
    fn columns_are_aligned_by_characters_and_no_line_ends_in_spaces() {
        let want = [
            " name   state             rx  frames   tx",
            " beta   established  12.3 MB  81.2 k  7 B",
            " g\u{e4}mma  idle               -",
            "",
        ];
        assert_eq!(sample().render(PLAIN, 1, 100), want.join("\n"));
    }

    #[test]
    fn too_wide_a_table_folds_where_it_may_and_repeats_its_keys() {
        let text = sample().render(PLAIN, 0, 24);
        let want = [
            "name   state",
            "beta   established",
            "g\u{e4}mma  idle",
            "",
            "name        rx  frames",
            "beta   12.3 MB  81.2 k",
            "g\u{e4}mma        -",
            "",
            "name    tx",
            "beta   7 B",
            "g\u{e4}mma",
            "",
        ];
        assert_eq!(text, want.join("\n"));
        let exact = sample().render(PLAIN, 0, 40);
        assert_eq!(exact.lines().count(), 3, "fits to the last column");
        assert!(
            sample().render(PLAIN, 0, 39).lines().count() > 3,
            "one column less does not"
        );
    }

    #[test]
    fn colours_change_no_position() {
        let colored = sample().render(Pen { colors: true }, 1, 100);
        assert!(colored.contains("\x1b[2midle\x1b[0m"), "{colored:?}");
        let mut stripped = colored;
        for sgr in ["\x1b[2m", "\x1b[0m"] {
            stripped = stripped.replace(sgr, "");
        }
        assert_eq!(stripped, sample().render(PLAIN, 1, 100));
    }

    #[test]
    fn running_text_breaks_between_words_under_its_column() {
        let columns = [Column::left("reason"), Column::flow("meaning")];
        let mut table = Table::new(&columns);
        table.row(["bad_tag", "one two three four five six seven"].map(Cell::from));
        let want = [
            "reason   meaning",
            "bad_tag  one two three four five",
            "         six seven",
            "",
        ];
        assert_eq!(table.render(PLAIN, 0, 33), want.join("\n"));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut table = Table::new(COLUMNS);
        table.row([Cell::from("a\x1b[2Jb\nc")]);
        assert_eq!(table.render(PLAIN, 0, 100).lines().nth(1), Some("a?[2Jb?c"));
    }
}
