//! Opaque tokens that this issuer hands out: refresh tokens, codes, tickets, client secrets, session ids.
//!
//! ```text
//! tvr_ 3kQ…(22: lookup id, 128 bit)  9xZ…(43: secret, 256 bit)  0Ab…(6: CRC-32)
//! ```
//!
//! The database holds the id and a MAC of the secret, so that a copy of it opens nothing and a row that is edited in
//! place does not help either. The id finds the row, [`PresentedToken::matches`] decides, and nothing may happen to the
//! row before it has. The prefix and the checksum let secret scanners find a token that leaked, and let us refuse a
//! mangled one without asking the database.

use std::fmt;

use zeroize::Zeroizing;

use crate::entropy::{base62_digit, push_random_base62};
use crate::{Entropy, KeyRing, Purpose, SecretString};

/// What a token is for. One kind is never accepted in the place of another: each has its prefix and its MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// The `auth_session` of a connect flow: no prefix and no checksum, because it may have 64 characters at most.
    AuthSession,
    /// An authorization code.
    AuthorizationCode,
    /// A client secret.
    ClientSecret,
    /// The `state` that we send to a provider.
    ConnectState,
    /// The ticket that opens a connect flow in a browser.
    ConnectTicket,
    /// What a form of ours carries against forgery.
    FormState,
    /// A browser's session id.
    LoginSession,
    /// The reference of a pushed authorization request.
    PushedRequest,
    /// A refresh token.
    RefreshToken,
}

impl TokenKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::AuthSession,
        Self::AuthorizationCode,
        Self::ClientSecret,
        Self::ConnectState,
        Self::ConnectTicket,
        Self::FormState,
        Self::LoginSession,
        Self::PushedRequest,
        Self::RefreshToken,
    ];

    /// The name in the MAC. It must never change: it is part of every stored hash.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthSession => "auth_session",
            Self::AuthorizationCode => "authorization_code",
            Self::ClientSecret => "client_secret",
            Self::ConnectState => "connect_state",
            Self::ConnectTicket => "connect_ticket",
            Self::FormState => "form_state",
            Self::LoginSession => "login_session",
            Self::PushedRequest => "pushed_request",
            Self::RefreshToken => "refresh_token",
        }
    }

    /// What its text begins with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::AuthSession => "",
            Self::AuthorizationCode => "tvc_",
            Self::ClientSecret => "tvs_",
            Self::ConnectState => "tvx_",
            Self::ConnectTicket => "tvt_",
            Self::FormState => "tvf_",
            Self::LoginSession => "tvl_",
            Self::PushedRequest => "tvp_",
            Self::RefreshToken => "tvr_",
        }
    }

    fn id_len(self) -> usize {
        match self {
            // 125 bits; the contract allows 64 characters in all.
            Self::AuthSession => 21,
            _ => 22,
        }
    }

    fn checksum_len(self) -> usize {
        match self {
            Self::AuthSession => 0,
            _ => CHECKSUM_LEN,
        }
    }
}

const SECRET_LEN: usize = 43;
const CHECKSUM_LEN: usize = 6;

/// A token that was just made. Show it once; keep `id` and `hash`.
pub struct MintedToken {
    /// The whole text, for its receiver.
    pub token: SecretString,
    /// What the row is found by. Not secret, but not a name for pages and logs either.
    pub id: String,
    /// What the database holds instead of the secret.
    pub hash: [u8; 32],
}

impl fmt::Debug for MintedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MintedToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A token that somebody showed us. Only its form was checked: it proves nothing until [`matches`](Self::matches) says so.
pub struct PresentedToken {
    /// What to look the row up by.
    pub id: String,
    kind: TokenKind,
    secret: Zeroizing<String>,
}

impl fmt::Debug for PresentedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresentedToken")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Makes a token.
///
/// # Panics
/// When `ring` holds no token pepper: see [`KeyRing::missing`].
pub fn mint(kind: TokenKind, entropy: &dyn Entropy, ring: &KeyRing) -> MintedToken {
    let mut id = String::with_capacity(kind.id_len());
    push_random_base62(&mut id, entropy, kind.id_len());
    let mut secret = Zeroizing::new(String::with_capacity(SECRET_LEN));
    push_random_base62(&mut secret, entropy, SECRET_LEN);

    let prefix = kind.prefix();
    // Large enough from the start: a buffer that grows leaves a copy behind.
    let mut text = String::with_capacity(prefix.len() + id.len() + SECRET_LEN + CHECKSUM_LEN);
    for part in [prefix, &id, &secret] {
        text.push_str(part);
    }
    if kind.checksum_len() > 0 {
        let checksum = crc32(text.as_bytes());
        text.extend(checksum_text(checksum));
    }
    MintedToken {
        token: SecretString::new(text),
        hash: ring.mac(Purpose::TokenPepper, MINTED, &mac_parts(kind, &id, &secret)),
        id,
    }
}

