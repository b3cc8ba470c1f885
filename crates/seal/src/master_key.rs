//! The master key: what wraps the data keys, and is not in the database.
//!
//! One interface for all places where a master key can live; here is the one that lives in a file or a variable. The
//! command line reads the file (and checks who else may read it); this module reads its text.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

use crate::digest::sha256;
use crate::entropy::push_random_base62;
use crate::record::{Label, open_body, push_prefixed, seal_body};
use crate::secret::constant_time_eq;
use crate::{Entropy, OpenError, Purpose, SecretBytes, SecretString, SystemEntropy};

/// Wraps and unwraps data keys. A key service answers over the network, so both wait.
pub trait KeyEncryption: Send + Sync {
    /// The key that [`wrap`](Self::wrap) uses now. A data key that was wrapped with another one should be wrapped again.
    fn current_key_id(&self) -> &str;

    /// Encrypts a data key of 32 bytes so that it opens for the same `context` only.
    fn wrap<'a>(
        &'a self,
        context: &'a DataKeyContext,
        key: &'a SecretBytes,
    ) -> BoxFuture<'a, Result<WrappedKey, KeyEncryptionError>>;

    /// Decrypts a data key. Refuses one that was wrapped for another context.
    fn unwrap<'a>(
        &'a self,
        context: &'a DataKeyContext,
        wrapped: &'a WrappedKey,
    ) -> BoxFuture<'a, Result<SecretBytes, KeyEncryptionError>>;
}

/// Which data key it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKeyContext {
    /// The deployment that the key belongs to.
    pub deployment_id: String,
    /// What the key is for.
    pub purpose: Purpose,
    /// Its version, from 1.
    pub version: u32,
}

impl DataKeyContext {
    /// What is bound to the key: as associated data where the service has such a thing, and inside the plaintext always.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"tv/dek/1".to_vec();
        // A deployment is one tenant; the format keeps a place for both.
        push_prefixed(&mut out, self.deployment_id.as_bytes());
        push_prefixed(&mut out, self.deployment_id.as_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        push_prefixed(&mut out, self.purpose.as_str().as_bytes());
        out
    }

    /// The plaintext for the key service: the key and a digest of its context, for services without associated data.
    pub fn bind(&self, key: &SecretBytes) -> Result<SecretBytes, KeyEncryptionError> {
        if key.len() != DATA_KEY_LEN {
            return Err(KeyEncryptionError::KeyLength);
        }
        let mut bound = Vec::with_capacity(2 * DATA_KEY_LEN);
        bound.extend_from_slice(key.reveal());
        bound.extend_from_slice(&sha256(&self.to_bytes()));
        Ok(SecretBytes::new(bound))
    }

    /// The key out of what [`bind`](Self::bind) made for the same context.
    pub fn unbind(&self, bound: &SecretBytes) -> Result<SecretBytes, KeyEncryptionError> {
        let (key, binding) = bound
            .reveal()
            .split_at_checked(DATA_KEY_LEN)
            .ok_or(KeyEncryptionError::Damaged)?;
        if !constant_time_eq(binding, &sha256(&self.to_bytes())) {
            return Err(KeyEncryptionError::WrongContext);
        }
        Ok(SecretBytes::new(key.to_vec()))
    }
}

/// A data key as it lies in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The master key that wrapped it.
    pub key_id: String,
    /// What the key service made of it.
    pub ciphertext: Vec<u8>,
}

/// Why a data key was not wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyEncryptionError {
    /// The wrapped key was changed or cut short.
    #[error("the wrapped data key is damaged")]
    Damaged,
    /// A data key has 32 bytes.
    #[error("a data key has 32 bytes")]
    KeyLength,
    /// The key service did not answer, or not now.
    #[error("the key service does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The master key that wrapped it is not here.
    #[error("the master key is not here: {0}")]
    UnknownKey(String),
    /// The key was wrapped for another purpose, version or deployment (CR-04), or by another master key of the same id.
    #[error("the data key was wrapped for another use, or by another master key of the same id")]
    WrongContext,
}

const DATA_KEY_LEN: usize = 32;

/// A new data key.
pub fn generate_data_key(entropy: &dyn Entropy) -> SecretBytes {
    let mut key = vec![0; DATA_KEY_LEN];
    entropy.fill(&mut key);
    SecretBytes::new(key)
}

/// Master keys of 32 bytes in this process's memory, from a file or a variable.
///
/// The text has one key a line, `tvmk1_<key id>_<32 bytes in base64url>`; the first one wraps, all unwrap. Empty lines
/// and lines that begin with `#` are passed over.
pub struct LocalMasterKey {
    current: Key,
    previous: Vec<Key>,
    entropy: Arc<dyn Entropy>,
}

