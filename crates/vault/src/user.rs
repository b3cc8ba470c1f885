//! A user: a person with a name to log in by and a password.

use jiff::Timestamp;
use seal::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use store::{Batch, Row, Statement, WriteError, params};

use crate::{Error, Fault, Reason, Refusal, Vault};

/// A user, without the password's hash.
#[derive(Debug, Clone)]
pub struct User {
    /// `usr_…`; the `sub` of every token.
    pub id: String,
    /// What they log in by, in its canonical form.
    pub username: String,
    /// Their e-mail address.
    pub email: Option<String>,
    /// What they are called.
    pub name: Option<String>,
    /// Set while they may do nothing.
    pub blocked_at: Option<Timestamp>,
    /// When they were made.
    pub created_at: Timestamp,
    /// When they last changed.
    pub updated_at: Timestamp,
    /// What only people and their tools read.
    pub(crate) profile: UserProfile,
    /// Counts an administrator's changes.
    pub(crate) revision: u64,
}

/// What only people and their tools read of a user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UserProfile {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) email_verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) given_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) family_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nickname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) picture: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) user_metadata: Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) app_metadata: Map<String, serde_json::Value>,
}

/// What it takes to make a user.
#[derive(Debug)]
pub struct NewUser {
    /// What they log in by: 1 to 255 characters.
    pub username: String,
    /// At least 8 characters, at most 1024 bytes.
    pub password: SecretString,
    /// Their e-mail address.
    pub email: Option<String>,
    /// What they are called.
    pub name: Option<String>,
}

/// One spelling for every way to type a name: compatibility forms composed, letters small, ends trimmed (threats IN-20;
/// RFC 8265 §3.3). None when nothing sensible is left.
pub(crate) fn canonical_username(typed: &str) -> Option<String> {
    if typed.len() > 1024 {
        return None;
    }
    let normalizer = icu_normalizer::ComposingNormalizerBorrowed::new_nfkc();
    // Lower case can undo a composition and the other way round: once each is not enough.
    let once = normalizer.normalize(typed.trim()).to_lowercase();
    let name = normalizer.normalize(&once).to_lowercase();
    let fits = (1..=255).contains(&name.chars().count())
        && !name.chars().any(|c| c.is_control() || c.is_whitespace())
        && !name.ends_with('.');
    fits.then_some(name)
}

/// Longer than any person types, shorter than what makes the hash a way to keep us busy.
pub(crate) fn check_new_password(password: &SecretString) -> Result<(), Refusal> {
    let length = password.reveal().chars().count();
    if length < 8 || password.len() > 1024 {
        return Err(Refusal::new(Reason::PasswordUnfit));
    }
    Ok(())
}

