//! From the tree to [`NucleusConfig`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{EtcdStore, NucleusConfig, NucleusLimits, NucleusStore};
use crate::check::{self, Distinct, KeyFiles};
use crate::error::{At, Problem, shown, shown_path};
use crate::fields::{Field, Fields};
use crate::schema::nucleus as schema;
use crate::{KeyFileText, file, raw, values};

/// The most endpoints of a cluster.
const MAX_ENDPOINTS: usize = 16;

/// What a public key of an authority is asked.
type IsAuthority<'a> = &'a dyn Fn(&[u8; 32]) -> Result<(), String>;

pub(super) fn config(
    root: &raw::Node,
    folder: &Path,
    is_authority: IsAuthority<'_>,
) -> Result<NucleusConfig, Problem> {
    let at = At::top(root.line);
    let top = Fields::open(root, &at, &schema::TOP)?;
    let keys = KeyFiles {
        folder,
        read: &file::read_key,
    };
    let fabric = check::value(&top.required("fabric")?, values::fabric)?;
    let (_, private_key) = check::key_file(&top.required("private_key_file")?, &keys)?;
    let listen_at = match top.optional("listen") {
        Some(field) => check::value(&field, values::listen)?,
        None => SocketAddr::from(([0, 0, 0, 0], 51821)),
    };
    let store = store(top.optional("store"), &keys)?;
    let authority = top
        .optional("authority")
        .map(|field| authority(&field, is_authority));
    let authority = authority.transpose()?;
    let members = top
        .optional("members")
        .map_or(Ok(Vec::new()), |field| members(&field))?;
    if authority.is_none() && members.is_empty() {
        let what = "is missing, and members are listed nowhere: nobody could be a member, allowed \
                    is authority, or members, or both";
        return Err(at.key("authority", root.line).problem(what));
    }
    let limits = limits(top.optional("limits"))?;
    let socket = socket(top.optional("control"), &keys)?;
    let metrics = top
        .optional("metrics")
        .map(|field| check::metrics(&field, &keys));
    Ok(NucleusConfig {
        fabric,
        private_key,
        listen: listen_at,
        store,
        authority,
        members,
        limits,
        socket,
        metrics: metrics.transpose()?,
    })
}

fn authority(field: &Field<'_>, is_authority: IsAuthority<'_>) -> Result<[u8; 32], Problem> {
    let key = check::value(field, values::public_key)?;
    is_authority(&key).map_err(|what| field.wrong(format!("the key is {what}")))?;
    Ok(key)
}

fn members(field: &Field<'_>) -> Result<Vec<[u8; 32]>, Problem> {
    let mut seen = Distinct::new("public key");
    let mut members = Vec::new();
    for item in field.items()? {
        let key = check::value(&item, values::public_key)?;
        seen.insert(key, &item)?;
        members.push(key);
    }
    members.sort_unstable();
    Ok(members)
}

fn limits(field: Option<Field<'_>>) -> Result<NucleusLimits, Problem> {
    let mut limits = NucleusLimits {
        bindings_per_node: 1024,
        bindings_per_second: 100,
        messages_per_second: 200,
        connections: 16384,
    };
    let Some(field) = field else {
        return Ok(limits);
    };
    let fields = field.fields(&schema::LIMITS)?;
    for (name, limit, range) in [
        (
            "bindings_per_node",
            &mut limits.bindings_per_node,
            1..=65536,
        ),
        (
            "bindings_per_second",
            &mut limits.bindings_per_second,
            1..=10000,
        ),
        (
            "messages_per_second",
            &mut limits.messages_per_second,
            10..=10000,
        ),
        ("connections", &mut limits.connections, 1..=65536),
    ] {
        if let Some(field) = fields.optional(name) {
            *limit = check::number32(&field, range)?;
        }
    }
    Ok(limits)
}

fn socket(field: Option<Field<'_>>, keys: &KeyFiles<'_>) -> Result<PathBuf, Problem> {
    let default = || PathBuf::from("/run/omni/nucleus.sock");
    let Some(field) = field else {
        return Ok(default());
    };
    let fields = field.fields(&schema::CONTROL)?;
    match fields.optional("socket") {
        Some(field) => check::socket_path(&field, keys),
        None => Ok(default()),
    }
}

fn store(field: Option<Field<'_>>, keys: &KeyFiles<'_>) -> Result<NucleusStore, Problem> {
    let default = || NucleusStore::Redb(PathBuf::from("/var/lib/omni/nucleus.redb"));
    let Some(field) = field else {
        return Ok(default());
    };
    let fields = field.fields(&schema::STORE)?;
    match (fields.optional("redb"), fields.optional("etcd")) {
        (Some(_), Some(etcd)) => Err(etcd.wrong("both redb and etcd are given")),
        (Some(redb), None) => Ok(NucleusStore::Redb(check::path(&redb, keys)?)),
        (None, Some(field)) => Ok(NucleusStore::Etcd(etcd(&field, keys)?)),
        (None, None) => Ok(default()),
    }
}

