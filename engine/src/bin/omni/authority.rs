//! `omni authority`: keeps the fabric's offline key, and certifies nodes with it.
//!
//! Nothing here speaks to an engine or to the network. Secrets live in memory that is wiped.

mod arguments;
mod show;

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use omni_config::text;
use omni_membership::armour::{self, ArmourError};
use omni_membership::{
    AuthorityKey, AuthorityPublicKey, Certificate, FabricName, Grants, IpPrefix, Kind, PublicKey,
    RecordError, Revocation, VlanRanges,
};
use omni_wire::MacAddr;
use thiserror::Error;

use crate::dates;
use crate::keys::{self, KeyError};

pub(crate) use arguments::{Command, EXAMPLES};
use arguments::{Enroll, Init, Revoke};

/// How far before now a certificate begins, in seconds: nodes whose clocks are that much behind
/// take it at once.
const BACKDATED: u64 = 3600;

/// The most days until a certificate expires that can be asked for.
const MAX_DAYS: u64 = 36_500;

/// What can go wrong. No text repeats what may be a secret.
#[derive(Debug, Error)]
pub(crate) enum AuthorityError {
    /// A value of the command line is not what it must be.
    #[error("{option}: {what}")]
    Argument { option: &'static str, what: String },
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The authority's key file is not there, not private, or holds something else.
    #[error("{} {what}", path.display())]
    KeyFile { path: PathBuf, what: String },
    /// A key file is never written over.
    #[error(
        "{} is there already, and whoever loses an authority's key has to enroll every node anew: \
         name another file with --key",
        .0.display()
    )]
    Exists(PathBuf),
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    /// A file that is no certificate and no revocation.
    #[error("{} {error}", path.display())]
    Armour { path: PathBuf, error: ArmourError },
    /// What a file holds, or what was asked for, makes no record.
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the clock of this machine stands before 1970")]
    Clock,
}

/// What a command did.
pub(crate) struct Done {
    /// For standard output.
    pub(crate) text: String,
    /// What is wrong with a record that was shown all the same.
    pub(crate) refused: Option<AuthorityError>,
}

/// Runs one command.
pub(crate) fn run(command: &Command) -> Result<Done, AuthorityError> {
    let text = match command {
        Command::Init(how) => init(how)?,
        Command::Pubkey(how) => line(&authority_key(&how.authority_key)?.public_key()),
        Command::Enroll(how) => output(enroll(how)?, how.output.as_deref())?,
        Command::Revoke(how) => output(revoke(how)?, how.output.as_deref())?,
        Command::Show(how) => return show::show(how),
    };
    let refused = None;
    Ok(Done { text, refused })
}

/// Makes a key file; gives the public key.
fn init(how: &Init) -> Result<String, AuthorityError> {
    let seed = keys::random()?;
    let path = &how.key;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => AuthorityError::Exists(path.clone()),
            _ => cannot_write(path, error),
        })?;
    let written = file
        .write_all(&*keys::line(&seed))
        .and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key is of no use, and in the way of the next try.
        let _ = fs::remove_file(path);
        return Err(cannot_write(path, error));
    }
    Ok(line(&AuthorityKey::from_seed(&seed).public_key()))
}

fn line(public_key: &AuthorityPublicKey) -> String {
    format!("{public_key}\n")
}

/// A certificate, in armour.
fn enroll(how: &Enroll) -> Result<String, AuthorityError> {
    let now = since_1970()?;
    let certificate = Certificate {
        public_key: node_key(&how.key)?,
        name: argument("--name", text::name(&how.name))?,
        serial: how.serial.unwrap_or(milliseconds(now)),
        not_before: now.as_secs().saturating_sub(BACKDATED),
        not_after: how
            .expires
            .as_deref()
            .map(|text| expires(text, now.as_secs()))
            .transpose()?,
        grants: Grants {
            vlans: how.vlans.as_deref().map(vlans).transpose()?.flatten(),
            macs: how.macs.as_deref().map(macs).transpose()?,
            addresses: how.addresses.as_deref().map(addresses).transpose()?,
        },
    };
    let fabric = fabric(&how.fabric)?;
    let signed = certificate.sign(&fabric, &authority_key(&how.authority_key)?)?;
    Ok(armour::encode(Kind::Certificate, signed.octets()))
}

/// A revocation, in armour.
fn revoke(how: &Revoke) -> Result<String, AuthorityError> {
    let now = since_1970()?;
    let revocation = Revocation {
        public_key: public_key(&how.key)?,
        serial: how.serial.unwrap_or(milliseconds(now)),
        issued_at: now.as_secs(),
        reason: how.reason.clone(),
    };
    let fabric = fabric(&how.fabric)?;
    let signed = revocation.sign(&fabric, &authority_key(&how.authority_key)?)?;
    Ok(armour::encode(Kind::Revocation, signed.octets()))
}

/// Writes a text to a file when one is named; gives what is left for standard output.
fn output(text: String, path: Option<&Path>) -> Result<String, AuthorityError> {
    let Some(path) = path else {
        return Ok(text);
    };
    write_whole(path, text.as_bytes()).map_err(|error| cannot_write(path, error))?;
    Ok(String::new())
}

