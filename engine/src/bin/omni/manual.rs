//! Completions for shells, and manual pages: of all three programs, out of their arguments.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell as ClapShell;
use clap_mangen::Man;
use thiserror::Error;

// Their own files: what a program takes is said once. The fields are for the programs alone.
#[path = "../../arguments.rs"]
#[allow(dead_code, unreachable_pub)]
mod engine;
#[path = "../../../../control/nucleus/src/bin/omni-nucleus/arguments.rs"]
#[allow(dead_code, unreachable_pub)]
mod nucleus;

pub(crate) const EXAMPLES: &str = "\
The Debian package installs completions of all three programs. Examples, for this user alone:

  mkdir -p ~/.local/share/bash-completion/completions
  omni completions bash > ~/.local/share/bash-completion/completions/omni

  mkdir -p ~/.zfunc && omni completions zsh > ~/.zfunc/_omni    (~/.zfunc has to be in fpath)

  omni completions fish > ~/.config/fish/completions/omni.fish";

/// Which shell, and of which program.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,

    /// The program
    #[arg(value_enum, default_value_t = Program::Omni)]
    program: Program,
}

/// Where all of it is written to, for who builds packages.
#[derive(Debug, Args)]
pub(crate) struct Manual {
    /// The folder; `man` and `completions` are made in it
    folder: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    const fn of_clap(self) -> ClapShell {
        match self {
            Self::Bash => ClapShell::Bash,
            Self::Zsh => ClapShell::Zsh,
            Self::Fish => ClapShell::Fish,
        }
    }

    /// The folder among the completions, and the name that the shell looks for.
    fn file(self, program: &str) -> PathBuf {
        match self {
            Self::Bash => Path::new("bash").join(program),
            Self::Zsh => Path::new("zsh").join(format!("_{program}")),
            Self::Fish => Path::new("fish").join(format!("{program}.fish")),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Program {
    Omni,
    OmniEngine,
    OmniNucleus,
}

impl Program {
    fn command(self) -> clap::Command {
        match self {
            Self::Omni => crate::Arguments::command(),
            Self::OmniEngine => engine::Arguments::command(),
            Self::OmniNucleus => nucleus::Arguments::command(),
        }
    }

    /// Of the manual: for everybody, or for administrators.
    const fn section(self) -> &'static str {
        match self {
            Self::Omni => "1",
            Self::OmniEngine | Self::OmniNucleus => "8",
        }
    }
}

/// A file cannot be written.
#[derive(Debug, Error)]
#[error("cannot write {0}: {1}")]
pub(crate) struct ManualError(PathBuf, io::Error);

/// The completions for a shell.
pub(crate) fn completions(arguments: &Completions) -> String {
    let octets = completions_of(arguments.shell, arguments.program);
    String::from_utf8_lossy(&octets).into_owned()
}

fn completions_of(shell: Shell, program: Program) -> Vec<u8> {
    let mut command = program.command();
    let name = command.get_name().to_owned();
    let mut octets = Vec::new();
    clap_complete::generate(shell.of_clap(), &mut command, name, &mut octets);
    octets
}

/// Writes the manual pages, one for each program and each subcommand, and all completions.
pub(crate) fn write(arguments: &Manual) -> Result<(), ManualError> {
    let completions = arguments.folder.join("completions");
    let man = arguments.folder.join("man");
    make(&man)?;
    for program in Program::value_variants() {
        let mut command = program.command();
        command.build();
        pages(&man, &command, program.section())?;
        for shell in Shell::value_variants() {
            let path = completions.join(shell.file(command.get_name()));
            make(path.parent().unwrap_or(&completions))?;
            let octets = completions_of(*shell, *program);
            fs::write(&path, octets).map_err(|error| ManualError(path, error))?;
        }
    }
    Ok(())
}

/// The page of a command, and those of its subcommands: omni-show.1 and so on.
fn pages(folder: &Path, command: &clap::Command, section: &str) -> Result<(), ManualError> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = folder.join(format!("{name}.{section}"));
    let page = Man::new(command.clone()).section(section);
    File::create(&path)
        .and_then(|mut file| page.render(&mut file))
        .map_err(|error| ManualError(path, error))?;
    for each in command.get_subcommands() {
        if !each.is_hide_set() && each.get_name() != "help" {
            pages(folder, each, section)?;
        }
    }
    Ok(())
}

fn make(folder: &Path) -> Result<(), ManualError> {
    fs::create_dir_all(folder).map_err(|error| ManualError(folder.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_completions_for_every_shell_and_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = Manual {
            folder: folder.path().to_owned(),
        };
        write(&arguments).unwrap();
        let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
        assert!(read("completions/bash/omni").contains("doctor"));
        assert!(read("completions/zsh/_omni-engine").starts_with("#compdef omni-engine"));
        assert!(read("completions/fish/omni-nucleus.fish").contains("-l config"));
        assert!(read("man/omni-engine.8").contains("Exit status"));
        assert!(read("man/omni-authority-enroll.1").contains("\\-\\-fabric"));
        assert!(!folder.path().join("man/omni-manual.1").exists());
    }

    #[test]
    fn the_document_has_a_row_for_every_command() {
        let document = include_str!("../../../../docs/omni.md");
        let command = Program::Omni.command();
        for each in command.get_subcommands().filter(|each| !each.is_hide_set()) {
            let row = format!("| `omni {}`", each.get_name());
            assert!(document.contains(&row), "{row}");
        }
    }
}
