//! The file with what a node remembers over a restart.
//!
//! Written whole, beside its name, and renamed: a reader finds the old content or the new one,
//! never a part. It is not synced to the disk: a process that is killed loses nothing, and a
//! machine that loses power loses seconds, which its clock has passed when it is up again.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use omni_control::Remembered;
use tracing::{info, warn};

/// The file. What cannot be written is said once, and tried again with the next change.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    /// The most that is read, in octets.
    len_max: usize,
    /// What it costs when it cannot be written.
    without: &'static str,
    failing: bool,
}

impl StateFile {
    /// That with timestamps.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            len_max: Remembered::MAX_LEN,
            without: "after a restart, old handshakes could be replayed to it, and with its clock \
                      set back peers would refuse it; see node.state_file",
            failing: false,
        }
    }

    /// That with what is known of members.
    pub(super) fn of_map(path: &Path, len_max: usize) -> Self {
        Self {
            path: path.to_owned(),
            len_max,
            without: "after a restart, it knows no member before a nucleus answers",
            failing: false,
        }
    }

    /// What `parse` makes of the content; `None` when there is no file yet, or none that can be
    /// understood. One that cannot is put aside, for whoever wants to know.
    pub(super) fn load<T, E: std::fmt::Display>(
        &self,
        parse: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Option<T> {
        let path = self.path.display();
        let content = match self.read() {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(%path, %error, "cannot read what the node remembers; starting without");
                return None;
            }
        };
        match parse(&content) {
            Ok(remembered) => Some(remembered),
            Err(error) => {
                let aside = self.beside(".bad");
                let kept = fs::rename(&self.path, &aside).is_ok();
                warn!(%path, %error, kept, "cannot understand what the node remembers; starting \
                    without");
                None
            }
        }
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let file = fs::File::open(&self.path)?;
        // One octet more tells the parser that there is too much.
        file.take(self.len_max as u64 + 1)
            .read_to_end(&mut content)?;
        Ok(content)
    }

    /// Replaces the content.
    pub(super) fn save(&mut self, content: &[u8]) {
        let path = self.path.display();
        match self.replace(content) {
            Ok(()) if self.failing => {
                info!(%path, "what the node remembers is written again");
                self.failing = false;
            }
            Ok(()) => {}
            Err(error) if self.failing => tracing::debug!(%path, %error, "still not written"),
            Err(error) => {
                let without = self.without;
                warn!(%path, %error, "cannot write what the node remembers: {without}");
                self.failing = true;
            }
        }
    }

    fn replace(&self, content: &[u8]) -> io::Result<()> {
        if let Some(folder) = self.path.parent().filter(|folder| !folder.exists()) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        let unfinished = self.beside(".new");
        let replaced =
            write(&unfinished, content).and_then(|()| fs::rename(&unfinished, &self.path));
        if replaced.is_err() {
            // It would take room that the disk may not have.
            let _ = fs::remove_file(&unfinished);
        }
        replaced
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(ending);
        self.path.with_file_name(name)
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn parse(content: &[u8]) -> Result<String, String> {
        let text = String::from_utf8(content.to_vec()).map_err(|error| error.to_string())?;
        text.strip_prefix("good ")
            .map(str::to_owned)
            .ok_or_else(|| "line 1 is bad".to_owned())
    }

    #[test]
    fn what_was_saved_is_loaded_and_nobody_else_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not/there/yet/alpha.state");
        let mut state = StateFile::new(&path);
        assert_eq!(state.load(parse), None, "there is none yet");
        state.save(b"good one");
        state.save(b"good two");
        assert_eq!(state.load(parse).as_deref(), Some("two"));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let files = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(files, 1, "nothing unfinished stays");
    }

    #[test]
    fn what_is_not_understood_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alpha.state");
        fs::write(&path, [0xff, 0, 1]).unwrap();
        let mut state = StateFile::new(&path);
        assert_eq!(state.load(parse), None);
        assert!(!path.exists() && folder.path().join("alpha.state.bad").exists());
        state.save(b"good");
        assert!(path.exists());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_survived() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        fs::write(&blocked, "").unwrap();
        let mut state = StateFile::new(&blocked.join("alpha.state"));
        state.save(b"good");
        state.save(b"good");
        assert!(state.failing);
        fs::remove_file(&blocked).unwrap();
        state.save(b"good");
        assert!(!state.failing);
    }

    #[test]
    fn what_cannot_be_put_in_place_does_not_stay_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alpha.state");
        fs::create_dir(&path).unwrap();
        let mut state = StateFile::new(&path);
        state.save(b"good");
        assert!(state.failing);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
