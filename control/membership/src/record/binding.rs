//! Bindings: a node says that an address is behind it, or is no more.

use core::net::IpAddr;

use omni_wire::MacAddr;

use super::field::{host, ip_octets, mac, named, public_key, vlan};
use super::{Body, Kind, RecordError, Signed, message, open, read, seal};
use crate::key::{PrivateKey, PublicKey};
use crate::name::FabricName;

/// The longest binding, signature included, in octets. It is three times what one has now: there
/// are many, every node keeps all, and what fields of later versions there may be is told to all.
pub const MAX_BINDING_LEN: usize = 512;

/// What a node says of an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// The owner: who speaks, and signs.
    pub public_key: PublicKey,
    /// The VLAN that the address is in: 0..=4094, 0 being what is untagged.
    pub vlan: u16,
    /// The MAC address: unicast, not zero.
    pub mac: MacAddr,
    /// The IP address that goes with it, a single host's; `None` for the MAC address alone.
    pub ip: Option<IpAddr>,
    /// Of two bindings of an address the one with the greater sequence holds.
    pub sequence: u64,
    /// The last second that this is to be believed in, since 1970.
    pub expires: u64,
    /// Whether the address is behind the owner no more.
    pub withdrawn: bool,
    /// The node that the owner gives the address to.
    pub release_to: Option<PublicKey>,
}

impl Binding {
    /// Signs it for a fabric with the private key of [`Binding::public_key`].
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

    /// Reads a binding that its owner signed. Whether the owner may have the address is another
    /// question: see [`crate::Grants`].
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn verify(octets: &[u8], fabric: &FabricName) -> Result<Signed<Self>, RecordError> {
        open(octets, fabric, |this: &Self, message, signature| {
            this.public_key.verify(message, signature)
        })
    }

    /// Reads what a binding says, whoever signed it: to be shown, and not to be trusted.
    ///
    /// # Errors
    /// As [`Binding::verify`], but for the signature.
    pub fn unverified(octets: &[u8]) -> Result<Self, RecordError> {
        read(octets)
    }
}

impl Body for Binding {
    const KIND: Kind = Kind::Binding;
    const MAX_LEN: usize = MAX_BINDING_LEN;
    type Message = message::Binding;

    fn check(message: message::Binding) -> Result<Self, RecordError> {
        let ip = message.ip.as_deref().map(host).transpose();
        let release_to = message.release_to.as_deref().map(public_key).transpose();
        Ok(Self {
            public_key: named(Self::KIND, "public_key", public_key(&message.public_key))?,
            vlan: named(Self::KIND, "vlan", vlan(message.vlan))?,
            mac: named(Self::KIND, "mac", mac(&message.mac))?,
            ip: named(Self::KIND, "ip", ip)?,
            sequence: message.sequence,
            expires: message.expires,
            withdrawn: message.withdrawn,
            release_to: named(Self::KIND, "release_to", release_to)?,
        })
    }

    fn message(&self) -> message::Binding {
        message::Binding {
            public_key: self.public_key.0.to_vec(),
            vlan: self.vlan.into(),
            mac: self.mac.0.to_vec(),
            ip: self.ip.map(ip_octets),
            sequence: self.sequence,
            expires: self.expires,
            withdrawn: self.withdrawn,
            release_to: self.release_to.map(|key| key.0.to_vec()),
        }
    }
}
