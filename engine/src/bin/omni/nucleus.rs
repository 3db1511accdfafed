//! `omni nucleus`: what a running Nucleus knows, and what the operator tells it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use omni_membership::Kind;
use omni_nucleus::show::{self, Binding, Bindings, Change, Done, Member, Members, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::authority::{self, AuthorityError};
use crate::client::{self, ClientError, Program};
use crate::dates;
use crate::table::{Cell, Column, Pen, Table, Tone, printable};
use crate::units::{count, span};

pub(crate) const EXAMPLES: &str = "\
docs/nucleus.md has the whole page.

Examples:
  omni nucleus status
  omni nucleus bindings --json | jq '.bindings[] | select(.withdrawn | not)'
  omni nucleus watch
  omni nucleus revoke alpha.revoked
  omni nucleus backup /var/backups/nucleus.redb";

/// The screen's width in characters.
const WIDTH: usize = 100;

/// What is asked of a Nucleus.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How it is, and what it did
    Status(How),
    /// Who registered, from where, connected or not
    Members(How),
    /// Who has which address
    Bindings(How),
    /// What is known, and then what changes, a line each, until it is interrupted
    Watch(How),
    /// Take certificates back: the file is from `omni authority revoke`
    Revoke {
        /// A revocation in armour
        file: PathBuf,
    },
    /// Copy its store to a file on its machine, while it runs
    Backup {
        /// Where to
        file: PathBuf,
    },
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct How {
    /// Print JSON: exact numbers, whole keys
    #[arg(long)]
    json: bool,
}

/// What can go wrong.
#[derive(Debug, Error)]
pub(crate) enum NucleusError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A certificate, most likely.
    #[error("{} holds a {found}, not a revocation", path.display())]
    NotRevocation { path: PathBuf, found: Kind },
    #[error("cannot tell where {} is: {error}", path.display())]
    Path { path: PathBuf, error: io::Error },
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Runs one command.
pub(crate) fn run(command: &Command, socket: Option<&Path>, pen: Pen) -> Result<(), NucleusError> {
    let default = Path::new(client::FOLDER).join(client::NUCLEUS);
    let socket = socket.unwrap_or(&default);
    match command {
        Command::Status(how) => {
            let status = ask(socket, &show::Command::Status)?;
            print(*how, &status, |status| status_text(status, pen))
        }
        Command::Members(how) => {
            let members = ask(socket, &show::Command::Members)?;
            print(*how, &members, |members| members_text(members, pen))
        }
        Command::Bindings(how) => {
            let bindings = ask(socket, &show::Command::Bindings)?;
            print(*how, &bindings, |bindings| bindings_text(bindings, pen))
        }
        Command::Watch(how) => watch(socket, *how),
        Command::Revoke { file } => revoke(socket, file),
        Command::Backup { file } => backup(socket, file),
    }
}

fn ask<T: DeserializeOwned>(socket: &Path, command: &show::Command) -> Result<T, NucleusError> {
    Ok(client::ask(Program::Nucleus, socket, &line(command)?)?)
}

fn line(what: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    Ok(line)
}

fn watch(socket: &Path, how: How) -> Result<(), NucleusError> {
    let request = line(&show::Command::Watch)?;
    client::follow(
        Program::Nucleus,
        socket,
        &request,
        |change: Change| match how.json {
            true => write(&line(&change)?),
            false => write(change_text(&change).as_bytes()),
        },
    )
}

fn revoke(socket: &Path, file: &Path) -> Result<(), NucleusError> {
    let (kind, octets) = authority::read_record(file)?;
    if kind != Kind::Revocation {
        return Err(NucleusError::NotRevocation {
            path: file.to_owned(),
            found: kind,
        });
    }
    let revocation = STANDARD.encode(octets);
    let done: Done = ask(socket, &show::Command::Revoke { revocation })?;
    write(format!("{}\n", done.done).as_bytes())
}

fn backup(socket: &Path, file: &Path) -> Result<(), NucleusError> {
    let path = std::path::absolute(file).map_err(|error| NucleusError::Path {
        path: file.to_owned(),
        error,
    })?;
    let path = path.display().to_string();
    let done: Done = ask(socket, &show::Command::Backup { path })?;
    write(format!("{}\n", done.done).as_bytes())
}

fn print<T: Serialize>(
    how: How,
    what: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), NucleusError> {
    let text = match how.json {
        true => serde_json::to_string_pretty(what)? + "\n",
        false => text(what),
    };
    write(text.as_bytes())
}

fn write(octets: &[u8]) -> Result<(), NucleusError> {
    let mut output = io::stdout().lock();
    let written = output.write_all(octets).and_then(|()| output.flush());
    written.map_err(NucleusError::Output)
}

fn status_text(status: &Status, pen: Pen) -> String {
    const COLUMNS: &[Column] = &[Column::left(""), Column::flow("")];
    let mut table = Table::new(COLUMNS);
    let store = match status.loaded {
        true => Cell::toned(
            &format!("read up to revision {}", status.revision),
            Tone::Good,
        ),
        false => Cell::toned("could not be read yet", Tone::Alarm),
    };
    let nodes = format!(
        "{} connected, {} of them not known to be members",
        status.connections, status.strangers
    );
    let counters = status.counters.iter().filter(|(_, value)| **value > 0);
    let counters = counters.map(|(name, value)| format!("{name} {}", count(*value)));
    let counters: Vec<_> = counters.collect();
    for (name, cell) in [
        ("fabric", Cell::from(&status.fabric)),
        ("key", Cell::from(&status.public_key)),
        ("up", Cell::from(span(status.uptime_seconds))),
        ("store", store),
        ("nodes", Cell::from(nodes)),
        ("members", Cell::from(status.members.to_string())),
        ("bindings", Cell::from(status.bindings.to_string())),
        ("revocations", Cell::from(status.revocations.to_string())),
        ("waiting", Cell::from(status.pending.to_string())),
        ("so far", Cell::from(counters.join(", "))),
    ] {
        table.row([Cell::toned(name, Tone::Dim), cell]);
    }
    // The headings are empty.
    let text = table.render(pen, 0, WIDTH);
    text.trim_start_matches('\n').to_owned()
}

fn members_text(members: &Members, pen: Pen) -> String {
    const COLUMNS: &[Column] = &[
        Column::left("name").key(),
        Column::left("key"),
        Column::left("is").fold(),
        Column::left("from"),
        Column::right("addresses").fold(),
        Column::left("expires"),
    ];
    let mut table = Table::new(COLUMNS);
    for member in &members.members {
        let presence = match (member.revoked, member.presence.as_str()) {
            (true, _) => Cell::toned("revoked", Tone::Alarm),
            (false, "away") => Cell::toned("away", Tone::Warning),
            (false, presence) => Cell::toned(presence, Tone::Good),
        };
        table.row([
            Cell::from(&member.name),
            Cell::from(&member.public_key),
            presence,
            member.source.as_ref().map_or_else(Cell::absent, Cell::from),
            Cell::from(count(member.bindings)),
            Cell::from(dates::shown(member.expires)),
        ]);
    }
    table.render(pen, 0, WIDTH)
}

fn bindings_text(bindings: &Bindings, pen: Pen) -> String {
    const COLUMNS: &[Column] = &[
        Column::right("vlan").key(),
        Column::left("ip").key(),
        Column::left("mac"),
        Column::left("owner").fold(),
        Column::left("expires"),
    ];
    let mut table = Table::new(COLUMNS);
    for binding in &bindings.bindings {
        let owner = match binding.withdrawn {
            true => Cell::toned("withdrawn", Tone::Dim),
            false => Cell::from(owner_of(binding)),
        };
        table.row([
            Cell::from(binding.vlan.to_string()),
            binding.ip.as_ref().map_or_else(Cell::absent, Cell::from),
            Cell::from(&binding.mac),
            owner,
            Cell::from(dates::shown(binding.expires)),
        ]);
    }
    table.render(pen, 0, WIDTH)
}

/// The owner's name where it has one.
fn owner_of(binding: &Binding) -> &String {
    binding.name.as_ref().unwrap_or(&binding.owner)
}

/// A change in one line.
fn change_text(change: &Change) -> String {
    let text = match change {
        Change::Member(Member {
            name,
            public_key,
            endpoints,
            revision,
            ..
        }) => {
            let endpoints = endpoints.join(" ");
            format!("{revision} member {name} {public_key} {endpoints}")
        }
        Change::Binding(binding) => {
            let ip = binding.ip.as_deref().unwrap_or("-");
            let owner = match binding.withdrawn {
                true => "withdrawn",
                false => owner_of(binding),
            };
            let (revision, vlan, mac) = (binding.revision, binding.vlan, &binding.mac);
            format!("{revision} binding vlan {vlan} {ip} {mac} {owner}")
        }
        Change::Revocation(revocation) => format!(
            "{} revoked {} up to serial {}: {}",
            revocation.revision, revocation.public_key, revocation.serial, revocation.reason
        ),
    };
    printable(text.trim_end()) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Pen = Pen { colors: false };

    fn binding(withdrawn: bool) -> Binding {
        Binding {
            vlan: 7,
            ip: Some("10.0.0.1".to_owned()),
            mac: "02:00:00:00:00:01".to_owned(),
            owner: "AAAA".to_owned(),
            name: Some("alpha".to_owned()),
            withdrawn,
            sequence: 3,
            expires: 1_800_000_000,
            revision: 12,
        }
    }

    #[test]
    fn an_address_is_shown_with_its_owner_or_as_withdrawn() {
        let bindings = Bindings {
            bindings: vec![binding(false), binding(true)],
        };
        let text = bindings_text(&bindings, PLAIN);
        let want = [
            "vlan  ip        mac                owner      expires",
            "   7  10.0.0.1  02:00:00:00:00:01  alpha      2027-01-15 08:00:00 UTC",
            "   7  10.0.0.1  02:00:00:00:00:01  withdrawn  2027-01-15 08:00:00 UTC",
            "",
        ];
        assert_eq!(text, want.join("\n"));
    }

    #[test]
    fn a_change_is_a_line_whatever_a_name_holds() {
        let text = change_text(&Change::Binding(binding(false)));
        assert_eq!(text, "12 binding vlan 7 10.0.0.1 02:00:00:00:00:01 alpha\n");
        let text = change_text(&Change::Revocation(show::Revocation {
            public_key: "AAAA".to_owned(),
            serial: 4,
            reason: "lost\n\u{1b}[2J".to_owned(),
            revision: 13,
        }));
        assert_eq!(text, "13 revoked AAAA up to serial 4: lost??[2J\n");
    }

    #[test]
    fn a_store_that_could_not_be_read_stands_out() {
        let status = Status {
            fabric: "lab".to_owned(),
            public_key: "AAAA".to_owned(),
            uptime_seconds: 61,
            loaded: false,
            incarnation: String::new(),
            revision: 0,
            connections: 2,
            strangers: 1,
            members: 0,
            bindings: 0,
            revocations: 0,
            pending: 3,
            counters: [("refused".to_owned(), 1200), ("moved".to_owned(), 0)].into(),
        };
        let text = status_text(&status, PLAIN);
        assert!(text.starts_with("fabric       lab\n"), "{text}");
        assert!(
            text.contains("store        could not be read yet\n"),
            "{text}"
        );
        assert!(text.ends_with("so far       refused 1.2 k\n"), "{text}");
    }
}
