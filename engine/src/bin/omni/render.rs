//! A node's state as a screen of text. Pure: the state in, a string out.

mod attention;
mod ports;
mod queues;
mod switching;

use std::collections::HashMap;

use clap::ValueEnum;
use omni_engine::show::{NeighborView, NucleusView, PeerView, Show, UmemView};
use omni_wire::DropReason;

use crate::rates::{Flow, Rates};
use crate::table::{Cell, Column, Pen, Table, Tone, printable};
use crate::units::{ago, bits, count, octets, rate, span};

pub(crate) use attention::{attention, peer_name};
pub(crate) use ports::{driver, port_tone};
pub(crate) use queues::latencies;
pub(crate) use switching::alarm_lines;

/// The screen's width in characters where there is no terminal; only `--full-keys` goes beyond.
pub(crate) const WIDTH: usize = 100;
/// Rows of a table among all others. A forwarding table can have thousands.
const ROWS_MAX: usize = 24;
/// Alarms on top of the screen.
const ALARMS_MAX: usize = 4;
/// The longest name in a table, in characters.
const NAME_MAX: usize = 20;
/// Characters of a key that tell peers apart.
const KEY_SHORT: usize = 8;
/// The bar's length in characters.
const BAR: usize = 60;

/// A part of the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Section {
    /// Who is there, since when, and the traffic with them
    Peers,
    /// Each Nucleus that the node registers with
    Nuclei,
    /// The forwarding table: behind whom each MAC address is; and alarms
    Fdb,
    /// Which MAC address each IP address has
    Neighbors,
    /// Which ports and peers carry each VLAN, and how much is in it
    Vlans,
    /// Who wants what is sent to which multicast group
    Groups,
    /// What was answered, moved and refused
    Switch,
    /// Each interface: its driver, MTU, VLANs and state, and what passed it
    Ports,
    /// What each queue carried, and how long that took
    Queues,
    /// What was dropped, and what that means
    Drops,
    /// Where the frames of the packet memory are
    Umem,
}

/// How to show.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct View<'a> {
    /// With colours or without.
    pub(crate) pen: Pen,
    /// Whether keys and names are whole in tables.
    pub(crate) full_keys: bool,
    /// Of the screen, in characters.
    pub(crate) width: usize,
    /// What happened since the reading before: more columns.
    pub(crate) rates: Option<&'a Rates>,
}

/// Everything: a head line, alarms and what else needs attention, then the sections.
pub(crate) fn screen(show: &Show, view: View<'_>) -> String {
    let top = Body {
        view,
        indent: 0,
        rows_max: ALARMS_MAX,
    };
    let mut out = head(show, view) + &top.alarms(show) + &top.attention(show);
    for &section in Section::value_variants() {
        if section == Section::Nuclei && show.nuclei.is_empty() {
            continue;
        }
        let body = Body {
            view,
            indent: 2,
            rows_max: ROWS_MAX,
        };
        out.push('\n');
        out.push_str(&view.pen.paint(Tone::Strong, title(section)));
        if let Some(rows) = rows(show, section).filter(|&rows| rows > 0) {
            out.push_str(&view.pen.paint(Tone::Dim, &format!("  {rows}")));
        }
        out.push('\n');
        out.push_str(&body.section(show, section));
    }
    out
}

/// One section, without title and whole.
pub(crate) fn section(show: &Show, section: Section, view: View<'_>) -> String {
    Body {
        view,
        indent: 0,
        rows_max: usize::MAX,
    }
    .section(show, section)
}

/// Who this is. One's own key is here to be copied, so all is whole if there is room.
fn head(show: &Show, view: View<'_>) -> String {
    let node = &show.node;
    let whole = [&node.name, &node.fabric, &node.public_key].map(|text| printable(text));
    let up = span(node.uptime_seconds);
    let room = head_line(&whole, &up, Pen { colors: false })
        .chars()
        .count()
        <= view.width;
    if view.full_keys || room {
        return head_line(&whole, &up, view.pen) + "\n";
    }
    let [name, fabric, key] = whole;
    let short = [
        short_name(&name),
        short_name(&fabric),
        shortened(&key, KEY_SHORT),
    ];
    head_line(&short, &up, view.pen) + "\n"
}

fn head_line([name, fabric, key]: &[String; 3], up: &str, pen: Pen) -> String {
    let name = pen.paint(Tone::Strong, name);
    let [of, with, since] = ["fabric", "key", "up"].map(|label| pen.paint(Tone::Dim, label));
    format!("{name}  {of} {fabric}  {with} {key}  {since} {up}")
}

