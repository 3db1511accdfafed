//! What a certificate or revocation says, for people and as JSON.

use std::fmt::Write as _;

use omni_membership::{
    AuthorityPublicKey, Certificate, FabricName, Kind, RecordError, Revocation, VlanRanges,
};
use serde::Serialize;

use super::arguments::Show;
use super::{AuthorityError, Done, authority_public_key, fabric, read_record, since_1970};
use crate::dates;

/// Whether a record is the authority's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Signature {
    /// It was asked, and it is.
    Verified,
    /// It was asked, and it is not.
    Refused,
    /// Nobody asked.
    Unchecked,
}

/// A certificate as JSON. `null` stands for all VLANs, any address, no end.
#[derive(Debug, Serialize)]
struct CertificateJson {
    kind: &'static str,
    signature: Signature,
    public_key: String,
    name: String,
    serial: u64,
    not_before: u64,
    not_after: Option<u64>,
    valid_now: bool,
    vlans: Option<Vec<String>>,
    macs: Option<Vec<String>>,
    addresses: Option<Vec<String>>,
}

/// A revocation as JSON.
#[derive(Debug, Serialize)]
struct RevocationJson {
    kind: &'static str,
    signature: Signature,
    public_key: String,
    serial: u64,
    issued_at: u64,
    reason: String,
}

/// Shows the record of a file. One that does not verify is shown, too, and refused.
pub(super) fn show(how: &Show) -> Result<Done, AuthorityError> {
    let (kind, octets) = read_record(&how.file)?;
    let signer = match (&how.fabric, &how.authority) {
        (Some(name), Some(key)) => Some((fabric(name)?, authority_public_key(key)?)),
        _ => None,
    };
    let now = since_1970()?.as_secs();
    match kind {
        Kind::Revocation => {
            let (revocation, signature, refused) = checked(
                signer,
                |fabric, key| Revocation::verify(&octets, fabric, key).map(|it| it.into_value()),
                || Revocation::unverified(&octets),
            )?;
            let text = match how.json {
                true => json(&revocation_json(revocation, signature))?,
                false => revocation_text(&revocation, signature),
            };
            Ok(Done { text, refused })
        }
        _ => {
            let (certificate, signature, refused) = checked(
                signer,
                |fabric, key| Certificate::verify(&octets, fabric, key).map(|it| it.into_value()),
                || Certificate::unverified(&octets),
            )?;
            let text = match how.json {
                true => json(&certificate_json(certificate, signature, now))?,
                false => certificate_text(&certificate, signature, now),
            };
            Ok(Done { text, refused })
        }
    }
}

/// What a record says, whether it verifies, and if not, why.
fn checked<T>(
    signer: Option<(FabricName, AuthorityPublicKey)>,
    verify: impl FnOnce(&FabricName, &AuthorityPublicKey) -> Result<T, RecordError>,
    unverified: impl FnOnce() -> Result<T, RecordError>,
) -> Result<(T, Signature, Option<AuthorityError>), AuthorityError> {
    let Some((fabric, authority)) = signer else {
        return Ok((unverified()?, Signature::Unchecked, None));
    };
    match verify(&fabric, &authority) {
        Ok(value) => Ok((value, Signature::Verified, None)),
        Err(error) => Ok((unverified()?, Signature::Refused, Some(error.into()))),
    }
}

fn json(value: &impl Serialize) -> Result<String, AuthorityError> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

fn certificate_json(certificate: Certificate, signature: Signature, now: u64) -> CertificateJson {
    let valid_now = certificate.is_valid_at(now);
    let grants = &certificate.grants;
    CertificateJson {
        kind: Kind::Certificate.as_str(),
        signature,
        public_key: certificate.public_key.to_string(),
        serial: certificate.serial,
        not_before: certificate.not_before,
        not_after: certificate.not_after,
        valid_now,
        vlans: grants.vlans.as_ref().map(ranges),
        macs: grants.macs.as_ref().map(texts),
        addresses: grants.addresses.as_ref().map(texts),
        name: certificate.name,
    }
}

fn revocation_json(revocation: Revocation, signature: Signature) -> RevocationJson {
    RevocationJson {
        kind: Kind::Revocation.as_str(),
        signature,
        public_key: revocation.public_key.to_string(),
        serial: revocation.serial,
        issued_at: revocation.issued_at,
        reason: revocation.reason,
    }
}

/// Ranges such as `10` and `20-30`.
fn ranges(vlans: &VlanRanges) -> Vec<String> {
    let ranges = vlans
        .ranges()
        .map(|range| match range.start() == range.end() {
            true => range.start().to_string(),
            false => format!("{}-{}", range.start(), range.end()),
        });
    ranges.collect()
}

fn texts<'a, T: ToString + 'a>(values: impl IntoIterator<Item = &'a T>) -> Vec<String> {
    values.into_iter().map(ToString::to_string).collect()
}

fn certificate_text(certificate: &Certificate, signature: Signature, now: u64) -> String {
    let grants = &certificate.grants;
    let end = match certificate.not_after {
        Some(last) => format!("to {}", dates::shown(last)),
        None => "without end".to_owned(),
    };
    let today = match certificate.is_valid_at(now) {
        true => "",
        false if now < certificate.not_before => " (not yet valid)",
        false => " (expired)",
    };
    let valid = format!("{} {end}{today}", dates::shown(certificate.not_before));
    let listed = |list: Option<Vec<String>>, all: &str| match list.as_deref() {
        None => all.to_owned(),
        Some([]) => "none".to_owned(),
        Some(list) => list.join(", "),
    };
    rows(&[
        ("certificate", &certificate.name),
        ("key", &certificate.public_key.to_string()),
        ("serial", &certificate.serial.to_string()),
        ("valid", &valid),
        ("vlans", &listed(grants.vlans.as_ref().map(ranges), "all")),
        ("macs", &listed(grants.macs.as_ref().map(texts), "any")),
        (
            "addresses",
            &listed(grants.addresses.as_ref().map(texts), "any"),
        ),
        ("signature", signature_text(signature)),
    ])
}

fn revocation_text(revocation: &Revocation, signature: Signature) -> String {
    let serials = format!("all up to serial {}", revocation.serial);
    let reason = match revocation.reason.as_str() {
        "" => "not given",
        reason => reason,
    };
    rows(&[
        ("revocation", &serials),
        ("key", &revocation.public_key.to_string()),
        ("issued", &dates::shown(revocation.issued_at)),
        ("reason", reason),
        ("signature", signature_text(signature)),
    ])
}

fn signature_text(signature: Signature) -> &'static str {
    match signature {
        Signature::Verified => "verifies",
        Signature::Refused => "DOES NOT VERIFY: do not believe any of this",
        Signature::Unchecked => "not checked: name --fabric and --authority",
    }
}

fn rows(rows: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in rows {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{name:<13}{value}");
    }
    text
}
