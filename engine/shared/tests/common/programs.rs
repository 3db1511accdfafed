//! What threads do with mailboxes, each program with what must come of it. A thread that nobody
//! wakes is a deadlock, which the checkers find.

use omni_shared::{ControlMailbox, Queue, WorkerMailbox, mailboxes};

use crate::SharedQueue;
use crate::checker::thread;
use crate::parts::Bell;

/// What the control thread says, and what workers say.
pub(crate) type Control = ControlMailbox<SharedQueue<Order>, Upcalls, Bell, Bell>;
/// A worker's end.
pub(crate) type Worker = WorkerMailbox<SharedQueue<Order>, Upcalls, Bell, Bell>;
type Upcalls = SharedQueue<(usize, usize)>;

/// An order.
#[derive(Debug)]
pub(crate) enum Order {
    /// One of many, by number.
    Number(usize),
    /// Say something.
    Answer(usize),
    /// A session.
    Install,
    /// End.
    Stop,
}

fn ends(workers: usize, room: usize) -> (Control, Vec<Worker>) {
    let wakers = (0..workers).map(|_| Bell::default()).collect();
    mailboxes(wakers, Bell::default(), (room, room))
}

/// Hands over all that was ordered, as the control thread does in its later turns.
fn flush(control: &mut Control) {
    while control.flush() {
        thread::yield_now();
    }
}

/// A worker's loop: a turn takes one order at most, and one in which nothing was done is followed
/// by a sleep. Gives back the numbers that it was ordered.
pub(crate) fn serve(mailbox: &Worker) -> Vec<usize> {
    let mut numbers = Vec::new();
    loop {
        match mailbox.next_order() {
            Some(Order::Number(number)) => numbers.push(number),
            Some(Order::Answer(word)) => tell(mailbox, word),
            Some(Order::Install) => {}
            Some(Order::Stop) => return numbers,
            None => mailbox.sleep(Bell::wait),
        }
    }
}

/// Tells the control thread, in a later turn where there is no room.
fn tell(mailbox: &Worker, word: usize) {
    while mailbox.tell(word).is_err() {
        mailbox.wake_control();
        thread::yield_now();
    }
    mailbox.wake_control();
}

/// Sleeps until so many upcalls were taken, `most` in a turn. Gives them back by worker.
fn hear(control: &Control, count: usize, most: usize, workers: usize) -> Vec<Vec<usize>> {
    let mut heard = vec![Vec::new(); workers];
    while heard.iter().map(Vec::len).sum::<usize>() < count {
        control.told().notified();
        control.take_upcalls(most, |worker, word| heard[worker].push(word));
    }
    heard
}

/// Orders come in order and once, and wake who sleeps, beyond what the queue has room for too.
pub(crate) fn orders_wake_a_worker(orders: usize, room: usize) {
    let (mut control, mut workers) = ends(1, room);
    let worker = workers.pop().expect("one");
    let served = thread::spawn(move || serve(&worker));
    for number in 0..orders {
        control.order(0, Order::Number(number));
        control.flush();
    }
    control.order(0, Order::Stop);
    flush(&mut control);
    let numbers = served.join().expect("no panic");
    assert!(numbers.into_iter().eq(0..orders));
}

/// All that is told is heard, in each worker's order, and wakes who sleeps.
pub(crate) fn upcalls_wake_the_control_thread(
    workers: usize,
    each: usize,
    room: usize,
    most: usize,
) {
    let (control, ends) = ends(workers, room);
    let told: Vec<_> = ends
        .into_iter()
        .map(|end| thread::spawn(move || (0..each).for_each(|word| tell(&end, word))))
        .collect();
    let heard = hear(&control, workers * each, most, workers);
    for thread in told {
        thread.join().expect("no panic");
    }
    for words in heard {
        assert!(words.into_iter().eq(0..each));
    }
}

/// Questions and their answers, while both sides sleep in between.
pub(crate) fn questions_are_answered(workers: usize, rounds: usize) {
    let (mut control, ends) = ends(workers, 2);
    let served: Vec<_> = ends
        .into_iter()
        .map(|end| thread::spawn(move || serve(&end)))
        .collect();
    for round in 0..rounds {
        control.broadcast(None, || Order::Answer(round));
        flush(&mut control);
        let heard = hear(&control, workers, 2, workers);
        assert_eq!(heard, vec![vec![round]; workers]);
    }
    control.broadcast(None, || Order::Stop);
    flush(&mut control);
    for thread in served {
        thread.join().expect("no panic");
    }
}

/// A session is with a worker before the peer can speak in it: the control thread answers a
/// handshake after the orders are handed over, and a turn takes frames before it takes orders.
pub(crate) fn a_session_is_there_before_its_first_message() {
    let (mut control, mut workers) = ends(1, 2);
    let worker = workers.pop().expect("one");
    let network = crate::checker::Arc::new(SharedQueue::<()>::with_room(2));
    let arriving = crate::checker::Arc::clone(&network);
    let served = thread::spawn(move || {
        let mut installed = false;
        loop {
            let message = arriving.pop();
            while let Some(order) = worker.next_order() {
                installed |= matches!(order, Order::Install);
            }
            if message.is_some() {
                return installed;
            }
            thread::yield_now();
        }
    });
    control.order(0, Order::Install);
    control.flush();
    // The answer, and what the peer sends when it has it.
    network.push(()).expect("room");
    assert!(served.join().expect("no panic"), "nobody knew the session");
}
