//! Clusters that ask who is there.

use omni_store::{
    ClientCertificate, Credentials, EtcdConfig, EtcdStore, Event, Outcome, Store, StoreError,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::conformance::{commit, next, of, put};

fn with_password(mut config: EtcdConfig, password: &str) -> EtcdStore {
    config.credentials = Some(Credentials {
        user: "nucleus".into(),
        password: password.to_owned().into(),
    });
    EtcdStore::open(config).expect("a configuration")
}

fn refusal(mut store: EtcdStore) -> String {
    let refused = store.commit(&of([put("a", "1")]));
    let Err(StoreError::Refused(text)) = refused else {
        panic!("{refused:?}");
    };
    text
}

/// Switches authentication on, with a user that may use the keys of the fabric `home`.
fn lock(cluster: &Cluster) {
    // `/omni/home/` and the first key behind it.
    let range =
        json!({ "permType": 2, "key": "L29tbmkvaG9tZS8=", "range_end": "L29tbmkvaG9tZTA=" });
    let steps: [(&str, Value); 8] = [
        ("auth/user/add", json!({ "name": "root", "password": "r" })),
        ("auth/role/add", json!({ "name": "root" })),
        ("auth/user/grant", json!({ "user": "root", "role": "root" })),
        (
            "auth/user/add",
            json!({ "name": "nucleus", "password": "good" }),
        ),
        ("auth/role/add", json!({ "name": "home" })),
        ("auth/role/grant", json!({ "name": "home", "perm": range })),
        (
            "auth/user/grant",
            json!({ "user": "nucleus", "role": "home" }),
        ),
        ("auth/enable", json!({})),
    ];
    for (path, request) in steps {
        let answer = cluster.ask(0, path, &request).expect("an answer");
        assert!(answer.get("error").is_none(), "{path}: {answer}");
    }
}

#[test]
fn a_name_and_a_password_open_the_keys_of_one_fabric() {
    let mut cluster = Cluster::new(1);
    lock(&cluster);
    let config = || cluster.config(&[0], "home");
    assert!(refusal(EtcdStore::open(config()).expect("it is valid")).contains("user name"));
    assert!(refusal(with_password(config(), "bad")).contains("authentication failed"));
    let elsewhere = with_password(cluster.config(&[0], "other"), "good");
    assert!(refusal(elsewhere).contains("permission denied"));

    let mut store = with_password(config(), "good");
    let first = commit(&mut store, &of([put("a", "1")]));
    let mut watch = store.watch(first).expect("a watch");
    commit(&mut store, &of([put("a", "2")]));
    assert!(matches!(next(&mut watch), Event::Put(item) if item.value == b"2"));
    // A restarted member knows none of its tokens any more.
    cluster.kill(0);
    cluster.start(0);
    cluster.wait_for_leader();
    while !matches!(
        store.commit(&of([put("a", "3")])),
        Ok(Outcome::Committed(_))
    ) {}
    assert!(matches!(next(&mut watch), Event::Put(item) if item.value == b"3"));
}

/// An authority, and a certificate by it for 127.0.0.1, as PEM.
struct Authority {
    authority: String,
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let chain = CertificateParams::new(["127.0.0.1".to_owned()])
            .and_then(|params| params.signed_by(&key, &issuer))
            .expect("a certificate")
            .pem();
        Self {
            authority,
            chain,
            key: key.serialize_pem(),
        }
    }
}

#[test]
fn certificates_are_asked_for_and_shown() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let cluster = Cluster::start_all(1, "https", |folder| {
        let write = |name: &str, pem: &str| {
            let path = folder.join(name);
            std::fs::write(&path, pem).expect("a file");
            path.to_string_lossy().into_owned()
        };
        vec![
            format!("--cert-file={}", write("cert.pem", &ours.chain)),
            format!("--key-file={}", write("key.pem", &ours.key)),
            format!("--trusted-ca-file={}", write("ca.pem", &ours.authority)),
            "--client-cert-auth".into(),
        ]
    });
    let certificate = |of: &Authority| ClientCertificate {
        chain: of.chain.clone(),
        key: of.key.clone().into(),
    };
    let config = |authority: &Authority, shown: Option<ClientCertificate>| EtcdConfig {
        authority: Some(authority.authority.clone()),
        certificate: shown,
        ..cluster.config(&[0], "home")
    };
    let open = |config| EtcdStore::open(config).expect("a configuration");
    let mut store = open(config(&ours, Some(certificate(&ours))));
    let first = commit(&mut store, &of([put("a", "1")]));
    let mut watch = store.watch(first).expect("a watch");
    commit(&mut store, &of([put("a", "2")]));
    assert!(matches!(next(&mut watch), Event::Put(item) if item.value == b"2"));

    for wrong in [
        config(&ours, None),
        config(&ours, Some(certificate(&theirs))),
        config(&theirs, Some(certificate(&ours))),
    ] {
        let refused = open(wrong).snapshot();
        assert!(
            matches!(refused, Err(StoreError::Unavailable(_))),
            "{refused:?}"
        );
    }
    let unnamed = cluster.config(&[0], "home");
    assert!(matches!(
        EtcdStore::open(unnamed),
        Err(StoreError::Invalid(_))
    ));
}
