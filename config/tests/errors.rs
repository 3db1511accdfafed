//! Every kind of mistake gives one exact line: the file, the line, the key, what is wrong and
//! what is allowed. The cases are in `errors.txt`.

use std::path::Path;

use omni_config::{KeyFileText, load_octets};

/// The private key of the tests.
const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";

/// A file in which everything is right. The edits of the cases keep its lines countable.
const GOOD: &str = r#"fabric: lab
node:
  name: alpha
  private_key_file: alpha.key
underlay:
  interface: eth0
  port: 51820
  queues: [0, 1]
  driver: afxdp
  xdp: native
  zero_copy: on
access:
  - interface: omni0
    driver: xdp
    addresses: [10.7.0.1/24, "fd00::1/64"]
    mtu: 1400
workers:
  cores: [2, 3]
  poll: spin
peers:
  - name: beta
    public_key: "sX1z7M9W+19umpu3qvAr2Dzv8dzs0J6LdNlu1QWA1qA="
    endpoint: "192.0.2.2:51820"
    preshared_key_file: ab.psk
  - name: gamma
    public_key: "0ER+NbrxgDVZiD/vYdf+W23KINDML6R9wqYIxHNbKbs="
    endpoint: "[2001:db8::3]:51820"
control:
  socket: /run/omni/alpha.sock
"#;

const CASES: &str = include_str!("errors.txt");

fn read_key(path: &Path) -> KeyFileText {
    match path.to_str() {
        Some("alpha.key" | "ab.psk") => Ok(format!("{PRIVATE}\n").into_bytes()),
        Some("zero.key") => Ok(format!("{}=", "A".repeat(43)).into_bytes()),
        Some("short.key") => Ok(PRIVATE.as_bytes()[..40].to_vec()),
        Some("double.key") => Ok(format!("{PRIVATE}\n{PRIVATE}\n").into_bytes()),
        _ => Err("cannot be read: No such file or directory".to_owned()),
    }
}

/// The error of a text, or `ok`.
fn error_of(text: &[u8]) -> String {
    let file = Path::new("fabric.yaml");
    load_octets(file, text, &read_key).map_or_else(|error| error.to_string(), |_| "ok".to_owned())
}

/// The name of the section that begins on this line. Lists of the cases begin with other signs.
fn section_name(line: &str) -> Option<&str> {
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    name.starts_with(char::is_alphabetic).then_some(name)
}

/// The cases of one section: what to replace, by what, and the error.
fn cases(section: &str) -> Vec<[String; 3]> {
    let (_, rest) = CASES
        .split_once(&format!("\n[{section}]\n\n"))
        .expect("the section is there");
    let body = rest.lines().take_while(|line| section_name(line).is_none());
    let body = body.collect::<Vec<_>>().join("\n");
    let body = body.trim_matches('\n');
    let case = |case: &str| {
        let lines: Vec<_> = case.trim_matches('\n').split('\n').collect();
        let [from, to, error] = lines[..] else {
            panic!("three lines make a case:\n{case}")
        };
        let to = if to == "(nothing)" { "" } else { to };
        let error = if error == "ok" {
            error.to_owned()
        } else {
            format!("fabric.yaml:{error}")
        };
        [from.replace('⏎', "\n"), to.replace('⏎', "\n"), error]
    };
    body.split("\n\n").map(case).collect()
}

