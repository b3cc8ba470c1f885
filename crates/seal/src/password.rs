//! A person's password: Argon2id, 19 MiB, two passes, one lane.
//!
//! [OWASP's floor](https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html); about 45 ms of one
//! core. **All functions here block**: call them on a blocking thread, behind a semaphore with as many permits as there
//! are cores.

use argon2::{Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::{Entropy, SecretString, constant_time_eq};

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const HASH_LEN: usize = 32;
const SALT_LEN: usize = 16;

/// Hashes `password` with a fresh salt, in the usual text form `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`.
pub fn hash(password: &SecretString, entropy: &dyn Entropy) -> String {
    let mut salt = [0; SALT_LEN];
    entropy.fill(&mut salt);
    let digest = current().derive(password, &salt);
    format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(digest),
    )
}

/// Whether `password` is the one that `stored` was made from. A text that is not one of ours matches nothing, after the
/// same work.
pub fn verify(password: &SecretString, stored: &str) -> bool {
    let Some(stored) = Stored::parse(stored) else {
        verify_against_nobody(password);
        return false;
    };
    constant_time_eq(
        stored.cost.derive(password, &stored.salt).as_slice(),
        &stored.hash,
    )
}

/// Does the work of [`verify`] and says no: for a login name that nobody has, so that the time does not tell.
pub fn verify_against_nobody(password: &SecretString) -> bool {
    let digest = current().derive(password, &[0; SALT_LEN]);
    std::hint::black_box(&digest);
    false
}

/// Whether `stored` was made with other costs than [`hash`] uses now, and should be made again at the next login.
pub fn needs_rehash(stored: &str) -> bool {
    Stored::parse(stored).is_none_or(|stored| stored.cost != current())
}

/// What a hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

fn current() -> Cost {
    Cost {
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        lanes: LANES,
    }
}

impl Cost {
    fn derive(self, password: &SecretString, salt: &[u8]) -> Zeroizing<[u8; HASH_LEN]> {
        let mut out = Zeroizing::new([0; HASH_LEN]);
        let done =
            Params::new(self.memory_kib, self.passes, self.lanes, Some(HASH_LEN)).and_then(
                |params| {
                    Argon2::new(argon2::Algorithm::Argon2id, Version::V0x13, params)
                        .hash_password_into(password.reveal().as_bytes(), salt, &mut *out)
                },
            );
        // Costs and salt lengths were checked when the text was read; a password longer than 4 GiB does not get here.
        debug_assert!(done.is_ok(), "argon2 refused checked parameters");
        if done.is_err() {
            // Never compare against, nor store, the hash of nothing.
            std::process::abort();
        }
        out
    }
}

/// A stored hash, taken apart.
struct Stored {
    cost: Cost,
    salt: Vec<u8>,
    hash: Zeroizing<Vec<u8>>,
}

impl Stored {
    /// Reads our own form only, and only costs that a login may take: whoever can write the database must not be able to
    /// make one login allocate all memory, or to make guessing free.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let (costs, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let mut costs = costs.split(',');
        let mut cost =
            |name: &str| -> Option<u32> { costs.next()?.strip_prefix(name)?.parse().ok() };
        let cost = Cost {
            memory_kib: cost("m=")?,
            passes: cost("t=")?,
            lanes: cost("p=")?,
        };
        if costs.next().is_some()
            || !(8 * 1024..=256 * 1024).contains(&cost.memory_kib)
            || !(1..=16).contains(&cost.passes)
            || !(1..=4).contains(&cost.lanes)
        {
            return None;
        }
        let salt = STANDARD_NO_PAD.decode(salt).ok()?;
        let hash = Zeroizing::new(STANDARD_NO_PAD.decode(hash).ok()?);
        if !(8..=64).contains(&salt.len()) || hash.len() != HASH_LEN {
            return None;
        }
        Some(Self { cost, salt, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    fn secret(text: &str) -> SecretString {
        SecretString::new(text.to_owned())
    }

    #[test]
    fn a_password_matches_its_own_hash_only() {
        let entropy = SeededEntropy::new(1);
        let stored = hash(&secret("correct horse"), &entropy);
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(verify(&secret("correct horse"), &stored));
        assert!(!verify(&secret("correct horsf"), &stored));
        assert!(!verify(&secret(""), &stored));
        assert!(!needs_rehash(&stored));
        assert_ne!(stored, hash(&secret("correct horse"), &entropy));
    }

    #[test]
    fn a_hash_made_elsewhere_is_read_and_wants_to_be_made_again() {
        // From the test program of the reference implementation.
        let stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verify(&secret("password"), stored));
        assert!(!verify(&secret("passwore"), stored));
        assert!(needs_rehash(stored));
    }

    #[test]
    fn what_is_not_a_hash_of_ours_matches_nothing() {
        let salt = "c29tZXNhbHRzb21lc2FsdA";
        let digest = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let cases = [
            String::new(),
            "password".to_owned(),
            format!("$argon2i$v=19$m=19456,t=2,p=1${salt}${digest}"),
            format!("$argon2id$v=16$m=19456,t=2,p=1${salt}${digest}"),
            format!("$argon2id$v=19$m=4294967295,t=2,p=1${salt}${digest}"),
            format!("$argon2id$v=19$m=8,t=1,p=1${salt}${digest}"),
            format!("$argon2id$v=19$m=19456,t=4294967295,p=1${salt}${digest}"),
            format!("$argon2id$v=19$m=19456,t=2,p=255${salt}${digest}"),
            format!("$argon2id$v=19$m=19456,t=2,p=1,x=1${salt}${digest}"),
            format!("$argon2id$v=19$t=2,m=19456,p=1${salt}${digest}"),
            format!("$argon2id$v=19$m=19456,t=2,p=1$${digest}"),
            format!("$argon2id$v=19$m=19456,t=2,p=1${salt}$"),
            format!("$argon2id$v=19$m=19456,t=2,p=1${salt}${digest}$"),
        ];
        for stored in cases {
            assert!(Stored::parse(&stored).is_none(), "{stored}");
            assert!(needs_rehash(&stored), "{stored}");
        }
        assert!(!verify(&secret(""), ""));
        assert!(!verify_against_nobody(&secret("password")));
    }
}