/// What a section is called, on the screen and in JSON.
pub(crate) const fn title(section: Section) -> &'static str {
    match section {
        Section::Peers => "peers",
        Section::Nuclei => "nuclei",
        Section::Fdb => "fdb",
        Section::Neighbors => "neighbors",
        Section::Vlans => "vlans",
        Section::Groups => "groups",
        Section::Switch => "switch",
        Section::Ports => "ports",
        Section::Queues => "queues",
        Section::Drops => "drops",
        Section::Umem => "umem",
    }
}

fn rows(show: &Show, section: Section) -> Option<usize> {
    match section {
        Section::Peers => Some(show.peers.len()),
        Section::Nuclei => Some(show.nuclei.len()),
        Section::Fdb => Some(show.fdb.len()),
        Section::Neighbors => Some(show.neighbors.len()),
        Section::Vlans => Some(show.vlans.len()),
        Section::Ports => Some(show.ports.len()),
        Section::Groups => Some(show.groups.len()),
        Section::Queues => Some(show.queues.len()),
        Section::Switch | Section::Drops | Section::Umem => None,
    }
}

/// The first characters, and `..` where some are missing.
pub(crate) fn shortened(text: &str, len: usize) -> String {
    match text.char_indices().nth(len) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

/// A name of at most [`NAME_MAX`] characters, `..` included.
fn short_name(name: &str) -> String {
    match name.chars().count() > NAME_MAX {
        true => shortened(name, NAME_MAX - 2),
        false => name.to_owned(),
    }
}

/// Writes sections.
#[derive(Clone, Copy)]
struct Body<'a> {
    view: View<'a>,
    indent: usize,
    rows_max: usize,
}

