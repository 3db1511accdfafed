//! A Nucleus: a process of its own, with its folder.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omni_control::Random as _;
use omni_engine::random::SystemRandom;
use omni_membership::{PrivateKey, PublicKey};
use tempfile::TempDir;

use super::fabric::{Fabric, Member};
use super::line::Call;
use super::{Common, until};
use crate::Failure;

/// How long it may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A Nucleus of one fabric. Dropping it ends it and removes what it kept.
pub(super) struct Nucleus {
    folder: TempDir,
    program: PathBuf,
    fabric: String,
    pub(super) address: SocketAddr,
    pub(super) public: PublicKey,
    child: Option<Child>,
    etcd: Vec<String>,
}

impl Nucleus {
    /// Configures one, and does not start it. `limits` are lines of that part of its
    /// configuration, such as `bindings_per_node: 64`.
    ///
    /// # Errors
    /// When there is no such program, or no folder can be made.
    pub(super) fn new(
        common: &Common,
        fabric: &Fabric,
        limits: &[String],
    ) -> Result<Self, Failure> {
        let private = {
            let mut key = [0; 32];
            SystemRandom.fill(&mut key);
            PrivateKey(key)
        };
        let folder = tempfile::Builder::new().prefix("omni-perf-").tempdir()?;
        let nucleus = Self {
            program: program(common.programs.as_deref())?,
            fabric: fabric.name.to_string(),
            address: free_address()?,
            public: PublicKey::from_private(&private),
            child: None,
            etcd: common.etcd.clone(),
            folder,
        };
        let key = nucleus.path("nucleus.key");
        fs::write(&key, STANDARD.encode(private.0))?;
        fs::set_permissions(&key, Permissions::from_mode(0o600))?;
        let store = if common.etcd.is_empty() {
            "{redb: nucleus.redb}".to_owned()
        } else {
            let quoted = common.etcd.iter().map(|url| format!("\"{url}\""));
            let quoted: Vec<String> = quoted.collect();
            format!("{{etcd: {{endpoints: [{}]}}}}", quoted.join(", "))
        };
        let limits = match limits {
            [] => String::new(),
            lines => format!("limits: {{{}}}\n", lines.join(", ")),
        };
        let text = format!(
            "fabric: {}\nprivate_key_file: nucleus.key\nlisten: {}\nstore: {store}\n\
             authority: \"{}\"\ncontrol: {{socket: nucleus.sock}}\n{limits}",
            fabric.name,
            nucleus.address,
            fabric.authority(),
        );
        fs::write(nucleus.path("nucleus.yaml"), text)?;
        Ok(nucleus)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How a member calls it.
    pub(super) fn call(&self, member: &Member) -> Call {
        Call {
            fabric: self.fabric.clone(),
            private: member.private.clone(),
            remote: self.public,
            endpoint: self.address,
            source: member.source,
        }
    }

    /// Starts it. It is not ready yet.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("nucleus.log"))?;
        let child = Command::new(&self.program)
            .arg("--config")
            .arg(self.path("nucleus.yaml"))
            .env("OMNI_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// When it ended, or takes too long. The end of its log is in the words.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let socket = self.path("nucleus.sock");
        let child = &mut self.child;
        // The control socket is there once everything else is.
        let is_over = || UnixStream::connect(&socket).is_ok() || has_ended(child);
        let waited = until("the Nucleus is ready", READY_WITHIN, is_over).await;
        if waited.is_ok() && !has_ended(&mut self.child) {
            return Ok(());
        }
        let mut log = String::new();
        let _ = fs::File::open(self.path("nucleus.log"))
            .and_then(|file| file.take(4096).read_to_string(&mut log));
        Err(format!("the Nucleus does not serve; its log: {}", log.trim()).into())
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run, or ended by itself before.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let mut child = self.child.take().ok_or("the Nucleus does not run")?;
        if let Some(status) = child.try_wait()? {
            return Err(format!("the Nucleus ended by itself: {status}").into());
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Octets of it that are in memory; `None` when it does not run.
    pub(super) fn resident(&self) -> Option<u64> {
        let pid = self.child.as_ref()?.id();
        super::scale::memory::of(&format!("/proc/{pid}/status"), "VmRSS:").ok()
    }

    /// Removes what it wrote to etcd.
    fn forget(&self) -> Result<(), Failure> {
        let Some(url) = self.etcd.first() else {
            return Ok(());
        };
        let (from, to) = (
            format!("/omni/{}/", self.fabric),
            format!("/omni/{}0", self.fabric),
        );
        let body = serde_json::json!({
            "key": STANDARD.encode(from),
            "range_end": STANDARD.encode(to),
        });
        ureq::post(format!("{url}/v3/kv/deleterange"))
            .header("content-type", "application/json")
            .send(body.to_string())?;
        Ok(())
    }
}

impl Drop for Nucleus {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Err(error) = self.forget() {
            eprintln!(
                "omni-perf: keys below /omni/{}/ were left in etcd: {error}",
                self.fabric
            );
        }
    }
}

fn has_ended(child: &mut Option<Child>) -> bool {
    let Some(child) = child else { return true };
    !matches!(child.try_wait(), Ok(None))
}

fn program(folder: Option<&Path>) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let folder = folder.or(own.parent()).ok_or("this program is nowhere")?;
    let program = folder.join("omni-nucleus");
    if program.is_file() {
        return Ok(program);
    }
    let shown = program.display();
    Err(format!("{shown} is not there: build it, or name its folder by --programs").into())
}

/// An address of this machine that nobody uses, for TCP and UDP.
fn free_address() -> Result<SocketAddr, Failure> {
    for _ in 0..100 {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err("no port of 127.0.0.1 is free for both TCP and UDP".into())
}
