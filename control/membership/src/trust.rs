//! Who is a member: a node with a certificate of the authority, or one that is on a list.

use std::collections::{BTreeMap, BTreeSet};

use crate::key::PublicKey;
use crate::name::FabricName;
use crate::record::{Certificate, Grants, RecordError, Registration, Revocation, Signed};
use crate::signing::AuthorityPublicKey;

/// The most keys with revocations that are kept. Only the authority makes them.
pub const MAX_REVOCATIONS: usize = 65536;

/// What decides who is a member of a fabric.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The fabric that all signatures must be for.
    pub fabric: FabricName,
    /// Whose certificates count; `None` when none do.
    pub authority: Option<AuthorityPublicKey>,
    /// Who is a member without a certificate, and without its limits.
    pub members: BTreeSet<PublicKey>,
}

/// A node that belongs to the fabric.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// What it says of itself.
    pub registration: Signed<Registration>,
    /// What the authority says of it; `None` when it is on the list.
    pub certificate: Option<Signed<Certificate>>,
}

impl Member {
    /// What it is called: by its certificate, and without one by itself.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.certificate {
            Some(certificate) => &certificate.name,
            None => &self.registration.name,
        }
    }

    /// What it may use: `None` without a certificate, which leaves it to the configuration.
    #[must_use]
    pub fn grants(&self) -> Option<&Grants> {
        self.certificate.as_ref().map(|it| &it.grants)
    }
}

/// Why a node is not admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// What it says of itself is no registration, or does not verify.
    #[error("its registration is refused: {0}")]
    Registration(RecordError),
    /// What it says of itself is too old.
    #[error("its registration expired at {expires} (seconds since 1970)")]
    RegistrationExpired {
        /// The last second that it was to be believed in, since 1970.
        expires: u64,
    },
    /// It is not on the list, and there is no authority that could have certified it.
    #[error("it is not on the list of members, and the fabric has no authority")]
    NotListed,
    /// It is not on the list and shows no certificate.
    #[error("it has no certificate and is not on the list of members")]
    NoCertificate,
    /// Its certificate is none, or does not verify.
    #[error("its certificate is refused: {0}")]
    Certificate(RecordError),
    /// It shows somebody else's certificate.
    #[error("its certificate is another node's")]
    OtherKey,
    /// Its certificate is for later.
    #[error("its certificate is not valid before {not_before} (seconds since 1970)")]
    NotYetValid {
        /// The first second that it is valid in, since 1970.
        not_before: u64,
    },
    /// Its certificate is too old.
    #[error("its certificate expired at {not_after} (seconds since 1970)")]
    CertificateExpired {
        /// The last second that it was valid in, since 1970.
        not_after: u64,
    },
    /// The authority took its certificate back.
    #[error("its certificate has serial {serial}, and all up to {revoked} are revoked")]
    Revoked {
        /// The certificate's serial.
        serial: u64,
        /// The highest serial that is void.
        revoked: u64,
    },
}

impl Trust {
    /// Decides over a node by its registration, at `now` in seconds since 1970.
    ///
    /// A node on the list is admitted whatever certificate it shows: the operator decided.
    ///
    /// # Errors
    /// Why it is not admitted.
    pub fn admit(
        &self,
        registration: &[u8],
        revocations: &Revocations,
        now: u64,
    ) -> Result<Member, Refusal> {
        let registration =
            Registration::verify(registration, &self.fabric).map_err(Refusal::Registration)?;
        let expires = registration.expires;
        if expires < now {
            return Err(Refusal::RegistrationExpired { expires });
        }
        let certificate = match self.members.contains(&registration.public_key) {
            true => None,
            false => Some(self.certified(&registration, revocations, now)?),
        };
        Ok(Member {
            registration,
            certificate,
        })
    }

    /// The certificate of a node, when it is its own and good now.
    fn certified(
        &self,
        registration: &Registration,
        revocations: &Revocations,
        now: u64,
    ) -> Result<Signed<Certificate>, Refusal> {
        let authority = self.authority.as_ref().ok_or(Refusal::NotListed)?;
        let shown = registration.certificate.as_ref();
        let octets = shown.ok_or(Refusal::NoCertificate)?;
        let certificate =
            Certificate::verify(octets, &self.fabric, authority).map_err(Refusal::Certificate)?;
        if certificate.public_key != registration.public_key {
            return Err(Refusal::OtherKey);
        }
        self.check(&certificate, revocations, now)?;
        Ok(certificate)
    }

    /// Whether a certificate that verified is good at `now`, in seconds since 1970. To be asked
    /// again as time passes, and when a revocation arrives.
    ///
    /// # Errors
    /// [`Refusal::NotYetValid`], [`Refusal::CertificateExpired`] or [`Refusal::Revoked`].
    pub fn check(
        &self,
        certificate: &Signed<Certificate>,
        revocations: &Revocations,
        now: u64,
    ) -> Result<(), Refusal> {
        let (serial, not_before) = (certificate.serial, certificate.not_before);
        if let Some(revoked) = revocations.serial(&certificate.public_key)
            && serial <= revoked
        {
            return Err(Refusal::Revoked { serial, revoked });
        }
        match certificate.not_after {
            _ if now < not_before => Err(Refusal::NotYetValid { not_before }),
            Some(not_after) if not_after < now => Err(Refusal::CertificateExpired { not_after }),
            _ => Ok(()),
        }
    }
}

/// What is revoked: of each key the revocation with the highest serial. At most
/// [`MAX_REVOCATIONS`] keys.
#[derive(Clone, Debug, Default)]
pub struct Revocations(BTreeMap<PublicKey, Signed<Revocation>>);

/// There is no room for revocations of one more key. None is dropped for it: whoever was revoked
/// would be back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("certificates of {MAX_REVOCATIONS} keys are revoked, which is all that are kept")]
pub struct RevocationsFull;

impl Revocations {
    /// Nothing is revoked.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes a revocation in, and says whether it revokes more than was known.
    ///
    /// # Errors
    /// There is no room for one more key.
    pub fn insert(&mut self, revocation: Signed<Revocation>) -> Result<bool, RevocationsFull> {
        let known = self.0.get(&revocation.public_key);
        match known.map(|known| known.serial) {
            Some(serial) if revocation.serial <= serial => return Ok(false),
            None if self.0.len() >= MAX_REVOCATIONS => return Err(RevocationsFull),
            _ => {}
        }
        self.0.insert(revocation.public_key, revocation);
        Ok(true)
    }

    /// The highest serial of a key that is void.
    #[must_use]
    pub fn serial(&self, public_key: &PublicKey) -> Option<u64> {
        self.0.get(public_key).map(|revocation| revocation.serial)
    }

    /// All that are kept, in the order of keys: to be written down and passed on.
    pub fn iter(&self) -> impl Iterator<Item = &Signed<Revocation>> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests;
