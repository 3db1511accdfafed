//! Where etcd is, and who we are to it.

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::StoreError;

/// The most endpoints. etcd's own advice is 7 members at most.
const MAX_ENDPOINTS: usize = 16;

/// The longest period. Nobody waits so long.
const LONGEST: Duration = Duration::from_secs(3600);

/// How to reach an etcd cluster, and which keys of it to use.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// URLs of its members, such as `https://10.0.0.1:2379`: 1..=16, tried in turn.
    pub endpoints: Vec<String>,
    /// The fabric: all keys begin with `/omni/<fabric>/`. 1..=64 octets.
    pub fabric: String,
    /// For a cluster with authentication by name and password.
    pub credentials: Option<Credentials>,
    /// PEM of the authority's certificate that members are verified by. Needed with https, as no
    /// public authority is trusted.
    pub authority: Option<String>,
    /// For a cluster that asks clients for a certificate.
    pub certificate: Option<ClientCertificate>,
    /// How long everything takes.
    pub timing: Timing,
}

/// A user of etcd.
#[derive(Clone)]
pub struct Credentials {
    /// Its name.
    pub user: String,
    /// Wiped when dropped.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.user)
    }
}

/// What a client shows a member that asks for a certificate.
#[derive(Clone)]
pub struct ClientCertificate {
    /// PEM of the certificate and those that lead to the authority.
    pub chain: String,
    /// PEM of the private key. Wiped when dropped.
    pub key: Zeroizing<String>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate(..)")
    }
}

/// Periods. The defaults suit a cluster in one region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Ephemeral items vanish when their server was not heard of for so long. Whole seconds.
    pub lease: Duration,
    /// How often the server makes itself heard: a third of `lease` or less.
    pub keep_alive: Duration,
    /// How often a key is put so that watches have something to tell.
    pub heartbeat: Duration,
    /// A watch that told nothing for so long is dead: three heartbeats or more.
    pub silence: Duration,
    /// How long a member may take for an answer.
    pub request: Duration,
    /// How long a call goes on asking before it fails.
    pub patience: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
            heartbeat: Duration::from_secs(1),
            silence: Duration::from_secs(4),
            request: Duration::from_secs(2),
            patience: Duration::from_secs(10),
        }
    }
}

impl EtcdConfig {
    /// The cluster with these members, without authentication.
    #[must_use]
    pub fn new(endpoints: Vec<String>, fabric: impl Into<String>) -> Self {
        Self {
            endpoints,
            fabric: fabric.into(),
            credentials: None,
            authority: None,
            certificate: None,
            timing: Timing::default(),
        }
    }

    /// # Errors
    /// [`StoreError::Invalid`].
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let is_url = |url: &String| {
            let rest = url
                .strip_prefix("http://")
                .or_else(|| url.strip_prefix("https://"));
            rest.is_some_and(|place| !place.is_empty() && !place.contains(['/', '@', '?', '#']))
        };
        let timing = &self.timing;
        let periods = [
            timing.lease,
            timing.silence,
            timing.request,
            timing.patience,
        ];
        let wrong = if !(1..=MAX_ENDPOINTS).contains(&self.endpoints.len()) {
            "etcd without endpoints, or with more than 16"
        } else if !self.endpoints.iter().all(is_url) {
            "an endpoint that is not http://HOST:PORT or https://HOST:PORT"
        } else if !(1..=64).contains(&self.fabric.len()) {
            "a fabric's name that is not 1 to 64 octets long"
        } else if timing.lease.as_secs() == 0 || timing.keep_alive > timing.lease / 3 {
            "a lease that is not kept alive at least three times"
        } else if timing.heartbeat.is_zero() || timing.heartbeat > timing.silence / 3 {
            "a heartbeat that is not put at least three times before a watch counts as dead"
        } else if timing.keep_alive.is_zero() || timing.request.is_zero() {
            "a period of nothing"
        } else if periods.iter().any(|period| *period > LONGEST) {
            "a period of more than an hour"
        } else {
            return Ok(());
        };
        Err(StoreError::Invalid(wrong))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: &str) -> EtcdConfig {
        EtcdConfig::new(vec![endpoint.to_owned()], "home")
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut config = config("http://a:1");
        config.credentials = Some(Credentials {
            user: "nucleus".into(),
            password: Zeroizing::new("hunter2".into()),
        });
        config.certificate = Some(ClientCertificate {
            chain: "C".into(),
            key: Zeroizing::new("hunter2".into()),
        });
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn endpoints_are_urls_without_a_path() {
        for good in ["http://a:1", "https://[::1]:2379", "http://10.0.0.1"] {
            assert_eq!(config(good).check(), Ok(()), "{good}");
        }
        for bad in ["", "a:1", "http://", "http://a/", "ftp://a", "http://u:p@a"] {
            assert!(config(bad).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn periods_leave_room_for_what_goes_wrong_once() {
        let wrong: [fn(&mut Timing); 6] = [
            |timing| timing.lease = Duration::from_millis(900),
            |timing| timing.keep_alive = Duration::from_secs(11),
            |timing| timing.heartbeat = Duration::from_secs(6),
            |timing| timing.heartbeat = Duration::ZERO,
            |timing| timing.keep_alive = Duration::ZERO,
            |timing| timing.patience = Duration::MAX,
        ];
        for change in wrong {
            let mut config = config("http://a:1");
            assert_eq!(config.check(), Ok(()));
            change(&mut config.timing);
            assert!(config.check().is_err(), "{:?}", config.timing);
        }
    }
}
