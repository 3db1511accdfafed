//! From the tree to [`Config`]: one function for each mapping of the file.

mod access;
mod switch;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::checked::{
    Authority, Config, Control, Cores, Driver, MetricsAt, Node, Nucleus, Peer, Poll, Priority,
    Queues, SourcePorts, Underlay, Workers, XdpMode, ZeroCopy,
};
use crate::error::{At, Problem, shown, shown_path};
use crate::fields::{Field, Fields};
use crate::secret::{SecretBytes32, decode32, may_be_key, secret_of};
use crate::vlan_set::{MAX_VLAN, VlanSet};
use crate::{KeyFileText, raw, schema, values};

/// The UDP port of a fabric that names none.
const DEFAULT_PORT: u16 = 51820;

/// The longest path of a UNIX socket, in octets: `sun_path` of Linux less the final zero.
const MAX_SOCKET_PATH: usize = 107;

/// The longest list of queues or cores.
const MAX_LIST: usize = 64;

/// Queues and cores are numbered in this range.
const NUMBERS: RangeInclusive<u64> = 0..=1023;

/// VLAN ids that a frame may have, 0 standing for none.
pub(crate) const VLANS: RangeInclusive<u64> = 0..=MAX_VLAN as u64;

/// How many MAC addresses, and IP addresses, may be behind a peer that the file says nothing of.
pub(crate) const BEHIND_DEFAULT: u32 = 1024;

/// The most places where a node says that it can be reached.
const MAX_ENDPOINTS: usize = 8;

/// How many frames a second to more than one receiver are let through by default.
pub(crate) const BUM_PPS_DEFAULT: u32 = 1000;

/// How key files are found and read.
pub(crate) struct KeyFiles<'a> {
    /// What relative names are relative to.
    pub(crate) folder: &'a Path,
    /// The content of a file, or what is wrong with it.
    pub(crate) read: &'a dyn Fn(&Path) -> KeyFileText,
}

/// Checks a whole file.
pub(crate) fn config(root: &raw::Node, keys: &KeyFiles<'_>) -> Result<Config, Problem> {
    let at = At::top(root.line);
    let top = Fields::open(root, &at, &schema::TOP)?;
    let fabric = value(&top.required("fabric")?, values::fabric)?;
    let node = node(&top.required("node")?, keys)?;
    let underlay = underlay(&top.required("underlay")?)?;
    let access = access::ports(&top.required("access")?, &underlay.interface)?;
    let workers = workers(top.optional("workers"))?;
    let peers = top
        .optional("peers")
        .map_or(Ok(Vec::new()), |field| peers(&field, keys))?;
    let nucleus = top
        .optional("nucleus")
        .map_or(Ok(Vec::new()), |field| nucleus(&field))?;
    let has_nucleus = !nucleus.is_empty();
    let switch = switch::switch(top.optional("switch"), &access, &peers, has_nucleus)?;
    let authority = top
        .optional("authority")
        .map(|field| authority(&field, keys))
        .transpose()?;
    let control = control(top.optional("control"), &node.name, keys)?;
    Ok(Config {
        fabric,
        node,
        underlay,
        access,
        workers,
        peers,
        switch,
        nucleus,
        authority,
        control,
    })
}

fn node(field: &Field<'_>, keys: &KeyFiles<'_>) -> Result<Node, Problem> {
    let fields = field.fields(&schema::NODE)?;
    let name = value(&fields.required("name")?, values::name)?;
    let (private_key_file, private_key) = key_file(&fields.required("private_key_file")?, keys)?;
    let state_file = match fields.optional("state_file") {
        Some(field) => path(&field, keys)?,
        None => Path::new("/var/lib/omni").join(format!("{name}.state")),
    };
    Ok(Node {
        name,
        private_key,
        private_key_file,
        state_file,
    })
}

