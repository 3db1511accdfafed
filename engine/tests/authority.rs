//! `omni authority` as its user meets it: the real binary, its files, output and exit statuses.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use omni_membership::armour;
use omni_membership::{AuthorityPublicKey, Certificate, FabricName, Kind, Revocation};
use tempfile::TempDir;

/// RFC 7748 s.6.1: Alice's public key.
const ALICE: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

/// A folder with the key of an authority.
struct Authority {
    folder: TempDir,
    public: String,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = omni(&folder, &["init", "--key", "home.key"]);
        let public = succeeded(&output).trim_end().to_owned();
        Self { folder, public }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        omni(&self.folder, arguments)
    }

    /// Enrolls Alice in the fabric `home` with more arguments.
    fn enroll(&self, more: &[&str]) -> Output {
        let arguments = ["enroll", "--authority-key", "home.key", "--fabric", "home"];
        self.run(&[&arguments[..], &["--key", ALICE, "--name", "alice"], more].concat())
    }

    /// Revokes Alice's certificates with more arguments.
    fn revoke(&self, more: &[&str]) -> Output {
        let arguments = ["revoke", "--authority-key", "home.key", "--fabric", "home"];
        self.run(&[&arguments[..], &["--key", ALICE], more].concat())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn key(&self) -> AuthorityPublicKey {
        let octets = omni_config::text::public_key(&self.public).unwrap();
        AuthorityPublicKey::from_octets(&octets).unwrap()
    }

    /// The certificate in a text, verified as a node would.
    fn certificate(&self, text: &str) -> Certificate {
        let octets = armour::decode_kind(text.as_bytes(), Kind::Certificate).unwrap();
        let fabric = FabricName::new("home").unwrap();
        let verified = Certificate::verify(&octets, &fabric, &self.key());
        verified.unwrap().into_value()
    }
}

