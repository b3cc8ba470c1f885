//! Secrets: types that do not print, sealed records, minted tokens, signed JWTs and passwords.
//!
//! Everything that must stay secret passes through this crate, and nothing in it touches a file, a socket, a clock or
//! the environment. Randomness is an argument ([`Entropy`]); time is an argument of whoever reads a [`jws::Claims`].
//!
//! | to keep | use | what lies in the database |
//! |---|---|---|
//! | something we must give back (a provider's token, a private key) | [`KeyRing::seal`], [`KeyRing::open`] | a sealed record |
//! | something a caller must show us (a refresh token, a code) | [`mint`], [`present`] | a lookup id and a MAC |
//! | a row that grants power | [`KeyRing::mac`] | a MAC over its columns |
//! | a person's password | [`password::hash`] | an Argon2id string |
//! | the keys for all of these | [`KeyEncryption`] | data keys, wrapped by a master key that is not in the database |

mod digest;
mod entropy;
pub mod jws;
mod key_ring;
mod master_key;
mod minted;
pub mod password;
mod record;
mod secret;

pub use digest::{hex, hmac_sha256_hex, sha256, sha256_hex_thumbprint};
pub use entropy::{
    Entropy, EntropyError, PooledEntropy, SeededEntropy, SystemEntropy, check_entropy, random_id,
};
pub use jws::{
    Algorithm, Claims, JwsError, KeyError, SigningKey, UnverifiedJws, VerifyingKey,
    certificate_end, jwk_thumbprint,
};
pub use key_ring::{KeyRing, Purpose};
pub use master_key::{
    DataKeyContext, KeyEncryption, KeyEncryptionError, LocalMasterKey, MasterKeyError, WrappedKey,
    generate_data_key,
};
pub use minted::{
    MintedToken, PresentedToken, TokenKind, mint, mint_short, present, short_matches,
};
pub use record::{OpenError, RecordContext, SealError};
pub use secret::{SecretBytes, SecretString, constant_time_eq};
