//! Any octets as the file of what a node remembers over a restart.

use omni_control::Remembered;

/// Runs the target.
pub fn run(octets: &[u8]) {
    match Remembered::parse(octets) {
        // A memory has one text.
        Ok(memory) => assert_eq!(memory.to_string().as_bytes(), octets),
        Err(error) => {
            let lines = 1 + octets.iter().filter(|&&octet| octet == b'\n').count();
            assert!((1..=lines.max(2)).contains(&error.line), "{error}");
        }
    }
}
