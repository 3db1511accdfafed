//! Asks a running engine or Nucleus: one line of JSON to its control socket, one line back.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use omni_engine::show::{Reloaded, Show};
use omni_engine::stages::NodeStages;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Where engines put their sockets unless told otherwise.
pub(crate) const FOLDER: &str = "/run/omni";

/// The socket of a Nucleus that was told no other, in the same folder.
pub(crate) const NUCLEUS: &str = "nucleus.sock";

const SHOW: &[u8] = b"{\"command\":\"show\"}\n";
const STAGES: &[u8] = b"{\"command\":\"stages\"}\n";
const RELOAD: &[u8] = b"{\"command\":\"reload\"}\n";
/// The longest answer read, in octets: some 300,000 addresses of the forwarding table.
const ANSWER_MAX: u64 = 64 << 20;
/// The longest line of an answer that goes on, in octets.
const LINE_MAX: u64 = 1 << 20;
/// The longest wait for the whole answer. The engine itself gives up after 5 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Program {
    /// A node.
    Engine,
    /// A rendezvous.
    Nucleus,
}

impl Program {
    const fn noun(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Nucleus => "Nucleus",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Engine => "omni-engine",
            Self::Nucleus => "omni-nucleus",
        }
    }
}

/// Why there is no answer. Every text says what to do, where something can be done.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// No socket in the folder.
    #[error(
        "no engine runs here: {0} has no *.sock (start omni-engine, or name its socket: --socket \
         PATH)"
    )]
    NoSocket(PathBuf),
    /// More than one: the choice is the user's.
    #[error("several engines have a socket here, choose one:{list}", list = choices(.0))]
    SeveralSockets(Vec<PathBuf>),
    /// The folder cannot be looked into.
    #[error("cannot look for sockets in {0}: {1}")]
    Folder(PathBuf, io::Error),
    /// The socket's file is not there, or its engine is gone.
    #[error("nobody listens at {1}: is the {noun} running?", noun = .0.noun())]
    NobodyListens(Program, PathBuf),
    /// The socket is somebody else's.
    #[error(
        "{path} is for its owner only{of}: try again as that user, or with sudo",
        of = user(.owner)
    )]
    NotAllowed {
        /// The socket.
        path: PathBuf,
        /// The user id of its owner, where it can be seen.
        owner: Option<u32>,
    },
    /// The engine hangs.
    #[error("no answer from {0} within {limit} s", limit = PATIENCE.as_secs())]
    TimedOut(PathBuf),
    /// The engine went away while it answered, or is about to stop.
    #[error("the {noun} at {1} broke off before its answer was complete", noun = .0.noun())]
    BrokeOff(Program, PathBuf),
    /// Whatever listens there is no engine.
    #[error("the answer from {0} is longer than {limit} MiB", limit = ANSWER_MAX >> 20)]
    TooLong(PathBuf),
    /// The engine refused.
    #[error("the {noun} at {1} refuses: {2}", noun = .0.noun())]
    Refused(Program, PathBuf, String),
    /// Not the JSON that this version knows.
    #[error(
        "the answer from {1} is not understood: {2} (are omni and {name} of one version?)",
        name = .0.name()
    )]
    NotUnderstood(Program, PathBuf, serde_json::Error),
    /// Anything else.
    #[error("cannot ask at {0}: {1}")]
    Io(PathBuf, io::Error),
}

fn choices(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| format!("\n  --socket {}", path.display()))
        .collect()
}

fn user(owner: &Option<u32>) -> String {
    owner.map_or_else(String::new, |id| format!(" (user id {id})"))
}

/// The only socket in `folder`.
pub(crate) fn find_socket(folder: &Path) -> Result<PathBuf, ClientError> {
    let mut found = find_sockets(folder)?;
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(ClientError::NoSocket(folder.to_owned())),
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            found.push(last);
            Err(ClientError::SeveralSockets(found))
        }
    }
}

/// All engines' sockets in `folder`, of which there is at least one.
pub(crate) fn find_sockets(folder: &Path) -> Result<Vec<PathBuf>, ClientError> {
    let mut found = match sockets(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(ClientError::Folder(folder.to_owned(), error)),
    };
    if found.is_empty() {
        return Err(ClientError::NoSocket(folder.to_owned()));
    }
    found.sort();
    Ok(found)
}

fn sockets(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let is_engine = path.extension().is_some_and(|it| it == "sock")
            && path.file_name().is_some_and(|name| name != NUCLEUS);
        if is_engine && entry.file_type()?.is_socket() {
            found.push(path);
        }
    }
    Ok(found)
}

/// The state of the engine that listens at `path`.
pub(crate) fn show(path: &Path) -> Result<Show, ClientError> {
    ask(Program::Engine, path, SHOW)
}

/// How long frames take in the engine that listens at `path`.
pub(crate) fn stages(path: &Path) -> Result<NodeStages, ClientError> {
    ask(Program::Engine, path, STAGES)
}

/// Makes the engine that listens at `path` read its configuration again.
pub(crate) fn reload(path: &Path) -> Result<Reloaded, ClientError> {
    ask(Program::Engine, path, RELOAD)
}

/// Asks for one line: `request` is one, with its newline.
pub(crate) fn ask<T: DeserializeOwned>(
    whom: Program,
    path: &Path,
    request: &[u8],
) -> Result<T, ClientError> {
    let deadline = Instant::now() + PATIENCE;
    let answer = connect(path)
        .and_then(|stream| exchange(stream, request, deadline))
        .map_err(|error| explained(whom, path, error))?;
    if answer.len() as u64 > ANSWER_MAX {
        return Err(ClientError::TooLong(path.to_owned()));
    }
    if answer.last() != Some(&b'\n') {
        return Err(ClientError::BrokeOff(whom, path.to_owned()));
    }
    understood(whom, path, &answer)
}