impl Body<'_> {
    fn section(self, show: &Show, section: Section) -> String {
        match section {
            Section::Peers => self.peers(&show.peers),
            Section::Nuclei => self.nuclei(&show.nuclei),
            Section::Fdb => self.fdb(show),
            Section::Neighbors => self.neighbors(&show.neighbors, &show.peers),
            Section::Vlans => self.vlans(show),
            Section::Groups => self.groups(show),
            Section::Switch => self.switch(&show.switch),
            Section::Ports => self.ports(&show.ports),
            Section::Queues => self.queues(&show.queues) + &self.recovery(&show.recovery),
            Section::Drops => self.drops(show),
            Section::Umem => self.umem(show.umem, show.recovery.unsound),
        }
    }

    /// A table of all items, or of as many as there is room for.
    fn table<T, R: IntoIterator<Item = Cell>>(
        self,
        columns: &[Column],
        items: &[T],
        section: Section,
        row: impl Fn(&T) -> R,
    ) -> String {
        let mut table = Table::new(columns);
        items
            .iter()
            .take(self.rows_max)
            .for_each(|item| table.row(row(item)));
        let mut out = table.render(self.view.pen, self.indent, self.view.width);
        if let Some(more @ 1..) = items.len().checked_sub(self.rows_max) {
            let title = title(section);
            out.push_str(&self.line(Tone::Dim, &format!("and {more} more: omni show {title}")));
        }
        out
    }

    /// The columns that there is something for: the last `extra` of them are of rates.
    fn rated(self, columns: &'static [Column], extra: usize) -> &'static [Column] {
        match self.view.rates {
            Some(_) => columns,
            None => &columns[..columns.len() - extra],
        }
    }

    /// Whether this is one section by itself, and whole.
    const fn is_alone(self) -> bool {
        self.rows_max == usize::MAX
    }

    fn line(self, tone: Tone, text: &str) -> String {
        format!(
            "{:indent$}{}\n",
            "",
            self.view.pen.paint(tone, text),
            indent = self.indent
        )
    }

    fn key(self, key: &str) -> String {
        if self.view.full_keys {
            key.to_owned()
        } else {
            shortened(key, KEY_SHORT)
        }
    }

    fn name(self, name: &str) -> String {
        if self.view.full_keys {
            name.to_owned()
        } else {
            short_name(name)
        }
    }

    fn peers(self, peers: &[PeerView]) -> String {
        const COLUMNS: &[Column] = &[
            Column::left("name").key(),
            Column::left("key").fold(),
            Column::left("endpoint").fold(),
            Column::left("state").fold(),
            Column::left("handshake"),
            Column::right("limit"),
            Column::right("rx").fold(),
            Column::right("frames"),
            Column::right("tx"),
            Column::right("frames"),
            Column::right("rx/s").fold(),
            Column::right("frames/s"),
            Column::right("tx/s"),
            Column::right("frames/s"),
        ];
        if peers.is_empty() {
            return self.line(Tone::Dim, "no peers");
        }
        self.table(self.rated(COLUMNS, 4), peers, Section::Peers, |peer| {
            let flow = self
                .view
                .rates
                .map(|rates| rates.peers.get(&peer.public_key));
            let carried = [
                self.name(&peer.name).into(),
                self.key(&peer.public_key).into(),
                peer.endpoint.as_ref().map_or_else(Cell::absent, Cell::from),
                state_of(peer),
                peer.last_handshake_seconds
                    .map_or_else(Cell::absent, |age| ago(age).into()),
                peer.frame_limit
                    .map_or_else(Cell::absent, |octets| octets.to_string().into()),
                octets(peer.rx_bytes).into(),
                count(peer.rx_frames).into(),
                octets(peer.tx_bytes).into(),
                count(peer.tx_frames).into(),
            ];
            carried
                .into_iter()
                .chain(flow.into_iter().flat_map(flow_cells))
        })
    }

    fn nuclei(self, nuclei: &[NucleusView]) -> String {
        const COLUMNS: &[Column] = &[
            Column::left("endpoint").key(),
            Column::left("state"),
            Column::left("registered"),
            Column::right("revision"),
            Column::left("heard"),
            Column::right("not believed"),
            Column::left("sees us at").fold(),
            Column::left("refuses").fold(),
        ];
        if nuclei.is_empty() {
            return self.line(Tone::Dim, "none is configured");
        }
        let yes = |is: bool| {
            let (word, tone) = if is {
                ("yes", Tone::Good)
            } else {
                ("no", Tone::Warning)
            };
            Cell::toned(word, tone)
        };
        self.table(COLUMNS, nuclei, Section::Nuclei, |nucleus| {
            let tone = if nucleus.state == "connected" {
                Tone::Good
            } else {
                Tone::Warning
            };
            [
                (&nucleus.endpoint).into(),
                Cell::toned(&nucleus.state, tone),
                yes(nucleus.registered),
                nucleus.revision.to_string().into(),
                nucleus
                    .heard_seconds
                    .map_or_else(Cell::absent, |age| ago(age).into()),
                match nucleus.not_believed {
                    0 => Cell::absent(),
                    count => Cell::toned(&count.to_string(), Tone::Warning),
                },
                nucleus
                    .seen_at
                    .as_ref()
                    .map_or_else(Cell::absent, Cell::from),
                nucleus
                    .refusal
                    .as_ref()
                    .map_or_else(Cell::absent, |why| Cell::toned(why, Tone::Warning)),
            ]
        })
    }

    /// Alarms as well where the section stands alone; on the whole screen they are on top.
    fn fdb(self, show: &Show) -> String {
        /// The last one only where something moved.
        const COLUMNS: &[Column] = &[
            Column::right("vlan"),
            Column::left("mac"),
            Column::left("owner"),
            Column::left("kind"),
            Column::left("seen"),
            Column::right("move"),
        ];
        let entries = &show.fdb[..];
        let mut out = String::new();
        if self.is_alone() && !show.alarms.is_empty() {
            out = self.alarms(show) + "\n";
        }
        if entries.is_empty() {
            return out + &self.line(Tone::Dim, "no addresses yet");
        }
        let owners = Owners::new(&show.peers);
        let moved = entries.iter().any(|entry| entry.sequence.is_some());
        let columns = &COLUMNS[..COLUMNS.len() - usize::from(!moved)];
        out + &self.table(columns, entries, Section::Fdb, |entry| {
            [
                vlan(entry.vlan),
                (&entry.mac).into(),
                self.owner(&owners, &entry.owner),
                (&entry.kind).into(),
                ago(entry.age_seconds).into(),
                entry
                    .sequence
                    .map_or_else(Cell::absent, |number| number.to_string().into()),
            ]
        })
    }

    fn neighbors(self, entries: &[NeighborView], peers: &[PeerView]) -> String {
        const COLUMNS: &[Column] = &[
            Column::right("vlan"),
            Column::left("ip"),
            Column::left("mac"),
            Column::left("owner"),
            Column::left("source"),
            Column::left("seen"),
        ];
        if entries.is_empty() {
            return self.line(Tone::Dim, "no bindings");
        }
        let owners = Owners::new(peers);
        self.table(COLUMNS, entries, Section::Neighbors, |entry| {
            [
                vlan(entry.vlan),
                (&entry.ip).into(),
                (&entry.mac).into(),
                self.owner(&owners, &entry.owner),
                (&entry.source).into(),
                ago(entry.age_seconds).into(),
            ]
        })
    }

    /// A port by its name, a peer by its name, and who is no peer any more by the key.
    fn owner(self, owners: &Owners<'_>, owner: &str) -> Cell {
        if owner.is_empty() {
            return Cell::absent();
        }
        self.owner_name(owners, owner).into()
    }

    /// The same as text.
    fn owner_name(self, owners: &Owners<'_>, owner: &str) -> String {
        match owners.0.get(owner) {
            Some(name) => self.name(name),
            None if owner.starts_with("local:") => owner.to_owned(),
            None => self.key(owner),
        }
    }

    fn drops(self, show: &Show) -> String {
        const COLUMNS: &[Column] = &[
            Column::left("reason"),
            Column::right("count"),
            Column::right("per s"),
            Column::flow("meaning"),
        ];
        let mut drops: Vec<_> = show.drops.iter().filter(|&(_, &count)| count > 0).collect();
        if drops.is_empty() {
            return self.line(Tone::Good, "nothing was dropped");
        }
        drops.sort_by_key(|&(reason, &count)| (u64::MAX - count, reason));
        let Some(rates) = self.view.rates else {
            let columns = [COLUMNS[0], COLUMNS[1], COLUMNS[3]];
            return self.table(&columns, &drops, Section::Drops, |&(reason, &n)| {
                [reason.into(), count(n).into(), meaning(reason).into()]
            });
        };
        self.table(COLUMNS, &drops, Section::Drops, |&(reason, &n)| {
            let now = match rates.drops.get(reason) {
                Some(&now) if now > 0.0 => Cell::toned(&rate(now), Tone::Alarm),
                Some(&now) => Cell::toned(&rate(now), Tone::Dim),
                None => Cell::absent(),
            };
            [reason.into(), count(n).into(), now, meaning(reason).into()]
        })
    }

    /// A bar of where the frames are, and a line that says the same in numbers.
    fn umem(self, umem: UmemView, unsound: u64) -> String {
        let pen = self.view.pen;
        let held = [
            ('#', Tone::Strong, umem.frames_held, "held"),
            (
                '<',
                Tone::Good,
                umem.frames_receiving,
                "with the kernel to receive",
            ),
            ('>', Tone::Warning, umem.frames_sending, "to send"),
        ];
        let (mut bar, mut left) = (String::new(), BAR);
        let mut legend = vec![format!(
            "{} {} free",
            pen.paint(Tone::Dim, "."),
            umem.frames_free
        )];
        for (sign, tone, frames, what) in held {
            let cells = share(frames, umem.frames_total).min(left);
            left -= cells;
            bar.push_str(&pen.paint(tone, &sign.to_string().repeat(cells)));
            legend.push(format!(
                "{} {frames} {what}",
                pen.paint(tone, &sign.to_string())
            ));
        }
        bar.push_str(&pen.paint(Tone::Dim, &".".repeat(left)));
        let bar = format!("[{bar}]  {} frames in all", umem.frames_total);
        let lines = self.line(Tone::Plain, &bar) + &self.line(Tone::Plain, &legend.join("   "));
        if unsound == 0 {
            return lines;
        }
        let defect = format!("frames did not add up {unsound} times: a defect, report it");
        lines + &self.line(Tone::Alarm, &defect)
    }
}

