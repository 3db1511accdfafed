//! `omni trace`: which way a frame would take, a line for each thing that decides.

use std::path::Path;

use clap::Args;
use omni_engine::runtime::request::Command;
use omni_engine::trace::{Trace, TraceRequest, Verdict, Weight};

use crate::Failure;
use crate::client::{self, ClientError, Program};
use crate::table::{Pen, Tone};

pub(crate) const EXAMPLES: &str = "\
Nothing is sent. The engine answers from the tables that its workers follow: what one of them has
just heard may be seen a moment later. A line that begins with ! is something that may lose frames,
one with x drops the frame; docs/drops.md has the reasons. The last line is what becomes of it.

Examples:
  omni trace 10.7.0.2
  omni trace 02:00:00:00:00:17 --vlan 20 --from omni0
  omni trace beta                          the session, way and MTU to a peer
  omni trace --json 10.7.0.2 | jq -r .verdict";

/// A frame that might be sent.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A MAC or IP address, a peer's name, or the beginning of its public key
    #[arg(value_name = "PEER|MAC|IP")]
    target: String,

    /// Outermost VLAN id [default: the port's, or where the address is known, or 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=4094))]
    vlan: Option<u16>,

    /// The access port that it would come from [default: the only one]
    #[arg(long, value_name = "PORT")]
    from: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Asks, and writes down what is answered.
pub(crate) fn run(arguments: &Arguments, socket: &Path, pen: Pen) -> Result<String, Failure> {
    let request = Command::Trace(TraceRequest {
        target: arguments.target.clone(),
        vlan: arguments.vlan,
        from: arguments.from.clone(),
    });
    let mut request = serde_json::to_vec(&request)?;
    request.push(b'\n');
    let trace: Result<Trace, ClientError> = client::ask(Program::Engine, socket, &request);
    let trace = trace?;
    if arguments.json {
        return Ok(serde_json::to_string_pretty(&trace)? + "\n");
    }
    Ok(told(&trace, pen))
}

fn told(trace: &Trace, pen: Pen) -> String {
    let widths = trace.steps.iter().map(|step| step.step.len());
    let width = widths.max().unwrap_or(0);
    let mut text = String::new();
    for step in &trace.steps {
        let (mark, tone) = match step.weight {
            Weight::Fine => (' ', Tone::Plain),
            Weight::Warning => ('!', Tone::Warning),
            Weight::Drop => ('x', Tone::Alarm),
        };
        let name = format!("{:width$}", step.step);
        let name = pen.paint(Tone::Dim, &name);
        text += &format!(
            "{} {name}  {}\n",
            pen.paint(tone, &mark.to_string()),
            step.text
        );
    }
    let (verdict, tone) = verdict(trace);
    text + "= " + &pen.paint(tone, &verdict) + "\n"
}

fn verdict(trace: &Trace) -> (String, Tone) {
    let peers = trace.peers.iter().map(|peer| &peer.name);
    let all: Vec<&str> = trace
        .ports
        .iter()
        .chain(peers)
        .map(String::as_str)
        .collect();
    let to = match &all[..] {
        [one] => (*one).to_owned(),
        many => format!("{} receivers", many.len()),
    };
    match trace.verdict {
        Verdict::Delivered => (format!("delivered: {to}"), Tone::Good),
        Verdict::Sent => (format!("sent: {to}"), Tone::Good),
        Verdict::Flooded => (format!("flooded: {to}"), Tone::Good),
        Verdict::Staged => (format!("waits: {to}"), Tone::Warning),
        Verdict::Consumed => ("taken by the engine itself".to_owned(), Tone::Good),
        Verdict::Dropped => {
            let reason = trace.drop.as_deref().unwrap_or("unknown");
            (format!("dropped: {reason}"), Tone::Alarm)
        }
    }
}

#[cfg(test)]
mod tests {
    use omni_engine::trace::Step;

    use super::*;

    fn step(name: &str, weight: Weight, text: &str) -> Step {
        Step {
            step: name.to_owned(),
            text: text.to_owned(),
            weight,
        }
    }

    fn trace(verdict: Verdict, drop: Option<&str>) -> Trace {
        Trace {
            target: "10.7.0.2".to_owned(),
            vlan: 0,
            from: Some("omni0".to_owned()),
            mac: None,
            verdict,
            drop: drop.map(str::to_owned),
            ports: vec!["omni1".to_owned()],
            peers: Vec::new(),
            steps: vec![
                step("port", Weight::Fine, "omni0: untagged"),
                step("binding", Weight::Warning, "nobody"),
                step("flood", Weight::Drop, "to nobody"),
            ],
        }
    }

    #[test]
    fn steps_are_aligned_and_marked_and_the_verdict_comes_last() {
        let pen = Pen { colors: false };
        let want = "  port     omni0: untagged\n! binding  nobody\nx flood    to nobody\n\
                    = dropped: no_destination\n";
        let dropped = trace(Verdict::Dropped, Some("no_destination"));
        assert_eq!(told(&dropped, pen), want);
        let sent = told(&trace(Verdict::Sent, None), pen);
        assert!(sent.ends_with("= sent: omni1\n"), "{sent}");
    }
}
