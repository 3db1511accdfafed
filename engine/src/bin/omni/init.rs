//! `omni init`: makes a node's configuration and key, and says what to do next.

mod ask;
mod host;
mod plan;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufRead, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use clap::Args;
use nix::unistd::User;
use omni_config::Config;
use omni_control::{PrivateKey, PublicKey};
use omni_engine::privileges::{Other, PrivilegeError};
use thiserror::Error;

use crate::keys::{self, KeyError};
use ask::Asker;
use plan::{Nucleus, PORT, Peer, Plan};

pub(crate) const EXAMPLES: &str = "\
What is not given as an option is asked for on standard input; with --yes it has its default. The
key file is made with mode 0600. One that is there is kept and used: a node is who has its key. The
result is checked as `omni-engine --check` does. Printed is what to do next, and the lines that make
this node a peer of another one.

Examples:
  omni init                                       asks for everything, writes ./fabric.yaml
  omni init --yes --config /etc/omni/alpha.yaml --user omni --fabric home --name alpha \\
      --interface eth0 --address 10.7.0.1/24 --peer beta=KEY@192.0.2.2:51820
  omni init --yes --fabric home --nucleus KEY@192.0.2.9:51821 --authority KEY

Exit status: 0 written, 1 failed, 2 a value is wrong (nothing is written).";

/// What is to be written.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "fabric.yaml")]
    config: PathBuf,

    /// The private key, relative to the configuration [default: NAME.key]
    #[arg(long, value_name = "FILE")]
    key: Option<String>,

    /// The fabric's name, the same on all nodes [default: home]
    #[arg(long, value_name = "NAME")]
    fabric: Option<String>,

    /// This node's name [default: the host's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// What leads to other nodes [default: the default route's interface]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,

    /// The fabric's UDP port
    #[arg(long, value_name = "PORT", default_value_t = PORT)]
    port: u16,

    /// The interface for applications; the engine makes it
    #[arg(long, value_name = "NAME", default_value = "omni0")]
    access: String,

    /// This host's in the fabric, as 10.7.0.1/24; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<String>,

    /// Another node, NAME=KEY or NAME=KEY@ENDPOINT; may be repeated
    #[arg(long, value_name = "PEER", value_parser = Peer::parse)]
    peer: Vec<Peer>,

    /// Where nodes meet, KEY@ENDPOINT; may be repeated
    #[arg(long, value_name = "NUCLEUS", value_parser = Nucleus::parse)]
    nucleus: Vec<Nucleus>,

    /// Public key of who certifies members
    #[arg(long, value_name = "KEY")]
    authority: Option<String>,

    /// Its certificate, relative to the configuration [default: NAME.cert]
    #[arg(long, value_name = "FILE", requires = "authority")]
    certificate: Option<String>,

    /// The user that the engine runs as, who gets the key; takes root
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Ask nothing
    #[arg(short, long)]
    yes: bool,

    /// Overwrite a configuration that is there; never a key
    #[arg(long)]
    force: bool,
}

/// Why nothing, or not everything, was written.
#[derive(Debug, Error)]
pub(crate) enum InitError {
    /// A value is none.
    #[error("{0}; nothing was written")]
    Value(String),
    /// There is no interface to take.
    #[error("no interface is up and has an address: name one by --interface; nothing was written")]
    NoInterface,
    /// Nobody answers.
    #[error("standard input ended at `{0}`: answer it, or give --yes; nothing was written")]
    NoAnswer(String),
    /// Standard input cannot be read.
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    /// It is there.
    #[error("{0} is there already: --force overwrites it, --config names another; its key is kept")]
    Exists(PathBuf),
    /// What was there, or was just written, is not as the engine wants it.
    #[error("{0}; {1} was not written")]
    Refused(String, PathBuf),
    /// Writing failed.
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, io::Error),
    /// No key can be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The user is none.
    #[error(transparent)]
    User(#[from] PrivilegeError),
}

/// Asks, writes, and gives what is to be printed.
pub(crate) fn run(arguments: &Arguments) -> Result<String, InitError> {
    if arguments.config.exists() && !arguments.force {
        return Err(InitError::Exists(arguments.config.clone()));
    }
    let user = arguments.user.as_deref();
    let user = user.map(Other::find).transpose()?;
    let interfaces = host::interfaces();
    let plan = plan(arguments, &interfaces, io::stdin().lock(), io::stderr())?;
    let config = write(arguments, &plan, user.as_ref())?;
    Ok(advice(arguments, &plan, &config, &interfaces))
}