/// Checks all cases of a section and shows every one that differs.
fn check(section: &str) {
    let mut failures = String::new();
    for [from, to, expected] in cases(section) {
        assert_eq!(
            GOOD.matches(&from).count(),
            1,
            "the edit of {from:?} is not clear"
        );
        let error = error_of(GOOD.replace(&from, &to).as_bytes());
        if error != expected {
            failures += &format!("{from:?} -> {to:?}\n  is  {error}\n  not {expected}\n");
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// One test for each section of `errors.txt`, and one that none is left out.
macro_rules! sections {
    ($($name:ident,)+) => {
        $(#[test] fn $name() {
            check(&stringify!($name).replace('_', " "));
        })+

        #[test]
        fn every_section_is_tested() {
            let tested = [$(stringify!($name).replace('_', " ")),+];
            let sections: Vec<_> = CASES.lines().filter_map(section_name).collect();
            assert_eq!(sections, tested);
        }
    };
}

sections! {
    yaml_errors_name_the_line_and_the_innermost_open_key,
    what_is_not_plain_yaml_is_refused,
    unknown_keys_say_which_are_known_and_which_was_meant,
    missing_keys_are_reported_on_the_line_of_their_mapping,
    duplicate_keys_and_peers_name_both_lines,
    values_of_a_wrong_type_are_refused,
    numbers_out_of_range_are_refused,
    words_that_are_not_in_the_list_are_refused,
    names_that_do_not_fit_are_refused,
    addresses_that_do_not_parse_or_name_no_host_are_refused,
    bad_keys_are_refused_and_never_shown,
    bad_key_files_are_reported_on_the_line_that_names_them,
    what_this_version_does_not_do_is_refused_and_never_ignored,
    a_socket_path_fits_into_its_address,
}

#[test]
fn the_file_that_the_edits_start_from_is_right() {
    assert_eq!(error_of(GOOD.as_bytes()), "ok");
}

#[test]
fn octets_that_are_no_text_are_reported_on_their_line() {
    let with = |octet: u8| {
        let mut text = GOOD.replace("name: beta", "name: b~").into_bytes();
        let place = text
            .iter()
            .position(|&c| c == b'~')
            .expect("it was just written");
        text[place] = octet;
        error_of(&text)
    };
    let not_utf8 = "holds octets that are not UTF-8, allowed is UTF-8 text";
    assert_eq!(
        with(0xe9),
        format!("fabric.yaml:21: (top level): {not_utf8}")
    );
    for control in [0, 7, 0x1b, 0x7f] {
        let what = "holds a control character, allowed is text";
        assert_eq!(
            with(control),
            format!("fabric.yaml:21: (top level): {what}")
        );
    }
}

#[test]
fn lines_are_counted_alike_with_windows_line_breaks_and_a_byte_order_mark() {
    let text = GOOD
        .replace("port: 51820\n", "port: 99999\n")
        .replace('\n', "\r\n");
    let expected = "fabric.yaml:7: underlay.port: 99999 is out of range, allowed is 1..=65535";
    assert_eq!(error_of(format!("\u{feff}{text}").as_bytes()), expected);
}

#[test]
fn files_without_a_mapping_are_refused() {
    let what = "is required and missing, allowed is 1..=64 octets of UTF-8";
    for nothing in ["", "\n\n", "# nothing\n", "null\n", "{}"] {
        assert_eq!(
            error_of(nothing.as_bytes()),
            format!("fabric.yaml:1: fabric: {what}")
        );
    }
    let names = "fabric, node, underlay, access, workers, peers, nucleus, authority, control";
    for (text, what) in [("[]", "a list"), ("lab", "a text"), ("7", "a number")] {
        let what = format!("{what} is given, allowed is a mapping of {names}");
        assert_eq!(
            error_of(text.as_bytes()),
            format!("fabric.yaml:1: (top level): {what}")
        );
    }
}

#[test]
fn exactly_one_access_port_is_required() {
    let (before, _) = GOOD
        .split_once("access:")
        .expect("the file has access ports");
    let what = "the list is empty, allowed is a list of exactly one mapping";
    for empty in ["access: []\n", "access:\n"] {
        let error = error_of(format!("{before}{empty}").as_bytes());
        assert_eq!(error, format!("fabric.yaml:12: access: {what}"));
    }
}

#[test]
fn lists_of_queues_and_cores_have_at_most_64_elements() {
    let list = |n: u32| format!("{:?}", (0..n).collect::<Vec<_>>());
    assert_eq!(error_of(GOOD.replace("[0, 1]", &list(64)).as_bytes()), "ok");
    let error = error_of(GOOD.replace("[2, 3]", &list(65)).as_bytes());
    assert!(error.starts_with("fabric.yaml:18: workers.cores: the list has 65 elements, "));
}

#[test]
fn an_error_stays_one_line_whatever_the_file_is_called() {
    let error = load_octets(Path::new("a\nb.yaml"), b"fabric: [", &read_key).unwrap_err();
    assert!(error.to_string().starts_with("a\\nb.yaml:"), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
    assert_eq!((error.line(), error.key()), (Some(1), Some("fabric")));
}
