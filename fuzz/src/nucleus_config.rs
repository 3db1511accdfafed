//! Any text as `nucleus.yaml`, as [`crate::config`] does. Files that it names are not there.

use std::path::Path;

use omni_config::load_nucleus_octets;

use crate::config::{judge, repeated};

/// Runs the target.
pub fn run(octets: &[u8]) {
    let grown = repeated(octets);
    let text = grown.as_deref().unwrap_or(octets);
    let file = Path::new("/nonexistent/nucleus.yaml");
    let is_authority = |octets: &[u8; 32]| match octets[0] {
        0 => Err("is no key".to_owned()),
        _ => Ok(()),
    };
    if let Err(error) = load_nucleus_octets(file, text, &is_authority) {
        judge("/nonexistent/nucleus.yaml", text, &error);
    }
}