fn omni(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_omni"))
        .arg("authority")
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line that a command failed with.
fn failed(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let text = text.strip_prefix("omni: ").expect("it says who speaks");
    text.trim_end().to_owned()
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[test]
fn init_makes_a_private_file_and_prints_the_public_key() {
    let authority = Authority::new();
    let path = authority.path("home.key");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!((text.len(), text.ends_with("=\n")), (45, true));
    assert_ne!(text.trim_end(), authority.public);
    let output = authority.run(&["pubkey", "--authority-key", "home.key"]);
    assert_eq!(succeeded(&output).trim_end(), authority.public);
    succeeded(&authority.run(&["init"]));
    assert!(authority.path("authority.key").exists(), "the default name");
}

#[test]
fn init_writes_over_nothing() {
    let authority = Authority::new();
    let before = fs::read(authority.path("home.key")).unwrap();
    let output = authority.run(&["init", "--key", "home.key"]);
    assert!(failed(&output, 1).starts_with("home.key is there already, "));
    assert!(output.stdout.is_empty());
    assert_eq!(fs::read(authority.path("home.key")).unwrap(), before);
    let output = authority.run(&["init", "--key", "no/such/folder/key"]);
    assert!(failed(&output, 1).starts_with("cannot write no/such/folder/key: "));
}

#[test]
fn a_certificate_says_what_was_asked_for_and_verifies() {
    let authority = Authority::new();
    let text = succeeded(&authority.enroll(&[]));
    let certificate = authority.certificate(&text);
    assert_eq!(certificate.public_key.to_string(), ALICE);
    assert_eq!(certificate.name, "alice");
    assert_eq!(certificate.not_after, None);
    assert!(certificate.is_valid_at(now()) && certificate.is_valid_at(now() - 3500));
    assert_eq!(certificate.grants, omni_membership::Grants::default());
    assert!(certificate.serial.abs_diff(now() * 1000) < 100_000);

    let text = succeeded(&authority.enroll(&[
        "--vlans",
        "10,20-30",
        "--macs",
        "02:00:5e:10:00:01,02:00:5e:10:00:02",
        "--addresses",
        "10.7.0.1,10.8.1.0/16,2001:db8::/32",
        "--expires",
        "365d",
        "--serial",
        "7",
    ]));
    let certificate = authority.certificate(&text);
    assert_eq!(certificate.serial, 7);
    let days = certificate.not_after.unwrap() - now();
    assert!((364 * 86_400..=365 * 86_400).contains(&days), "{days}");
    let grants = certificate.grants;
    assert_eq!(grants.vlans.unwrap().to_string(), "10, 20-30");
    assert_eq!(grants.macs.unwrap().len(), 2);
    let addresses: Vec<String> = grants
        .addresses
        .unwrap()
        .iter()
        .map(|it| it.to_string())
        .collect();
    assert_eq!(addresses, ["10.7.0.1/32", "10.8.0.0/16", "2001:db8::/32"]);

    let text = succeeded(&authority.enroll(&["--expires", "2100-01-01", "--vlans", "all"]));
    let certificate = authority.certificate(&text);
    assert_eq!(certificate.not_after, Some(4_102_444_800));
    assert_eq!(certificate.grants.vlans, None);
}

#[test]
fn a_later_certificate_has_a_higher_serial_and_a_revocation_voids_all_before() {
    let authority = Authority::new();
    let serial = |text: String| authority.certificate(&text).serial;
    let first = serial(succeeded(&authority.enroll(&[])));
    let text = succeeded(&authority.revoke(&["--reason", "disk lost"]));
    let octets = armour::decode_kind(text.as_bytes(), Kind::Revocation).unwrap();
    let fabric = FabricName::new("home").unwrap();
    let revocation = Revocation::verify(&octets, &fabric, &authority.key()).unwrap();
    assert_eq!(revocation.public_key.to_string(), ALICE);
    assert_eq!(revocation.reason, "disk lost");
    let last = serial(succeeded(&authority.enroll(&[])));
    assert!(first <= revocation.serial && revocation.serial < last);
    let text = succeeded(&authority.revoke(&["--serial", "9"]));
    let octets = armour::decode_kind(text.as_bytes(), Kind::Revocation).unwrap();
    assert_eq!(Revocation::unverified(&octets).unwrap().serial, 9);
}

#[test]
fn what_was_asked_for_can_be_written_to_a_file() {
    let authority = Authority::new();
    assert_eq!(succeeded(&authority.enroll(&["-o", "alice.cert"])), "");
    assert_eq!(
        succeeded(&authority.revoke(&["--output", "alice.revoked"])),
        ""
    );
    let text = fs::read_to_string(authority.path("alice.cert")).unwrap();
    assert_eq!(authority.certificate(&text).name, "alice");
    let text = fs::read_to_string(authority.path("alice.revoked")).unwrap();
    assert!(text.starts_with("-----BEGIN OMNI REVOCATION-----\n"));
    assert!(text.ends_with("\n-----END OMNI REVOCATION-----\n"));
    let output = authority.enroll(&["-o", "/dev/full"]);
    assert!(failed(&output, 1).starts_with("cannot write /dev/full: "));
}

#[test]
fn values_that_are_not_allowed_end_with_status_2_and_name_the_option() {
    let authority = Authority::new();
    let expires = [
        "0d",
        "36501d",
        "d",
        "2020-01-01",
        "2027-02-30",
        "soon",
        "-5d",
        "",
    ];
    let cases = [("--vlans", "4095"), ("--vlans", "10,10"), ("--vlans", "")];
    let cases = cases.into_iter().chain([
        ("--macs", "03:00:00:00:00:01"),
        ("--macs", "02:00:5e:10:00:01,"),
        ("--addresses", "10.7.0.1/33"),
        ("--addresses", "224.0.0.1"),
    ]);
    for (option, value) in cases.chain(expires.map(|value| ("--expires", value))) {
        let output = authority.enroll(&[&format!("{option}={value}")]);
        let text = failed(&output, 2);
        assert!(text.starts_with(&format!("{option}: ")), "{value}: {text}");
        assert!(text.contains("allowed is"), "{value}: {text}");
    }
    let every_second: Vec<String> = (0..1025).map(|n| (2 * n).to_string()).collect();
    let output = authority.enroll(&["--vlans", &every_second.join(",")]);
    assert_eq!(failed(&output, 2), "--vlans: has more than 1024 ranges");
    let with = |key: &str, name: &str, fabric: &str| {
        let arguments = [
            "enroll",
            "--authority-key",
            "home.key",
            "--key",
            key,
            "--name",
            name,
        ];
        failed(
            &authority.run(&[&arguments[..], &["--fabric", fabric]].concat()),
            2,
        )
    };
    assert!(with(&ALICE[..43], "a", "home").starts_with("--key: a text of 43 octets is not a key"));
    // u = 0 is refused as zeros, u = 1 is of small order.
    let one = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert!(with(one, "a", "home").starts_with("--key: no private key belongs to it"));
    assert!(with(ALICE, "a b", "home").starts_with("--name: "));
    assert!(with(ALICE, "a", "").starts_with("--fabric: "));
}

#[test]
fn a_key_given_in_the_wrong_place_is_not_repeated() {
    let authority = Authority::new();
    let secret = fs::read_to_string(authority.path("home.key")).unwrap();
    let secret = secret.trim_end();
    for option in ["--vlans", "--macs", "--addresses"] {
        let text = failed(&authority.enroll(&[option, secret]), 2);
        assert!(!text.contains(&secret[..20]), "{option}: {text}");
    }
}

#[test]
fn an_authoritys_key_file_must_be_private_and_hold_a_key() {
    let authority = Authority::new();
    let path = authority.path("home.key");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let text = failed(&authority.enroll(&[]), 1);
    assert_eq!(
        text,
        "home.key is open to group or others (mode 0644): chmod 600 home.key"
    );
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "no key\n").unwrap();
    let text = failed(&authority.revoke(&[]), 1);
    assert_eq!(
        text,
        "home.key holds no key (make one with omni authority init)"
    );
    fs::remove_file(&path).unwrap();
    let text = failed(
        &authority.run(&["pubkey", "--authority-key", "home.key"]),
        1,
    );
    assert_eq!(text, "home.key cannot be read: No such file or directory");
}

#[test]
fn a_certificate_that_is_replaced_keeps_its_mode_and_its_place() {
    let authority = Authority::new();
    let (real, link) = (authority.path("real.cert"), authority.path("link.cert"));
    fs::write(&real, "old").unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let files = || fs::read_dir(real.parent().unwrap()).unwrap().count();
    let before = files();
    succeeded(&authority.enroll(&["-o", "link.cert"]));
    let text = fs::read_to_string(&real).unwrap();
    assert_eq!(authority.certificate(&text).name, "alice");
    let mode = fs::metadata(&real).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(link.is_symlink());
    assert_eq!(files(), before, "nothing unfinished stays");
}

#[test]
fn show_prints_what_a_certificate_says_and_whether_it_verifies() {
    let authority = Authority::new();
    let grants = [
        "--vlans",
        "0,20-30",
        "--addresses",
        "10.7.0.1",
        "--serial",
        "7",
    ];
    succeeded(&authority.enroll(&[&grants[..], &["-o", "alice.cert"]].concat()));
    let text = succeeded(&authority.run(&["show", "alice.cert"]));
    let rows: Vec<(&str, &str)> = text
        .lines()
        .map(|line| (line[..13].trim_end(), &line[13..]))
        .collect();
    assert_eq!(
        rows[..3],
        [("certificate", "alice"), ("key", ALICE), ("serial", "7")]
    );
    assert_eq!(rows[3].0, "valid");
    assert!(rows[3].1.ends_with(" UTC without end"), "{text}");
    let rest = [
        ("vlans", "0, 20-30"),
        ("macs", "any"),
        ("addresses", "10.7.0.1/32"),
        ("signature", "not checked: name --fabric and --authority"),
    ];
    assert_eq!(rows[4..], rest);

    let by = ["--authority", &authority.public];
    let show = |more: &[&str]| authority.run(&[&["show", "alice.cert"], &by[..], more].concat());
    let text = succeeded(&show(&["--fabric", "home"]));
    assert!(text.contains("\nsignature    verifies\n"), "{text}");
    let output = show(&["--fabric", "other"]);
    let text = failed(&output, 1);
    assert!(
        text.starts_with("the certificate's signature does not verify: "),
        "{text}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\nsignature    DOES NOT VERIFY: "), "{text}");
}

