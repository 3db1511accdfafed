//! Nanoseconds a verdict, as the kernel measures them on a frame given to it.
//!
//! Repeated runs leave out what surrounds them, but fit only verdicts that leave the frame alone:
//! a steered frame has metadata before it, and is not steered a second time. So what a look-up
//! costs is seen where there is no socket and the frame passes instead, and what steering costs
//! in single runs, which include the kernel's two looks at the clock and cold caches.

use omni_engine::io::kernel::BoundQueue;
use omni_wire::MacAddr;
use omni_wire::header::{DataHeader, DataKind};
use omni_wire::limits::{AAD_LEN, DEFAULT_PORT, HEADER_LEN};
use omni_wire::outer::{Path, Template};
use omni_xdp_redirect::{Action, Kind, Redirect};

use super::{Outcome, SESSIONS, in_turn, live_session, show, unknown_session};
use crate::rounds::summary;

/// Runs that the kernel does in one go.
const REPEATS: u32 = 100_000;
/// Single runs, of which a round takes the median.
const SINGLES: usize = 501;

/// The address that frames go to.
const HERE: [u8; 4] = [198, 18, 0, 1];

/// A state of the program, a frame, and what it must decide.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    check: bool,
    socket: bool,
    action: Action,
    /// By repeated runs, or by single ones.
    repeated: bool,
}

/// Runs all cases in turn and prints a table.
pub(super) fn measure(rounds: u32, socket: BoundQueue) -> Outcome<()> {
    let mut program = Redirect::load(Kind::Underlay)?;
    program.set_port(DEFAULT_PORT)?;
    program.add_local(HERE.into())?;
    for nth in 0..SESSIONS {
        program.add_session(live_session(nth), 1, None)?;
    }
    let mut cases = cases()?;
    let costs = in_turn(rounds, &mut cases, |case| case.run(&mut program, &socket))?;
    println!("{rounds} rounds; ns a verdict: median [quartiles]");
    for (case, costs) in cases.iter().zip(costs) {
        let how = if case.repeated { "repeated" } else { "single" };
        println!("{how:<9} {:<36} {:>16}", case.name, show(costs, 0));
    }
    Ok(())
}

fn cases() -> Outcome<Vec<Case>> {
    let known = frame(live_session(SESSIONS / 2), DEFAULT_PORT)?;
    let unknown = frame(unknown_session(SESSIONS / 2), DEFAULT_PORT)?;
    let case = |name, frame: &[u8], check, socket, action, repeated| Case {
        name,
        frame: frame.to_vec(),
        check,
        socket,
        action,
        repeated,
    };
    let foreign = frame(live_session(0), DEFAULT_PORT + 1)?;
    let (pass, drop, steer) = (Action::Pass, Action::Drop, Action::Redirect);
    Ok(vec![
        case("another port: passed", &foreign, true, true, pass, true),
        case(
            "ours, no check, no socket: passed",
            &known,
            false,
            false,
            pass,
            true,
        ),
        case(
            "ours, known, no socket: passed",
            &known,
            true,
            false,
            pass,
            true,
        ),
        case("unknown: dropped", &unknown, true, true, drop, true),
        case("another port: passed", &foreign, true, true, pass, false),
        case("no check: steered", &known, false, true, steer, false),
        case("known: steered", &known, true, true, steer, false),
        case("unknown: dropped", &unknown, true, true, drop, false),
    ])
}

impl Case {
    fn run(&self, program: &mut Redirect, socket: &BoundQueue) -> Outcome<f64> {
        program.set_session_check(self.check)?;
        if self.socket {
            program.set_socket(0, socket)?;
        } else {
            program.clear_socket(0)?;
        }
        if self.repeated {
            return self.time(program, REPEATS);
        }
        let times: Outcome<_> = (0..SINGLES).map(|_| self.time(program, 1)).collect();
        Ok(summary(times?).median)
    }

    fn time(&self, program: &Redirect, times: u32) -> Outcome<f64> {
        let timed = program.time_runs(&self.frame, times)?;
        if timed.action != self.action {
            return Err(format!("{}: decided {:?}", self.name, timed.action).into());
        }
        Ok(timed.mean.as_nanos() as f64)
    }
}

/// A data message in its outer headers.
fn frame(session_id: u32, port: u16) -> Outcome<Vec<u8>> {
    let path = Path {
        source_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        next_hop_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        vlan: None,
        source: [198, 18, 0, 2].into(),
        source_port: DEFAULT_PORT,
        endpoint: (HERE, port).into(),
    };
    let template = Template::new(&path).ok_or("a path between two families")?;
    let mut frame = vec![0; template.len() + HEADER_LEN + 64];
    if let Some(aad) = frame[template.len()..].first_chunk_mut::<AAD_LEN>() {
        let (kind, lane, nonce) = (DataKind::Data, 0, 0);
        let header = DataHeader {
            session_id,
            kind,
            lane,
            nonce,
        };
        header.emit(aad);
    }
    if template.emit(&mut frame, DEFAULT_PORT, 0) {
        Ok(frame)
    } else {
        Err("no room for the outer headers".into())
    }
}
