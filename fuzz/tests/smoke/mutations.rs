//! Changes of octets, the same in every run: what libFuzzer does, without coverage to lead it.

/// Numbers that look random and are the same in every run (Marsaglia, "Xorshift RNGs", s.4).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`; 0 when that is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.roll() >> 16) as usize % limit.max(1)
    }
}

/// A seed with up to four changes. Some come from another seed or from the dictionary.
pub(crate) fn mutated(dice: &mut Dice, seeds: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = pick(dice, seeds).to_vec();
    for _ in 0..=dice.below(4) {
        change(&mut octets, dice, seeds, words);
    }
    octets
}

fn pick<'a>(dice: &mut Dice, list: &'a [Vec<u8>]) -> &'a [u8] {
    let at = dice.below(list.len());
    list.get(at).map_or(&[], |octets| octets)
}

fn change(octets: &mut Vec<u8>, dice: &mut Dice, seeds: &[Vec<u8>], words: &[Vec<u8>]) {
    // Headers are in front, and more depends on them.
    let limit = match dice.below(2) {
        0 => octets.len(),
        _ => octets.len().min(64),
    };
    let at = dice.below(limit + 1).min(octets.len());
    let end = (at + 1 + dice.below(16)).min(octets.len());
    match dice.below(9) {
        0 if at < octets.len() => octets[at] ^= 1 << dice.below(8),
        1 if at < octets.len() => octets[at] = dice.below(256) as u8,
        2 if at < octets.len() => octets[at] = [0, 1, 0x7f, 0x80, 0xff][dice.below(5)],
        3 => drop(octets.drain(at..end)),
        4 => {
            let copy = octets[at..end].to_vec();
            octets.splice(at..at, copy);
        }
        5 => octets.truncate(at),
        6 => {
            let other = pick(dice, seeds);
            octets.truncate(at);
            octets.extend_from_slice(&other[dice.below(other.len())..]);
        }
        7 => drop(octets.splice(at..at, pick(dice, words).to_vec())),
        _ => {
            let new: Vec<u8> = (0..dice.below(24)).map(|_| dice.below(256) as u8).collect();
            octets.splice(at..end, new);
        }
    }
}
