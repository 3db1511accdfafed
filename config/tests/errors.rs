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
switch:
  ageing: 300
  dscp: copy
  static:
    - mac: 02:00:00:00:00:01
      peer: gamma
      addresses: [10.7.0.3]
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
    vlans_are_numbers_and_ranges_that_do_not_overlap,
    mac_addresses_are_those_of_one_host,
    static_entries_name_one_port_or_peer_and_share_nothing,
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
    let names =
        "fabric, node, underlay, access, workers, peers, switch, nucleus, authority, control";
    for (text, what) in [("[]", "a list"), ("lab", "a text"), ("7", "a number")] {
        let what = format!("{what} is given, allowed is a mapping of {names}");
        assert_eq!(
            error_of(text.as_bytes()),
            format!("fabric.yaml:1: (top level): {what}")
        );
    }
}

#[test]
fn one_to_sixteen_access_ports_are_taken() {
    let (before, _) = GOOD
        .split_once("access:")
        .expect("the file has access ports");
    let allowed = "allowed is a list of 1..=16 mappings";
    for empty in ["access: []\n", "access:\n"] {
        let error = error_of(format!("{before}{empty}").as_bytes());
        assert_eq!(
            error,
            format!("fabric.yaml:12: access: the list is empty, {allowed}")
        );
    }
    let ports = |count: u32| -> String {
        let port = |n| format!("  - interface: omni{n}\n");
        let ports: String = (0..count).map(port).collect();
        format!("{before}access:\n{ports}")
    };
    assert_eq!(error_of(ports(16).as_bytes()), "ok");
    let what = "the list has 17 elements";
    assert_eq!(
        error_of(ports(17).as_bytes()),
        format!("fabric.yaml:12: access: {what}, {allowed}")
    );
}

#[test]
fn lists_of_addresses_have_at_most_4096_elements() {
    let mac = |n: u32| format!("02:00:00:01:{:02x}:{:02x}", n >> 8, n & 0xff);
    let macs = |count: u32| {
        let list: Vec<String> = (0..count).map(mac).collect();
        let list = format!("mtu: 1400\n    macs: [{}]", list.join(", "));
        error_of(GOOD.replace("mtu: 1400", &list).as_bytes())
    };
    assert_eq!(macs(4096), "ok");
    let error = macs(4097);
    let what = "fabric.yaml:17: access[0].macs: the list has 4097 elements, ";
    assert!(error.starts_with(what), "{error}");

    let entries = |count: u32| {
        let entry = |n| format!("    - {{mac: \"{}\", peer: beta}}\n", mac(n));
        let list: String = (0..count).map(entry).collect();
        error_of(format!("{GOOD}{list}").as_bytes())
    };
    assert_eq!(entries(4095), "ok");
    let error = entries(4096);
    let what = "fabric.yaml:33: switch.static: the list has 4097 elements, ";
    assert!(error.starts_with(what), "{error}");
}

#[test]
fn static_entries_are_where_their_port_lets_them_be() {
    let at_port = GOOD.replace("peer: gamma", "interface: omni0");
    let with = |port: &str, entry: &str| {
        let text = at_port.replace("mtu: 1400", port);
        error_of(
            text.replace("interface: omni0\n      addr", entry)
                .as_bytes(),
        )
    };
    let (untagged, tagged) = (
        "interface: omni0\n      addr",
        "interface: omni0\n      vlan: 10\n      addr",
    );
    for (port, entry) in [("vlan: 10", tagged), ("vlans: [0]", untagged)] {
        assert_eq!(with(port, entry), "ok");
    }
    let not_there = "fabric.yaml:34: switch.static[0]: VLAN 0 is not carried by omni0, allowed is";
    let error = with("vlan: 10", untagged);
    assert_eq!(error, format!("{not_there} a vlan that is"));
    let not_there = "fabric.yaml:36: switch.static[0].vlan: VLAN 10 is not carried by omni0";
    let allowed = "allowed is 0..=4094, one that the port or peer carries";
    for port in ["vlan: 11", "vlans: [0, 11-20]"] {
        assert_eq!(with(port, tagged), format!("{not_there}, {allowed}"));
    }

    assert_eq!(with("macs: [\"02:00:00:00:00:01\"]", untagged), "ok");
    let error = with("macs: [\"02:00:00:00:00:02\"]", untagged);
    let what = "fabric.yaml:34: switch.static[0].mac: is not among the macs of omni0, allowed is";
    assert!(error.starts_with(what), "{error}");
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