fn underlay(field: &Field<'_>) -> Result<Underlay, Problem> {
    let fields = field.fields(&schema::UNDERLAY)?;
    let port = fields
        .optional("port")
        .map(|field| octets16(&field, 1..=65535))
        .transpose()?;
    let driver = choice(fields.optional("driver"), Driver::Afxdp, DRIVERS)?;
    Ok(Underlay {
        interface: value(&fields.required("interface")?, values::interface)?,
        port: port.unwrap_or(DEFAULT_PORT),
        queues: numbers(fields.optional("queues"), |n| n as u32)?
            .map_or(Queues::Auto, Queues::List),
        driver,
        send: sender(fields.optional("send"), driver)?,
        xdp: choice(fields.optional("xdp"), XdpMode::Auto, XDP_MODES)?,
        zero_copy: choice(fields.optional("zero_copy"), ZeroCopy::Auto, ZERO_COPY)?,
        filter: choice(fields.optional("filter"), true, ON_OFF)?,
        source_ports: choice(
            fields.optional("source_ports"),
            SourcePorts::One,
            SOURCE_PORTS,
        )?,
        endpoints: fields
            .optional("endpoints")
            .map_or(Ok(Vec::new()), |field| endpoints(&field))?,
    })
}

const DRIVERS: &[(&str, Driver)] = &[
    ("auto", Driver::Auto),
    ("afxdp", Driver::Afxdp),
    ("udp", Driver::Udp),
];
const XDP_MODES: &[(&str, XdpMode)] = &[
    ("auto", XdpMode::Auto),
    ("native", XdpMode::Native),
    ("generic", XdpMode::Generic),
];
const ZERO_COPY: &[(&str, ZeroCopy)] = &[
    ("auto", ZeroCopy::Auto),
    ("on", ZeroCopy::On),
    ("off", ZeroCopy::Off),
];
const ON_OFF: &[(&str, bool)] = &[("on", true), ("off", false)];
const SOURCE_PORTS: &[(&str, SourcePorts)] = &[
    ("one", SourcePorts::One),
    ("per_lane", SourcePorts::PerLane),
];
const PRIORITIES: &[(&str, Priority)] = &[
    ("auto", Priority::Auto),
    ("normal", Priority::Normal),
    ("realtime", Priority::Realtime),
];
const POLLS: &[(&str, Poll)] = &[
    ("spin", Poll::Spin),
    ("adaptive", Poll::Adaptive),
    ("sleep", Poll::Sleep),
];

fn sender(field: Option<Field<'_>>, receiver: Driver) -> Result<Driver, Problem> {
    match (choice(field, receiver, DRIVERS)?, receiver, field) {
        (Driver::Afxdp, Driver::Udp, Some(field)) => {
            Err(field.wrong("with driver: udp there are no AF_XDP sockets to send by"))
        }
        (send, ..) => Ok(send),
    }
}

fn workers(field: Option<Field<'_>>) -> Result<Workers, Problem> {
    let Some(field) = field else {
        return Ok(Workers {
            cores: Cores::Auto,
            poll: Poll::Adaptive,
            priority: Priority::Auto,
        });
    };
    let fields = field.fields(&schema::WORKERS)?;
    Ok(Workers {
        cores: numbers(fields.optional("cores"), |n| n as usize)?.map_or(Cores::Auto, Cores::List),
        poll: choice(fields.optional("poll"), Poll::Adaptive, POLLS)?,
        priority: choice(fields.optional("priority"), Priority::Auto, PRIORITIES)?,
    })
}

fn peers(field: &Field<'_>, keys: &KeyFiles<'_>) -> Result<Vec<Peer>, Problem> {
    let mut peers = Vec::new();
    let mut names = Distinct::new("name");
    let mut public_keys = Distinct::new("public key");
    for item in field.items()? {
        let fields = item.fields(&schema::PEERS)?;
        let name_field = fields.required("name")?;
        let name = value(&name_field, values::name)?;
        names.insert(name.clone(), &name_field)?;
        let key_field = fields.required("public_key")?;
        let public_key = value(&key_field, values::public_key)?;
        public_keys.insert(public_key, &key_field)?;
        let endpoint = fields
            .optional("endpoint")
            .map(|field| value(&field, values::endpoint))
            .transpose()?;
        let preshared_key = fields
            .optional("preshared_key_file")
            .map(|field| key_file(&field, keys))
            .transpose()?
            .map(|(_, secret)| secret);
        peers.push(Peer {
            name,
            public_key,
            endpoint,
            preshared_key,
            vlans: vlans(fields.optional("vlans"))?,
            macs_max: behind(fields.optional("macs_max"))?,
            addresses_max: behind(fields.optional("addresses_max"))?,
            bum_pps: bum_pps(fields.optional("bum_pps"))?,
        });
    }
    Ok(peers)
}

/// How many addresses of one sort may be behind a peer.
fn behind(field: Option<Field<'_>>) -> Result<u32, Problem> {
    field.map_or(Ok(BEHIND_DEFAULT), |field| number32(&field, 1..=65536))
}

