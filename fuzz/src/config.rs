//! Any text as `fabric.yaml`: bounded in time and memory, and every error names file, line and key.

use std::path::Path;

use omni_config::{ConfigError, KeyFileText, MAX_FILE_OCTETS, load_octets};

const KEY: &[u8] = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Runs the target. A first octet of 0xff and a number make a text that is repeated up to 10 MB.
pub fn run(octets: &[u8]) {
    let grown = repeated(octets);
    let text = grown.as_deref().unwrap_or(octets);
    let read_key = |_: &Path| -> KeyFileText { Ok(KEY.to_vec()) };
    if let Err(error) = load_octets(Path::new("fabric.yaml"), text, &read_key) {
        judge("fabric.yaml", text, &error);
    }
}

/// What is written small and read long: a head, and a piece that repeats.
pub(crate) fn repeated(octets: &[u8]) -> Option<Vec<u8>> {
    let (&[0xff, head, shift], text) = octets.split_first_chunk()? else {
        return None;
    };
    let (head, piece) = text.split_at(usize::from(head).min(text.len()));
    let total = 1_usize << (shift % 5 + 12);
    // Once in a while as long as nothing may be.
    let total = if shift >= 0xf8 { 10_000_000 } else { total };
    let count = total / piece.len().max(1);
    Some([head, &piece.repeat(count)].concat())
}

/// An error is one line: the file, a line of the file, a key, what is wrong.
pub(crate) fn judge(file: &str, text: &[u8], error: &ConfigError) {
    let shown = error.to_string();
    assert!(
        !shown.chars().any(char::is_control) && shown.len() < 8000,
        "{shown}"
    );
    if text.len() as u64 > MAX_FILE_OCTETS {
        assert!(shown.starts_with(&format!("{file}: ")), "{shown}");
        return;
    }
    let lines = 1 + text.iter().filter(|&&c| c == b'\n' || c == b'\r').count();
    let line = error.line().unwrap_or_else(|| panic!("no line: {shown}"));
    assert!((1..=lines).contains(&line), "{shown}");
    assert!(shown.starts_with(&format!("{file}:{line}: ")), "{shown}");
    assert!(error.key().is_some_and(|key| !key.is_empty()), "{shown}");
}
