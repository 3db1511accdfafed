//! A relay in front of a member, which changes a word of what clients ask.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// Relays connections until it is dropped. Connections end with their clients.
pub(crate) struct Relay {
    url: String,
    replaced: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Replaces a word by one that is as long. A request is expected to come in one piece.
    pub(crate) fn new(server: &str, word: &'static str, other: &'static str) -> Self {
        assert_eq!(word.len(), other.len());
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (replaced, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, stopped) = (Arc::clone(&replaced), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for client in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let client = client.expect("a connection");
                let server = TcpStream::connect(&server).expect("the member runs");
                let back = (clone(&server), clone(&client));
                thread::spawn(move || copy(back.0, back.1, |_| ()));
                let count = Arc::clone(&count);
                thread::spawn(move || {
                    copy(client, server, |octets| {
                        count.fetch_add(replace(octets, word, other), Ordering::Relaxed);
                    });
                });
            }
        });
        Self {
            url,
            replaced,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How often the word was found.
    pub(crate) fn replaced(&self) -> usize {
        self.replaced.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes it up.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a descriptor")
}

/// Copies until either side hangs up, which is what the other then hears.
fn copy(mut from: TcpStream, mut to: TcpStream, change: impl Fn(&mut [u8])) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        change(&mut buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// How often.
fn replace(octets: &mut [u8], word: &str, other: &str) -> usize {
    let mut count = 0;
    for at in 0..octets.len().saturating_sub(word.len() - 1) {
        if octets[at..].starts_with(word.as_bytes()) {
            octets[at..at + other.len()].copy_from_slice(other.as_bytes());
            count += 1;
        }
    }
    count
}
