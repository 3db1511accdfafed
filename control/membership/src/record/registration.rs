//! Registrations: a node says where it is and what it carries.

use core::net::SocketAddr;

use omni_wire::limits::MAX_LANES;

use super::field::{Wrong, host, ip_octets, name, named, public_key};
use super::grants::{VlanRanges, check_vlans, vlan_list};
use super::{Body, Kind, RecordError, Signed, message, open, read, seal};
use crate::key::{PrivateKey, PublicKey};
use crate::name::FabricName;

/// The most endpoints of a registration.
pub const MAX_ENDPOINTS: usize = 16;

/// What a node says of itself. A later one replaces it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// Who speaks, and signs.
    pub public_key: PublicKey,
    /// Of two registrations of a node the one with the greater sequence holds. Nodes use the time
    /// in milliseconds since 1970.
    pub sequence: u64,
    /// Where it may be reached: at most [`MAX_ENDPOINTS`].
    pub endpoints: Vec<Endpoint>,
    /// Lanes that it receives on: 1..=256.
    pub lanes: u16,
    /// The longest inner frame that it takes, in octets.
    pub max_frame: u16,
    /// VLANs that it carries; `None` for all.
    pub vlans: Option<VlanRanges>,
    /// The octets of its certificate, as they are: not verified yet.
    pub certificate: Option<Vec<u8>>,
    /// The last second that this is to be believed in, since 1970.
    pub expires: u64,
    /// 1..=64 of `A-Z a-z 0-9 . _ -`: what it calls itself. With an authority its certificate
    /// says what it is called.
    pub name: String,
}

/// Where a node may be reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint {
    /// A single host's address, and a port that is not 0.
    pub address: SocketAddr,
    /// How it became known.
    pub kind: EndpointKind,
}

/// How an endpoint became known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EndpointKind {
    /// The node's operator wrote it down.
    Configured,
    /// An address of its underlay interface.
    Local,
    /// Where somebody else saw its messages come from.
    Reflexive,
}

impl Registration {
    /// Signs it for a fabric with the private key of [`Registration::public_key`].
    ///
    /// # Errors
    /// A field that is out of its range; another node's private key.
    pub fn sign(
        &self,
        fabric: &FabricName,
        private: &PrivateKey,
    ) -> Result<Signed<Self>, RecordError> {
        if PublicKey::from_private(private) != self.public_key {
            return Err(RecordError::BadSignature(Self::KIND));
        }
        seal(self, fabric, |message| private.sign(message))
    }

    /// Reads a registration that the node it is about signed. Whether that node belongs to the
    /// fabric is another question: see [`crate::Trust`].
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn verify(octets: &[u8], fabric: &FabricName) -> Result<Signed<Self>, RecordError> {
        open(octets, fabric, |this: &Self, message, signature| {
            this.public_key.verify(message, signature)
        })
    }

    /// Reads what a registration says, whoever signed it: to be shown, and not to be trusted.
    ///
    /// # Errors
    /// As [`Registration::verify`], but for the signature.
    pub fn unverified(octets: &[u8]) -> Result<Self, RecordError> {
        read(octets)
    }
}

impl Body for Registration {
    const KIND: Kind = Kind::Registration;
    type Message = message::Registration;

    fn check(message: message::Registration) -> Result<Self, RecordError> {
        let vlans = message.vlans.as_ref().map(check_vlans).transpose();
        Ok(Self {
            public_key: named(Self::KIND, "public_key", public_key(&message.public_key))?,
            sequence: message.sequence,
            endpoints: named(Self::KIND, "endpoints", endpoints(&message.endpoints))?,
            lanes: named(Self::KIND, "lanes", lanes(message.lanes))?,
            max_frame: named(Self::KIND, "max_frame", max_frame(message.max_frame))?,
            vlans: named(Self::KIND, "vlans", vlans)?,
            certificate: message.certificate,
            expires: message.expires,
            name: named(Self::KIND, "name", name(message.name))?,
        })
    }

    fn message(&self) -> message::Registration {
        let endpoints = self.endpoints.iter().map(|endpoint| message::Endpoint {
            ip: ip_octets(endpoint.address.ip()),
            port: endpoint.address.port().into(),
            kind: match endpoint.kind {
                EndpointKind::Configured => message::EndpointKind::Configured,
                EndpointKind::Local => message::EndpointKind::Local,
                EndpointKind::Reflexive => message::EndpointKind::Reflexive,
            }
            .into(),
        });
        message::Registration {
            public_key: self.public_key.0.to_vec(),
            sequence: self.sequence,
            endpoints: endpoints.collect(),
            lanes: self.lanes.into(),
            max_frame: self.max_frame.into(),
            vlans: self.vlans.as_ref().map(vlan_list),
            certificate: self.certificate.clone(),
            expires: self.expires,
            name: self.name.clone(),
        }
    }
}

fn lanes(number: u32) -> Result<u16, Wrong> {
    u16::try_from(number)
        .ok()
        .filter(|lanes| (1..=MAX_LANES).contains(lanes))
        .ok_or("are out of range, allowed is 1..=256")
}

fn max_frame(number: u32) -> Result<u16, Wrong> {
    u16::try_from(number).map_err(|_| "is out of range, allowed is 0..=65535")
}

/// All endpoints of kinds that this version knows. A later version may have others.
fn endpoints(list: &[message::Endpoint]) -> Result<Vec<Endpoint>, Wrong> {
    if list.len() > MAX_ENDPOINTS {
        return Err("are more than 16");
    }
    list.iter()
        .filter_map(|endpoint| Some((endpoint, kind(endpoint.kind)?)))
        .map(|(endpoint, kind)| {
            let address = address(endpoint)?;
            Ok(Endpoint { address, kind })
        })
        .collect()
}

fn kind(number: i32) -> Option<EndpointKind> {
    match message::EndpointKind::try_from(number).ok()? {
        message::EndpointKind::Configured => Some(EndpointKind::Configured),
        message::EndpointKind::Local => Some(EndpointKind::Local),
        message::EndpointKind::Reflexive => Some(EndpointKind::Reflexive),
        message::EndpointKind::Unspecified => None,
    }
}

fn address(endpoint: &message::Endpoint) -> Result<SocketAddr, Wrong> {
    let ip = host(&endpoint.ip)?;
    match u16::try_from(endpoint.port) {
        Ok(port) if port != 0 => Ok(SocketAddr::new(ip, port)),
        _ => Err("have a port out of range, allowed is 1..=65535"),
    }
}
