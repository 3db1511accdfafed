//! Where `omni doctor` looks: /proc and /sys below a folder, and what programs print.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The host, or a tree of files in its place.
pub(crate) struct Host {
    root: PathBuf,
    /// Whether programs may be asked; without, what they would print is read from `commands/NAME`.
    real: bool,
}

impl Host {
    /// This host.
    pub(crate) fn here() -> Self {
        Self {
            root: PathBuf::from("/"),
            real: true,
        }
    }

    /// A tree of files.
    #[cfg(test)]
    pub(crate) fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            real: false,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text without blanks around it; `None` where it cannot be read.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The number that a file holds.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// Whether there is such a file.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The names in a folder, in order; none where it cannot be looked into.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten();
        let entries = entries.filter_map(Result::ok);
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Where a symbolic link leads.
    pub(crate) fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    /// What a program prints; `None` where there is no such program, or it fails.
    pub(crate) fn ask(&self, program: &str, arguments: &[&str]) -> Option<String> {
        if !self.real {
            return self.read(&format!("commands/{program}"));
        }
        // Tools of administrators are not in everybody's path.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let folders = path.split(':').map(Path::new);
        let mut files = folders.map(|folder| folder.join(program));
        let output = Command::new(files.find(|file| file.is_file())?)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    }

    /// What a line `NAME: VALUE` of a process's file says, without the name.
    pub(crate) fn line_of(&self, process: &str, file: &str, name: &str) -> Option<String> {
        let text = self.read(&format!("/proc/{process}/{file}"))?;
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name))?;
        Some(value.trim().to_owned())
    }
}

#[cfg(test)]
pub(crate) mod fake {
    use super::*;

    /// Files with their texts, in a folder that goes with what is returned.
    pub(crate) fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                None => fs::write(path, text).unwrap(),
            }
        }
        let host = Host::below(folder.path());
        (folder, host)
    }
}
