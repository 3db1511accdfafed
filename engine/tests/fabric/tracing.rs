//! The operator's eyes on the ways of frames: `omni ping`, `omni trace` and `omni capture`, of
//! real traffic.

use std::fs::{self, File};
use std::io::BufReader;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use omni_engine::capture::pcapng::Block;
use omni_engine::trace::{Trace, Verdict, Weight};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::lab::{Lab, Plan, Side, public_key};
use crate::support::node::Node;
use crate::support::packet::PacketSocket;
use crate::support::tools::ping_all;
use crate::support::{seconds, wait_until};

const OMNI: &str = env!("CARGO_BIN_EXE_omni");

fn inner_b() -> IpAddr {
    Side::B.inner_v4().into()
}

fn command(lab: &Lab, arguments: &str) -> Command {
    let mut command = Command::new(OMNI);
    command.arg("--socket").arg(lab.spec(Side::A).socket());
    command.args(arguments.split_whitespace());
    command
}

fn omni(lab: &Lab, arguments: &str) -> Output {
    command(lab, arguments).output().expect("the tool")
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn trace(lab: &Lab, arguments: &str) -> Trace {
    let output = omni(lab, &format!("trace --json {arguments}"));
    serde_json::from_value(json(&output)).expect("a trace")
}

#[test]
fn a_peer_is_asked_through_the_session_and_its_silence_is_told() {
    let lab = Lab::new(Plan::default());
    let (a, b) = lab.start();
    a.established();
    let output = omni(&lab, "ping --json -c 5 -i 0.1 b");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = json(&output);
    let key = public_key(Side::B).to_string();
    assert_eq!((&told["sent"], &told["answered"]), (&5.into(), &5.into()));
    assert_eq!(told["public_key"], key.as_str());
    let endpoint = format!("{}:51820", lab.outer(Side::B).0);
    assert_eq!(told["endpoint"], endpoint.as_str());
    assert_eq!(told["source"], lab.outer(Side::A).0.to_string().as_str());
    assert_eq!(
        (&told["path_mtu"], &told["frame_limit"]),
        (&1426.into(), &1440.into())
    );
    let times = ["min", "avg", "p50", "p99", "max"].map(|name| told["rtt_ns"][name].as_u64());
    let [Some(min), Some(avg), Some(p50), Some(p99), Some(max)] = times else {
        panic!("{told}");
    };
    assert!(0 < min && min <= p50 && p50 <= p99 && p99 <= max && min <= avg && avg <= max);
    // What of the longest frame arrives, by the beginning of its key.
    let output = omni(&lab, &format!("ping --json -c 1 -s 1440 {}", &key[..10]));
    assert_eq!(json(&output)["echoes"][0]["arrived"], 1440, "{output:?}");
    let output = omni(&lab, "ping -c 1 -s 1441 b");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = omni(&lab, "ping -c 1 nobody");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    b.kill();
    let output = omni(&lab, "ping -c 1 -W 1 b");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text.contains("1 asked, 0 answered, 100.0 % lost"), "{text}");
    // Nobody's answers are kept, and the engine goes on.
    assert_eq!(a.show().drops.get("probe_refused"), None);
}

