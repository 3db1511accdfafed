//! Requests that scrapers make, and those that somebody else makes.

use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::service::metrics::{Desc, Family, Kind};

const UP: Desc = Desc {
    name: "omni_up",
    kind: Kind::Gauge,
    labels: &[],
    help: "Whether it is.",
};
/// As Prometheus 2 sends it.
const SCRAPER: &str = "application/openmetrics-text;version=1.0.0,\
    application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

fn parse(request: &str) -> Result<Option<Asked>, Refusal> {
    Asked::parse(request.as_bytes())
}

fn encoding(accept: &str) -> Encoding {
    let request = format!("GET /metrics HTTP/1.1\r\naccept: {accept}\r\n\r\n");
    parse(&request).expect("good").expect("whole").encoding
}

fn form(accept: &str) -> Form {
    match encoding(accept) {
        Encoding::Text(form) => form,
        Encoding::Protobuf => panic!("{accept}"),
    }
}

/// Runs in virtual time, with somebody who answers.
fn run<F: Future>(test: impl FnOnce(mpsc::Sender<Scrape>) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (scrapes, mut asked) = mpsc::channel::<Scrape>(1);
        tokio::spawn(async move {
            while let Some(reply) = asked.recv().await {
                let _ = reply.send(Arc::new(vec![Family::one(&UP, true)]));
            }
        });
        test(scrapes).await
    })
}

async fn told(mut stream: DuplexStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).await.expect("it is read");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    answer
}

fn octets(request: &[u8]) -> Vec<u8> {
    let request = request.to_owned();
    run(|scrapes| async move {
        let (near, far) = duplex(64 * 1024);
        let (answer, served) = tokio::join!(told(near, &request), respond(far, &scrapes));
        served.expect("it was answered");
        answer
    })
}

fn answer(request: &[u8]) -> String {
    String::from_utf8(octets(request)).expect("text")
}

#[test]
fn a_scraper_gets_the_form_that_it_likes_most() {
    assert_eq!(form(SCRAPER), Form::OpenMetrics);
    for (accept, want) in [
        ("*/*", Form::Plain),
        ("text/plain", Form::Plain),
        ("application/openmetrics-text", Form::OpenMetrics),
        (
            "application/openmetrics-text; version=\"1.0.0\"",
            Form::OpenMetrics,
        ),
        ("application/openmetrics-text; version=2.0.0", Form::Plain),
        (
            "text/plain, application/openmetrics-text; q=0.5",
            Form::Plain,
        ),
        (
            "Application/OpenMetrics-Text;Q=0.9,text/plain;q=0.8",
            Form::OpenMetrics,
        ),
        ("application/openmetrics-text;q=0", Form::Plain),
        ("application/openmetrics-text;q=nan,;;=,", Form::Plain),
        ("", Form::Plain),
    ] {
        assert_eq!(form(accept), want, "{accept}");
    }
}