/// The most rendezvous servers that a node registers with.
const MAX_NUCLEI: usize = 8;

fn nucleus(field: &Field<'_>) -> Result<Vec<Nucleus>, Problem> {
    let items = field.items()?;
    if items.len() > MAX_NUCLEI {
        return Err(field.wrong(format!("has {} entries", items.len())));
    }
    let mut nuclei = Vec::new();
    let mut endpoints = Distinct::new("endpoint");
    for item in items {
        let fields = item.fields(&schema::NUCLEUS)?;
        let endpoint_field = fields.required("endpoint")?;
        let endpoint = value(&endpoint_field, values::endpoint)?;
        endpoints.insert(endpoint, &endpoint_field)?;
        nuclei.push(Nucleus {
            endpoint,
            public_key: value(&fields.required("public_key")?, values::public_key)?,
        });
    }
    Ok(nuclei)
}

fn authority(field: &Field<'_>, keys: &KeyFiles<'_>) -> Result<Authority, Problem> {
    let fields = field.fields(&schema::AUTHORITY)?;
    Ok(Authority {
        public_key: value(&fields.required("public_key")?, values::public_key)?,
        certificate_file: path(&fields.required("certificate_file")?, keys)?,
    })
}

/// Places where a node can be reached.
fn endpoints(field: &Field<'_>) -> Result<Vec<SocketAddr>, Problem> {
    let items = field.items()?;
    if items.len() > MAX_ENDPOINTS {
        return Err(field.wrong(format!("has {} entries", items.len())));
    }
    let mut endpoints = Vec::new();
    let mut distinct = Distinct::new("endpoint");
    for item in items {
        let endpoint = value(&item, values::endpoint)?;
        distinct.insert(endpoint, &item)?;
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

fn control(
    field: Option<Field<'_>>,
    node_name: &str,
    keys: &KeyFiles<'_>,
) -> Result<Control, Problem> {
    let mut control = Control {
        socket: Path::new("/run/omni").join(format!("{node_name}.sock")),
        metrics: None,
    };
    let Some(field) = field else {
        return Ok(control);
    };
    let fields = field.fields(&schema::CONTROL)?;
    if let Some(field) = fields.optional("socket") {
        control.socket = socket_path(&field, keys)?;
    }
    if let Some(field) = fields.optional("metrics") {
        control.metrics = Some(metrics(&field, keys)?);
    }
    Ok(control)
}

/// Where metrics are served.
pub(crate) fn metrics(field: &Field<'_>, keys: &KeyFiles<'_>) -> Result<MetricsAt, Problem> {
    let Ok(text) = field.text() else {
        let port = octets16(field, 1..=u16::MAX)?;
        return Ok(MetricsAt::Tcp((Ipv4Addr::LOCALHOST, port).into()));
    };
    if text.contains('/') {
        return socket_path(field, keys).map(MetricsAt::Unix);
    }
    value(field, values::listen).map(MetricsAt::Tcp)
}

/// The path of a UNIX socket.
pub(crate) fn socket_path(field: &Field<'_>, keys: &KeyFiles<'_>) -> Result<PathBuf, Problem> {
    let socket = path(field, keys)?;
    match socket.as_os_str().as_bytes().len() {
        1..=MAX_SOCKET_PATH => Ok(socket),
        len => Err(field.wrong(format!("{} is {len} octets long", shown_path(&socket)))),
    }
}

/// A text that `parse` makes a value of.
pub(crate) fn value<T>(
    field: &Field<'_>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, Problem> {
    parse(field.text()?).map_err(|what| field.wrong(what))
}

/// One of several words, or `default` when the key is absent.
fn choice<T: Copy>(
    field: Option<Field<'_>>,
    default: T,
    words: &[(&'static str, T)],
) -> Result<T, Problem> {
    field.map_or(Ok(default), |field| field.choice(words))
}

/// A number of 16 bits.
fn octets16(field: &Field<'_>, range: RangeInclusive<u16>) -> Result<u16, Problem> {
    let (low, high) = (u64::from(*range.start()), u64::from(*range.end()));
    field.number(low..=high).map(|number| number as u16)
}

/// A number of 32 bits.
pub(crate) fn number32(field: &Field<'_>, range: RangeInclusive<u32>) -> Result<u32, Problem> {
    let (low, high) = (u64::from(*range.start()), u64::from(*range.end()));
    field.number(low..=high).map(|number| number as u32)
}

/// Frames a second, or `off` (`None`).
fn bum_pps(field: Option<Field<'_>>) -> Result<Option<u32>, Problem> {
    match field {
        Some(field) if field.is_word("off") => Ok(None),
        Some(field) => number32(&field, 1..=10_000_000).map(Some),
        None => Ok(Some(BUM_PPS_DEFAULT)),
    }
}

/// `all`, or a list of VLANs and ranges of them.
fn vlans(field: Option<Field<'_>>) -> Result<VlanSet, Problem> {
    let Some(field) = field.filter(|field| !field.is_word("all")) else {
        return Ok(VlanSet::all());
    };
    let items = field.items()?;
    if items.is_empty() {
        return Err(field.wrong("the list is empty"));
    }
    let mut vlans = VlanSet::none();
    let mut seen: Vec<(RangeInclusive<u64>, usize)> = Vec::new();
    for item in items {
        let span = item.span(VLANS)?;
        let all_new = vlans.insert_range(*span.start() as u16..=*span.end() as u16);
        let overlaps = |(other, _): &&(RangeInclusive<u64>, usize)| {
            other.start() <= span.end() && span.start() <= other.end()
        };
        if !all_new && let Some((other, line)) = seen.iter().find(overlaps) {
            let vlan = span.start().max(other.start());
            return Err(item.wrong(format!("VLAN {vlan} of line {line} again")));
        }
        seen.push((span, item.at.line));
    }
    Ok(vlans)
}

/// `auto` (`None`), or a list of queues or cores.
fn numbers<T>(field: Option<Field<'_>>, of: impl Fn(u64) -> T) -> Result<Option<Vec<T>>, Problem> {
    let Some(field) = field.filter(|field| !field.is_word("auto")) else {
        return Ok(None);
    };
    let items = field.items()?;
    match items.len() {
        0 => return Err(field.wrong("the list is empty")),
        1..=MAX_LIST => {}
        len => return Err(field.wrong(format!("the list has {len} elements"))),
    }
    let mut seen = Distinct::new("number");
    let mut list = Vec::with_capacity(items.len());
    for item in items {
        let number = item.number(NUMBERS)?;
        seen.insert(number, &item)?;
        list.push(of(number));
    }
    Ok(Some(list))
}

/// The name of a file or socket, joined to the configuration's folder.
pub(crate) fn path(field: &Field<'_>, keys: &KeyFiles<'_>) -> Result<PathBuf, Problem> {
    value(field, |text| match text {
        "" => Err("is empty".to_owned()),
        _ if text.contains('\0') => Err(format!("{} holds a zero octet", shown(text))),
        _ => Ok(keys.folder.join(text)),
    })
}

/// Reads a key file. What a field holds that should be a file's name may be the key itself, and
/// is then not repeated.
pub(crate) fn key_file(
    field: &Field<'_>,
    keys: &KeyFiles<'_>,
) -> Result<(PathBuf, SecretBytes32), Problem> {
    let path = path(field, keys)?;
    if may_be_key(field.text()?) && decode32(field.text()?.as_bytes()).is_some() {
        let what = "a key itself is given here, not the name of the file that holds it";
        return Err(field.wrong(what));
    }
    let shown = match may_be_key(field.text()?) {
        true => "the file that is named here".to_owned(),
        false => shown_path(&path),
    };
    let text = (keys.read)(&path).map_err(|what| field.wrong(format!("{shown} {what}")))?;
    let text = Zeroizing::new(text);
    match secret_of(&text, "omni keygen") {
        Ok(secret) => Ok((path, secret)),
        Err(what) => Err(field.wrong(format!("{shown} {what}"))),
    }
}

/// Refuses the second of two equal values and says where the first is.
pub(crate) struct Distinct<T> {
    what: &'static str,
    lines: HashMap<T, usize>,
}

impl<T: Eq + Hash> Distinct<T> {
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            what,
            lines: HashMap::new(),
        }
    }

    pub(crate) fn insert(&mut self, value: T, field: &Field<'_>) -> Result<(), Problem> {
        match self.lines.insert(value, field.at.line) {
            Some(line) => Err(field.wrong(format!("the {} of line {line} again", self.what))),
            None => Ok(()),
        }
    }
}