#[test]
fn what_a_frame_would_meet_is_told_in_order() {
    let lab = Lab::new(Plan::default());
    let (a, _b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    let target = inner_b().to_string();
    wait_until("the binding is known", seconds(2), || {
        a.show().neighbors.iter().any(|known| known.ip == target)
    });
    let way = trace(&lab, &target);
    let names: Vec<&str> = way.steps.iter().map(|step| step.step.as_str()).collect();
    let want = [
        "port", "binding", "address", "session", "way", "lanes", "mtu",
    ];
    assert_eq!(
        (way.verdict, &names[..]),
        (Verdict::Sent, &want[..]),
        "{way:?}"
    );
    assert!(
        way.steps.iter().all(|step| step.weight == Weight::Fine),
        "{way:?}"
    );
    assert_eq!(way.mac, Some(lab.b.mac("omni0")));
    let [peer] = &way.peers[..] else {
        panic!("{way:?}");
    };
    assert_eq!((peer.name.as_str(), peer.frame_limit), ("b", Some(1440)));
    assert_eq!(way.peers, trace(&lab, "b").peers);
    // By its MAC address the same, but for how that is known.
    let by_mac = trace(&lab, &lab.b.mac("omni0"));
    assert_eq!(
        (by_mac.verdict, by_mac.steps.len()),
        (Verdict::Sent, want.len() - 1)
    );
    let nobody = trace(&lab, "10.7.0.99");
    assert_eq!((nobody.verdict, nobody.peers.len()), (Verdict::Flooded, 1));
    let own = trace(&lab, &Side::A.inner_v4().to_string());
    assert_eq!(own.drop.as_deref(), Some("reflected"), "{own:?}");
    for wrong in ["trace nobody", "trace b --from omni7"] {
        let output = omni(&lab, wrong);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
    let text = omni(&lab, &format!("trace {target}")).stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.ends_with("= sent: b\n"), "{text}");
}

/// A capture that has begun.
fn capture(lab: &Lab, node: &Node, arguments: &str) -> Child {
    let before = begun(node);
    let mut command = command(lab, &format!("capture {arguments}"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("the tool");
    wait_until("the capture begins", seconds(3), || begun(node) > before);
    child
}

fn begun(node: &Node) -> usize {
    node.log().matches("a capture begins").count()
}

fn blocks(file: &Path) -> Vec<Block> {
    let mut file = BufReader::new(File::open(file).expect("a capture"));
    std::iter::from_fn(|| Block::read(&mut file).expect("blocks")).collect()
}

/// A frame that no switch passes on: to bridges next to each other, with words of its own.
fn reserved() -> Vec<u8> {
    let mut frame = vec![
        0x01, 0x80, 0xc2, 0, 0, 0x0e, 2, 0x77, 0, 0, 0, 1, 0x88, 0xb5,
    ];
    frame.extend([b'r'; 46]);
    frame
}

#[test]
fn frames_are_captured_where_they_pass_and_with_the_reason_where_they_are_dropped() {
    let lab = Lab::new(Plan::default());
    let (a, _b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    let file = lab.folder().join("inner.pcapng");
    let captured = capture(&lab, &a, &format!("-w {}", file.display()));
    let output = omni(&lab, "capture -c 1 -w /dev/null");
    let refusal = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(refusal.contains("one at a time"), "{refusal}");
    ping_all(&lab.a, inner_b(), "");
    let host = PacketSocket::open(&lab.a, "omni0");
    let dropped = || {
        let drops = a.show().drops;
        drops.get("reserved_destination").copied().unwrap_or(0)
    };
    let before = dropped();
    host.send(&reserved()).expect("a frame");
    wait_until("the frame is dropped", seconds(2), || dropped() > before);
    kill_process(Pid::from_child(&captured), Signal::INT).expect("the tool runs");
    let output = captured.wait_with_output().expect("the tool");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(" frames captured, 0 lost"), "{said}");
    let mode = fs::metadata(&file).expect("a capture").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let blocks = blocks(&file);
    let is_request = |frame: &[u8]| frame.get(12..14) == Some(&[8, 0]) && frame.get(34) == Some(&8);
    let count = |comment: &str, is_it: &dyn Fn(&[u8]) -> bool| {
        let like = |block: &&Block| block.comment().as_deref() == Some(comment);
        let frames = blocks.iter().filter(like).filter_map(Block::frame);
        frames.filter(|frame| is_it(frame)).count()
    };
    // Five echo requests: from the host, and into the session; and the answers the other way.
    assert_eq!(count("from hosts", &is_request), 5);
    assert_eq!(count("to b", &is_request), 5);
    let is_reply = |frame: &[u8]| frame.get(12..14) == Some(&[8, 0]) && frame.get(34) == Some(&0);
    assert_eq!(
        (count("from b", &is_reply), count("to hosts", &is_reply)),
        (5, 5)
    );
    let dropped = blocks.iter().find(|block| {
        let comment = block.comment().unwrap_or_default();
        comment.starts_with("from hosts; dropped: reserved_destination")
    });
    assert_eq!(dropped.and_then(Block::frame), Some(&reserved()[..]));
    assert_eq!(blocks.iter().filter_map(Block::lost).sum::<u64>(), 0);
    assert_read_by_tshark(&file, &blocks);

    // Sealed, and cut off; and the pipe is all there is of the reader.
    let sealed = capture(&lab, &a, "--outer -s 42 -c 6 -w -");
    ping_all(&lab.a, inner_b(), "");
    let output = sealed.wait_with_output().expect("the tool");
    let mut stream = &output.stdout[..];
    let sealed = std::iter::from_fn(|| Block::read(&mut stream).expect("blocks"));
    let sealed: Vec<Block> = sealed.filter(Block::is_packet).collect();
    assert_eq!(sealed.len(), 6, "{output:?}");
    for block in &sealed {
        let frame = block.frame().unwrap_or_default();
        // UDP from port 51820 to the same.
        assert_eq!(
            (frame.len(), &frame[34..38]),
            (42, &[0xca, 0x6c, 0xca, 0x6c][..])
        );
        let comment = block.comment().unwrap_or_default();
        assert!(comment == "from b" || comment == "to b", "{comment}");
    }
    // One that is killed leaves the engine free for the next.
    let mut killed = capture(&lab, &a, "--drops -w /dev/null");
    killed.kill().expect("it runs");
    killed.wait().expect("it was killed");
    wait_until("the engine notices", seconds(2), || {
        a.log().matches("the capture has ended").count() == begun(&a)
    });
    let output = omni(&lab, "capture -d 1 --drops -w /dev/null");
    assert!(output.status.success(), "{output:?}");
}

/// Where it is installed: it reads every frame, its comment and where it was seen.
fn assert_read_by_tshark(file: &Path, blocks: &[Block]) {
    let fields = [
        "frame.comment",
        "frame.interface_name",
        "frame.packet_flags_direction",
    ];
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-T", "fields"]);
    tshark
        .args(fields.iter().flat_map(|field| ["-e", field]))
        .arg("-r")
        .arg(file);
    let Ok(output) = tshark.output() else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let seen: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let want: Vec<String> = blocks.iter().filter_map(Block::comment).collect();
    let comments: Vec<&str> = seen.iter().map(|fields| fields[0]).collect();
    assert_eq!(comments, want, "{output:?}");
    for fields in seen {
        let at_peer = ["from b", "to b"].contains(&fields[0]);
        let inbound = fields[0].starts_with("from");
        assert_eq!(
            fields[1],
            if at_peer { "peer:b" } else { "omni0" },
            "{fields:?}"
        );
        let direction = u32::from_str_radix(fields[2].trim_start_matches("0x"), 16);
        assert_eq!(direction, Ok(if inbound { 1 } else { 2 }), "{fields:?}");
    }
}
