//! A small model checker: every interleaving of threads on words without order between them.
//!
//! A thread is a function of what its accesses gave, so its state is the list of those. To find
//! its next access the function is called again, answered from the list, and left where that
//! ends. A word is the list of its values in their order; a load gives any that the thread has not
//! seen a later one of, a read-modify-write takes the last. States that were met are not explored
//! again, which is why three threads are no problem.
//!
//! What relaxed atomics may do beyond it: a load may see a write that comes after it in every
//! order, if nothing makes that write depend on the load. In a window each write of a message
//! depends on the loads of that message. An exchange that fails for no reason only repeats itself.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::panic::{self, AssertUnwindSafe};

use omni_replay::Word;

/// An access to a word, by the number of the word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Access {
    Load(usize),
    Exchange(usize, u64, u64),
    Raise(usize, u64),
}

/// What an access gave: for an exchange, whether it was done, else the value seen.
type Answer = Result<u64, u64>;

/// How accesses of the running function are answered.
enum Mode {
    /// From the list; at its end the function is left with its next access.
    Replay { answers: Vec<Answer>, at: usize },
    /// At once, on these values.
    Direct(Vec<u64>),
}

thread_local! {
    static MODE: RefCell<Mode> = const { RefCell::new(Mode::Direct(Vec::new())) };
    /// Words made so far by the running function: they are numbered in this order.
    static MADE: Cell<usize> = const { Cell::new(0) };
}

/// Leaves a function at an access.
struct Left(Access);

/// A word of this checker.
#[derive(Debug)]
pub(crate) struct Traced(usize);

fn access(access: Access) -> Answer {
    let answered = MODE.with_borrow_mut(|mode| match mode {
        Mode::Replay { answers, at } => {
            let answer = answers.get(*at).copied();
            *at += 1;
            answer
        }
        Mode::Direct(values) => Some(apply(access, values)),
    });
    answered.unwrap_or_else(|| panic::resume_unwind(Box::new(Left(access))))
}

fn apply(access: Access, values: &mut [u64]) -> Answer {
    match access {
        Access::Load(word) => Ok(values[word]),
        Access::Exchange(word, current, next) => {
            let seen = values[word];
            if seen == current {
                values[word] = next;
                Ok(seen)
            } else {
                Err(seen)
            }
        }
        Access::Raise(word, least) => {
            let before = values[word];
            values[word] = before.max(least);
            Ok(before)
        }
    }
}

impl Word for Traced {
    /// Words begin with 0 here, and are the same ones for every thread.
    fn new(value: u64) -> Self {
        assert_eq!(value, 0);
        Self(MADE.replace(MADE.get() + 1))
    }

    fn load(&self) -> u64 {
        let (Ok(value) | Err(value)) = access(Access::Load(self.0));
        value
    }

    fn exchange(&self, current: u64, next: u64) -> Result<(), u64> {
        access(Access::Exchange(self.0, current, next)).map(|_| ())
    }

    fn raise(&self, least: u64) -> u64 {
        let (Ok(value) | Err(value)) = access(Access::Raise(self.0, least));
        value
    }
}

/// One thread in a state: what its accesses gave, and the earliest value of each word that it may
/// still see, as a position in the word's list.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Thread {
    answers: Vec<Answer>,
    seen: Vec<usize>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    words: Vec<Vec<u64>>,
    threads: Vec<Thread>,
}

/// Where a thread is: before an access, or at its end with what it returns.
#[derive(Clone)]
enum Next<R> {
    Access(Access),
    End(R),
}

/// Every state of `threads` on `words` words that begin with `values`. At each end, `judge` gets
/// what the threads returned, in [`Mode::Direct`] on the words as they are then. Says how many
/// states there were.
pub(crate) fn explore<R: Clone>(
    values: &[u64],
    threads: &[&dyn Fn() -> R],
    mut judge: impl FnMut(&[R]),
) -> usize {
    let thread = Thread {
        answers: Vec::new(),
        seen: vec![0; values.len()],
    };
    let first = State {
        words: values.iter().map(|&value| vec![value]).collect(),
        threads: vec![thread; threads.len()],
    };
    let mut known = HashMap::new();
    let mut met = HashSet::from([first.clone()]);
    let mut open = vec![first];
    while let Some(state) = open.pop() {
        let mut returned = Vec::new();
        for (at, program) in threads.iter().enumerate() {
            let key = (at, state.threads[at].answers.clone());
            let next = known
                .entry(key)
                .or_insert_with_key(|(_, answers)| proceed(program, answers));
            match next {
                Next::End(result) => returned.push(result.clone()),
                Next::Access(access) => {
                    for mut after in step(&state, at, *access) {
                        after.forget();
                        if met.insert(after.clone()) {
                            open.push(after);
                        }
                    }
                }
            }
        }
        if returned.len() == threads.len() {
            let last = |word: &Vec<u64>| *word.last().expect("a word has a value");
            directly(state.words.iter().map(last).collect(), || judge(&returned));
        }
    }
    met.len()
}

/// Runs `body` with accesses answered at once on `values`. Gives the values after it.
pub(crate) fn directly(values: Vec<u64>, body: impl FnOnce()) -> Vec<u64> {
    MADE.set(0);
    MODE.set(Mode::Direct(values));
    body();
    match MODE.replace(Mode::Direct(Vec::new())) {
        Mode::Direct(values) => values,
        Mode::Replay { .. } => unreachable!("bodies do not explore"),
    }
}

/// Calls a thread's function and says where it is after `answers`.
fn proceed<R>(program: &dyn Fn() -> R, answers: &[Answer]) -> Next<R> {
    MADE.set(0);
    let answers = answers.to_vec();
    MODE.set(Mode::Replay { answers, at: 0 });
    match panic::catch_unwind(AssertUnwindSafe(program)) {
        Ok(result) => Next::End(result),
        Err(left) => match left.downcast::<Left>() {
            Ok(left) => Next::Access(left.0),
            Err(failure) => panic::resume_unwind(failure),
        },
    }
}

/// Every state after a thread's access.
fn step(state: &State, at: usize, access: Access) -> Vec<State> {
    let (Access::Load(word) | Access::Exchange(word, ..) | Access::Raise(word, _)) = access;
    let (values, oldest) = (&state.words[word], state.threads[at].seen[word]);
    let last = values.len() - 1;
    let mut after = Vec::new();
    let mut add = |seen: usize, answer: Answer, written: Option<u64>| {
        let mut state = state.clone();
        state.words[word].extend(written);
        state.threads[at].answers.push(answer);
        state.threads[at].seen[word] = seen + usize::from(written.is_some());
        after.push(state);
    };
    match access {
        Access::Load(_) => (oldest..=last).for_each(|seen| add(seen, Ok(values[seen]), None)),
        Access::Exchange(_, current, next) => {
            if values[last] == current {
                add(last, Ok(current), Some(next));
            }
            // One that fails is a load.
            for seen in (oldest..=last).filter(|&seen| values[seen] != current) {
                add(seen, Err(values[seen]), None);
            }
        }
        Access::Raise(_, least) => {
            let higher = (values[last] < least).then_some(least);
            add(last, Ok(values[last]), higher);
        }
    }
    after
}

impl State {
    /// Takes out the values that no thread can see any more, so that states become alike.
    fn forget(&mut self) {
        for (word, values) in self.words.iter_mut().enumerate() {
            let oldest = self.threads.iter().map(|thread| thread.seen[word]).min();
            let oldest = oldest.unwrap_or(0);
            values.drain(..oldest);
            for thread in &mut self.threads {
                thread.seen[word] -= oldest;
            }
        }
    }
}
