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
    let prefix = kind.prefix();
    let id_end = prefix.len() + kind.id_len();
    let mut text = String::with_capacity(id_end + SECRET_LEN + CHECKSUM_LEN);
    text.push_str(prefix);
    push_random_base62(&mut text, entropy, kind.id_len() + SECRET_LEN);
    let (id, secret) = text
        .get(prefix.len()..)
        .and_then(|rest| rest.split_at_checked(kind.id_len()))
        .unwrap_or_default();
    let hash = token_mac(ring, kind, id, secret);
    let id = id.to_owned();
    if kind.checksum_len() > 0 {
        let checksum = crc32(text.as_bytes());
        text.extend(checksum_text(checksum));
    }
    MintedToken {
        token: SecretString::new(text),
        id,
        hash,
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
                &token_parts(self.kind, &self.id, &self.secret),
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

fn token_mac(ring: &KeyRing, kind: TokenKind, id: &str, secret: &str) -> [u8; 32] {
    ring.mac(Purpose::TokenPepper, MINTED, &token_parts(kind, id, secret))
}

fn token_parts<'a>(kind: TokenKind, id: &'a str, secret: &'a str) -> [&'a [u8]; 3] {
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
