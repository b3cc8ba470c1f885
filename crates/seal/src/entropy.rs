//! Where randomness comes from. It is an argument, so that a simulation can be run again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand;
use zeroize::Zeroize;

use crate::digest::sha256;

/// The characters of everything we mint: safe in URLs, forms, file names, and selected by a double click.
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A source of random bytes.
pub trait Entropy: Send + Sync {
    /// Fills `out` with random bytes. There is no error: a server that has no randomness must not go on.
    fn fill(&self, out: &mut [u8]);
}

/// The operating system's randomness, through the cryptographic library.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) {
        if rand::fill(out).is_err() {
            // Unwinding could be caught by a task's boundary and the next request would try again with half a key.
            eprintln!("tokenvault: the system has no randomness to give; stopping");
            std::process::abort();
        }
    }
}

/// Another source's bytes, drawn by the kilobyte: a draw costs a microsecond however short it is, and every request
/// needs an id.
///
/// **For what must differ, not for what must be secret**: what is not given yet lies in memory.
pub struct PooledEntropy {
    source: Arc<dyn Entropy>,
    pool: Mutex<Pool>,
}

struct Pool {
    bytes: [u8; POOLED],
    /// The first that was not given yet.
    next: usize,
}

/// How much is drawn at once.
const POOLED: usize = 1024;

impl PooledEntropy {
    /// Draws nothing yet.
    pub fn new(source: Arc<dyn Entropy>) -> Self {
        Self {
            source,
            pool: Mutex::new(Pool {
                bytes: [0; POOLED],
                next: POOLED,
            }),
        }
    }
}

impl Entropy for PooledEntropy {
    fn fill(&self, out: &mut [u8]) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let Pool { bytes, next } = &mut *pool;
        for piece in out.chunks_mut(POOLED) {
            if bytes.len() - *next < piece.len() {
                self.source.fill(bytes);
                *next = 0;
            }
            let end = *next + piece.len();
            if let Some(given) = bytes.get(*next..end) {
                piece.copy_from_slice(given);
            }
            *next = end;
        }
    }
}

/// Bytes that follow from a seed. **For tests and simulations only**: whoever knows the seed knows every secret.
///
/// Two of these with one seed yield the same bytes, so a [`KeyRing`](crate::KeyRing) that is handed both refuses to seal
/// twice with one salt. Share one instead.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    fills: AtomicU64,
}

impl SeededEntropy {
    /// The same `seed` yields the same bytes, as long as the calls come in the same order with the same lengths.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            fills: AtomicU64::new(0),
        }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) {
        let fill = self.fills.fetch_add(1, Ordering::Relaxed);
        for (chunk, block) in out.chunks_mut(32).zip(0_u64..) {
            let mut input = [0; 24];
            for (place, number) in input.chunks_mut(8).zip([self.seed, fill, block]) {
                place.copy_from_slice(&number.to_be_bytes());
            }
            for (to, from) in chunk.iter_mut().zip(sha256(&input)) {
                *to = from;
            }
        }
    }
}

/// Why a source of randomness is not to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the source of randomness repeats itself")]
pub struct EntropyError;

/// The self-test at start-up: four draws of 32 bytes must all differ, and none may be constant.
///
/// It catches a source that is stuck, not one that is weak; no test of its output could do that.
pub fn check_entropy(entropy: &dyn Entropy) -> Result<(), EntropyError> {
    let mut draws = [[0_u8; 32]; 4];
    for draw in &mut draws {
        entropy.fill(draw);
    }
    let stuck = draws
        .iter()
        .any(|draw| draw.iter().all(|byte| Some(byte) == draw.first()));
    let repeated = draws
        .iter()
        .zip(1..)
        .any(|(draw, next)| draws.iter().skip(next).any(|later| later == draw));
    draws.zeroize();
    if stuck || repeated {
        return Err(EntropyError);
    }
    Ok(())
}

/// A new identifier: `prefix` and 22 characters of `[0-9A-Za-z]`, which is a little more than 128 bits.
///
/// An identifier is unique, not secret.
pub fn random_id(entropy: &dyn Entropy, prefix: &str) -> String {
    let mut id = String::with_capacity(prefix.len() + 22);
    id.push_str(prefix);
    push_random_base62(&mut id, entropy, 22);
    id
}

/// Appends `count` characters, each of the 62 equally likely (5.95 bits).
pub(crate) fn push_random_base62(out: &mut String, entropy: &dyn Entropy, count: usize) {
    let mut wanted = count;
    let mut bytes = [0_u8; 48];
    while wanted > 0 {
        // One byte in 32 is thrown away, so a few more than wanted nearly always suffice.
        let draw = (wanted + wanted / 16 + 2).min(bytes.len());
        let Some(drawn) = bytes.get_mut(..draw) else {
            break;
        };
        entropy.fill(drawn);
        // Bytes from 248 = 4 × 62 on are thrown away: with them the first eight characters would come more often.
        for byte in drawn.iter().filter(|byte| **byte < 248).take(wanted) {
            out.push(base62_digit(usize::from(*byte) % 62));
            wanted -= 1;
        }
    }
    bytes.zeroize();
}

/// The character for a number below 62.
pub(crate) fn base62_digit(number: usize) -> char {
    BASE62.get(number).copied().map_or('0', char::from)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A source that is stuck.
    pub(crate) struct Stuck(pub(crate) u8);

    impl Entropy for Stuck {
        fn fill(&self, out: &mut [u8]) {
            out.fill(self.0);
        }
    }

    #[test]
    fn ids_carry_their_kind_and_differ() {
        let ids: BTreeSet<_> = (0..1000)
            .map(|_| random_id(&SystemEntropy, "cac_"))
            .collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let rest = id.strip_prefix("cac_").unwrap();
            assert_eq!(rest.len(), 22);
            assert!(rest.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn every_character_is_about_equally_likely() {
        let mut text = String::new();
        push_random_base62(&mut text, &SeededEntropy::new(1), 62_000);
        let mut counts = [0_usize; 128];
        for byte in text.bytes() {
            counts[usize::from(byte)] += 1;
        }
        for digit in BASE62 {
            let count = counts[usize::from(*digit)];
            // 1000 expected; six standard deviations are 190.
            assert!((800..1200).contains(&count), "{digit}: {count}");
        }
    }

    #[test]
    fn seeded_entropy_repeats_from_its_seed_and_only_from_it() {
        let draw = |seed| random_id(&SeededEntropy::new(seed), "");
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let source = SeededEntropy::new(7);
        assert_ne!(random_id(&source, ""), random_id(&source, ""));
    }

    #[test]
    fn a_pool_gives_each_byte_of_its_source_at_most_once() {
        let source: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(7));
        let pooled = PooledEntropy::new(Arc::clone(&source));
        // Pieces that do not divide the pool, one as large as it is and one larger.
        let mut given = BTreeSet::new();
        for length in [24, 1000, 1024, 2000, 7] {
            let mut piece = vec![0; length];
            pooled.fill(&mut piece);
            for eight in piece.chunks_exact(8) {
                assert!(given.insert(eight.to_vec()), "{length}");
            }
        }
        let mut next = [0; 8];
        source.fill(&mut next);
        assert!(!given.contains(&next[..]));
    }

    #[test]
    fn cr_13_the_self_test_refuses_a_stuck_source() {
        assert_eq!(check_entropy(&Stuck(0)), Err(EntropyError));
        assert_eq!(check_entropy(&Stuck(0x5a)), Err(EntropyError));
        assert_eq!(check_entropy(&SystemEntropy), Ok(()));
        assert_eq!(check_entropy(&SeededEntropy::new(0)), Ok(()));
    }
}