struct Key {
    id: String,
    secret: SecretBytes,
}

/// Why a text is not a master key. The text itself is never quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeyError {
    /// A line does not have the form of a key.
    #[error("line {line} is not a master key: tvmk1_<key id>_<32 bytes in base64url>")]
    Form {
        /// Counted from 1.
        line: usize,
    },
    /// There is no key in the text.
    #[error("there is no master key in the text")]
    Missing,
    /// A key id comes twice.
    #[error("line {line} repeats a key id")]
    Repeated {
        /// Counted from 1.
        line: usize,
    },
    /// The key is a placeholder: all its bytes are the same.
    #[error("line {line} is a placeholder, not a key")]
    Weak {
        /// Counted from 1.
        line: usize,
    },
}

impl LocalMasterKey {
    /// Reads the keys out of the text of a file or a variable.
    pub fn from_text(text: &str) -> Result<Self, MasterKeyError> {
        let mut keys: Vec<Key> = Vec::new();
        for (text, line) in text.lines().map(str::trim).zip(1..) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let key = Key::parse(text).ok_or(MasterKeyError::Form { line })?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(MasterKeyError::Repeated { line });
            }
            let bytes = key.secret.reveal();
            if bytes.iter().all(|byte| Some(byte) == bytes.first()) {
                return Err(MasterKeyError::Weak { line });
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        Ok(Self {
            current: keys.next().ok_or(MasterKeyError::Missing)?,
            previous: keys.collect(),
            entropy: Arc::new(SystemEntropy),
        })
    }

    /// A new key, and the line to keep it in.
    pub fn generate(entropy: &dyn Entropy) -> (Self, SecretString) {
        let mut id = String::new();
        push_random_base62(&mut id, entropy, 8);
        let key = Key {
            id,
            secret: generate_data_key(entropy),
        };
        let text = key.to_text();
        let master = Self {
            current: key,
            previous: Vec::new(),
            entropy: Arc::new(SystemEntropy),
        };
        (master, text)
    }

    /// Draws the salts from `entropy` instead of the system: for simulations.
    #[must_use]
    pub fn with_entropy(self, entropy: Arc<dyn Entropy>) -> Self {
        Self { entropy, ..self }
    }

    fn wrap_now(
        &self,
        context: &DataKeyContext,
        key: &SecretBytes,
    ) -> Result<WrappedKey, KeyEncryptionError> {
        let bound = context.bind(key)?;
        let mut ciphertext = WRAP_HEADER.to_vec();
        let body = seal_body(
            &*self.entropy,
            self.current.secret.reveal(),
            Label::Wrap,
            &context.to_bytes(),
            bound.reveal(),
        )
        .ok_or(KeyEncryptionError::WrongContext)?;
        ciphertext.extend_from_slice(&body);
        Ok(WrappedKey {
            key_id: self.current.id.clone(),
            ciphertext,
        })
    }

    fn unwrap_now(
        &self,
        context: &DataKeyContext,
        wrapped: &WrappedKey,
    ) -> Result<SecretBytes, KeyEncryptionError> {
        let key = std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|key| key.id == wrapped.key_id)
            .ok_or_else(|| KeyEncryptionError::UnknownKey(wrapped.key_id.clone()))?;
        let body = wrapped
            .ciphertext
            .strip_prefix(&WRAP_HEADER)
            .ok_or(KeyEncryptionError::Damaged)?;
        let mut bound = open_body(key.secret.reveal(), Label::Wrap, &context.to_bytes(), body)
            .map_err(|error| match error {
                OpenError::Commitment => KeyEncryptionError::WrongContext,
                _ => KeyEncryptionError::Damaged,
            })?;
        context.unbind(&SecretBytes::new(std::mem::take(&mut *bound)))
    }
}

/// Format and suite, as in the record format.
const WRAP_HEADER: [u8; 2] = [0x01, 0x01];

impl KeyEncryption for LocalMasterKey {
    fn current_key_id(&self) -> &str {
        &self.current.id
    }

    fn wrap<'a>(
        &'a self,
        context: &'a DataKeyContext,
        key: &'a SecretBytes,
    ) -> BoxFuture<'a, Result<WrappedKey, KeyEncryptionError>> {
        Box::pin(std::future::ready(self.wrap_now(context, key)))
    }

    fn unwrap<'a>(
        &'a self,
        context: &'a DataKeyContext,
        wrapped: &'a WrappedKey,
    ) -> BoxFuture<'a, Result<SecretBytes, KeyEncryptionError>> {
        Box::pin(std::future::ready(self.unwrap_now(context, wrapped)))
    }
}

