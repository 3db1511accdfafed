//! The operator's tool as its user meets it: the real binary, its output and its exit status.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

const OMNI: &str = env!("CARGO_BIN_EXE_omni");

/// What an engine answers, in one line, with a member that this version does not know.
const ANSWER: &str = concat!(
    r#"{"node":{"name":"alpha","fabric":"lab","#,
    r#""public_key":"5N+0u2Mcx2zHyTk+L3MHV6Yc7JgX3Qf5t2o7hY8a3gE=","uptime_seconds":42},"#,
    r#""peers":[{"name":"beta","public_key":"hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=","#,
    r#""endpoint":null,"state":"idle","last_handshake_seconds":null,"frame_limit":null,"#,
    r#""throttled":false,"#,
    r#""rx_frames":0,"rx_bytes":0,"tx_frames":7,"tx_bytes":18446744073709551615}],"#,
    r#""nuclei":[],"fdb":[],"neighbors":[],"vlans":[],"groups":[],"#,
    r#""alarms":[{"vlan":0,"mac":"02:00:00:00:00:01","owner":"local:omni0","#,
    r#""reason":"moved_too_often","remaining_seconds":60}],"#,
    r#""switch":{"suppression":"on","unknown_unicast":"flood","multicast":"snoop","#,
    r#""wanting_all":[],"arp_answered":0,"arp_unknown":0,"nd_answered":0,"nd_unknown":0,"#,
    r#""stale_answers":0,"#,
    r#""too_big_answered":0,"moves":5,"frozen":1,"claims_sent":0,"claims_refused":0,"#,
    r#""evicted":0,"bindings_refused":0,"groups_refused":0,"records_limited":0,"#,
    r#""records_malformed":0,"sends_left_out":0},"ports":[],"queues":[],"drops":{"bad_tag":3},"#,
    r#""umem":{"frames_total":8192,"frames_free":6144,"frames_receiving":2048,"#,
    r#""frames_sending":0,"frames_held":0},"#,
    r#""recovery":{"worker_stalls":0,"queue_stalls":0,"reopened":0,"reattached":0,"unsound":0},"#,
    r#""later":1}"#,
);

/// A control socket that serves one connection.
struct Engine {
    folder: TempDir,
    task: JoinHandle<String>,
}

impl Engine {
    /// Answers whatever is asked with `answer`, in two halves, and closes.
    fn answers(answer: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("alpha.sock")).unwrap();
        let answer = answer.to_owned();
        let task = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while request.last() != Some(&b'\n') {
                let mut octet = [0];
                assert_eq!(stream.read(&mut octet).unwrap(), 1, "a whole line is asked");
                request.push(octet[0]);
            }
            let (first, second) = answer.split_at(answer.len() / 2);
            // The tool may have gone away: some tests want it so.
            let _ = stream.write_all(first.as_bytes());
            thread::sleep(std::time::Duration::from_millis(20));
            let _ = stream.write_all(second.as_bytes());
            String::from_utf8(request).unwrap()
        });
        Self { folder, task }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("alpha.sock")
    }

    /// Runs `omni show` here; gives its output and what it asked.
    fn show(self, arguments: &[&str]) -> (Output, String) {
        let output = omni(&["show", "--socket"])
            .arg(self.socket())
            .args(arguments)
            .output();
        (output.unwrap(), self.task.join().unwrap())
    }
}

fn omni(arguments: &[&str]) -> Command {
    let mut command = Command::new(OMNI);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("NO_COLOR");
    command
}

fn run_with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    omni(arguments).stdin(file).output().unwrap()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one message of a command that failed: exit status 1, nothing on standard output.
fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let text = text
        .strip_prefix("omni: ")
        .expect("an error says who speaks");
    text.trim_end().to_owned()
}