/// Cells of the bar that `frames` of `total` take; what is not nothing takes at least one.
fn share(frames: u64, total: u64) -> usize {
    let total = u128::from(total.max(1));
    let cells = (u128::from(frames) * BAR as u128 + total / 2) / total;
    if frames == 0 {
        0
    } else {
        usize::try_from(cells).map_or(BAR, |cells| cells.clamp(1, BAR))
    }
}

/// Names of peers by their keys.
struct Owners<'a>(HashMap<&'a str, &'a str>);

impl<'a> Owners<'a> {
    fn new(peers: &'a [PeerView]) -> Self {
        let named = peers.iter().filter(|peer| !peer.name.is_empty());
        Self(
            named
                .map(|peer| (peer.public_key.as_str(), peer.name.as_str()))
                .collect(),
        )
    }
}

/// Bits and frames a second, in and out.
fn flow_cells(flow: Option<&Flow>) -> [Cell; 4] {
    match flow {
        Some(flow) => [
            bits(flow.in_bits).into(),
            rate(flow.in_frames).into(),
            bits(flow.out_bits).into(),
            rate(flow.out_frames).into(),
        ],
        None => [(); 4].map(|()| Cell::absent()),
    }
}

fn state_of(peer: &PeerView) -> Cell {
    if peer.throttled {
        Cell::toned("throttled", Tone::Alarm)
    } else {
        Cell::toned(&peer.state, tone_of(&peer.state))
    }
}

fn tone_of(state: &str) -> Tone {
    match state {
        "established" => Tone::Good,
        "handshaking" => Tone::Warning,
        "idle" => Tone::Dim,
        _ => Tone::Plain,
    }
}

fn vlan(id: u16) -> Cell {
    if id == 0 {
        Cell::absent()
    } else {
        id.to_string().into()
    }
}

/// What a drop reason means. The engine may be newer and know more of them.
pub(crate) fn meaning(reason: &str) -> &'static str {
    let known = DropReason::ALL
        .iter()
        .find(|known| known.as_str() == reason);
    known.map_or("Not known to this version of omni.", |known| {
        known.describe().trim()
    })
}

#[cfg(test)]
pub(crate) mod tests;