#[test]
fn a_scraper_of_native_histograms_gets_them() {
    // As Prometheus 2.42 sends it with native histograms switched on, and one that likes them less.
    const PROTOBUF: &str = "application/vnd.google.protobuf;\
        proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let all = |rest: &str| format!("{PROTOBUF}{rest}");
    for accept in [
        all(""),
        all(",application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5,*/*;q=0.1"),
        all(",application/openmetrics-text,text/plain"),
        "Application/VND.Google.Protobuf; Encoding=\"delimited\"; \
            Proto=\"io.prometheus.client.MetricFamily\"; Q=1"
            .to_owned(),
    ] {
        assert_eq!(encoding(&accept), Encoding::Protobuf, "{accept}");
    }
    for (accept, want) in [
        (all(";q=0.4,") + SCRAPER, Form::OpenMetrics),
        (all(";q=0.4,text/plain;q=0.5"), Form::Plain),
        (all(";q=0"), Form::Plain),
        (PROTOBUF.replace("delimited", "text"), Form::Plain),
        (PROTOBUF.replace("MetricFamily", "Other"), Form::Plain),
        ("application/vnd.google.protobuf".to_owned(), Form::Plain),
    ] {
        assert_eq!(form(&accept), want, "{accept}");
    }
    let request = format!("GET /metrics HTTP/1.1\r\nAccept: {PROTOBUF}\r\n\r\n");
    let octets = octets(request.as_bytes());
    let end = octets.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = octets.split_at(end.expect("a head") + 4);
    let head = str::from_utf8(head).expect("text");
    let kind = format!("Content-Type: {}\r\n", protobuf::CONTENT_TYPE);
    assert!(head.contains(&kind), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
    assert_eq!(body, protobuf::write(&[Family::one(&UP, true)]));
}

#[test]
fn only_metrics_are_served() {
    let plain = |body| {
        let encoding = Encoding::Text(Form::Plain);
        Ok(Some(Asked { encoding, body }))
    };
    for (request, want) in [
        ("GET /metrics HTTP/1.1\r\n\r\n", plain(true)),
        ("GET /metrics?a=b HTTP/1.0\r\n\r\n", plain(true)),
        ("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", plain(false)),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\n", Ok(None)),
        ("GET / HTTP/1.1\r\n\r\n", Err(Refusal::NotFound)),
        ("GET /metrics/ HTTP/1.1\r\n\r\n", Err(Refusal::NotFound)),
        ("GET //metrics HTTP/1.1\r\n\r\n", Err(Refusal::NotFound)),
        ("POST /metrics HTTP/1.1\r\n\r\n", Err(Refusal::NotAllowed)),
        ("get /metrics HTTP/1.1\r\n\r\n", Err(Refusal::NotAllowed)),
        ("GET /metrics\r\n\r\n", Err(Refusal::Malformed)),
        ("\x16\x03\x01\x02", Err(Refusal::Malformed)),
    ] {
        assert_eq!(parse(request), want, "{request:?}");
    }
}

#[test]
fn an_answer_has_its_length_and_ends_the_connection() {
    let text = answer(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
    assert!(head.ends_with("Connection: close"), "{head}");
    assert!(body.ends_with("omni_up 1\n"), "{body}");
    let head = answer(b"HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"));
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read_to_its_end() {
    let long = [
        b"GET /metrics HTTP/1.1\r\nX: ".as_slice(),
        &[b'a'; REQUEST_MAX],
    ]
    .concat();
    assert!(answer(&long).starts_with("HTTP/1.1 431 "));
    let many = "X: a\r\n".repeat(HEADERS_MAX + 1);
    let many = format!("GET /metrics HTTP/1.1\r\n{many}\r\n");
    assert!(answer(many.as_bytes()).starts_with("HTTP/1.1 431 "));
}

#[test]
fn a_request_in_pieces_is_put_together_and_half_a_one_is_none() {
    run(|scrapes| async move {
        let (mut near, far) = duplex(64);
        let asking = async {
            for piece in b"GET /metrics HTTP/1.1\r\n\r\n".chunks(3) {
                near.write_all(piece).await.expect("it is read");
                tokio::task::yield_now().await;
            }
            let mut text = String::new();
            near.read_to_string(&mut text).await.expect("an answer");
            text
        };
        let (text, served) = tokio::join!(asking, respond(far, &scrapes));
        assert!(served.is_ok() && text.contains("omni_up 1"), "{text}");

        let (mut near, far) = duplex(1024);
        near.write_all(b"GET /metr").await.expect("it is read");
        near.shutdown().await.expect("it ends");
        respond(far, &scrapes).await.expect("it is answered");
        let mut text = String::new();
        near.read_to_string(&mut text).await.expect("an answer");
        assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    });
}

#[test]
fn with_nobody_who_knows_there_is_no_answer_now() {
    let text = run(|_| async {
        let (scrapes, _) = mpsc::channel::<Scrape>(1);
        let (near, far) = duplex(1024);
        let asked = told(near, b"GET /metrics HTTP/1.1\r\n\r\n");
        tokio::join!(asked, respond(far, &scrapes)).0
    });
    assert!(text.starts_with(b"HTTP/1.1 503 "), "{text:?}");
}

#[test]
fn a_socket_in_the_file_system_is_the_owners_and_goes_with_the_listener() {
    use std::os::unix::fs::PermissionsExt as _;
    run(|scrapes| async move {
        let folder = std::env::temp_dir().join(format!("omni-scrape-{}", std::process::id()));
        let path = folder.join("metrics.sock");
        let task = serve(Listener::unix(&path).expect("it listens"), scrapes);
        let mode = std::fs::metadata(&path).expect("a file").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert!(Listener::unix(&path).is_err(), "somebody answers there");
        let mut stream = tokio::net::UnixStream::connect(&path).await.expect("it");
        let request = b"GET /metrics HTTP/1.1\r\n\r\n";
        stream.write_all(request).await.expect("it is sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        assert!(text.contains("omni_up 1"), "{text}");
        task.abort();
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
        assert!(!path.exists());
        std::fs::remove_dir(&folder).expect("nothing else is there");
    });
}
