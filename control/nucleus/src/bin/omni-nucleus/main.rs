//! `omni-nucleus --config nucleus.yaml`: the rendezvous of a fabric, in the foreground.
#![forbid(unsafe_code)]

mod arguments;

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Parser;
use omni_config::{NucleusConfig, NucleusStore};
use omni_control::PrivateKey;
use omni_control::service::capabilities::{CapabilitySet, keep_only};
use omni_control::service::log;
use omni_control::service::process::{abort_on_panic, files_remedy, forbid_dumps, lock_memory};
use omni_control::service::seccomp::Seccomp;
use omni_membership::{AuthorityPublicKey, FabricName, PublicKey, Trust};
use omni_nucleus::server::core::Limits;
use omni_nucleus::server::runtime::{RuntimeConfig, StoreConfig, run};
use omni_store::{ClientCertificate, Credentials, EtcdConfig};

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let locked = (!arguments.check).then(|| forbid_dumps().and_then(|()| lock_memory()));
    let is_authority = |key: &[u8; 32]| {
        let read = AuthorityPublicKey::from_octets(key);
        read.map(|_| ()).map_err(|error| error.to_string())
    };
    let config = match omni_config::load_nucleus(&arguments.config, &is_authority) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let Some(config) = runtime_config(config) else {
        eprintln!(
            "{}: names a fabric or an authority that is none",
            arguments.config.display()
        );
        return ExitCode::from(2);
    };
    let Some(locked) = locked else {
        println!("{}: configuration is good", arguments.config.display());
        return ExitCode::SUCCESS;
    };
    log::start(arguments.log_format, arguments.log_level.as_ref());
    abort_on_panic();
    if let Err(error) = locked {
        tracing::warn!(%error, "keys may be swapped out; it takes `ulimit -l unlimited`, or root");
    }
    if let Err(error) = give_up_privileges(arguments.seccomp) {
        tracing::error!("{error}");
        return ExitCode::FAILURE;
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = error.to_string();
            tracing::error!("{text}{}", files_remedy(&text));
            ExitCode::FAILURE
        }
    }
}

/// Gives up all privileges but for ports below 1024, before there is a thread or a connection.
fn give_up_privileges(seccomp: Seccomp) -> Result<(), Box<dyn std::error::Error>> {
    keep_only(CapabilitySet::NET_BIND_SERVICE)?;
    Ok(seccomp.deny_what_no_service_does()?)
}

/// The configuration as the server takes it. `None` for what was checked before.
fn runtime_config(config: NucleusConfig) -> Option<RuntimeConfig> {
    let fabric = FabricName::new(config.fabric.as_str()).ok()?;
    let authority = config
        .authority
        .map(|key| AuthorityPublicKey::from_octets(&key));
    let members: BTreeSet<_> = config.members.iter().copied().map(PublicKey).collect();
    let limits = Limits {
        bindings: config.limits.bindings_per_node,
        binding_rate: config.limits.bindings_per_second,
        messages: config.limits.messages_per_second,
        connections: usize::try_from(config.limits.connections).ok()?,
        ..Limits::default()
    };
    Some(RuntimeConfig {
        private: PrivateKey(*config.private_key.expose()),
        trust: Trust {
            fabric,
            authority: authority.transpose().ok()?,
            members,
        },
        listen: config.listen,
        store: store_config(config.store, &config.fabric),
        limits,
        socket: config.socket,
        metrics: config.metrics,
    })
}

fn store_config(store: NucleusStore, fabric: &str) -> StoreConfig {
    match store {
        NucleusStore::Redb(path) => StoreConfig::Redb(path),
        NucleusStore::Etcd(etcd) => {
            let credentials = etcd.credentials;
            let certificate = etcd.certificate;
            StoreConfig::Etcd(Box::new(EtcdConfig {
                credentials: credentials.map(|(user, password)| Credentials { user, password }),
                authority: etcd.authority,
                certificate: certificate.map(|(chain, key)| ClientCertificate { chain, key }),
                ..EtcdConfig::new(etcd.endpoints, fabric)
            }))
        }
    }
}
