//! Calls of etcd's JSON gateway, whichever member answers.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Error, Timeout};

use super::backoff::{self, Backoff};
use super::config::{ClientCertificate, Credentials, EtcdConfig, Timing};
use super::wire::{ErrorAnswer, TokenAnswer};
use crate::error::StoreError;

/// The longest answer that is read, in octets: a page of a snapshot, all of the longest items.
const MAX_ANSWER: u64 = 64 << 20;

/// The longest text of an error that is passed on, in octets.
const MAX_TEXT: usize = 300;

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    Store(StoreError),
    /// The revision that was asked for is gone.
    Compacted,
    /// There is no such lease. Nothing was done.
    NoLease,
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => error,
            Failure::Compacted => Self::Unavailable("the revision is compacted".into()),
            Failure::NoLease => Self::Unavailable("the lease is gone".into()),
        }
    }
}

/// What a call does when the answer to an attempt is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Repeat {
    /// Once more, as twice is as good as once.
    Safe,
    /// Nothing: the caller has to find out whether it happened.
    Never,
}

/// What came of one attempt at one member, when no answer did.
enum Miss {
    /// The member did not do it, and another one may.
    NotDone(String),
    /// Nobody knows.
    Unknown(String),
    /// The token is missing or too old.
    Unauthenticated(String),
    /// It was not done, and no other member would.
    Final(Failure),
}

pub(super) struct Client {
    agent: Agent,
    endpoints: Vec<String>,
    /// The one that answered last. It grows, and counts modulo the number of endpoints.
    current: AtomicUsize,
    credentials: Option<Credentials>,
    token: Mutex<Option<Arc<str>>>,
    timing: Timing,
}

impl Client {
    pub(super) fn new(config: EtcdConfig) -> Result<Self, StoreError> {
        let timing = config.timing;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .tls_config(tls_config(&config)?)
            .timeout_connect(Some(timing.request / 2))
            .timeout_send_request(Some(timing.request))
            .timeout_send_body(Some(timing.request))
            .timeout_recv_response(Some(timing.request))
            .timeout_per_read(Some(timing.request))
            .build();
        Ok(Self {
            agent: agent.new_agent(),
            current: AtomicUsize::new(backoff::random() as usize % config.endpoints.len()),
            endpoints: config.endpoints,
            credentials: config.credentials,
            token: Mutex::new(None),
            timing,
        })
    }

    /// Asks one member after another until one answers or patience runs out.
    pub(super) fn call<T: DeserializeOwned>(
        &self,
        path: &str,
        request: &Value,
        repeat: Repeat,
    ) -> Result<T, Failure> {
        let request = request.to_string();
        let deadline = Instant::now() + self.timing.patience;
        let mut backoff = Backoff::new();
        let mut renewed = false;
        loop {
            let mut why = String::new();
            for _ in 0..self.endpoints.len() {
                let at = self.current.load(Ordering::Relaxed);
                match self.attempt(at, path, &request) {
                    Ok(answer) => return parse(&answer, repeat),
                    Err(Miss::Final(failure)) => return Err(failure),
                    Err(Miss::Unauthenticated(text)) => {
                        if self.credentials.is_none() || std::mem::replace(&mut renewed, true) {
                            return Err(Failure::Store(StoreError::Refused(text)));
                        }
                        self.forget_token();
                        continue;
                    }
                    Err(Miss::Unknown(text)) if repeat == Repeat::Never => {
                        self.leave(at);
                        return Err(Failure::Store(StoreError::Uncertain(text)));
                    }
                    Err(Miss::NotDone(text) | Miss::Unknown(text)) => {
                        self.leave(at);
                        why = text;
                    }
                }
                if Instant::now() >= deadline {
                    return Err(Failure::Store(StoreError::Unavailable(why)));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Store(StoreError::Unavailable(why)));
            }
            thread::sleep(backoff.wait().min(left));
        }
    }