#[test]
fn pubkey_gives_the_public_keys_of_rfc_7748() {
    // RFC 7748 s.6.1: Alice's and Bob's keys, in base64.
    let pairs = [
        (
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n",
            "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n",
        ),
        (
            "XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os=",
            "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=\n",
        ),
    ];
    for (private, public) in pairs {
        assert_eq!(
            succeeded(&run_with_input(&["pubkey"], private.as_bytes())),
            public
        );
    }
}

#[test]
fn every_new_key_is_another_and_has_a_public_key() {
    let [first, second] = ["keygen", "keygen"].map(|it| succeeded(&omni(&[it]).output().unwrap()));
    assert_ne!(first, second);
    for key in [&first, &second] {
        assert_eq!((key.len(), key.ends_with("=\n")), (45, true), "{key:?}");
        let public = succeeded(&run_with_input(&["pubkey"], key.as_bytes()));
        assert_eq!((public.len(), &public == key), (45, false), "{public:?}");
    }
    let psk = succeeded(&omni(&["genpsk"]).output().unwrap());
    assert_eq!((psk.len(), psk.ends_with("=\n")), (45, true), "{psk:?}");
}

#[test]
fn what_is_no_key_is_refused_and_not_repeated() {
    let short = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LC==";
    let hex = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
    let long = "A".repeat(100_000);
    for input in ["", "\n", short, hex, "\u{fffd}", &long] {
        let text = failed(&run_with_input(&["pubkey"], input.as_bytes()));
        assert!(
            text.starts_with("standard input holds no private key"),
            "{text}"
        );
        assert!(input.trim().is_empty() || !text.contains(input), "{text}");
    }
    let zero = failed(&run_with_input(
        &["pubkey"],
        format!("{}=", "A".repeat(43)).as_bytes(),
    ));
    assert_eq!(zero, "standard input holds 32 zero octets, which is no key");
}

#[test]
fn a_key_file_that_others_can_read_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    for (mode, warned) in [(0o600, false), (0o640, true), (0o644, true)] {
        for command in ["keygen", "genpsk"] {
            let path = folder.path().join(format!("{command}-{mode:o}.key"));
            let file = File::create(&path).unwrap();
            file.set_permissions(Permissions::from_mode(mode)).unwrap();
            let output = omni(&[command]).stdout(file).output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(text.contains("omni: warning: "), warned, "{mode:o}: {text}");
            assert_eq!(text.contains(&format!("mode {mode:04o}")), warned, "{text}");
            assert_eq!(
                fs::read(&path).unwrap().len(),
                45,
                "it is written all the same"
            );
        }
    }
}

#[test]
fn a_key_that_cannot_be_written_is_an_error() {
    for command in ["keygen", "genpsk"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let text = failed(&omni(&[command]).stdout(full).output().unwrap());
        assert!(
            text.starts_with("cannot write to standard output: "),
            "{text}"
        );
    }
}

#[test]
fn show_asks_once_and_prints_every_section() {
    let (output, asked) = Engine::answers(&format!("{ANSWER}\n")).show(&[]);
    assert_eq!(asked, "{\"command\":\"show\"}\n");
    let text = succeeded(&output);
    let head = "alpha  fabric lab  key 5N+0u2Mcx2zHyTk+L3MHV6Yc7JgX3Qf5t2o7hY8a3gE=  up 42s\n";
    assert!(text.starts_with(head), "{text}");
    let alarm = "ALARM  02:00:00:00:00:01 moved too often: stays behind local:omni0 for 1m 0s\n\n";
    assert!(text[head.len()..].starts_with(alarm), "{text}");
    for title in [
        "peers  1",
        "fdb",
        "neighbors",
        "vlans",
        "groups",
        "switch",
        "ports",
        "queues",
        "drops",
        "umem",
    ] {
        assert!(
            text.contains(&format!("\n\n{title}\n")),
            "{title} in {text}"
        );
    }
    assert!(!text.contains('\x1b'), "a pipe is no terminal: {text:?}");
}

#[test]
fn show_prints_one_section_alone() {
    let text = succeeded(&Engine::answers(&format!("{ANSWER}\n")).show(&["drops"]).0);
    let want = "reason   count  meaning\nbad_tag      3  Poly1305 tag does not verify.\n";
    assert_eq!(text, want);
}