/// Takes a presented token apart: `None` when it does not have the form of `kind`, or its checksum is wrong.
pub fn present(kind: TokenKind, text: &str) -> Option<PresentedToken> {
    let rest = text.strip_prefix(kind.prefix())?;
    if rest.len() != kind.id_len() + SECRET_LEN + kind.checksum_len()
        || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return None;
    }
    let (id, rest) = rest.split_at_checked(kind.id_len())?;
    let (secret, checksum) = rest.split_at_checked(SECRET_LEN)?;
    if kind.checksum_len() > 0 {
        let signed = text.get(..text.len() - CHECKSUM_LEN)?;
        if !checksum_text(crc32(signed.as_bytes())).eq(checksum.chars()) {
            return None;
        }
    }
    Some(PresentedToken {
        id: id.to_owned(),
        kind,
        secret: Zeroizing::new(secret.to_owned()),
    })
}

impl PresentedToken {
    /// Whether it is the token whose hash is stored, under any version of the pepper, in constant time.
    pub fn matches(&self, ring: &KeyRing, stored_hash: &[u8]) -> bool {
        stored_hash.len() == 32
            && ring.mac_matches(
                Purpose::TokenPepper,
                MINTED,
                &mac_parts(self.kind, &self.id, &self.secret),
                stored_hash,
            )
    }
}

/// Makes a short secret (43 characters, 256 bits) that is found through something else and needs no id, like the
/// `connect_code` beside its `auth_session`. `domain` says what it is for.
///
/// # Panics
/// When `ring` holds no token pepper: see [`KeyRing::missing`].
pub fn mint_short(entropy: &dyn Entropy, ring: &KeyRing, domain: &str) -> (SecretString, [u8; 32]) {
    let mut text = String::with_capacity(SECRET_LEN);
    push_random_base62(&mut text, entropy, SECRET_LEN);
    let hash = ring.mac(
        Purpose::TokenPepper,
        SHORT,
        &[domain.as_bytes(), text.as_bytes()],
    );
    (SecretString::new(text), hash)
}

/// Whether `text` is the short secret whose hash is stored.
pub fn short_matches(ring: &KeyRing, domain: &str, text: &str, stored_hash: &[u8]) -> bool {
    text.len() == SECRET_LEN
        && stored_hash.len() == 32
        && ring.mac_matches(
            Purpose::TokenPepper,
            SHORT,
            &[domain.as_bytes(), text.as_bytes()],
            stored_hash,
        )
}

const MINTED: &str = "minted";
const SHORT: &str = "short";

fn mac_parts<'a>(kind: TokenKind, id: &'a str, secret: &'a str) -> [&'a [u8]; 3] {
    [kind.as_str().as_bytes(), id.as_bytes(), secret.as_bytes()]
}

/// A checksum in six base62 characters, most significant first.
fn checksum_text(checksum: u32) -> impl Iterator<Item = char> {
    (0..CHECKSUM_LEN).rev().map(move |place| {
        let digit = u64::from(checksum) / 62_u64.pow(u32::try_from(place).unwrap_or(0)) % 62;
        base62_digit(usize::try_from(digit).unwrap_or(0))
    })
}

/// CRC-32 as in ISO 3309 and PNG. It finds typing errors; it is not there against attackers.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let entry = CRC_TABLE
            .get(usize::from((crc ^ u32::from(*byte)) as u8))
            .copied()
            .unwrap_or(0);
        (crc >> 8) ^ entry
    })
}

