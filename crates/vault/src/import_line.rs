//! A line of an import: an account that was connected elsewhere, with its tokens, as one JSON object.
//!
//! `docs/import.md` is its description for people. Nothing that is said about a line quotes what is in it: any of it may
//! be a token that stands in the wrong place.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use provider::Identity;
use schemars::JsonSchema;
use seal::SecretString;
use serde::Deserialize;

use crate::connection_settings::OneOrMany;
use crate::document::{printable, wrong};
use crate::token_set::after;
use crate::user::canonical_username;
use crate::{Document, Refusal, Source};

/// The longest line, in bytes without its end.
pub const MOST_LINE_BYTES: usize = 64 * 1024;

/// The longest name of a field that is repeated to whoever wrote it: a token is longer.
const MOST_FIELD: usize = 64;

macro_rules! import_reasons {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $sentence:literal;)*) => {
        /// Every reason for which a line is refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ImportReason {
            $($(#[$doc])* $variant,)*
        }

        impl ImportReason {
            /// Every reason, for the table in the documentation.
            pub const ALL: &'static [ImportReason] = &[$(ImportReason::$variant,)*];

            /// The stable name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it means, and what to do.
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence,)*
                }
            }
        }
    };
}

// Alphabetical.
import_reasons! {
    /// The connection's provider has ids for its accounts, and the line has none.
    AccountIdMissing, "account_id_missing",
        "The account's id at the provider is missing, and the connection has no accounts without one.";
    /// The user has the account already, and nothing was said of replacing it.
    AlreadyConnected, "already_connected",
        "The user has connected this account already. --replace gives it the tokens of the line.";
    /// No account may be connected at the connection.
    ConnectionInactive, "connection_inactive",
        "The connection is not active for connected accounts, or its provider is not in this vault's catalogue.";
    /// There is no such connection.
    ConnectionUnknown, "connection_unknown", "There is no connection of that name.";
    /// Nobody has made sure whose the address is, so that it names nobody.
    EmailUnverified, "email_unverified",
        "Nobody has verified that the e-mail address is the user's. Name the user by user_id, or set email_verified.";
    /// It is no JSON, or a field breaks a rule.
    LineInvalid, "line_invalid", "The line is not a JSON object of the documented form.";
    /// It is longer than [`MOST_LINE_BYTES`].
    LineTooLong, "line_too_long", "The line is longer than 64 KiB.";
    /// The access token has ended, and nothing brings the next one.
    TokensEnded, "tokens_ended",
        "The tokens have ended, and nothing brings the next ones: the user has to connect the account again.";
    /// Several users have the address.
    UserAmbiguous, "user_ambiguous", "Several users have this e-mail address. Name the user by user_id.";
    /// The user may do nothing at present.
    UserBlocked, "user_blocked", "The user is blocked.";
    /// There is no such user.
    UserUnknown, "user_unknown",
        "There is no such user. --create-users makes those that are named by username or email.";
    /// The user cannot be made: the name is somebody else's.
    UsernameTaken, "username_taken",
        "The user cannot be made: somebody else logs in by that name. Name the user by user_id or username.";
    /// A variable is missing or unknown, or has a value that it cannot have.
    VariablesUnfit, "variables_unfit", "The variables are not those that the connection's provider needs.";
}

/// Why a line is refused. Holds nothing of the line but the name of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRefusal {
    /// The reason.
    pub reason: ImportReason,
    /// The field that is wrong, with dots.
    pub field: Option<String>,
    /// What would be right.
    pub rule: Option<String>,
}

impl ImportRefusal {
    pub(crate) fn at(reason: ImportReason, field: &str) -> Self {
        Self {
            reason,
            field: Some(shown(field)),
            rule: None,
        }
    }

    pub(crate) fn with_rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// The first thing that a document's refusal points at.
    fn of_document(refusal: &Refusal) -> Self {
        let errors = refusal.extra().get("validation_errors");
        let first = errors.and_then(|errors| errors.get(0));
        let part = |name: &str| {
            let text = first?.get(name)?.as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        Self {
            reason: ImportReason::LineInvalid,
            field: part("field").map(|field| shown(&field)),
            rule: part("detail"),
        }
    }
}

/// The name of a field, short and printable.
fn shown(field: &str) -> String {
    if field.len() <= MOST_FIELD {
        return printable(field);
    }
    let begin: String = field.chars().take(16).collect();
    printable(&begin) + "..."
}

impl From<ImportReason> for ImportRefusal {
    fn from(reason: ImportReason) -> Self {
        Self {
            reason,
            field: None,
            rule: None,
        }
    }
}

/// How a line names its user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum UserRef {
    Email(String),
    Id(String),
    /// In its canonical form.
    Username(String),
}