impl Vault {
    /// Makes a user.
    ///
    /// # Errors
    /// [`Reason::UsernameUnfit`], [`Reason::UsernameTaken`], [`Reason::PasswordUnfit`].
    pub async fn create_user(&self, new: NewUser) -> Result<User, Error> {
        let username = canonical_username(&new.username).ok_or(Reason::UsernameUnfit)?;
        check_new_password(&new.password)?;
        let now = self.now();
        let hash = self.hash_password(new.password).await?;
        let user = User {
            id: seal::random_id(self.entropy.as_ref(), "usr_"),
            username,
            email: new.email,
            name: new.name,
            blocked_at: None,
            created_at: now,
            updated_at: now,
            profile: UserProfile::default(),
            revision: 1,
        };
        let insert = insert_statement(&user, Some(&hash))?;
        match self.db.write(Batch::new().with(insert)).await {
            Ok(_) => Ok(user),
            Err(WriteError::UniqueViolation { .. }) => Err(Reason::UsernameTaken.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes every right from a user, at once and on every node; their tokens stay dead while they are blocked.
    pub async fn block_user(&self, user_id: &str) -> Result<(), Error> {
        self.db
            .write(Batch::new().with(Statement::new(
                "update users set blocked_at = $2, updated_at = $2 where id = $1 and blocked_at is null",
                params![user_id, self.now()],
            )))
            .await?;
        Ok(())
    }

    /// Hashes on a thread of its own, as many at once as there are cores: a hash takes 50 ms and 19 MiB.
    pub(crate) async fn hash_password(&self, password: SecretString) -> Result<String, Error> {
        let entropy = std::sync::Arc::clone(&self.entropy);
        self.with_password_permit(move || seal::password::hash(&password, entropy.as_ref()))
            .await
    }

    /// Compares on a thread of its own. Without a hash, the same work is done for nobody (threats LG-20).
    pub(crate) async fn verify_password(
        &self,
        password: SecretString,
        stored: Option<String>,
    ) -> Result<bool, Error> {
        self.with_password_permit(move || match stored {
            Some(stored) => seal::password::verify(&password, &stored),
            None => seal::password::verify_against_nobody(&password),
        })
        .await
    }

    async fn with_password_permit<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let gone = |_| crate::Fault::Internal("the password thread is gone".to_owned());
        let permit = std::sync::Arc::clone(&self.password_permits)
            .acquire_owned()
            .await
            .map_err(|_| crate::Fault::Internal("the password permits are closed".to_owned()))?;
        let done = tokio::task::spawn_blocking(move || {
            let out = work();
            drop(permit);
            out
        });
        Ok(done.await.map_err(gone)?)
    }
}

// The columns of `users`, in the order that `from_row` reads them.
macro_rules! user_columns {
    () => {
        "u.id, u.username, u.email, u.name, u.blocked_at, u.updated_at, u.created_at, u.profile, u.revision"
    };
}

pub(crate) fn by_id_statement(id: &str) -> Statement {
    Statement::new(
        concat!("select ", user_columns!(), " from users u where u.id = $1"),
        params![id],
    )
}

/// The user of a name with the password's hash.
pub(crate) fn by_username_statement(username: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            user_columns!(),
            ", u.password_hash from users u where u.username = $1"
        ),
        params![username],
    )
}

/// The users of an e-mail address, two at most: enough to see that it names nobody alone.
pub(crate) fn by_email_statement(email: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            user_columns!(),
            " from users u where u.email = $1 order by u.id limit 2"
        ),
        params![email],
    )
}

/// Replaces a password's hash, where it is still the one that was compared.
pub(crate) fn rehash_statement(id: &str, before: &str, after: &str) -> Statement {
    Statement::new(
        "update users set password_hash = $3 where id = $1 and password_hash = $2",
        params![id, before, after],
    )
}

pub(crate) fn from_row(row: &Row) -> Result<User, Error> {
    Ok(User {
        id: row.text(0)?.to_owned(),
        username: row.text(1)?.to_owned(),
        email: row.opt_text(2)?.map(str::to_owned),
        name: row.opt_text(3)?.map(str::to_owned),
        blocked_at: row.opt_timestamp(4)?,
        updated_at: row.timestamp(5)?,
        created_at: row.timestamp(6)?,
        profile: serde_json::from_str(row.text(7)?)?,
        revision: u64::try_from(row.int(8)?)
            .map_err(|_| Fault::Internal("users.revision".to_owned()))?,
    })
}

/// The column after `user_columns`.
pub(crate) const PASSWORD_HASH: usize = 9;

/// The row of a new user; without a hash they cannot log in.
pub(crate) fn insert_statement(user: &User, hash: Option<&str>) -> Result<Statement, Error> {
    Ok(Statement::new(
        "insert into users (id, username, email, name, password_hash, blocked_at, profile, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        params![
            user.id.as_str(),
            user.username.as_str(),
            user.email.as_deref(),
            user.name.as_deref(),
            hash,
            user.blocked_at,
            serde_json::to_string(&user.profile)?,
            user.created_at,
        ],
    )
    .exactly(1))
}