impl fmt::Debug for LocalMasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalMasterKey")
            .field("current_key_id", &self.current.id)
            .finish_non_exhaustive()
    }
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        // The key's own text may hold underscores; the id may not.
        let (id, encoded) = text.strip_prefix("tvmk1_")?.split_once('_')?;
        if !(1..=32).contains(&id.len())
            || !id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            return None;
        }
        let secret = SecretBytes::new(URL_SAFE_NO_PAD.decode(encoded).ok()?);
        (secret.len() == DATA_KEY_LEN).then(|| Self {
            id: id.to_owned(),
            secret,
        })
    }

    fn to_text(&self) -> SecretString {
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.secret.reveal()));
        let mut text = String::with_capacity(6 + self.id.len() + 1 + encoded.len());
        for part in ["tvmk1_", &self.id, "_", &encoded] {
            text.push_str(part);
        }
        SecretString::new(text)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::SeededEntropy;
    use crate::digest::hex;
    use crate::entropy::tests::Stuck;

    fn context(purpose: Purpose, version: u32) -> DataKeyContext {
        DataKeyContext {
            deployment_id: "dep_1".into(),
            purpose,
            version,
        }
    }

    fn wrap(master: &LocalMasterKey, context: &DataKeyContext, key: &SecretBytes) -> WrappedKey {
        master.wrap(context, key).now_or_never().unwrap().unwrap()
    }

    fn unwrap(
        master: &LocalMasterKey,
        context: &DataKeyContext,
        wrapped: &WrappedKey,
    ) -> Result<SecretBytes, KeyEncryptionError> {
        master.unwrap(context, wrapped).now_or_never().unwrap()
    }

    #[test]
    fn a_generated_key_is_read_back_from_its_text() {
        let (master, text) = LocalMasterKey::generate(&SeededEntropy::new(1));
        let again =
            LocalMasterKey::from_text(&format!("# kept safe\n\n{}\n", text.reveal())).unwrap();
        assert_eq!(again.current_key_id(), master.current_key_id());
        let key = generate_data_key(&SystemEntropy);
        let context = context(Purpose::Record, 1);
        let wrapped = wrap(&master, &context, &key);
        assert_eq!(wrapped.key_id, master.current_key_id());
        let unwrapped = unwrap(&again, &context, &wrapped).unwrap();
        assert_eq!(unwrapped.reveal(), key.reveal());
    }

    #[test]
    fn cr_04_a_wrapped_key_opens_for_its_own_context_only() {
        let (master, _) = LocalMasterKey::generate(&SystemEntropy);
        let wrapped = wrap(
            &master,
            &context(Purpose::Record, 1),
            &generate_data_key(&SystemEntropy),
        );
        let mut other_deployment = context(Purpose::Record, 1);
        other_deployment.deployment_id = "dep_2".into();
        for other in [
            other_deployment,
            context(Purpose::Record, 2),
            context(Purpose::RowMac, 1),
        ] {
            assert!(matches!(
                unwrap(&master, &other, &wrapped),
                Err(KeyEncryptionError::WrongContext)
            ));
        }
    }

    #[test]
    fn cr_04_the_binding_inside_holds_for_services_without_associated_data() {
        let key = generate_data_key(&SystemEntropy);
        let bound = context(Purpose::Audit, 3).bind(&key).unwrap();
        let unbound = context(Purpose::Audit, 3).unbind(&bound).unwrap();
        assert_eq!(unbound.reveal(), key.reveal());
        for other in [context(Purpose::Audit, 4), context(Purpose::Cookie, 3)] {
            assert!(matches!(
                other.unbind(&bound),
                Err(KeyEncryptionError::WrongContext)
            ));
        }
        assert!(matches!(
            context(Purpose::Audit, 3).unbind(&SecretBytes::new(vec![0; 31])),
            Err(KeyEncryptionError::Damaged)
        ));
    }

    #[test]
    fn a_changed_cut_or_foreign_wrap_is_refused() {
        let (master, _) = LocalMasterKey::generate(&SystemEntropy);
        let context = context(Purpose::Record, 1);
        let wrapped = wrap(&master, &context, &generate_data_key(&SystemEntropy));
        for place in 0..wrapped.ciphertext.len() {
            let mut changed = wrapped.clone();
            changed.ciphertext[place] ^= 1;
            assert!(unwrap(&master, &context, &changed).is_err(), "{place}");
            let mut cut = wrapped.clone();
            cut.ciphertext.truncate(place);
            assert!(unwrap(&master, &context, &cut).is_err(), "{place}");
        }
        let (other, _) = LocalMasterKey::generate(&SystemEntropy);
        assert!(matches!(
            unwrap(&other, &context, &wrapped),
            Err(KeyEncryptionError::UnknownKey(_))
        ));
        let renamed = WrappedKey {
            key_id: other.current_key_id().to_owned(),
            ..wrapped
        };
        assert!(matches!(
            unwrap(&other, &context, &renamed),
            Err(KeyEncryptionError::WrongContext)
        ));
    }

    #[test]
    fn a_rotated_master_key_still_unwraps() {
        let (old, old_text) = LocalMasterKey::generate(&SystemEntropy);
        let (new, new_text) = LocalMasterKey::generate(&SystemEntropy);
        let both =
            LocalMasterKey::from_text(&format!("{}\n{}", new_text.reveal(), old_text.reveal()))
                .unwrap();
        assert_eq!(both.current_key_id(), new.current_key_id());
        let context = context(Purpose::Record, 1);
        let key = generate_data_key(&SystemEntropy);
        let wrapped = wrap(&old, &context, &key);
        let opened = unwrap(&both, &context, &wrapped).unwrap();
        let again = wrap(&both, &context, &opened);
        assert_eq!(again.key_id, new.current_key_id());
        assert_eq!(
            unwrap(&new, &context, &again).unwrap().reveal(),
            key.reveal()
        );
    }

    #[test]
    fn a_wrapped_key_has_the_bytes_that_another_implementation_makes() {
        let master =
            LocalMasterKey::from_text("tvmk1_k1_a4ayc_80_OGda4BO_1o_V0etpOqiLx1JwB5S3beHW0s")
                .unwrap()
                .with_entropy(Arc::new(Stuck(0x42)));
        let key = SecretBytes::new((0..32).collect());
        let wrapped = wrap(&master, &context(Purpose::RowMac, 7), &key);
        assert_eq!(wrapped.key_id, "k1");
        assert_eq!(
            hex(&wrapped.ciphertext),
            "01014242424242424242424242424242424242424242424242424242424242424242\
             eeab7fa6bf3ba0c2586c6706e45c8129e3072286a247282cd24bb04d31f3349a\
             f443b566c8d03afdddb7366386d9650d835619734f0575d4a7db5be7b0737b61\
             696aa20c47c467c81632983a5cc6b4431bf22c3ed0fdaaf091722b26ae6e12a3\
             f80edb8052b12d330f9b2a9be9ad9775"
        );
    }

    #[test]
    fn only_data_keys_are_wrapped() {
        let (master, _) = LocalMasterKey::generate(&SystemEntropy);
        let wrapped = master
            .wrap(&context(Purpose::Record, 1), &SecretBytes::new(vec![1; 31]))
            .now_or_never()
            .unwrap();
        assert!(matches!(wrapped, Err(KeyEncryptionError::KeyLength)));
    }

    #[test]
    fn texts_that_are_not_keys_are_refused_without_being_quoted() {
        let zeros = URL_SAFE_NO_PAD.encode([0; 32]);
        let key = URL_SAFE_NO_PAD.encode(sha256(b"1"));
        let form = MasterKeyError::Form { line: 1 };
        for (text, expected) in [
            (String::new(), MasterKeyError::Missing),
            ("# nothing\n".into(), MasterKeyError::Missing),
            (key.clone(), form),
            (format!("tvmk1_{key}"), form),
            (format!("tvmk2_a_{key}"), form),
            (format!("tvmk1__{key}"), form),
            (format!("tvmk1_a_{key}="), form),
            (format!("tvmk1_a_{}", &key[..42]), form),
            (format!("tvmk1_a b_{key}"), form),
            (format!("tvmk1_a_{zeros}"), MasterKeyError::Weak { line: 1 }),
            (
                format!("tvmk1_a_{key}\n\ntvmk1_a_{key}"),
                MasterKeyError::Repeated { line: 3 },
            ),
        ] {
            let error = LocalMasterKey::from_text(&text).unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains(&key));
        }
    }

    #[test]
    fn nothing_secret_prints() {
        let (master, text) = LocalMasterKey::generate(&SystemEntropy);
        let secret = &text.reveal()[15..];
        assert!(!format!("{master:?} {text:?}").contains(secret));
    }
}
