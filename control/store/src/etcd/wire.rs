//! What etcd's JSON gateway takes and gives: protobuf's JSON form, in which octets are base64,
//! numbers of 64 bits are strings, and what is zero is left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// Octets of a key or value.
pub(super) fn octets(octets: &[u8]) -> Value {
    STANDARD.encode(octets).into()
}

/// A number of 64 bits.
pub(super) fn number(number: impl ToString) -> Value {
    number.to_string().into()
}

/// A put of a key, attached to a lease or to none (0).
pub(super) fn put(key: &[u8], value: &[u8], lease: i64) -> Value {
    json!({ "key": octets(key), "value": octets(value), "lease": number(lease) })
}

/// Octets in base64.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Octets(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

/// A number of 64 bits, as a string.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Number<T>(pub(super) T);

impl<'de, T: std::str::FromStr<Err: std::fmt::Display>> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// What every answer begins with, and never without: neither number is ever zero. So nothing that
/// is no answer passes for one that found nothing.
#[derive(Clone, Copy, Deserialize, Debug)]
pub(super) struct Header {
    pub(super) cluster_id: Number<u64>,
    pub(super) revision: Number<u64>,
}

/// A key and its value.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct KeyValue {
    pub(super) key: Octets,
    pub(super) value: Octets,
    pub(super) mod_revision: Number<u64>,
    pub(super) lease: Number<i64>,
}

#[derive(Deserialize, Debug)]
pub(super) struct RangeAnswer {
    pub(super) header: Header,
    #[serde(default)]
    pub(super) kvs: Vec<KeyValue>,
    #[serde(default)]
    pub(super) more: bool,
}

#[derive(Deserialize, Debug)]
pub(super) struct TxnAnswer {
    pub(super) header: Header,
    #[serde(default)]
    pub(super) succeeded: bool,
    #[serde(default)]
    responses: Vec<TxnPart>,
}

impl TxnAnswer {
    /// The key that a read of the transaction found.
    pub(super) fn read(&self, number: usize) -> Option<&KeyValue> {
        let part = self.responses.get(number)?;
        part.response_range.as_ref()?.kvs.first()
    }
}

#[derive(Deserialize, Debug)]
pub(super) struct PutAnswer {
    pub(super) header: Header,
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
struct TxnPart {
    response_range: Option<TxnRead>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
struct TxnRead {
    kvs: Vec<KeyValue>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct GrantAnswer {
    #[serde(rename = "ID")]
    pub(super) id: Number<i64>,
}

/// One object of a stream.
#[derive(Deserialize, Debug)]
pub(super) struct Streamed<T> {
    pub(super) result: Option<T>,
    pub(super) error: Option<ErrorText>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct KeepAliveAnswer {
    /// In seconds; 0 when there is no such lease.
    #[serde(rename = "TTL")]
    pub(super) ttl: Number<i64>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct WatchAnswer {
    pub(super) canceled: bool,
    pub(super) compact_revision: Number<u64>,
    pub(super) events: Vec<WatchEvent>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct WatchEvent {
    /// Absent: a put.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) kv: KeyValue,
    pub(super) prev_kv: Option<KeyValue>,
}

impl WatchEvent {
    pub(super) fn is_delete(&self) -> bool {
        self.kind.as_deref() == Some("DELETE")
    }
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct TokenAnswer {
    pub(super) token: String,
}

/// What went wrong. Versions of etcd differ in the fields.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct ErrorAnswer {
    error: Option<ErrorText>,
    message: Option<String>,
    code: Option<i64>,
}

/// A text in a plain answer, an object in a stream.
#[derive(Deserialize, Debug)]
#[serde(untagged)]
pub(super) enum ErrorText {
    Plain(String),
    Object {
        message: String,
        #[serde(alias = "grpc_code")]
        code: Option<i64>,
    },
}

impl ErrorAnswer {
    /// The text, and gRPC's code (its number for "unknown" when there is none).
    pub(super) fn into_parts(self) -> (String, i64) {
        let (text, inner) = self
            .error
            .map_or((String::new(), None), ErrorText::into_parts);
        let code = self.code.or(inner).unwrap_or(2);
        (self.message.unwrap_or(text), code)
    }
}

impl From<Option<ErrorText>> for ErrorAnswer {
    fn from(error: Option<ErrorText>) -> Self {
        Self {
            error,
            ..Self::default()
        }
    }
}

impl ErrorText {
    fn into_parts(self) -> (String, Option<i64>) {
        match self {
            Self::Plain(text) => (text, None),
            Self::Object { message, code } => (message, code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_etcd_are_understood() {
        let text = r#"{"header":{"cluster_id":"18446744073709551615","revision":"3"},
            "responses":[{"response_range":{"kvs":[{"key":"YQ==","mod_revision":"2"}]}}]}"#;
        let answer: TxnAnswer = serde_json::from_str(text).expect("as etcd writes it");
        assert_eq!(answer.header.cluster_id, Number(u64::MAX));
        assert!(!answer.succeeded);
        let found = answer.read(0).expect("a key");
        assert_eq!(found.key, Octets(vec![b'a']));
        assert_eq!(found.mod_revision, Number(2));
        assert!(answer.read(1).is_none());

        let text = r#"{"events":[{"type":"DELETE","kv":{"key":"YQ==","mod_revision":"9"},
            "prev_kv":{"key":"YQ==","lease":"-7"}},{"kv":{"key":"Yg=="}}]}"#;
        let answer: WatchAnswer = serde_json::from_str(text).expect("as etcd writes it");
        assert!(answer.events[0].is_delete() && !answer.events[1].is_delete());
        let previous = answer.events[0].prev_kv.as_ref().expect("it was asked for");
        assert_eq!(previous.lease, Number(-7));
    }

    #[test]
    fn errors_of_all_versions_are_understood() {
        for text in [
            r#"{"error":"no lease","message":"no lease","code":5}"#,
            r#"{"code":5,"message":"no lease","details":[]}"#,
            r#"{"error":{"grpc_code":5,"http_code":404,"message":"no lease"}}"#,
        ] {
            let answer: ErrorAnswer = serde_json::from_str(text).expect("as etcd writes it");
            assert_eq!(answer.into_parts(), ("no lease".to_owned(), 5), "{text}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let good = r#"{"header":{"cluster_id":"7","revision":"3"},"kvs":[{"key":"YQ=="}]}"#;
        let parse = |text: &str| serde_json::from_str::<RangeAnswer>(text);
        assert!(parse(good).is_ok());
        for (part, wrong) in [
            ("YQ==", "?"),
            (r#""3""#, r#""-1""#),
            (r#""3""#, r#""18446744073709551616""#),
            (r#""3""#, "3"),
            (r#""cluster_id":"7","#, ""),
            (r#","revision":"3""#, ""),
            (r#"[{"key":"YQ=="}]"#, "{}"),
            ("}]}", "}]"),
        ] {
            let bad = good.replace(part, wrong);
            assert!(bad != good && parse(&bad).is_err(), "{bad}");
        }
        for text in ["", "{}", "[]", "null"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
