//! Reading files: the configuration itself and the key files that it names. The only I/O here.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::KeyFileText;
use crate::error::path_line;

/// The longest configuration, in octets: room for some 7000 peers.
pub const MAX_FILE_OCTETS: u64 = 1 << 20;

/// The longest key file, in octets: a key takes 44, and white space around it is harmless.
const MAX_KEY_FILE_OCTETS: u64 = 1024;

/// The longest file in PEM, in octets: a chain of certificates, or a key.
const MAX_PEM_FILE_OCTETS: u64 = 64 << 10;

/// Reads the configuration, or says what is wrong with the file.
pub(crate) fn read_config(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let (file, metadata) = open_regular(path)?;
    if metadata.len() > MAX_FILE_OCTETS {
        return Err(too_big());
    }
    let text = read_up_to(file, MAX_FILE_OCTETS)?;
    // The file may have grown since its length was asked for.
    if text.len() as u64 > MAX_FILE_OCTETS {
        Err(too_big())
    } else {
        Ok(text)
    }
}

/// What is wrong with a configuration that is too long.
pub(crate) fn too_big() -> String {
    format!("is too big, allowed are {MAX_FILE_OCTETS} octets")
}

/// Reads a key file, or says what is wrong with it and how to remedy that.
pub(crate) fn read_key(path: &Path) -> KeyFileText {
    read_secret(path, MAX_KEY_FILE_OCTETS)
}

/// Reads a file with a private key in PEM.
pub(crate) fn read_pem_key(path: &Path) -> KeyFileText {
    read_secret(path, MAX_PEM_FILE_OCTETS)
}

/// Reads a file with certificates in PEM, which are no secret.
pub(crate) fn read_pem(path: &Path) -> KeyFileText {
    let (file, _) = open_regular(path)?;
    take_up_to(file, MAX_PEM_FILE_OCTETS)
}

fn read_secret(path: &Path, limit: u64) -> KeyFileText {
    let (file, metadata) = open_regular(path)?;
    let quoted = shell_word(path);
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != own && owner != 0 {
        return Err(format!(
            "belongs to user {owner}, not to user {own} or root: chown {quoted}"
        ));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "is open to group or others (mode {mode:04o}): chmod 600 {quoted}"
        ));
    }
    take_up_to(file, limit)
}

fn take_up_to(file: File, limit: u64) -> KeyFileText {
    let mut text = read_up_to(file, limit)?;
    if text.len() as u64 > limit {
        return Err(format!("holds more than {limit} octets"));
    }
    Ok(std::mem::take(&mut *text))
}

/// Opens a regular file. What is asked of the file is asked of the open one, so that nothing can
/// be put in its place in between; and opening never waits, as it would for a named pipe.
fn open_regular(path: &Path) -> Result<(File, Metadata), String> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(cannot_be_read)?;
    let metadata = file.metadata().map_err(cannot_be_read)?;
    if metadata.is_dir() {
        return Err("is a directory, allowed is a regular file".to_owned());
    }
    if !metadata.is_file() {
        return Err("is not a regular file, allowed is a regular file".to_owned());
    }
    Ok((file, metadata))
}

/// Reads at most one octet more than `limit`. The buffer has its full size from the start, so
/// that no copy of a key stays behind where it grew out of a smaller one.
fn read_up_to(file: File, limit: u64) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut text = Zeroizing::new(Vec::with_capacity(limit as usize + 64));
    file.take(limit + 1)
        .read_to_end(&mut text)
        .map_err(cannot_be_read)?;
    Ok(text)
}

fn cannot_be_read(error: Error) -> String {
    let text = error.to_string();
    // The number says nothing that the words before it do not.
    let words = text.split(" (os error").next().unwrap_or(&text);
    format!("cannot be read: {words}")
}

/// A path as a word of a shell command.
fn shell_word(path: &Path) -> String {
    let path = path_line(path);
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@=".contains(c);
    match path.chars().all(is_plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}
