//! The format as it is documented, held against the code and against octets written by hand.

use super::*;

/// The documented format.
const PROTO: &str = include_str!("../../../../../docs/nucleus-records.proto");

/// The code of the messages.
const CODE: &str = include_str!("../message.rs");

/// Messages and enums with their fields, each as `Message.field = number: type`.
fn documented() -> Vec<String> {
    let mut fields = Vec::new();
    let mut within = "";
    for line in PROTO.lines() {
        let code = line.split("//").next().unwrap_or_default().trim();
        let words: Vec<&str> = code.trim_end_matches(';').split_whitespace().collect();
        match words[..] {
            ["message" | "enum", name, "{"] => within = name,
            ["syntax" | "package", ..] | ["}"] | [] => {}
            [ref kind @ .., name, "=", number] => {
                fields.push(format!("{within}.{name} = {number}: {}", kind.join(" ")));
            }
            _ => panic!("a line of another form: {line}"),
        }
    }
    fields
}

/// The same of the code.
fn coded() -> Vec<String> {
    let mut fields = Vec::new();
    let (mut within, mut attribute) = ("", "");
    for line in CODE.lines() {
        let words: Vec<&str> = line.trim_end_matches(',').split_whitespace().collect();
        match words[..] {
            ["pub(super)", "struct" | "enum", name, "{"] => within = name,
            ["pub(super)", name, ref kind @ ..] => {
                let name = name.trim_end_matches(':');
                fields.push(field(within, name, attribute, &kind.concat()));
            }
            [name, "=", number] if within == "EndpointKind" => {
                let name = format!("ENDPOINT_KIND_{}", name.to_ascii_uppercase());
                fields.push(format!("{within}.{name} = {number}: "));
            }
            _ => attribute = line.trim(),
        }
    }
    fields
}

/// One field from its attribute, such as `#[prost(bytes = "vec", optional, tag = "4")]`, and its
/// type, such as `Option<Vec<u8>>`.
fn field(within: &str, name: &str, attribute: &str, kind: &str) -> String {
    let parts = attribute
        .trim_start_matches("#[prost(")
        .trim_end_matches(")]");
    let parts: Vec<&str> = parts.split(", ").collect();
    let number = parts
        .last()
        .unwrap()
        .trim_start_matches("tag = ")
        .trim_matches('"');
    let scalar = parts[0].split(" = ").next().unwrap();
    let named = parts[0].split('"').nth(1).unwrap_or_default();
    let inner = kind.split('<').next_back().unwrap().trim_end_matches('>');
    let kind = match scalar {
        "message" => inner,
        "enumeration" => named,
        _ => scalar,
    };
    let label = match parts[1] {
        "repeated" => "repeated ",
        // Of messages protobuf always knows whether they are there.
        "optional" if scalar != "message" => "optional ",
        _ => "",
    };
    format!("{within}.{name} = {number}: {label}{kind}")
}

#[test]
fn the_documented_format_is_the_one_that_is_read_and_written() {
    let (mut documented, mut coded) = (documented(), coded());
    assert!(documented.len() > 40, "{documented:?}");
    documented.sort();
    coded.sort();
    assert_eq!(
        documented, coded,
        "documented (left) and in the code (right)"
    );
}

#[test]
fn a_binding_has_the_octets_that_the_format_says() {
    let body = binding().message().encode_to_vec();
    let mut want = vec![0x0a, 32];
    want.extend(node().0);
    want.extend([0x10, 20, 0x1a, 6, 2, 0, 0, 0, 0, 1, 0x22, 4, 10, 7, 0, 1]);
    want.extend([0x28, 3, 0x30, 0xc0, 0x0c, 0x38, 1, 0x42, 32]);
    want.extend([9; 32]);
    assert_eq!(body, want);
    let record = binding().sign(&fabric(), &private()).unwrap();
    let octets = record.octets();
    assert_eq!(octets[..2], [0x0a, body.len() as u8]);
    assert_eq!(octets[2..2 + body.len()], body);
    assert_eq!(octets[2 + body.len()..][..2], [0x12, 64]);
    assert_eq!(octets.len(), body.len() + 68);
}