/// The plan: what was given, and for the rest defaults or answers.
fn plan(
    arguments: &Arguments,
    interfaces: &[host::Interface],
    answers: impl BufRead,
    questions: impl Write,
) -> Result<Plan, InitError> {
    let leads = host::default_interface().filter(|name| {
        let mut names = interfaces.iter().map(|each| &each.name);
        names.any(|each| each == name)
    });
    let leads = leads.or_else(|| Some(interfaces.first()?.name.clone()));
    let interface = arguments.interface.clone().or(leads);
    let given = |value: &Option<String>, other: &dyn Fn() -> String| match value {
        Some(value) => value.clone(),
        None => other(),
    };
    let name = given(&arguments.name, &host::node_name);
    let mut plan = Plan {
        fabric: given(&arguments.fabric, &|| "home".to_owned()),
        key_file: given(&arguments.key, &|| format!("{name}.key")),
        certificate: given(&arguments.certificate, &|| format!("{name}.cert")),
        name,
        interface: interface.clone().unwrap_or_else(|| "eth0".to_owned()),
        port: arguments.port,
        access: arguments.access.clone(),
        addresses: arguments.address.clone(),
        peers: arguments.peer.clone(),
        nuclei: arguments.nucleus.clone(),
        authority: arguments.authority.clone(),
    };
    plan.check().map_err(InitError::Value)?;
    if arguments.yes {
        return interface.map(|_| plan).ok_or(InitError::NoInterface);
    }
    let mut asker = Asker { answers, questions };
    ask_for_the_rest(arguments, interfaces, &mut plan, &mut asker)?;
    Ok(plan)
}

fn ask_for_the_rest<R: BufRead, W: Write>(
    arguments: &Arguments,
    interfaces: &[host::Interface],
    plan: &mut Plan,
    asker: &mut Asker<R, W>,
) -> Result<(), InitError> {
    if arguments.fabric.is_none() {
        let default = plan.fabric.clone();
        asker.settle(
            plan,
            "Name of the fabric, the same on all nodes",
            &default,
            |plan, it| {
                it.clone_into(&mut plan.fabric);
            },
        )?;
    }
    if arguments.name.is_none() {
        let default = plan.name.clone();
        asker.settle(plan, "Name of this node", &default, |plan, it| {
            it.clone_into(&mut plan.name);
            if arguments.key.is_none() {
                plan.key_file = format!("{it}.key");
            }
            if arguments.certificate.is_none() {
                plan.certificate = format!("{it}.cert");
            }
        })?;
    }
    if arguments.interface.is_none() {
        for each in interfaces {
            let addresses: Vec<String> = each.addresses.iter().map(ToString::to_string).collect();
            asker.say(&format!(
                "  {} is up: {}\n",
                each.name,
                addresses.join(", ")
            ));
        }
        let default = match interfaces {
            [] => String::new(),
            _ => plan.interface.clone(),
        };
        asker.settle(
            plan,
            "Interface that leads to other nodes",
            &default,
            |plan, it| {
                it.clone_into(&mut plan.interface);
            },
        )?;
    }
    if arguments.address.is_empty() {
        let question = "Addresses of this host in the fabric, such as 10.7.0.1/24 (empty: none)";
        asker.settle(plan, question, "", |plan, it| {
            let words = it.split([',', ' ']).filter(|word| !word.is_empty());
            plan.addresses = words.map(str::to_owned).collect();
        })?;
    }
    if arguments.peer.is_empty() && arguments.nucleus.is_empty() {
        asker.peers(plan)?;
        asker.nucleus(plan)?;
    }
    Ok(())
}

