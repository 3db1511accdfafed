//! The section of the interfaces.

use omni_engine::show::PortView;

use super::{Body, Section, flow_cells, shortened};
use crate::table::{Cell, Column, Tone};
use crate::units::{count, octets, rate};

/// The longest list of VLANs in the table, in characters.
const VLANS_MAX: usize = 16;

impl Body<'_> {
    pub(super) fn ports(self, ports: &[PortView]) -> String {
        const COLUMNS: &[Column] = &[
            Column::left("port").key(),
            Column::left("driver"),
            Column::left("mode"),
            Column::right("mtu"),
            Column::left("vlans").fold(),
            Column::left("state"),
            Column::right("rx").fold(),
            Column::right("frames"),
            Column::right("tx"),
            Column::right("frames"),
            Column::right("dropped"),
            Column::right("rx/s").fold(),
            Column::right("frames/s"),
            Column::right("tx/s"),
            Column::right("frames/s"),
            Column::right("dropped/s"),
        ];
        if ports.is_empty() {
            return self.line(Tone::Dim, "not told by this engine");
        }
        self.table(self.rated(COLUMNS, 5), ports, Section::Ports, |port| {
            let carried = [
                (&port.name).into(),
                driver(port).into(),
                (&port.mode).into(),
                port.mtu.to_string().into(),
                self.vlans_of(port),
                Cell::toned(&port.state, port_tone(&port.state)),
                octets(port.rx_bytes).into(),
                count(port.rx_frames).into(),
                octets(port.tx_bytes).into(),
                count(port.tx_frames).into(),
                count(port.rx_dropped.saturating_add(port.tx_dropped)).into(),
            ];
            let per_second = self.view.rates.map(|rates| {
                let dropped = match rates.port_drops.get(&port.name) {
                    Some(&now) if now > 0.0 => Cell::toned(&rate(now), Tone::Alarm),
                    Some(&now) => rate(now).into(),
                    None => Cell::absent(),
                };
                let flow = flow_cells(rates.ports.get(&port.name));
                flow.into_iter().chain([dropped])
            });
            carried.into_iter().chain(per_second.into_iter().flatten())
        })
    }

    fn vlans_of(self, port: &PortView) -> Cell {
        match (&port.vlans, port.vlan_mode.as_deref()) {
            (None, _) => Cell::absent(),
            (Some(vlan), Some("access")) => format!("{vlan} untagged").into(),
            (Some(vlans), _) if self.view.full_keys => vlans.into(),
            (Some(vlans), _) => shortened(vlans, VLANS_MAX).into(),
        }
    }
}

/// How frames come, and how they leave where that differs.
pub(crate) fn driver(port: &PortView) -> String {
    if port.driver == port.sends_by {
        port.driver.clone()
    } else {
        format!("{}, {}", port.driver, port.sends_by)
    }
}

/// How a port's state stands out.
pub(crate) fn port_tone(state: &str) -> Tone {
    match state {
        "up" => Tone::Good,
        _ => Tone::Alarm,
    }
}