/// Asks for a line that is followed by something else: what comes behind it can be read from the
/// connection, without a limit of time.
pub(crate) fn begin<T: DeserializeOwned>(
    whom: Program,
    path: &Path,
    request: &[u8],
) -> Result<(T, BufReader<UnixStream>), ClientError> {
    let failed = |error| explained(whom, path, error);
    let mut stream = connect(path).map_err(failed)?;
    stream.write_all(request).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut rest = BufReader::new(stream);
    let mut line = Vec::new();
    let mut limited = (&mut rest).take(LINE_MAX);
    limited.read_until(b'\n', &mut line).map_err(failed)?;
    if line.last() != Some(&b'\n') {
        return Err(ClientError::BrokeOff(whom, path.to_owned()));
    }
    rest.get_ref().set_read_timeout(None).map_err(failed)?;
    Ok((understood(whom, path, &line)?, rest))
}

/// Asks for lines that go on: each is handed to `take`, until the other side ends or `take` does.
pub(crate) fn follow<T: DeserializeOwned, E: From<ClientError>>(
    whom: Program,
    path: &Path,
    request: &[u8],
    mut take: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |error| explained(whom, path, error);
    let mut stream = connect(path).map_err(failed)?;
    stream.write_all(request).map_err(failed)?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut lines).take(LINE_MAX);
        limited.read_until(b'\n', &mut line).map_err(failed)?;
        if line.last() != Some(&b'\n') {
            return Err(ClientError::BrokeOff(whom, path.to_owned()).into());
        }
        take(understood(whom, path, &line)?)?;
    }
}

fn understood<T: DeserializeOwned>(
    whom: Program,
    path: &Path,
    answer: &[u8],
) -> Result<T, ClientError> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    serde_json::from_slice(answer).map_err(|error| match serde_json::from_slice(answer) {
        Ok(Refusal { error }) => ClientError::Refused(whom, path.to_owned(), error),
        Err(_) => ClientError::NotUnderstood(whom, path.to_owned(), error),
    })
}

/// Connects. The standard library would wait for ever when an engine that hangs has a full
/// backlog, so the time limit is set before.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    rustix::net::connect(&socket, &address)?;
    Ok(UnixStream::from(socket))
}

/// Sends the request and reads up to the answer's newline, or to the end, or to one octet too many.
fn exchange(mut stream: UnixStream, request: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let (mut answer, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    while answer.last() != Some(&b'\n') && answer.len() as u64 <= ANSWER_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => answer.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

fn explained(whom: Program, path: &Path, error: io::Error) -> ClientError {
    let owned = path.to_owned();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            ClientError::NobodyListens(whom, owned)
        }
        ErrorKind::PermissionDenied => {
            let owner = fs::metadata(path).ok().map(|metadata| metadata.uid());
            ClientError::NotAllowed { path: owned, owner }
        }
        ErrorKind::TimedOut | ErrorKind::WouldBlock => ClientError::TimedOut(owned),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => ClientError::BrokeOff(whom, owned),
        _ => ClientError::Io(owned, error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_only_socket_of_a_folder_is_found_among_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alpha.sock");
        let _alpha = UnixListener::bind(&path).unwrap();
        let _new = UnixListener::bind(folder.path().join("beta.sock.new")).unwrap();
        let _nucleus = UnixListener::bind(folder.path().join(NUCLEUS)).unwrap();
        fs::write(folder.path().join("file.sock"), "").unwrap();
        assert_eq!(find_socket(folder.path()).unwrap(), path);
    }

    #[test]
    fn no_socket_and_no_folder_are_the_same_error() {
        let folder = tempfile::tempdir().unwrap();
        for folder in [folder.path().to_owned(), folder.path().join("missing")] {
            let text = find_socket(&folder).unwrap_err().to_string();
            let want = format!("no engine runs here: {} has no *.sock", folder.display());
            assert!(text.starts_with(&want), "{text}");
        }
    }

    #[test]
    fn several_sockets_are_listed_ready_to_be_typed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let _keep = ["beta.sock", "alpha.sock"].map(|name| UnixListener::bind(path(name)).unwrap());
        let text = find_socket(folder.path()).unwrap_err().to_string();
        let want = format!(
            "several engines have a socket here, choose one:\n  --socket {}\n  --socket {}",
            path("alpha.sock").display(),
            path("beta.sock").display()
        );
        assert_eq!(text, want);
    }

    #[test]
    fn an_engine_that_hangs_is_left_at_the_deadline() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let start = Instant::now();
        let error = exchange(ours, SHOW, start + Duration::from_millis(50)).unwrap_err();
        let path = Path::new("/run/omni/alpha.sock");
        assert!(matches!(
            explained(Program::Engine, path, error),
            ClientError::TimedOut(_)
        ));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn an_answer_that_never_ends_is_left_at_the_limit() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let writer =
            std::thread::spawn(move || while theirs.write_all(&[b' '; 1 << 16]).is_ok() {});
        let answer = exchange(ours, SHOW, Instant::now() + PATIENCE).unwrap();
        assert!(answer.len() as u64 > ANSWER_MAX);
        assert!(answer.len() as u64 <= ANSWER_MAX + (1 << 16));
        writer.join().unwrap();
    }
}
