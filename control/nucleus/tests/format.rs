//! The messages as they are documented, held against the code.

use std::collections::BTreeSet;

/// The documented format.
const PROTO: &str = include_str!("../../../docs/nucleus.proto");

/// The code of the messages.
const CODE: &str = include_str!("../src/protocol.rs");

/// Fields, each as `Message.field = number: type`, and values of enums.
fn documented() -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    let mut within = "";
    for line in PROTO.lines() {
        let code = line.split("//").next().unwrap_or_default().trim();
        let words: Vec<&str> = code.trim_end_matches(';').split_whitespace().collect();
        match words[..] {
            ["message" | "enum", name, "{"] => within = name,
            ["syntax" | "package" | "oneof", ..] | ["}"] | [] => {}
            [ref kind @ .., name, "=", number] => {
                fields.insert(format!("{within}.{name} = {number}: {}", kind.join(" ")));
            }
            _ => panic!("a line of another form: {line}"),
        }
    }
    fields
}

/// The same of the code.
fn coded() -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    let (mut within, mut attribute) = ("", "");
    for line in CODE.lines().map(str::trim) {
        let words: Vec<&str> = line.trim_end_matches(',').split_whitespace().collect();
        match words[..] {
            ["pub", "mod", "from_node", "{"] => within = "FromNode",
            ["pub", "mod", "from_nucleus", "{"] => within = "FromNucleus",
            ["pub", "enum", "What", "{"] => {}
            ["pub", "struct" | "enum", name, "{"] => within = name,
            ["pub", name, _]
                if attribute.starts_with("#[prost(") && !attribute.contains("oneof") =>
            {
                let name = name.trim_end_matches(':');
                fields.insert(field(within, name, attribute));
            }
            [variant, "=", number] if within == "Refused" => {
                let name = shouted(variant);
                fields.insert(format!("Refused.REFUSED_{name} = {number}: "));
            }
            [variant] if attribute.starts_with("#[prost(message") && variant.contains('(') => {
                let kind = variant.split(['(', ')']).nth(1).expect("a type");
                let name = kind.to_ascii_lowercase();
                let number = tag(attribute);
                fields.insert(format!("{within}.{name} = {number}: {kind}"));
            }
            _ => {}
        }
        attribute = if line.starts_with("#[") { line } else { "" };
    }
    fields
}

fn tag(attribute: &str) -> &str {
    let (_, tag) = attribute.split_once("tag = \"").expect("a tag");
    tag.split('"').next().expect("a number")
}

/// A field from its attribute, such as `#[prost(bytes = "vec", repeated, tag = "4")]`.
fn field(within: &str, name: &str, attribute: &str) -> String {
    let inside = attribute.trim_start_matches("#[prost(");
    let kind = inside.split([',', ' ']).next().expect("a type");
    let kind = match kind {
        "enumeration" => inside.split('"').nth(1).expect("an enum"),
        kind => kind,
    };
    let label = if inside.contains("repeated") {
        "repeated "
    } else {
        ""
    };
    format!("{within}.{name} = {}: {label}{kind}", tag(attribute))
}

fn shouted(name: &str) -> String {
    let mut shouted = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !shouted.is_empty() {
            shouted.push('_');
        }
        shouted.extend(c.to_uppercase());
    }
    shouted
}

#[test]
fn the_documented_messages_are_those_that_are_read_and_written() {
    let documented = documented();
    assert!(documented.len() > 35, "{documented:?}");
    assert_eq!(
        documented,
        coded(),
        "documented (left) and in the code (right)"
    );
}
