//! A worker's chunks, operation by operation: frames are made, written, sent, received, freed.
//! Every chunk is somewhere at all times, and no frame's octets are another's.

use arbitrary::Unstructured;
use omni_engine::io::Frame;
use omni_engine::io::kernel::JOINED_MAX;
use omni_engine::io::kernel::driven::Stand;

/// Chunks that there are. Few, so that they run out.
const CHUNKS: usize = 12;
/// Operations of one run.
const STEPS_MAX: usize = 200;

/// Runs the target: what the memory is, then a sequence of operations.
pub fn run(octets: &[u8]) {
    let mut choices = Unstructured::new(octets);
    let ordinary = choices.arbitrary().unwrap_or(false);
    let mut world = World {
        stand: Stand::new(CHUNKS, ordinary),
        held: Vec::new(),
        under_way: Vec::new(),
        written: 0,
    };
    for _ in 0..STEPS_MAX {
        if choices.is_empty() || world.step(&mut choices).is_err() {
            break;
        }
        world.check();
    }
    world.put_all_back();
}

struct World {
    stand: Stand,
    /// What each frame that is held has to hold, in the stand's order.
    held: Vec<Vec<u8>>,
    /// What each frame under way has to hold, the oldest first.
    under_way: Vec<Vec<u8>>,
    /// Frames that were written so far: what tells them apart.
    written: u8,
}

impl World {
    fn step(&mut self, choices: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        match choices.int_in_range(0..=6)? {
            0 | 1 => {
                let len = choices.int_in_range(0..=JOINED_MAX + 100)?;
                let free = self.stand.census().free;
                let made = self.stand.alloc(len);
                let needed = self.stand.chunks_for(len);
                let fits = len <= JOINED_MAX && needed <= free;
                assert_eq!(made, fits, "{len} octets with {free} chunks free");
                if made {
                    self.held.push(Vec::new());
                    self.write(self.held.len() - 1);
                }
            }
            2 => {
                if let Some(at) = self.pick(choices)? {
                    let frame = &mut self.stand.frames()[at];
                    let len = choices.int_in_range(0..=frame.capacity())?;
                    frame.set_len(len);
                    self.write(at);
                }
            }
            3 => {
                if let Some(at) = self.pick(choices)? {
                    self.stand.free(at);
                    self.held.swap_remove(at);
                }
            }
            4 => {
                if let Some(at) = self.pick(choices)? {
                    let octets = self.held.swap_remove(at);
                    // An ordinary buffer is copied when it is sent: nothing of it is under way.
                    // An empty frame has nothing that could be sent.
                    if self.stand.send(at) {
                        self.under_way.push(octets);
                    }
                }
            }
            5 => {
                if !self.under_way.is_empty() {
                    let octets = self.under_way.remove(0);
                    if self.stand.arrive() {
                        self.held.push(octets);
                    }
                }
            }
            _ => {
                if !self.under_way.is_empty() {
                    self.under_way.remove(0);
                    self.stand.complete();
                }
            }
        }
        Ok(())
    }

    fn pick(&self, choices: &mut Unstructured<'_>) -> arbitrary::Result<Option<usize>> {
        match self.held.len() {
            0 => Ok(None),
            count => choices.choose_index(count).map(Some),
        }
    }

    /// Fills a frame with octets that no other has.
    fn write(&mut self, at: usize) {
        self.written = self.written.wrapping_add(1);
        let written = self.written;
        let bytes = self.stand.frames()[at].bytes_mut();
        for (octet, n) in bytes.iter_mut().zip(0_usize..) {
            *octet = written ^ (n >> 3) as u8;
        }
        self.held[at] = bytes.to_vec();
    }

    fn check(&mut self) {
        let census = self.stand.census();
        assert!(census.is_complete(), "{census:?}");
        assert_eq!(self.stand.frames().len(), self.held.len());
        for (frame, octets) in self.stand.frames().iter().zip(&self.held) {
            assert!(
                frame.bytes() == octets,
                "another frame was written over this one"
            );
            assert!(frame.bytes().len() <= frame.capacity());
        }
    }

    /// At the end all chunks are in the pool.
    fn put_all_back(&mut self) {
        while !self.under_way.is_empty() {
            self.under_way.remove(0);
            self.stand.complete();
        }
        while !self.stand.frames().is_empty() {
            self.stand.free(0);
        }
        let census = self.stand.census();
        assert_eq!((census.free, census.total), (CHUNKS as u64, CHUNKS as u64));
    }
}