    /// Opens a stream at a member, one object a line. A read fails when nothing came for
    /// `silence`. The caller counts members on its own.
    pub(super) fn stream(
        &self,
        at: usize,
        path: &str,
        request: &Value,
        silence: Duration,
    ) -> Result<impl BufRead + use<>, String> {
        let sent = self.send(at, path, &request.to_string(), Some(silence));
        let answer = sent.map_err(|miss| match miss {
            Miss::NotDone(text) | Miss::Unknown(text) | Miss::Unauthenticated(text) => text,
            Miss::Final(failure) => StoreError::from(failure).to_string(),
        })?;
        let status = answer.status();
        let mut body = answer.into_body();
        if status != 200 {
            let text = body.with_config().limit(MAX_ANSWER).read_to_vec();
            self.forget_token();
            return Err(describe(status.as_u16(), &text.unwrap_or_default()).0);
        }
        let reader = body.into_with_config().limit(u64::MAX).reader();
        Ok(BufReader::new(reader))
    }

    /// The next call gets a token of its own.
    pub(super) fn forget_token(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Goes on to the next member, unless another thread did.
    fn leave(&self, at: usize) {
        let next = at.wrapping_add(1);
        let _ = self
            .current
            .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn attempt(&self, at: usize, path: &str, request: &str) -> Result<Vec<u8>, Miss> {
        let answer = self.send(at, path, request, None)?;
        let status = answer.status().as_u16();
        let mut body = answer.into_body();
        let text = body
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()
            .map_err(|error| Miss::Unknown(self.tell(at, &error)))?;
        if status == 200 {
            return Ok(text);
        }
        let (text, code) = describe(status, &text);
        Err(judge(text, code))
    }

    fn send(
        &self,
        at: usize,
        path: &str,
        request: &str,
        silence: Option<Duration>,
    ) -> Result<ureq::http::Response<ureq::Body>, Miss> {
        let token = self.token(at)?;
        let mut post = self.agent.post(self.url(at, path));
        if let Some(token) = token {
            post = post.header("Authorization", &*token);
        }
        if let Some(silence) = silence {
            post = post.config().timeout_per_read(Some(silence)).build();
        }
        post.content_type("application/json")
            .send(request)
            .map_err(|error| self.miss(at, &error))
    }

    fn url(&self, at: usize, path: &str) -> String {
        format!("{}/v3/{path}", self.endpoint(at))
    }

    fn endpoint(&self, at: usize) -> &str {
        &self.endpoints[at % self.endpoints.len()]
    }

    fn tell(&self, at: usize, error: &Error) -> String {
        format!("{}: {error}", self.endpoint(at))
    }

    /// Tells a request that never left from one that may have arrived.
    fn miss(&self, at: usize, error: &Error) -> Miss {
        let text = self.tell(at, error);
        match error {
            Error::Io(io) if is_before_connected(io.kind()) => Miss::NotDone(text),
            Error::Timeout(Timeout::Connect | Timeout::Resolve)
            | Error::HostNotFound
            | Error::ConnectionFailed
            | Error::Tls(_)
            | Error::Rustls(_) => Miss::NotDone(text),
            _ => Miss::Unknown(text),
        }
    }

    /// The token for the next request, from this member if there is none yet.
    fn token(&self, at: usize) -> Result<Option<Arc<str>>, Miss> {
        let Some(credentials) = &self.credentials else {
            return Ok(None);
        };
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = &*token {
            return Ok(Some(Arc::clone(token)));
        }
        let request = json!({ "name": credentials.user, "password": *credentials.password });
        let sent = self
            .agent
            .post(self.url(at, "auth/authenticate"))
            .content_type("application/json")
            .send(request.to_string());
        // Without a token nothing else was asked for.
        let not_done = |error| Miss::NotDone(self.tell(at, &error));
        let mut answer = sent.map_err(not_done)?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_vec().map_err(not_done)?;
        if status != 200 {
            let (text, code) = describe(status, &text);
            return Err(match judge(text, code) {
                Miss::Unknown(text) => Miss::NotDone(text),
                other => other,
            });
        }
        let TokenAnswer { token: fresh } = serde_json::from_slice(&text)
            .map_err(|error| Miss::NotDone(format!("{}: {error}", self.endpoint(at))))?;
        let fresh: Arc<str> = fresh.into();
        *token = Some(Arc::clone(&fresh));
        Ok(Some(fresh))
    }
}

/// Errors that the kernel gives before there is a connection.
fn is_before_connected(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::AddrNotAvailable
    )
}

/// The text and gRPC code of an answer that is an error.
fn describe(status: u16, answer: &[u8]) -> (String, i64) {
    let parsed = serde_json::from_slice::<ErrorAnswer>(answer);
    let (mut text, code) = parsed.unwrap_or_default().into_parts();
    if text.is_empty() {
        text = format!("HTTP status {status}");
    }
    let end = (0..=MAX_TEXT.min(text.len())).rfind(|&at| text.is_char_boundary(at));
    text.truncate(end.unwrap_or_default());
    (text, code)
}

/// What an error of etcd means. By its text where the code is shared by several.
fn judge(text: String, code: i64) -> Miss {
    const NOT_DONE: [&str; 3] = ["no leader", "too many requests", "proposal dropped"];
    const STALE: [&str; 2] = ["invalid auth token", "revision of auth store is old"];
    const REFUSED: [&str; 3] = ["user name is empty", "permission denied", "authentication"];
    let has = |part: &&str| text.contains(part);
    if text.contains("lease not found") {
        Miss::Final(Failure::NoLease)
    } else if text.contains("has been compacted") {
        Miss::Final(Failure::Compacted)
    } else if text.contains("space exceeded") {
        Miss::Final(Failure::Store(StoreError::Full(text)))
    } else if text.contains("corrupt") {
        Miss::Final(Failure::Store(StoreError::Corrupt(text)))
    } else if STALE.iter().any(has) {
        Miss::Unauthenticated(text)
    } else if REFUSED.iter().any(has) {
        Miss::Final(Failure::Store(StoreError::Refused(text)))
    } else if NOT_DONE.iter().any(has) {
        Miss::NotDone(text)
    } else {
        // gRPC's codes for what was wrong with the request: nothing was done.
        match code {
            16 => Miss::Unauthenticated(text),
            3 | 5 | 6 | 7 | 9 | 11 | 12 => Miss::Final(Failure::Store(StoreError::Refused(text))),
            _ => Miss::Unknown(text),
        }
    }
}

fn parse<T: DeserializeOwned>(answer: &[u8], repeat: Repeat) -> Result<T, Failure> {
    serde_json::from_slice(answer).map_err(|error| {
        let text = format!("an answer that makes no sense: {error}");
        Failure::Store(match repeat {
            Repeat::Safe => StoreError::Unavailable(text),
            Repeat::Never => StoreError::Uncertain(text),
        })
    })
}

/// Nobody is trusted but the authority that the operator names.
fn tls_config(config: &EtcdConfig) -> Result<TlsConfig, StoreError> {
    let mut roots = Vec::new();
    if let Some(pem) = &config.authority {
        roots = certificates(pem)?;
    } else if config.endpoints.iter().any(|url| url.starts_with("https:")) {
        return Err(StoreError::Invalid(
            "https without the certificate of an authority",
        ));
    }
    let client = config.certificate.as_ref().map(client_certificate);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::new_with_certs(&roots))
        .client_cert(client.transpose()?)
        .build())
}

fn client_certificate(certificate: &ClientCertificate) -> Result<ClientCert, StoreError> {
    let chain = certificates(&certificate.chain)?;
    let key = PrivateKey::from_pem(certificate.key.as_bytes())
        .map_err(|_| StoreError::Invalid("a private key that is not PEM"))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

fn certificates(pem: &str) -> Result<Vec<Certificate<'static>>, StoreError> {
    let found: Vec<_> = parse_pem(pem.as_bytes())
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(StoreError::Invalid("a certificate that is not PEM"));
    }
    Ok(found)
}

/// Reads one line of a stream, at most [`MAX_ANSWER`] octets of it.
pub(super) fn read_line(stream: &mut impl BufRead) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    stream
        .take(MAX_ANSWER)
        .read_until(b'\n', &mut line)
        .map_err(|error| error.to_string())?;
    if line.ends_with(b"\n") {
        return Ok(line);
    }
    Err("the stream ended within a line, or the line is too long".into())
}
