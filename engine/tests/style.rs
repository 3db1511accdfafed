//! What every source of the repository keeps to, and no other tool looks at.

use std::fs;
use std::path::{Path, PathBuf};

/// Columns of a line.
const WIDTH_MAX: usize = 100;
/// Lines of a file. Beyond, it has more than one subject.
const LINES_MAX: usize = 900;
/// Columns of a tab, which C sources are indented by.
const TAB: usize = 8;
/// Folders that hold no sources: what tools made.
const NO_SOURCES: [&str; 2] = ["target", "__pycache__"];
/// The places of the product with unsafe code: memory that the kernel shares, and what is compiled
/// for vector instructions.
const UNSAFE: [&str; 3] = [
    "engine/src/io/kernel",
    "engine/aead/src/avx2/mod.rs",
    "engine/aead/src/avx512/mod.rs",
];
/// Lines above unsafe code among which the reason why it is sound has to begin.
const REASON_WITHIN: usize = 12;
/// What begins unsafe code. Put together, so that this file does not contain it.
const UNSAFE_BEGINS: [&str; 2] = [concat!("unsafe", " {"), concat!("unsafe", " impl")];
/// Left in by accident. Put together, so that this file does not contain them.
const LEFTOVERS: [&str; 3] = [
    concat!("todo", "!"),
    concat!("dbg", "!"),
    concat!("unimplemented", "!"),
];

struct Source {
    /// From the repository's root.
    path: String,
    text: String,
}

impl Source {
    fn is(&self, endings: &[&str]) -> bool {
        endings.iter().any(|ending| self.path.ends_with(ending))
    }

    fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "examples"))
    }

    /// Prints to the terminal by design. Of the crates, `perf` is a program and nothing else.
    fn is_program(&self) -> bool {
        self.path.ends_with("main.rs")
            || self.path.starts_with("perf/")
            || self.path.contains("/bin/")
            || self.path.ends_with("build.rs")
    }

    /// Lines with their numbers from 1 on.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

/// Every Rust, Python and C source.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 50, "only {} sources found", found.len());
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).expect("a readable folder");
    for path in entries.map(|entry| entry.expect("a readable entry").path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || NO_SOURCES.contains(&&*name) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, found);
        } else if [".rs", ".py", ".c", ".h"]
            .iter()
            .any(|ending| name.ends_with(ending))
        {
            found.push(read(root, path));
        }
    }
}

fn read(root: &Path, path: PathBuf) -> Source {
    let text = fs::read_to_string(&path).expect("UTF-8");
    let short = path.strip_prefix(root).expect("below the root");
    Source {
        path: short.to_string_lossy().into_owned(),
        text,
    }
}

/// Fails with every line that breaks `rule`, so that all can be mended at once.
fn hold(rule: &str, broken: impl Fn(&Source, &str) -> bool) {
    let mut seen = String::new();
    for source in sources() {
        for (number, line) in source.lines().filter(|(_, line)| broken(&source, line)) {
            seen += &format!("\n{}:{number}: {}", source.path, line.trim());
        }
    }
    assert!(seen.is_empty(), "{rule}:{seen}");
}

/// The part of a line of Rust before a comment. A `//` in a string ends it too early, which only
/// makes the check milder.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether `word` stands in `text` by itself.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
    })
}

#[test]
fn lines_fit_the_screen() {
    hold("at most 100 columns", |_, line| {
        let tabs = line.matches('\t').count();
        line.chars().count() + tabs * (TAB - 1) > WIDTH_MAX
    });
}

#[test]
fn blanks_are_blanks_and_end_no_line() {
    hold("no trailing blanks", |_, line| {
        line.ends_with([' ', '\t', '\r'])
    });
    hold("no tabs but in C", |source, line| {
        source.is(&[".rs", ".py"]) && line.contains('\t')
    });
}

#[test]
fn files_have_one_subject_and_end_with_a_newline() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines", source.path);
        let ended = source.text.is_empty() || source.text.ends_with('\n');
        assert!(ended, "{}: no newline at the end", source.path);
    }
}

#[test]
fn nothing_is_left_half_done() {
    hold("finish it, or take it out", |source, line| {
        source.is(&[".rs"])
            && LEFTOVERS
                .iter()
                .any(|leftover| code(line).contains(leftover))
    });
}

#[test]
fn only_programs_print() {
    hold("libraries log or return", |source, line| {
        let macros = ["println!", "print!", "eprintln!", "eprint!"];
        let silent = source.is(&[".rs"]) && !source.is_program() && !source.is_test();
        silent && macros.iter().any(|name| code(line).contains(name))
    });
}

#[test]
fn unsafe_code_is_in_its_place_only() {
    hold(
        "unsafe code belongs into the places that UNSAFE names",
        |source, line| {
            let is_place = UNSAFE.iter().any(|place| source.path.starts_with(place));
            let free = source.is(&[".rs"]) && !is_place && !source.is_test();
            free && has_word(code(line), "unsafe")
        },
    );
    for place in UNSAFE {
        assert!(
            sources()
                .iter()
                .any(|source| source.path.starts_with(place)),
            "{place} moved: this test must follow"
        );
    }
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    let begins = |line: &str| UNSAFE_BEGINS.iter().any(|start| code(line).contains(start));
    let mut blocks = 0;
    let mut unsaid = String::new();
    for source in sources().iter().filter(|source| source.is(&[".rs"])) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if !begins(line) {
                continue;
            }
            blocks += 1;
            let above = lines[at.saturating_sub(REASON_WITHIN)..at].iter().rev();
            // The reason of another block above is none for this one.
            let mut own = above.take_while(|line| !begins(line));
            if !own.any(|line| line.contains("SAFETY:")) && !line.contains("SAFETY:") {
                unsaid += &format!("\n{}:{}: {}", source.path, at + 1, line.trim());
            }
        }
    }
    assert!(unsaid.is_empty(), "a comment `SAFETY:` above each:{unsaid}");
    assert!(blocks > 20, "only {blocks} blocks found");
}