/// Replaces a file by one that is complete and on the disk, with the same owner and mode: a node
/// that reads its certificate finds the old one or the new one. What is no file, such as a pipe,
/// is written to.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let (path, about) = match fs::metadata(path) {
        Ok(about) if !about.is_file() => return fs::write(path, content),
        Ok(about) => (fs::canonicalize(path)?, Some(about)),
        Err(error) if error.kind() == ErrorKind::NotFound => (path.to_owned(), None),
        Err(error) => return Err(error),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let unfinished = path.with_file_name(name);
    let written = write_new(&unfinished, about.as_ref(), content)
        .and_then(|()| fs::rename(&unfinished, &path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn write_new(path: &Path, like: Option<&Metadata>, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    if let Some(like) = like {
        file.set_permissions(like.permissions())?;
        // Only root may give files away; the mode says who can read it.
        let _ = fchown(&file, Some(like.uid()), Some(like.gid()));
    }
    file.write_all(content)?;
    file.sync_all()
}

fn cannot_write(path: &Path, error: io::Error) -> AuthorityError {
    let path = path.to_owned();
    AuthorityError::Write { path, error }
}

/// Reads a certificate or revocation, whatever its signature is worth.
pub(crate) fn read_record(path: &Path) -> Result<(Kind, Vec<u8>), AuthorityError> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| {
            let limit = armour::MAX_TEXT_LEN as u64 + 1;
            file.take(limit).read_to_end(&mut text)
        })
        .map_err(|error| AuthorityError::Read {
            path: path.to_owned(),
            error,
        })?;
    armour::decode(&text).map_err(|error| AuthorityError::Armour {
        path: path.to_owned(),
        error,
    })
}

fn authority_key(path: &Path) -> Result<AuthorityKey, AuthorityError> {
    let seed =
        text::key_file(path, "omni authority init").map_err(|what| AuthorityError::KeyFile {
            path: path.to_owned(),
            what,
        })?;
    Ok(AuthorityKey::from_seed(seed.expose()))
}

/// What is wrong with a value of the command line, if anything, with the option's name.
fn argument<T, E: ToString>(
    option: &'static str,
    value: Result<T, E>,
) -> Result<T, AuthorityError> {
    value.map_err(|error| AuthorityError::Argument {
        option,
        what: error.to_string(),
    })
}

fn fabric(text: &str) -> Result<FabricName, AuthorityError> {
    argument("--fabric", FabricName::new(text))
}

fn public_key(text: &str) -> Result<PublicKey, AuthorityError> {
    argument("--key", text::public_key(text)).map(PublicKey)
}

/// A key that its node will be able to sign with: half of all typing errors are found here.
fn node_key(text: &str) -> Result<PublicKey, AuthorityError> {
    let key = public_key(text)?;
    let is_good = match key.can_sign() {
        true => Ok(key),
        false => Err("no private key belongs to it, allowed is what `omni pubkey` prints"),
    };
    argument("--key", is_good)
}

fn authority_public_key(text: &str) -> Result<AuthorityPublicKey, AuthorityError> {
    let octets = argument("--authority", text::public_key(text))?;
    argument("--authority", AuthorityPublicKey::from_octets(&octets))
}

/// VLANs to grant; `None` for all.
fn vlans(text: &str) -> Result<Option<VlanRanges>, AuthorityError> {
    let vlans = argument("--vlans", text::vlans(text))?;
    if vlans == omni_config::VlanSet::all() {
        return Ok(None);
    }
    let ranges = VlanRanges::new(vlans.ranges());
    argument("--vlans", ranges.ok_or("has more than 1024 ranges")).map(Some)
}

fn macs<C: FromIterator<MacAddr>>(list: &[String]) -> Result<C, AuthorityError> {
    let mac = |text: &String| argument("--macs", text::mac(text.trim())).map(MacAddr);
    list.iter().map(mac).collect()
}

fn addresses<C: FromIterator<IpPrefix>>(list: &[String]) -> Result<C, AuthorityError> {
    let network = |text: &String| {
        let net = argument("--addresses", text::ip_net(text.trim()))?;
        let network = IpPrefix::new(net.address, net.prefix);
        argument(
            "--addresses",
            network.ok_or("has a prefix that is too long"),
        )
    };
    list.iter().map(network).collect()
}

/// The last second of a certificate that expires at `text`: a day, or so many days from now.
fn expires(text: &str, now: u64) -> Result<u64, AuthorityError> {
    let wrong = |what: &str| {
        let allowed = "allowed is a number of days such as 365d (1d..=36500d), or the day that \
                       it ends on, such as 2027-01-01 (UTC)";
        Err(format!("{what}, {allowed}"))
    };
    let is_number = |days: &str| days.bytes().all(|c| c.is_ascii_digit());
    let days = text.strip_suffix('d').filter(|days| is_number(days));
    let end = match (days.map(str::parse::<u64>), dates::parse_day(text)) {
        (Some(Ok(days @ 1..=MAX_DAYS)), _) => Ok(now + days * dates::DAY),
        (Some(_), _) => wrong("is out of range"),
        (None, Some(day)) if day <= now => wrong("is over already"),
        (None, Some(day)) => Ok(day),
        (None, None) => wrong("is no day and no number of days"),
    };
    argument("--expires", end)
}

fn since_1970() -> Result<Duration, AuthorityError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_err(|_| AuthorityError::Clock)
}

/// A serial that is higher than those of certificates made before.
fn milliseconds(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