#[test]
fn show_prints_json_with_exact_values() {
    let authority = Authority::new();
    succeeded(&authority.enroll(&["--vlans", "0,20-30", "--expires", "2100-01-01", "-o", "c"]));
    succeeded(&authority.revoke(&["--reason", "it said \"no\"", "--serial", "8", "-o", "r"]));
    let json = |output: &Output| -> serde_json::Value {
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let checked = ["--fabric", "home", "--authority", &authority.public];
    let value = json(&authority.run(&[&["show", "--json", "c"], &checked[..]].concat()));
    assert_eq!(value["kind"], "certificate");
    assert_eq!(
        (&value["signature"], &value["valid_now"]),
        (&"verified".into(), &true.into())
    );
    assert_eq!(
        (&value["name"], &value["public_key"]),
        (&"alice".into(), &ALICE.into())
    );
    assert_eq!(value["not_after"], 4_102_444_800_u64);
    assert_eq!(value["vlans"], serde_json::json!(["0", "20-30"]));
    assert_eq!(value["macs"], serde_json::Value::Null);
    let value = json(&authority.run(&["show", "--json", "r"]));
    assert_eq!(
        (&value["kind"], &value["serial"]),
        (&"revocation".into(), &8.into())
    );
    assert_eq!(value["reason"], "it said \"no\"");
    assert_eq!(value["signature"], "unchecked");
    let other = Authority::new().public;
    let stranger = ["--fabric", "home", "--authority", &other];
    let output = authority.run(&[&["show", "--json", "r"], &stranger[..]].concat());
    let text = failed(&output, 1);
    assert!(
        text.starts_with("the revocation's signature does not verify: "),
        "{text}"
    );
    assert_eq!(json(&output)["signature"], "refused");
}

#[test]
fn show_says_what_is_wrong_with_a_file() {
    let authority = Authority::new();
    let text = succeeded(&authority.enroll(&[]));
    let cases = [
        (
            "empty",
            String::new(),
            "does not begin with -----BEGIN OMNI CERTIFICATE-----",
        ),
        (
            "cut",
            text[..100].to_owned(),
            "does not end with the -----END----- line",
        ),
        ("odd", text.replacen('\n', "\n*", 1), "holds something else"),
        ("long", "x".repeat(100_000), "holds more than 65536 octets"),
    ];
    for (name, text, what) in cases {
        fs::write(authority.path(name), text).unwrap();
        let text = failed(&authority.run(&["show", name]), 1);
        assert!(text.starts_with(&format!("{name} {what}")), "{text}");
    }
    fs::write(
        authority.path("void"),
        armour::encode(Kind::Revocation, b"\xff"),
    )
    .unwrap();
    let text = failed(&authority.run(&["show", "void"]), 1);
    assert_eq!(text, "not a revocation: its octets do not decode");
    let text = failed(&authority.run(&["show", "absent"]), 1);
    assert!(text.starts_with("cannot read absent: "), "{text}");
}

#[test]
fn help_has_examples_and_wrong_arguments_end_with_status_2() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        &[][..],
        &["init"],
        &["pubkey"],
        &["enroll"],
        &["revoke"],
        &["show"],
    ] {
        let text = succeeded(&omni(&folder, &[command, &["--help"]].concat()));
        let usage = [
            "Usage: omni authority",
            command.first().unwrap_or(&"[OPTIONS] <COMMAND>"),
        ]
        .join(" ");
        assert!(text.contains(&usage) && text.contains("Example"), "{text}");
        let is_narrow = text.lines().all(|line| line.chars().count() <= 100);
        assert!(is_narrow, "{text}");
    }
    for wrong in [
        &[][..],
        &["sign"],
        &["enroll"],
        &["show"],
        &["show", "c", "--fabric", "home"],
    ] {
        let status = omni(&folder, wrong).status.code();
        assert_eq!(status, Some(2), "{wrong:?}");
    }
}