#[test]
fn colours_follow_the_option() {
    let answer = format!("{ANSWER}\n");
    let always = succeeded(
        &Engine::answers(&answer)
            .show(&["--color", "always", "peers"])
            .0,
    );
    assert!(always.contains("\x1b[2midle\x1b[0m"), "{always:?}");
    let never = succeeded(
        &Engine::answers(&answer)
            .show(&["--color", "never", "peers"])
            .0,
    );
    assert!(!never.contains('\x1b'), "{never:?}");
}

#[test]
fn json_is_the_answer_in_the_documented_order_with_exact_numbers() {
    let text = succeeded(&Engine::answers(&format!("{ANSWER}\n")).show(&["--json"]).0);
    assert!(
        text.starts_with("{\n  \"node\": {\n    \"name\": \"alpha\",\n"),
        "{text}"
    );
    let compact: String = text.chars().filter(|char| !char.is_whitespace()).collect();
    assert_eq!(compact, ANSWER.replace(",\"later\":1", ""));
}

#[test]
fn json_of_a_section_is_the_same_object_with_one_member() {
    let text = succeeded(
        &Engine::answers(&format!("{ANSWER}\n"))
            .show(&["--json", "drops"])
            .0,
    );
    assert_eq!(text, "{\n  \"drops\": {\n    \"bad_tag\": 3\n  }\n}\n");
}