/// Writes key and configuration. The configuration comes to its place when it is found good.
fn write(arguments: &Arguments, plan: &Plan, user: Option<&Other>) -> Result<Config, InitError> {
    let path = &arguments.config;
    let folder = folder_of(path);
    if folder != Path::new("") {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
        made.map_err(|error| InitError::Write(folder.to_owned(), error))?;
    }
    let owner = arguments.user.as_deref();
    let owner = owner.and_then(|name| User::from_name(name).ok().flatten());
    write_key(&folder.join(&plan.key_file), owner.as_ref())?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = folder.join(format!(".{name}.{}.new", std::process::id()));
    let written = finish(arguments, plan, user, &draft);
    // After a rename it is gone.
    let _ = fs::remove_file(&draft);
    written
}

fn finish(
    arguments: &Arguments,
    plan: &Plan,
    user: Option<&Other>,
    draft: &Path,
) -> Result<Config, InitError> {
    let path = &arguments.config;
    let failed = |error| InitError::Write(path.clone(), error);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(draft)
        .map_err(failed)?;
    file.write_all(plan.text().as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let load = || omni_config::load(draft);
    let loaded = match user {
        Some(user) => user.can(load)?,
        None => load(),
    };
    let config = loaded.map_err(|error| {
        let what = match error.key() {
            Some(key) => format!("{key}: {}", error.what()),
            None => error.what().to_owned(),
        };
        InitError::Refused(what, path.clone())
    })?;
    if arguments.force {
        fs::rename(draft, path).map_err(failed)?;
        return Ok(config);
    }
    // Unlike a rename, a link replaces nothing that was put there meanwhile.
    fs::hard_link(draft, path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => InitError::Exists(path.clone()),
        _ => failed(error),
    })?;
    Ok(config)
}

/// Where the file is; empty for the current folder.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Makes a key file, unless there is one.
fn write_key(path: &Path, owner: Option<&User>) -> Result<(), InitError> {
    let failed = |error| InitError::Write(path.to_owned(), error);
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = match opened {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        opened => opened.map_err(failed)?,
    };
    let octets = keys::new_private()?;
    let written = file.write_all(&*keys::line(&octets)).and_then(|()| {
        let (uid, gid) = owner.map_or((None, None), |user| {
            (Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        });
        chown(path, uid, gid)?;
        file.sync_all()
    });
    if written.is_err() {
        // Half a key would be taken for one next time.
        let _ = fs::remove_file(path);
    }
    written.map_err(failed)
}

/// What to do next.
fn advice(
    arguments: &Arguments,
    plan: &Plan,
    config: &Config,
    interfaces: &[host::Interface],
) -> String {
    let path = &arguments.config;
    let public =
        PublicKey::from_private(&PrivateKey(*config.node.private_key.expose())).to_string();
    let underlay = interfaces.iter().find(|each| each.name == plan.interface);
    let address = underlay.and_then(|each| each.addresses.first());
    let me = Peer {
        name: plan.name.clone(),
        public_key: public.clone(),
        endpoint: address.map(|ip| std::net::SocketAddr::new(*ip, plan.port).to_string()),
    };
    let mut text = format!(
        "wrote {}, and the private key is in {}\n",
        path.display(),
        folder_of(path).join(&plan.key_file).display()
    );
    if underlay.is_none() {
        text += &format!(
            "note: {} is not up with an address now; the engine needs it when it starts\n",
            plan.interface
        );
    }
    text += "\nFor the other nodes, at the end of their file, under `peers`:\n\n";
    text += &me.lines();
    if plan.authority.is_some() {
        text += &format!(
            "\nFor the authority, who writes {}:\n\n  omni authority enroll --authority-key FILE \
             --fabric {} --name {} --key {public} --output {}\n",
            plan.certificate, plan.fabric, plan.name, plan.certificate
        );
    }
    text += "\nNext:\n\n";
    if plan.peers.is_empty() && plan.nuclei.is_empty() {
        text += "  append the lines that `omni init` printed on the other node\n";
    }
    let path = path.display();
    text += &format!("  omni doctor --config {path}    says what on this host is in the way\n");
    let unit = arguments.config.file_stem().unwrap_or_default();
    let unit = unit.to_string_lossy();
    if arguments.config.parent() == Some(Path::new("/etc/omni")) && unit == *plan.name {
        text += &format!("  systemctl enable --now omni-engine@{unit}\n");
    } else {
        text += &format!("  omni-engine --config {path}\n");
    }
    // The key last, so that it is easily found by eyes and scripts.
    text + "\nThis node's public key:\n" + &public + "\n"
}