fn etcd(field: &Field<'_>, keys: &KeyFiles<'_>) -> Result<EtcdStore, Problem> {
    let fields = field.fields(&schema::ETCD)?;
    let (endpoints, is_secure) = endpoints(&fields.required("endpoints")?)?;
    let user = fields.optional("user");
    let password = fields.optional("password_file");
    let credentials = match (user, password) {
        (None, None) => None,
        (Some(user), Some(password)) => {
            Some((check::value(&user, name)?, read_line(&password, keys)?))
        }
        (Some(alone), None) | (None, Some(alone)) => return Err(alone.wrong("it is alone")),
    };
    let ca = fields.optional("ca_file");
    let authority = match (ca, is_secure) {
        (Some(ca), true) => Some(read_pem(&ca, keys)?),
        (Some(ca), false) => return Err(ca.wrong("the endpoints are http")),
        (None, true) => {
            let what = "is missing, and the endpoints are https: no public authority is trusted, \
                        allowed is a file of certificates in PEM";
            return Err(field.at.key("ca_file", field.at.line).problem(what));
        }
        (None, false) => None,
    };
    let certificate = match (
        fields.optional("certificate_file"),
        fields.optional("key_file"),
    ) {
        (None, None) => None,
        (Some(certificate), Some(_)) if !is_secure => {
            return Err(certificate.wrong("the endpoints are http"));
        }
        (Some(certificate), Some(key)) => {
            let chain = read_pem(&certificate, keys)?;
            Some((chain, text_of(&key, keys, &file::read_pem_key)?))
        }
        (Some(alone), None) | (None, Some(alone)) => return Err(alone.wrong("it is alone")),
    };
    Ok(EtcdStore {
        endpoints,
        credentials,
        authority,
        certificate,
    })
}

/// URLs, and whether they are https.
fn endpoints(field: &Field<'_>) -> Result<(Vec<String>, bool), Problem> {
    let mut seen = Distinct::new("URL");
    let mut endpoints = Vec::new();
    let items = field.items()?;
    match items.len() {
        0 => return Err(field.wrong("the list is empty")),
        1..=MAX_ENDPOINTS => {}
        len => return Err(field.wrong(format!("the list has {len} elements"))),
    }
    let mut secure = None;
    for item in items {
        let (url, is_secure) = check::value(&item, url)?;
        if secure.is_some_and(|secure| secure != is_secure) {
            return Err(item.wrong(format!("{} is of the other kind", shown(&url))));
        }
        secure = Some(is_secure);
        seen.insert(url.clone(), &item)?;
        endpoints.push(url);
    }
    Ok((endpoints, secure.unwrap_or(false)))
}

/// A URL of a host and a port, and whether it is https.
fn url(text: &str) -> Result<(String, bool), String> {
    let is_host = |rest: &str| {
        let is_host_char = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        !rest.is_empty() && rest.chars().all(is_host_char)
    };
    let secure = text.strip_prefix("https://").map(|rest| (rest, true));
    let plain = || text.strip_prefix("http://").map(|rest| (rest, false));
    match secure.or_else(plain) {
        Some((rest, is_secure)) if is_host(rest) => Ok((text.to_owned(), is_secure)),
        Some(_) => Err(format!(
            "{} has more than a host and a port, or less",
            shown(text)
        )),
        None => Err(format!("{} is no URL of http or https", shown(text))),
    }
}

fn name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("is empty".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

fn read_line(field: &Field<'_>, keys: &KeyFiles<'_>) -> Result<Zeroizing<String>, Problem> {
    let text = text_of(field, keys, &file::read_key)?;
    let line = text.trim_end_matches(['\r', '\n']);
    match line.is_empty() || line.contains('\n') {
        true => Err(field.wrong("the file holds no line, or several")),
        false => Ok(Zeroizing::new(line.to_owned())),
    }
}

fn read_pem(field: &Field<'_>, keys: &KeyFiles<'_>) -> Result<String, Problem> {
    text_of(field, keys, &file::read_pem).map(|text| text.as_str().to_owned())
}

/// The text of a file that a field names.
fn text_of(
    field: &Field<'_>,
    keys: &KeyFiles<'_>,
    read: &dyn Fn(&Path) -> KeyFileText,
) -> Result<Zeroizing<String>, Problem> {
    let path = check::path(field, keys)?;
    let octets = read(&path);
    let octets = octets.map_err(|what| field.wrong(format!("{} {what}", shown_path(&path))))?;
    let text = String::from_utf8(octets);
    text.map(Zeroizing::new)
        .map_err(|_| field.wrong(format!("{} holds no text", shown_path(&path))))
}
