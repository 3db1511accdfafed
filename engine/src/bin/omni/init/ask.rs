//! Questions to whoever runs `omni init`, and their answers.

use std::io::{BufRead, Write};

use super::InitError;
use super::plan::{Nucleus, Peer, Plan};

/// The longest answer that is read, in octets.
const ANSWER_MAX: u64 = 4096;

/// Where questions go, and answers come from.
pub(super) struct Asker<R, W> {
    pub(super) answers: R,
    pub(super) questions: W,
}

impl<R: BufRead, W: Write> Asker<R, W> {
    /// Asks once. Blanks around the answer do not matter; an empty one is the default.
    fn ask(&mut self, question: &str, default: &str) -> Result<String, InitError> {
        let shown = match default {
            "" => String::new(),
            default => format!(" [{default}]"),
        };
        self.say(&format!("{question}{shown}: "));
        let mut line = String::new();
        let mut limited = std::io::Read::take(&mut self.answers, ANSWER_MAX);
        let octets = limited.read_line(&mut line).map_err(InitError::Input)?;
        if octets == 0 {
            self.say("\n");
            return Err(InitError::NoAnswer(question.to_owned()));
        }
        Ok(match line.trim() {
            "" => default.to_owned(),
            answer => answer.to_owned(),
        })
    }

    /// Asks until the plan that comes of the answer is a good one.
    pub(super) fn settle(
        &mut self,
        plan: &mut Plan,
        question: &str,
        default: &str,
        set: impl Fn(&mut Plan, &str),
    ) -> Result<(), InitError> {
        loop {
            let answer = self.ask(question, default)?;
            let mut next = plan.clone();
            set(&mut next, &answer);
            match next.check() {
                Ok(()) => {
                    *plan = next;
                    return Ok(());
                }
                Err(why) => self.say(&format!("  {why}\n")),
            }
        }
    }

    /// Asks for peers until there are no more.
    pub(super) fn peers(&mut self, plan: &mut Plan) -> Result<(), InitError> {
        self.say(
            "Other nodes, by their public keys. A peer that you do not know yet can be appended \
             later.\n",
        );
        loop {
            let key = self.ask("Public key of a peer (empty: no more)", "")?;
            if key.is_empty() {
                return Ok(());
            }
            let name = self.ask("  Its name", &format!("peer{}", plan.peers.len() + 1))?;
            let question = "  Its endpoint, ADDRESS:PORT (empty: it speaks first)";
            let endpoint = self.ask(question, "")?;
            let mut next = plan.clone();
            next.peers.push(Peer {
                name,
                public_key: key,
                endpoint: Some(endpoint).filter(|it| !it.is_empty()),
            });
            self.take(plan, next);
        }
    }

    /// Asks for one Nucleus, and who certifies its members.
    pub(super) fn nucleus(&mut self, plan: &mut Plan) -> Result<(), InitError> {
        loop {
            let question = "Nucleus where nodes meet, ADDRESS:PORT (empty: none)";
            let endpoint = self.ask(question, "")?;
            if endpoint.is_empty() {
                return Ok(());
            }
            let public_key = self.ask("  Its public key", "")?;
            let authority = self.ask("  Public key of the authority (empty: none)", "")?;
            let mut next = plan.clone();
            next.nuclei.push(Nucleus {
                endpoint,
                public_key,
            });
            next.authority = Some(authority).filter(|it| !it.is_empty());
            if self.take(plan, next) {
                return Ok(());
            }
        }
    }

    /// Takes the next plan if it is a good one, and says why not.
    fn take(&mut self, plan: &mut Plan, next: Plan) -> bool {
        let checked = next.check();
        match &checked {
            Ok(()) => *plan = next,
            Err(why) => self.say(&format!("  not taken: {why}\n")),
        }
        checked.is_ok()
    }

    /// Shows something. Who cannot read questions may still answer them.
    pub(super) fn say(&mut self, text: &str) {
        let _ = self.questions.write_all(text.as_bytes());
        let _ = self.questions.flush();
    }
}
