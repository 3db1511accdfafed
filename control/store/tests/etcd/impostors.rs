//! Servers that are no etcd, and none at all.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use omni_store::{EtcdConfig, EtcdStore, Store, StoreError};

use super::cluster::TIMING;
use super::conformance::{of, put};

/// Takes connections, says the same on each, and counts them.
struct Impostor {
    url: String,
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Impostor {
    fn new(answer: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (count, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counted, stopped) = (Arc::clone(&count), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                counted.fetch_add(1, Ordering::Relaxed);
                // Whoever hangs up early needs no answer.
                let _ = stream.and_then(|mut stream| {
                    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
                    let _ = stream.read(&mut [0; 4096]);
                    stream.write_all(answer.as_bytes())
                });
            }
        });
        Self {
            url,
            count,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes it up.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

fn store(url: &str) -> EtcdStore {
    let config = EtcdConfig {
        timing: omni_store::Timing {
            patience: Duration::from_secs(2),
            ..TIMING
        },
        ..EtcdConfig::new(vec![url.to_owned()], "home")
    };
    EtcdStore::open(config).expect("a configuration")
}

#[test]
fn what_is_no_answer_of_etcd_is_no_answer() {
    for answer in [
        "",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\n<p/>",
    ] {
        let impostor = Impostor::new(answer);
        let mut store = store(&impostor.url);
        let start = Instant::now();
        let read = store.snapshot();
        assert!(
            matches!(read, Err(StoreError::Unavailable(_))),
            "{answer}: {read:?}"
        );
        assert!(start.elapsed() < Duration::from_secs(5), "{answer}");
        let written = store.commit(&of([put("a", "1")]));
        assert!(written.is_err(), "{answer}: {written:?}");
    }
}

#[test]
fn a_server_that_fails_is_not_asked_all_the_time() {
    let impostor = Impostor::new("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
    let mut store = store(&impostor.url);
    for _ in 0..2 {
        let read = store.snapshot();
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    }
    // In 4 s: attempts 100 ms apart at first and then more, by the caller and by the lease.
    let count = impostor.count.load(Ordering::Relaxed);
    assert!((4..50).contains(&count), "{count} attempts");
}
