//! Certificates: the authority says that a node belongs to the fabric, and what it may use.

use super::field::{name, named, public_key};
use super::grants::{
    Grants, check_addresses, check_macs, check_vlans, mac_list, prefix_list, vlan_list,
};
use super::{Body, Kind, RecordError, Signed, message, open, read, seal};
use crate::key::PublicKey;
use crate::name::FabricName;
use crate::signing::{AuthorityKey, AuthorityPublicKey};

/// The longest certificate, signature included, in octets: with it, the most VLAN ranges and the
/// most endpoints, a registration is still below [`super::MAX_RECORD_LEN`].
pub const MAX_CERTIFICATE_LEN: usize = 20 * 1024;

/// What the authority says of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Whom it is about.
    pub public_key: PublicKey,
    /// 1..=64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// Tells certificates of one key apart. A revocation takes back all up to a serial.
    pub serial: u64,
    /// The first second that it is valid in, since 1970.
    pub not_before: u64,
    /// The last second that it is valid in, since 1970; `None` when it does not expire.
    pub not_after: Option<u64>,
    /// What the node may use.
    pub grants: Grants,
}

impl Certificate {
    /// Whether it is valid at `now`, in seconds since 1970.
    #[must_use]
    pub fn is_valid_at(&self, now: u64) -> bool {
        self.not_before <= now && self.not_after.is_none_or(|last| now <= last)
    }

    /// Signs it for a fabric.
    ///
    /// # Errors
    /// A field that is out of its range; a certificate over [`MAX_CERTIFICATE_LEN`].
    pub fn sign(
        &self,
        fabric: &FabricName,
        authority: &AuthorityKey,
    ) -> Result<Signed<Self>, RecordError> {
        seal(self, fabric, |message| authority.sign(message))
    }

    /// Reads a certificate that the authority of a fabric signed. Whether it is valid now and not
    /// revoked is another question: see [`crate::Trust`].
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn verify(
        octets: &[u8],
        fabric: &FabricName,
        authority: &AuthorityPublicKey,
    ) -> Result<Signed<Self>, RecordError> {
        open(octets, fabric, |_, message, signature| {
            authority.verify(message, signature)
        })
    }

    /// Reads what a certificate says, whoever signed it: to be shown, and not to be trusted.
    ///
    /// # Errors
    /// As [`Certificate::verify`], but for the signature.
    pub fn unverified(octets: &[u8]) -> Result<Self, RecordError> {
        read(octets)
    }
}

impl Body for Certificate {
    const KIND: Kind = Kind::Certificate;
    const MAX_LEN: usize = MAX_CERTIFICATE_LEN;
    type Message = message::Certificate;

    fn check(message: message::Certificate) -> Result<Self, RecordError> {
        let vlans = message.vlans.as_ref().map(check_vlans).transpose();
        let macs = message.macs.as_ref().map(check_macs).transpose();
        let addresses = message.addresses.as_ref().map(check_addresses).transpose();
        let not_after = match message.not_after {
            0 => Ok(None),
            last if last < message.not_before => Err("is before not_before"),
            last => Ok(Some(last)),
        };
        Ok(Self {
            public_key: named(Self::KIND, "public_key", public_key(&message.public_key))?,
            name: named(Self::KIND, "name", name(message.name))?,
            serial: message.serial,
            not_before: message.not_before,
            not_after: named(Self::KIND, "not_after", not_after)?,
            grants: Grants {
                vlans: named(Self::KIND, "vlans", vlans)?,
                macs: named(Self::KIND, "macs", macs)?,
                addresses: named(Self::KIND, "addresses", addresses)?,
            },
        })
    }

    fn message(&self) -> message::Certificate {
        message::Certificate {
            public_key: self.public_key.0.to_vec(),
            name: self.name.clone(),
            serial: self.serial,
            not_before: self.not_before,
            not_after: self.not_after.unwrap_or(0),
            vlans: self.grants.vlans.as_ref().map(vlan_list),
            macs: self.grants.macs.as_ref().map(mac_list),
            addresses: self.grants.addresses.as_ref().map(prefix_list),
        }
    }
}