#[expect(clippy::indexing_slicing, reason = "runs at compile time")]
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut entry = index as u32;
        let mut bit = 0;
        while bit < 8 {
            entry = if entry & 1 == 1 {
                (entry >> 1) ^ 0xedb8_8320
            } else {
                entry >> 1
            };
            bit += 1;
        }
        table[index] = entry;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::digest::hex;
    use crate::{SecretBytes, SeededEntropy, SystemEntropy};

    fn ring() -> KeyRing {
        let mut ring = KeyRing::new("test");
        ring.insert(Purpose::TokenPepper, 1, SecretBytes::new(vec![7; 32]));
        ring
    }

    #[test]
    fn a_minted_token_is_recognised() {
        let ring = ring();
        for kind in TokenKind::ALL {
            let minted = mint(kind, &SystemEntropy, &ring);
            let presented = present(kind, minted.token.reveal()).unwrap();
            assert_eq!(presented.id, minted.id);
            assert!(presented.matches(&ring, &minted.hash), "{kind:?}");
            assert!(minted.token.reveal().starts_with(kind.prefix()));
        }
    }

    #[test]
    fn the_lengths_are_those_of_the_contract() {
        let ring = ring();
        let len = |kind| mint(kind, &SystemEntropy, &ring).token.len();
        assert_eq!(len(TokenKind::AuthSession), 64);
        assert_eq!(len(TokenKind::RefreshToken), 4 + 22 + 43 + 6);
        assert_eq!(mint_short(&SystemEntropy, &ring, "x").0.len(), 43);
    }

    #[test]
    fn stored_hashes_are_those_that_another_implementation_makes() {
        let ring = ring();
        let text = "tvr_0123456789ABCDEFGHIJKL0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg3XkTel";
        let presented = present(TokenKind::RefreshToken, text).unwrap();
        assert_eq!(presented.id, "0123456789ABCDEFGHIJKL");
        let parts = mac_parts(presented.kind, &presented.id, presented.secret.as_str());
        assert_eq!(
            hex(&ring.mac(Purpose::TokenPepper, MINTED, &parts)),
            "2979abbc749cc12925034819c881df2756743189c7f07f48175e54d00e86ed3d"
        );
        let parts: [&[u8]; 2] = [b"connect_code", presented.secret.as_bytes()];
        assert_eq!(
            hex(&ring.mac(Purpose::TokenPepper, SHORT, &parts)),
            "0643ec906f635ca187851f6b4bc06f96ad4164556ffb4f681ea66a7e34513b6d"
        );
    }

    #[test]
    fn kinds_do_not_mix() {
        let ring = ring();
        let prefixes: BTreeSet<_> = TokenKind::ALL.iter().map(|kind| kind.prefix()).collect();
        let names: BTreeSet<_> = TokenKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!((prefixes.len(), names.len()), (9, 9));
        for minted_as in TokenKind::ALL {
            let minted = mint(minted_as, &SystemEntropy, &ring);
            for presented_as in TokenKind::ALL.into_iter().filter(|kind| *kind != minted_as) {
                assert!(present(presented_as, minted.token.reveal()).is_none());
                let forced = PresentedToken {
                    kind: presented_as,
                    ..present(minted_as, minted.token.reveal()).unwrap()
                };
                assert!(!forced.matches(&ring, &minted.hash));
            }
        }
    }

    #[test]
    fn one_wrong_character_is_noticed_without_the_database() {
        let ring = ring();
        let minted = mint(TokenKind::RefreshToken, &SeededEntropy::new(3), &ring);
        let token = minted.token.reveal();
        for place in 0..token.len() {
            let mut changed = token.as_bytes().to_vec();
            changed[place] = if changed[place] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(present(TokenKind::RefreshToken, &changed).is_none());
        }
        for mangled in [
            &token[1..],
            &token[..token.len() - 1],
            &format!("{token}a"),
            &format!(" {token}"),
            "",
            "tvr_",
        ] {
            assert!(present(TokenKind::RefreshToken, mangled).is_none());
        }
    }

    #[test]
    fn another_secret_under_the_same_id_does_not_match() {
        let ring = ring();
        let minted = mint(TokenKind::AuthSession, &SystemEntropy, &ring);
        let other = mint(TokenKind::AuthSession, &SystemEntropy, &ring);
        let spliced = format!("{}{}", minted.id, &other.token.reveal()[21..]);
        let presented = present(TokenKind::AuthSession, &spliced).unwrap();
        assert_eq!(presented.id, minted.id);
        assert!(!presented.matches(&ring, &minted.hash));
        assert!(!presented.matches(&ring, &minted.hash[..16]));
        assert!(!presented.matches(&ring, &[]));
    }

    #[test]
    fn a_token_outlives_the_rotation_of_the_pepper() {
        let mut ring = ring();
        let minted = mint(TokenKind::RefreshToken, &SystemEntropy, &ring);
        let (code, code_hash) = mint_short(&SystemEntropy, &ring, "connect_code");
        ring.insert(Purpose::TokenPepper, 2, SecretBytes::new(vec![8; 32]));
        let presented = present(TokenKind::RefreshToken, minted.token.reveal()).unwrap();
        assert!(presented.matches(&ring, &minted.hash));
        assert!(short_matches(
            &ring,
            "connect_code",
            code.reveal(),
            &code_hash
        ));
        let newer = mint(TokenKind::RefreshToken, &SystemEntropy, &ring);
        assert!(
            !present(TokenKind::RefreshToken, newer.token.reveal())
                .unwrap()
                .matches(&self::ring(), &newer.hash)
        );
    }

    #[test]
    fn a_short_secret_is_for_its_domain() {
        let ring = ring();
        let (text, hash) = mint_short(&SystemEntropy, &ring, "connect_code");
        assert!(short_matches(&ring, "connect_code", text.reveal(), &hash));
        assert!(!short_matches(&ring, "other", text.reveal(), &hash));
        assert!(!short_matches(&ring, "connect_code", "", &hash));
        assert!(!short_matches(
            &ring,
            "connect_code",
            text.reveal(),
            &hash[..16]
        ));
    }

    #[test]
    fn nothing_secret_prints() {
        let ring = ring();
        let minted = mint(TokenKind::ClientSecret, &SystemEntropy, &ring);
        let presented = present(TokenKind::ClientSecret, minted.token.reveal()).unwrap();
        let secret = &minted.token.reveal()[26..69];
        assert!(!format!("{minted:?} {presented:?}").contains(secret));
    }

    #[test]
    fn crc_32_of_the_check_string_is_the_published_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(checksum_text(u32::MAX).collect::<String>(), "4gfFC3");
        assert_eq!(checksum_text(61).collect::<String>(), "00000z");
    }

    proptest! {
        #[test]
        fn presenting_anything_never_panics(text in "\\PC{0,80}", kind in 0..9_usize) {
            let _ = present(TokenKind::ALL[kind], &text);
            let _ = present(TokenKind::RefreshToken, &format!("tvr_{text}"));
        }
    }
}