/// Writes what changed, where nobody else has changed the user since they were read. A hash that is None stays.
pub(crate) fn update_statement(user: &User, hash: Option<&str>) -> Result<Statement, Error> {
    Ok(Statement::new(
        "update users
            set username = $3, email = $4, name = $5, password_hash = coalesce($6, password_hash), blocked_at = $7,
                profile = $8, updated_at = $9, revision = revision + 1
          where id = $1 and revision = $2",
        params![
            user.id.as_str(),
            i64::try_from(user.revision).unwrap_or(i64::MAX),
            user.username.as_str(),
            user.email.as_deref(),
            user.name.as_deref(),
            hash,
            user.blocked_at,
            serde_json::to_string(&user.profile)?,
            user.updated_at,
        ],
    )
    .exactly(1))
}

/// Deletes a user with all that hangs on them, where they have no accounts any more.
pub(crate) fn delete_statement(id: &str) -> Statement {
    Statement::new(
        "delete from users
          where id = $1 and not exists (select 1 from accounts a where a.user_id = $1)",
        params![id],
    )
    .exactly(1)
}

/// Which users a list has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum UserSearch {
    /// All of them.
    #[default]
    All,
    /// Those of an e-mail address.
    Email(String),
    /// Those whose e-mail address begins so. Reads users one after the other until it has enough.
    EmailPrefix(String),
    /// The one who logs in by a name.
    Username(String),
    /// The one of an id.
    Id(String),
    /// Those whom a word names: their id, name to log in by or e-mail address.
    Word(String),
}

/// Users by id, one window: the text of the select, of the count, and the filter's value.
pub(crate) fn list_statements(search: &UserSearch) -> (&'static str, &'static str, store::Params) {
    macro_rules! users_where {
        ($rest:literal, $counted:literal) => {
            (
                concat!(
                    "select ",
                    user_columns!(),
                    " from users u where u.id > $1",
                    $rest,
                    " order by u.id limit $2 offset $3"
                ),
                concat!("select count(*) from users u where ", $counted),
            )
        };
    }
    let (statements, value) = match search {
        UserSearch::All => (users_where!("", "1 = 1"), None),
        UserSearch::Email(email) => (
            users_where!(" and u.email = $4", "u.email = $1"),
            Some(email),
        ),
        UserSearch::EmailPrefix(prefix) => (
            users_where!(
                " and substr(u.email, 1, length($4)) = $4",
                "substr(u.email, 1, length($1)) = $1"
            ),
            Some(prefix),
        ),
        UserSearch::Username(username) => (
            users_where!(" and u.username = $4", "u.username = $1"),
            Some(username),
        ),
        UserSearch::Id(id) => (users_where!(" and u.id = $4", "u.id = $1"), Some(id)),
        UserSearch::Word(word) => (
            users_where!(
                " and (u.id = $4 or u.username = $4 or u.email = $4)",
                "(u.id = $1 or u.username = $1 or u.email = $1)"
            ),
            Some(word),
        ),
    };
    let filters = value.map(|value| params![value.as_str()]);
    (statements.0, statements.1, filters.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_20_every_spelling_of_a_name_is_one() {
        for (typed, expected) in [
            ("Demo@Example.com", Some("demo@example.com")),
            ("  demo@example.com ", Some("demo@example.com")),
            ("demo\u{ff20}example.com", Some("demo@example.com")),
            ("jose\u{301}", Some("jos\u{e9}")),
            ("JOS\u{c9}", Some("jos\u{e9}")),
            ("\u{212a}elvin", Some("kelvin")),
            ("stra\u{df}e", Some("stra\u{df}e")),
            ("\u{130}", Some("i\u{307}")),
            ("", None),
            ("   ", None),
            ("a b", None),
            ("a\u{0}b", None),
            ("dot.", None),
        ] {
            assert_eq!(canonical_username(typed).as_deref(), expected, "{typed}");
        }
        assert_eq!(canonical_username(&"x".repeat(256)), None);
        let once = canonical_username("\u{130}\u{212a}\u{ff21}").unwrap();
        assert_eq!(canonical_username(&once).unwrap(), once);
    }
}