/// An account on its way in. Its tokens do not print.
#[derive(Debug)]
pub struct ImportLine {
    /// The line's number, from 1.
    pub number: u64,
    /// What the line is known by when it comes again.
    pub(crate) digest: String,
    pub(crate) user: UserRef,
    pub(crate) connection: String,
    pub(crate) access_token: SecretString,
    pub(crate) refresh_token: Option<SecretString>,
    /// None where the line does not say.
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) expires: Option<Expires>,
    pub(crate) refresh_expires_at: Option<Timestamp>,
    pub(crate) identity: Identity,
    pub(crate) variables: BTreeMap<String, String>,
}

/// When the access token ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expires {
    At(Timestamp),
    /// Seconds from the import on.
    In(u64),
}

impl Expires {
    pub(crate) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(end) => end,
            Self::In(seconds) => after(now, seconds),
        }
    }
}

/// A line as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Body {
    user: UserBody,
    #[schemars(length(min = 1, max = 128))]
    connection: String,
    #[schemars(length(min = 1, max = 16_384))]
    access_token: String,
    #[schemars(length(min = 1, max = 16_384))]
    refresh_token: Option<String>,
    scopes: Option<OneOrMany>,
    expires_at: Option<Moment>,
    #[schemars(range(min = 0, max = 315_360_000))]
    expires_in: Option<u64>,
    refresh_token_expires_at: Option<Moment>,
    #[serde(default)]
    account: AccountBody,
    #[serde(default)]
    #[schemars(extend("maxProperties" = 20))]
    variables: BTreeMap<String, String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum UserBody {
    Id(#[schemars(length(min = 1, max = 128))] String),
    Name(UserName),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UserName {
    #[schemars(length(min = 1, max = 128))]
    user_id: Option<String>,
    #[schemars(length(min = 1, max = 255))]
    username: Option<String>,
    #[schemars(length(min = 3, max = 254), regex(pattern = "^[^\\s@<>]+@[^\\s@<>]+$"))]
    email: Option<String>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct AccountBody {
    id: Option<AccountId>,
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[^\\x00-\\x1f\\x7f]+$"))]
    login: Option<String>,
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[^\\x00-\\x1f\\x7f]+$"))]
    email: Option<String>,
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[^\\x00-\\x1f\\x7f]+$"))]
    name: Option<String>,
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[^\\x00-\\x1f\\x7f]+$"))]
    organization: Option<String>,
}

/// Some providers number their accounts.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum AccountId {
    Number(u64),
    Text(#[schemars(length(min = 1, max = 255), regex(pattern = "^[^\\x00-\\x1f\\x7f]+$"))] String),
}

/// RFC 3339, or seconds since 1970.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Moment {
    Second(#[schemars(range(min = 0, max = 32_503_680_000_i64))] i64),
    Text(#[schemars(length(min = 20, max = 40))] String),
}

impl Moment {
    fn read(&self, field: &str) -> Result<Timestamp, Refusal> {
        let read = match self {
            Self::Second(second) => Timestamp::from_second(*second).ok(),
            Self::Text(text) => text.parse().ok(),
        };
        // Far enough for any token, and for arithmetic with it.
        let least = Timestamp::UNIX_EPOCH;
        let most = Timestamp::MAX
            .checked_sub(SignedDuration::from_hours(24 * 365 * 1000))
            .unwrap_or(Timestamp::MAX);
        read.filter(|moment| (least..most).contains(moment))
            .ok_or_else(|| {
                wrong(
                    field,
                    "a time by RFC 3339 with its zone, or whole seconds since 1970",
                )
            })
    }
}

impl ImportLine {
    /// Reads a line; `bytes` is without its end.
    ///
    /// # Errors
    /// [`ImportReason::LineTooLong`], [`ImportReason::LineInvalid`] with the first field that is wrong.
    pub fn read(number: u64, bytes: &[u8]) -> Result<Self, ImportRefusal> {
        if bytes.len() > MOST_LINE_BYTES {
            return Err(ImportReason::LineTooLong.into());
        }
        let value = oauth::json::parse(bytes).ok_or(ImportReason::LineInvalid)?;
        let body = Body::read(value, Source::Body);
        body.and_then(|body| Self::of_body(number, bytes, body))
            .map_err(|refusal| ImportRefusal::of_document(&refusal))
    }

    fn of_body(number: u64, bytes: &[u8], body: Body) -> Result<Self, Refusal> {
        // Wiped from here on, whatever else is wrong.
        let access_token = SecretString::new(body.access_token);
        let refresh_token = body.refresh_token.map(SecretString::new);
        for (field, token) in [
            ("access_token", Some(&access_token)),
            ("refresh_token", refresh_token.as_ref()),
        ] {
            if token.is_some_and(|token| !provider::is_token(token.reveal())) {
                return Err(wrong(field, "printable ASCII characters only"));
            }
        }
        let scopes = body.scopes.map(|scopes| scopes.words());
        if let Some(scopes) = &scopes
            && (scopes.len() > 200 || !scopes.iter().all(|scope| provider::is_scope(scope)))
        {
            return Err(wrong(
                "scopes",
                "at most 200 words of printable ASCII characters",
            ));
        }
        let expires = match (body.expires_at, body.expires_in) {
            (Some(_), Some(_)) => {
                return Err(wrong("expires_in", "not beside expires_at"));
            }
            (Some(moment), None) => Some(Expires::At(moment.read("expires_at")?)),
            (None, seconds) => seconds.map(Expires::In),
        };
        let refresh_expires_at = body
            .refresh_token_expires_at
            .map(|moment| moment.read("refresh_token_expires_at"))
            .transpose()?;
        if refresh_expires_at.is_some() && refresh_token.is_none() {
            return Err(wrong(
                "refresh_token_expires_at",
                "only beside a refresh_token",
            ));
        }
        Ok(Self {
            number,
            digest: seal::sha256_hex_thumbprint(bytes.trim_ascii()),
            user: body.user.read()?,
            connection: body.connection,
            access_token,
            refresh_token,
            scopes,
            expires,
            refresh_expires_at,
            identity: Identity {
                subject: match body.account.id {
                    None => String::new(),
                    Some(AccountId::Number(number)) => number.to_string(),
                    Some(AccountId::Text(text)) => text,
                },
                login: body.account.login,
                email: body.account.email,
                name: body.account.name,
                organization: body.account.organization,
            },
            variables: body.variables,
        })
    }
}

impl UserBody {
    fn read(self) -> Result<UserRef, Refusal> {
        match self {
            Self::Id(id) => Ok(UserRef::Id(id)),
            Self::Name(UserName {
                user_id: Some(id),
                username: None,
                email: None,
            }) => Ok(UserRef::Id(id)),
            Self::Name(UserName {
                user_id: None,
                username: Some(typed),
                email: None,
            }) => canonical_username(&typed)
                .map(UserRef::Username)
                .ok_or_else(|| {
                    wrong(
                        "user.username",
                        "1 to 255 characters without spaces and control characters, and no dot at the end",
                    )
                }),
            Self::Name(UserName {
                user_id: None,
                username: None,
                email: Some(email),
            }) => Ok(UserRef::Email(email)),
            Self::Name(_) => Err(wrong("user", "one of user_id, username and email")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A line that is right, with some of its fields changed; null takes one away.
    fn line(change: Value) -> Vec<u8> {
        let mut whole = json!({
            "user": "usr_1",
            "connection": "github",
            "access_token": "gho_hush_hush",
            "refresh_token": "ghr_hush_hush",
            "scopes": ["repo", "read:user"],
            "expires_at": "2027-01-15T08:00:00Z",
            "account": {"id": 4711, "login": "ada"},
        });
        for (name, value) in change.as_object().unwrap() {
            whole[name] = value.clone();
        }
        let whole = whole.as_object_mut().unwrap();
        whole.retain(|_, value| !value.is_null());
        serde_json::to_vec(whole).unwrap()
    }

    fn read(change: Value) -> Result<ImportLine, ImportRefusal> {
        ImportLine::read(1, &line(change))
    }

    #[test]
    fn a_line_is_an_account_with_its_tokens() {
        let read = read(json!({"variables": {"shop": "ada.myshopify.com"}})).unwrap();
        assert_eq!(read.user, UserRef::Id("usr_1".to_owned()));
        assert_eq!(read.access_token.reveal(), "gho_hush_hush");
        assert_eq!(read.refresh_token.unwrap().reveal(), "ghr_hush_hush");
        assert_eq!(read.scopes.unwrap(), ["repo", "read:user"]);
        assert_eq!(read.identity.subject, "4711");
        assert_eq!(read.identity.login.as_deref(), Some("ada"));
        assert_eq!(read.variables["shop"], "ada.myshopify.com");
        let end = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(read.expires, Some(Expires::At(end)));
    }

    #[test]
    fn what_may_be_said_in_several_ways_means_the_same() {
        let end = Timestamp::from_second(1_800_000_000).unwrap();
        for written in [
            json!("2027-01-15T08:00:00Z"),
            json!("2027-01-15T09:00:00+01:00"),
            json!(1_800_000_000),
        ] {
            let line = read(json!({ "expires_at": written })).unwrap();
            assert_eq!(line.expires.unwrap().at(Timestamp::UNIX_EPOCH), end);
        }
        let line = read(json!({"expires_at": null, "expires_in": 60})).unwrap();
        let now = Timestamp::from_second(1_799_999_940).unwrap();
        assert_eq!(line.expires.unwrap().at(now), end);
        let line = read(json!({"scopes": "repo read:user"})).unwrap();
        assert_eq!(line.scopes.unwrap(), ["repo", "read:user"]);
        for (written, expected) in [
            (json!("usr_1"), UserRef::Id("usr_1".to_owned())),
            (json!({"user_id": "usr_1"}), UserRef::Id("usr_1".to_owned())),
            (
                json!({"username": " Ada "}),
                UserRef::Username("ada".to_owned()),
            ),
            (
                json!({"email": "Ada@example.com"}),
                UserRef::Email("Ada@example.com".to_owned()),
            ),
        ] {
            assert_eq!(read(json!({ "user": written })).unwrap().user, expected);
        }
    }

    #[test]
    fn the_end_of_a_line_says_nothing() {
        let bytes = line(json!({}));
        let with_end = [bytes.as_slice(), b" \r"].concat();
        let digest = |bytes: &[u8]| ImportLine::read(1, bytes).unwrap().digest;
        assert_eq!(digest(&bytes), digest(&with_end));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field_and_never_quoted() {
        let long = "hush_hush".repeat(2000);
        for (change, field, rule) in [
            (json!({"user": null}), "user", "required"),
            (json!({"connection": null}), "connection", "required"),
            (json!({"access_token": null}), "access_token", "required"),
            (
                json!({"access_token": long}),
                "access_token",
                "at most 16384 characters",
            ),
            (
                json!({"access_token": "hush_hush\n"}),
                "access_token",
                "printable ASCII characters only",
            ),
            (
                json!({"refresh_token": "hush_hush\u{fc}"}),
                "refresh_token",
                "printable ASCII characters only",
            ),
            (json!({"token": "hush_hush"}), "token", "unknown field"),
            (
                json!({"account": {"id": "1", "secret": "hush_hush"}}),
                "account.secret",
                "unknown field",
            ),
            (
                json!({"expires_at": "hush_hush hush_hush hush_hush"}),
                "expires_at",
                "a time by RFC 3339 with its zone, or whole seconds since 1970",
            ),
            (
                json!({"expires_at": "2027-01-15T08:00:00"}),
                "expires_at",
                "at least 20 characters",
            ),
            (
                json!({"expires_in": 3600}),
                "expires_in",
                "not beside expires_at",
            ),
            (
                json!({"refresh_token": null, "refresh_token_expires_at": 1_800_000_000}),
                "refresh_token_expires_at",
                "only beside a refresh_token",
            ),
            (
                json!({"scopes": ["re po"]}),
                "scopes",
                "at most 200 words of printable ASCII characters",
            ),
            (
                json!({"user": {"email": "a@b.c", "username": "a"}}),
                "user",
                "one of user_id, username and email",
            ),
            (
                json!({"user": {"username": "a b"}}),
                "user.username",
                "1 to 255 characters without spaces and control characters, and no dot at the end",
            ),
        ] {
            let refusal = read(change).unwrap_err();
            assert_eq!(refusal.reason, ImportReason::LineInvalid);
            assert_eq!(refusal.field.as_deref(), Some(field));
            assert_eq!(refusal.rule.as_deref(), Some(rule), "{field}");
            assert!(!format!("{refusal:?}").contains("hush_hush"));
        }
    }

    #[test]
    fn what_is_no_json_object_or_too_long_is_refused_without_being_shown() {
        for text in [
            "",
            "hush_hush",
            "[\"hush_hush\"]",
            "{\"access_token\": \"hush_hush\"",
        ] {
            let refusal = ImportLine::read(1, text.as_bytes()).unwrap_err();
            assert_eq!(refusal.reason, ImportReason::LineInvalid, "{text}");
            assert!(!format!("{refusal:?}").contains("hush_hush"));
        }
        let long = line(json!({"connection": "x".repeat(MOST_LINE_BYTES)}));
        let refusal = ImportLine::read(1, &long).unwrap_err();
        assert_eq!(refusal.reason, ImportReason::LineTooLong);
        // A token where a name should be is not repeated.
        let refusal = read(json!({"ghp_hush_hush".repeat(8): 1})).unwrap_err();
        assert!(refusal.field.unwrap().len() < 20);
    }

    #[test]
    fn a_line_does_not_print_its_tokens() {
        let printed = format!("{:?}", read(json!({})).unwrap());
        assert!(!printed.contains("hush_hush"), "{printed}");
    }
}
