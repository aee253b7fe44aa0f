//! A map for keys of a few numbers that nobody can choose so that they collide: its hash is two instructions a word.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map by keys that are numbers given out here, one after the other: indices and ids.
pub(crate) type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

/// A set of them.
pub(crate) type QuickSet<T> = HashSet<T, BuildHasherDefault<Quick>>;

/// The hash of Firefox and of the Rust compiler, known as `FxHash`: turn, mix in, multiply.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quick(u64);

/// Odd, with bits that look random: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        // The map takes its place from the low bits, which multiplication leaves poor.
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::Quick;

    #[test]
    fn small_numbers_are_spread() {
        let state = BuildHasherDefault::<Quick>::default();
        let hashes = (0_u32..200).flat_map(|one| (0_usize..200).map(move |other| (one, Some(other))));
        let places: HashSet<u64> = hashes.map(|key| state.hash_one(key) & 0xffff).collect();
        // So many of 65,536 places are hit by 40,000 throws at random: all but e^(-40/65.5).
        assert!(places.len() > 28_000, "{}", places.len());
    }
}
