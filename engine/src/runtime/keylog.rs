//! The keys of sessions in a file, for who looks into captures: only where the environment variable
//! `OMNI_KEYLOG` names one. Who has the file and a capture reads what the fabric carried.
//!
//! One line for each session and direction, of fields with one space between them:
//!
//! ```text
//! omni1 in 5c31f0a2 <key, 64 hex digits> <peer's public key, base64>
//! omni1 out 0b9d77e4 <key, 64 hex digits> <peer's public key, base64>
//! ```
//!
//! The third field is the `session_id` of the messages that the key opens: `in` are those that
//! arrive here, `out` those that leave. A reader leaves out lines that it does not understand.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use omni_control::message::InstallSession;
use omni_control::{PublicKey, SymmetricKey};
use rustix::fs::OFlags;
use tracing::warn;
use zeroize::Zeroizing;

use super::EngineError;

/// Names the file.
const VARIABLE: &str = "OMNI_KEYLOG";
/// What every line begins with: this format.
const FORMAT: &str = "omni1";
/// Octets that two lines fit into, so that no copy of a key stays behind where the text grew.
const LINES_MAX: usize = 512;

/// The file, open for as long as the engine runs.
#[derive(Debug)]
pub(super) struct KeyLog {
    path: PathBuf,
    file: File,
    /// The last line may have no end.
    is_torn: bool,
}

impl KeyLog {
    /// The one that the environment asks for, if it does.
    ///
    /// # Errors
    /// As of [`KeyLog::open`].
    pub(super) fn from_environment() -> Result<Option<Self>, EngineError> {
        let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        path.map(|path| Self::open(Path::new(&path))).transpose()
    }

    /// Opens the file, or makes it, of mode 0600. What is in it stays.
    ///
    /// # Errors
    /// When it cannot be opened, is no regular file, or gives anything to group or others.
    fn open(path: &Path) -> Result<Self, EngineError> {
        let refused = |why: String| EngineError::KeyLog {
            path: path.to_owned(),
            why,
        };
        // A link would lead where its maker wants the keys, and opening a pipe would wait.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags.bits() as i32)
            .open(path)
            .map_err(|error| refused(format!("cannot be written: {error}")))?;
        check(&file).map_err(refused)?;
        let log = Self {
            path: path.to_owned(),
            file,
            is_torn: false,
        };
        log.warn();
        Ok(log)
    }

    /// Says that it is on, so that nobody leaves it on unawares.
    pub(super) fn warn(&self) {
        let path = self.path.display();
        warn!(
            %path,
            "{VARIABLE} IS SET: THE KEYS OF ALL SESSIONS ARE WRITTEN TO A FILE. Who reads it reads \
             all that the fabric carries. Unset it and start again when you are done, and destroy \
             the file"
        );
    }

    /// Writes the keys of a session with `peer`. Where that fails the session goes on, and the log
    /// says so.
    pub(super) fn record(&mut self, install: &InstallSession, peer: Option<PublicKey>) {
        let written = check(&self.file)
            .map_err(io::Error::other)
            .and_then(|()| self.append(install, peer));
        if let Err(error) = written {
            let path = self.path.display();
            warn!(%path, %error, "the keys of a session are not in the key log");
        }
    }

    fn append(&mut self, install: &InstallSession, peer: Option<PublicKey>) -> io::Result<()> {
        let mut text = Zeroizing::new(String::with_capacity(LINES_MAX));
        if self.is_torn {
            text.push('\n');
        }
        let peer = peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
        line(
            &mut text,
            "in",
            install.session_id,
            &install.receive_key,
            &peer,
        );
        line(
            &mut text,
            "out",
            install.remote_session_id,
            &install.send_key,
            &peer,
        );
        self.is_torn = true;
        self.file.write_all(text.as_bytes())?;
        self.is_torn = false;
        Ok(())
    }
}

fn line(text: &mut String, direction: &str, session_id: u32, key: &SymmetricKey, peer: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{FORMAT} {direction} {session_id:08x} ");
    for octet in key.0 {
        let _ = write!(text, "{octet:02x}");
    }
    let _ = writeln!(text, " {peer}");
}

/// Whether nobody else gets at what is written: asked of the open file, so that nothing can be put
/// in its place in between.
fn check(file: &File) -> Result<(), String> {
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != own && owner != 0 {
        return Err(format!(
            "belongs to user {owner}, not to user {own} or root"
        ));
    }
    match metadata.mode() & 0o7777 {
        mode if mode & 0o077 != 0 => Err(format!(
            "is open to group or others (mode {mode:04o}): chmod 600 it"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use omni_control::message::{PeerId, Role};
    use omni_wire::Instant;

    use super::*;

    fn install() -> InstallSession {
        InstallSession {
            peer: PeerId(0),
            session_id: 0x0000_00a1,
            remote_session_id: 0xffff_ff02,
            role: Role::Initiator,
            receive_key: SymmetricKey([0x1f; 32]),
            send_key: SymmetricKey([0xe0; 32]),
            peer_lanes: 1,
            peer_max_frame: 1514,
            established_at: Instant(0),
        }
    }

    fn refusal(path: &Path) -> String {
        KeyLog::open(path).expect_err("refused").to_string()
    }

    #[test]
    fn a_line_for_each_direction_is_appended_to_a_file_of_ones_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let (received, sent) = ("1f".repeat(32), "e0".repeat(32));
        for times in 1..=2 {
            let mut log = KeyLog::open(&path).expect("it is made, or there");
            log.record(&install(), (times == 2).then_some(PublicKey([0xff; 32])));
        }
        let known = "//////////////////////////////////////////8=";
        let lines = |peer| {
            format!("omni1 in 000000a1 {received} {peer}\nomni1 out ffffff02 {sent} {peer}\n")
        };
        let text = fs::read_to_string(&path).expect("readable");
        assert_eq!(text, lines("-") + &lines(known));
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_line_that_was_cut_off_spoils_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let mut log = KeyLog::open(&path).expect("it is made");
        fs::write(&path, "omni1 in 00").expect("as on a full disk");
        log.is_torn = true;
        log.record(&install(), None);
        let text = fs::read_to_string(&path).expect("readable");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("omni1 in 000000a1 ") && !log.is_torn);
    }

    #[test]
    fn a_file_that_gives_anything_to_others_gets_no_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let mut log = KeyLog::open(&path).expect("it is made");
        for mode in [0o640, 0o604, 0o620, 0o601, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
            assert!(
                refusal(&path).contains("open to group or others"),
                "{mode:o}"
            );
            log.record(&install(), None);
            assert_eq!(fs::read(&path).expect("readable"), b"", "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        symlink(&target, &link).expect("a link");
        assert!(refusal(&link).contains("cannot be written"));
        assert!(!target.exists());
        assert!(refusal(folder.path()).contains("cannot be written"));
        assert!(refusal(Path::new("/dev/null")).contains("not a regular file"));
    }
}