#[test]
fn what_is_watched_without_a_terminal_is_printed_reading_after_reading() {
    let engine = Engine::answers(&format!("{ANSWER}\n"));
    let mut command = omni(&["show", "--watch", "drops", "--socket"]);
    let command = command.arg(engine.socket()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut text = String::new();
    // The engine answers once, and is gone.
    while !text.contains("ALARM") {
        let mut some = [0; 4096];
        let len = output.read(&mut some).unwrap();
        assert!(len > 0, "it goes on: {text}");
        text.push_str(std::str::from_utf8(&some[..len]).unwrap());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        text.starts_with("alpha  rates over 1.0 s  Ctrl-C ends\nreason "),
        "{text}"
    );
    assert!(text.contains("bad_tag      3  Poly1305"), "{text}");
    assert!(
        text.contains(": waiting for it; below is the past\n"),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "a pipe is no terminal: {text:?}");
}

#[test]
fn top_needs_a_terminal_and_says_what_does_not() {
    let text = failed(&omni(&["top"]).output().unwrap());
    let want = "omni top needs a terminal; for files and pipes there is omni show --watch";
    assert_eq!(text, want);
}

#[test]
fn what_the_engine_refuses_is_passed_on() {
    let engine = Engine::answers("{\"error\":\"unknown variant `show`\"}\n");
    let socket = engine.socket();
    let text = failed(&engine.show(&[]).0);
    let want = format!(
        "the engine at {} refuses: unknown variant `show`",
        socket.display()
    );
    assert_eq!(text, want);
}

#[test]
fn answers_that_are_broken_off_or_not_understood_are_told_apart() {
    let cases = [
        ("", "broke off before its answer was complete"),
        (&ANSWER[..300], "broke off before its answer was complete"),
        ("{\"node\":{}}\n", "is not understood: missing field `name`"),
        ("HTTP/1.1 400 Bad Request\n", "is not understood: "),
        ("\n", "is not understood: "),
    ];
    for (answer, want) in cases {
        let text = failed(&Engine::answers(answer).show(&["--json"]).0);
        assert!(text.contains(want), "{answer:?}: {text}");
    }
}

#[test]
fn nobody_listening_is_an_error_with_the_sockets_name() {
    let folder = tempfile::tempdir().unwrap();
    let left_behind = folder.path().join("killed.sock");
    drop(UnixListener::bind(&left_behind).unwrap());
    for path in [left_behind, folder.path().join("missing.sock")] {
        let output = omni(&["show", "--socket"]).arg(&path).output().unwrap();
        let want = format!(
            "nobody listens at {}: is the engine running?",
            path.display()
        );
        assert_eq!(failed(&output), want);
    }
    let long = "x".repeat(200);
    let text = failed(&omni(&["show", "--socket", &long]).output().unwrap());
    assert!(
        text.starts_with(&format!("cannot ask at {long}: ")),
        "{text}"
    );
}

#[test]
fn a_socket_of_somebody_else_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let socket = folder.path().join("alpha.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o000)).unwrap();
    let uid = rustix::process::geteuid();
    let output = show_without_privilege(folder.path(), &socket);
    let start = format!(
        "{} is for its owner only (user id {})",
        socket.display(),
        uid.as_raw()
    );
    let text = failed(&output);
    assert!(text.starts_with(&start), "{text}");
}

/// Permissions do not hold root back: root becomes another user, for whom the binary is copied to
/// where that user can run it.
fn show_without_privilege(folder: &Path, socket: &Path) -> Output {
    let mut command = Command::new(OMNI);
    if rustix::process::geteuid().is_root() {
        let copy = folder.join("omni");
        fs::copy(OMNI, &copy).unwrap();
        command = Command::new(copy);
        command.uid(65_534).gid(65_534).current_dir("/");
    }
    command
        .args(["show", "--socket"])
        .arg(socket)
        .output()
        .unwrap()
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let engine = Engine::answers(&format!("{ANSWER}\n"));
    let mut command = omni(&["show", "--socket"]);
    let command = command
        .arg(engine.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

/// What `omni reload` says and how it ends when the engine answers with `answer`.
fn reload(answer: &str, how: &[&str]) -> Output {
    let engine = Engine::answers(&format!("{answer}\n"));
    let socket = engine.socket();
    let output = omni(&["reload", "--socket"]).arg(socket).args(how).output();
    let request = engine.task.join().unwrap();
    assert_eq!(request, "{\"command\":\"reload\"}\n");
    output.unwrap()
}

#[test]
fn reload_prints_each_change_and_says_when_there_is_none() {
    let changes = r#"{"changes":["peer beta added","access[0].mtu: 1300"]}"#;
    let text = succeeded(&reload(changes, &[]));
    assert_eq!(text, "peer beta added\naccess[0].mtu: 1300\n");
    let json: serde_json::Value =
        serde_json::from_str(&succeeded(&reload(changes, &["--json"]))).unwrap();
    assert_eq!(json["changes"][1], "access[0].mtu: 1300");
    let text = succeeded(&reload(r#"{"changes":[]}"#, &[]));
    assert_eq!(text, "nothing changed\n");
}

#[test]
fn a_reload_that_is_refused_fails_and_says_why() {
    let why = r#"{"error":"fabric.yaml:3: node.nam: is not a key"}"#;
    let text = failed(&reload(why, &[]));
    assert!(text.contains("refuses: fabric.yaml:3: node.nam"), "{text}");
}

#[test]
fn help_has_examples_and_wrong_arguments_end_with_status_2() {
    let commands = [
        "init",
        "keygen",
        "pubkey",
        "genpsk",
        "show",
        "reload",
        "doctor",
        "completions",
    ];
    for command in commands {
        let text = succeeded(&omni(&[command, "--help"]).output().unwrap());
        assert!(
            text.contains(&format!("omni {command}")) && text.contains("Example"),
            "{text}"
        );
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
    }
    for wrong in [
        &["frobnicate"][..],
        &["show", "nothing"],
        &["keygen", "extra"],
        &[],
    ] {
        assert_eq!(
            omni(wrong).output().unwrap().status.code(),
            Some(2),
            "{wrong:?}"
        );
    }
}

/// Runs `omni init` in a folder, with answers on its standard input.
fn init(folder: &Path, how: &[&str], answers: &str) -> Output {
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(answers.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    let mut command = omni(&["init"]);
    command.args(how).current_dir(folder).stdin(input);
    command.output().unwrap()
}

const PEER: &str = "beta=hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=@192.0.2.2:51820";

#[test]
fn init_writes_what_the_engine_takes_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let how = [
        "--yes",
        "--name",
        "alpha",
        "--interface",
        "eth0",
        "--address",
        "10.7.0.1/24",
        "--peer",
        PEER,
    ];
    let text = succeeded(&init(folder.path(), &how, ""));
    let (config, key) = ("fabric.yaml", folder.path().join("alpha.key"));
    let mode = fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let check = Command::new(env!("CARGO_BIN_EXE_omni-engine"))
        .args(["--config", config, "--check"])
        .current_dir(folder.path())
        .output();
    assert_eq!(
        succeeded(&check.unwrap()),
        "fabric.yaml: configuration is good\n"
    );
    let secret = fs::read(&key).unwrap();
    let public = succeeded(&run_with_input(&["pubkey"], &secret));
    assert!(text.ends_with(&format!("\n{public}")), "{text}");
    assert!(text.contains("  - name: alpha\n    public_key: "), "{text}");

    let written = fs::read(folder.path().join(config)).unwrap();
    let again = failed(&init(folder.path(), &how, ""));
    assert!(again.contains("--force"), "{again}");
    assert_eq!(fs::read(folder.path().join(config)).unwrap(), written);
    let forced = [&how[..], &["--force", "--fabric", "other"]].concat();
    succeeded(&init(folder.path(), &forced, ""));
    let text = fs::read_to_string(folder.path().join(config)).unwrap();
    assert!(text.contains("fabric: other"), "{text}");
    assert_eq!(fs::read(&key).unwrap(), secret, "a key is never replaced");
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "nothing else is left"
    );
}

#[test]
fn init_asks_again_after_a_wrong_answer_and_writes_nothing_without_answers() {
    let folder = tempfile::tempdir().unwrap();
    let ended = init(folder.path(), &["--interface", "eth0"], "lab\n");
    assert_eq!(ended.status.code(), Some(1));
    let text = String::from_utf8(ended.stderr).unwrap();
    assert!(
        text.contains("Name of this node") && text.contains("--yes"),
        "{text}"
    );
    let wrong = init(
        folder.path(),
        &["--yes", "--interface", "eth0", "--address", "10.7.0.1"],
        "",
    );
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    // The first name is none; no addresses, no peers, no Nucleus.
    let answers = "lab\nal pha\nalpha\n10.7.0.1/24, fd00:7::1/64\n\n\n";
    let output = init(folder.path(), &["--interface", "eth0"], answers);
    assert!(output.status.success(), "{output:?}");
    let asked = String::from_utf8(output.stderr).unwrap();
    assert_eq!(asked.matches("Name of this node").count(), 2, "{asked}");
    let written = fs::read_to_string(folder.path().join("fabric.yaml")).unwrap();
    assert!(
        written.contains(r#"addresses: ["10.7.0.1/24", "fd00:7::1/64"]"#),
        "{written}"
    );
    assert!(folder.path().join("alpha.key").exists());
}

#[test]
fn doctor_tells_of_a_wrong_configuration_and_ends_with_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fabric.yaml");
    fs::write(&config, "fabrik: lab\n").unwrap();
    let output = omni(&["doctor", "--config"]).arg(&config).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("BROKEN   configuration "), "{text}");
    assert!(text.contains("fabrik") && text.contains("fix: "), "{text}");
    let output = omni(&["doctor", "--json", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["verdict"], &json["interface"]),
        (&"broken".into(), &serde_json::Value::Null)
    );
}

#[test]
fn completions_are_printed_for_each_shell() {
    for (shell, word) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef omni"),
        ("fish", "complete -c omni"),
    ] {
        let text = succeeded(&omni(&["completions", shell]).output().unwrap());
        assert!(
            text.contains(word) && text.contains("doctor"),
            "{shell}: {text}"
        );
    }
}
