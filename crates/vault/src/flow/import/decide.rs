//! Step 2: what becomes of each line.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use provider::{ConnectionOptions, Profile, RefreshClass, TokenAnswer, VariableSource};
use store::Batch;

use super::{Import, Imported, Known, KnownLine, MARKS, MARKS_KEPT};
use crate::account::Account;
use crate::connection::Connection;
use crate::granted::{Grant, Grantee};
use crate::import_line::{ImportLine, ImportReason, ImportRefusal, UserRef};
use crate::token_set::{TokenSet, after};
use crate::user::{self, User, UserProfile, canonical_username};
use crate::{Caller, Error, EventKind, replay};

/// A batch that is being decided.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) batch: Batch,
    /// Users that the batch makes, by the name to log in by.
    users: BTreeMap<String, User>,
    /// Accounts as the batch leaves them, by user, connection and id at the provider.
    accounts: HashMap<[String; 3], Account>,
    digests: HashSet<String>,
    /// What a dry run remembers of it.
    pub(super) seen: Vec<[u8; 16]>,
}

/// Where a line's account goes.
struct Place<'a> {
    connection: &'a Connection,
    profile: &'a Profile,
    options: ConnectionOptions,
    class: RefreshClass,
    user: PlacedUser,
}

enum PlacedUser {
    /// There already: the id.
    Known(String),
    /// Made with the batch: the name to log in by, and the address.
    New(String, Option<String>),
}

impl Import {
    /// Decides one line, and adds what it takes to the draft.
    pub(super) fn decide_line(
        &self,
        line: &ImportLine,
        known: &Known,
        known_line: &KnownLine,
        draft: &mut Draft,
        caller: &Caller,
    ) -> Result<Result<Imported, ImportRefusal>, Error> {
        let line_seen = short(&[&line.digest]);
        let imported = known_line.imported
            || draft.digests.contains(&line.digest)
            || self.seen.contains(&line_seen);
        if imported {
            let account = known_line.account.as_ref();
            return Ok(Ok(Imported::Before {
                account_id: account.map(|account| account.id.clone()),
            }));
        }
        let place = match self.decide_place(line, known, draft)? {
            Ok(place) => place,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let key = [
            match &place.user {
                PlacedUser::Known(id) => id.clone(),
                // No id looks like this.
                PlacedUser::New(username, _) => format!("new {username}"),
            },
            place.connection.id.clone(),
            line.identity.subject.clone(),
        ];
        let account_seen = short(&[&key[0], &key[1], &key[2]]);
        let in_draft = draft.accounts.get(&key);
        let before = in_draft.or(known_line.account.as_ref()).cloned();
        let is_there = before.is_some() || self.seen.contains(&account_seen);
        if is_there && !self.options.replace {
            return Ok(Err(ImportReason::AlreadyConnected.into()));
        }
        let (user_id, new_user) = self.placed_user(&place.user, draft, caller)?;
        let mut grant = self.grant(line, &place);
        let grantee = Grantee {
            user_id: &user_id,
            connection: place.connection,
            profile: place.profile,
            class: place.class,
            identity: &line.identity,
        };
        let settled = self
            .vault
            .decide_account(&grantee, &mut grant, before.as_ref())?;
        let account = settled.account;
        let now = self.vault.now();
        let change = if is_there { "replaced" } else { "connected" };
        let mut event = self
            .administrator
            .event(EventKind::AccountImported, change, &account.id)
            .user(user_id)
            .connection(&*place.connection.name)
            .account(&*account.id)
            .scopes(account.scopes.join(" "))
            .detail("line", line.number);
        if let Some(elsewhere) = &known_line.elsewhere {
            event = event.detail("connected_elsewhere", elsewhere.as_str());
        }
        draft.batch.push(settled.write);
        draft.batch.push(replay::statement(
            MARKS,
            &line.digest,
            after(now, MARKS_KEPT),
        ));
        for event in std::iter::once(&event).chain(&settled.told) {
            let told = self.vault.audit_statement(event, caller, now);
            draft.batch.push(told);
        }
        draft.digests.insert(line.digest.clone());
        if self.options.dry_run {
            draft.seen.extend([line_seen, account_seen]);
        }
        let account_id = account.id.clone();
        draft.accounts.insert(key, account);
        Ok(Ok(if is_there {
            Imported::Replaced { account_id }
        } else {
            Imported::Connected {
                account_id,
                new_user,
            }
        }))
    }

    /// Whether the line may become an account, and where.
    fn decide_place<'a>(
        &'a self,
        line: &ImportLine,
        known: &'a Known,
        draft: &Draft,
    ) -> Result<Result<Place<'a>, ImportRefusal>, Error> {
        let Some(connection) = known.connections.get(&line.connection) else {
            let reason = ImportReason::ConnectionUnknown;
            return Ok(Err(ImportRefusal::at(reason, "connection")));
        };
        let profile = connection.profile(&self.vault);
        let Some(profile) = profile.filter(|_| connection.connected_accounts_active) else {
            let reason = ImportReason::ConnectionInactive;
            return Ok(Err(ImportRefusal::at(reason, "connection")));
        };
        let options = connection.options()?;
        let class = connection.refresh_class(profile)?;
        let checked = check_line(line, profile, &options, self.vault.now());
        Ok(checked.and_then(|()| {
            let user = self.decide_user(line, known, draft);
            let user = user.map_err(|reason| ImportRefusal::at(reason, "user"))?;
            Ok(Place {
                connection,
                profile,
                options,
                class,
                user,
            })
        }))
    }

    fn decide_user(
        &self,
        line: &ImportLine,
        known: &Known,
        draft: &Draft,
    ) -> Result<PlacedUser, ImportReason> {
        let found = known.users.get(&line.user).map_or(&[][..], Vec::as_slice);
        match (found, &line.user) {
            ([_, _, ..], _) => return Err(ImportReason::UserAmbiguous),
            ([user], _) if user.blocked_at.is_some() => return Err(ImportReason::UserBlocked),
            // Whoever signs up may write any address.
            ([user], UserRef::Email(_)) if !user.profile.email_verified => {
                return Err(ImportReason::EmailUnverified);
            }
            ([user], _) => return Ok(PlacedUser::Known(user.id.clone())),
            ([], _) => {}
        }
        let (username, email) = match &line.user {
            UserRef::Email(email) if self.options.create_users => {
                let username = canonical_username(email).ok_or(ImportReason::UserUnknown)?;
                (username, Some(email.clone()))
            }
            UserRef::Username(name) if self.options.create_users => (name.clone(), None),
            _ => return Err(ImportReason::UserUnknown),
        };
        let others = known.users.get(&UserRef::Username(username.clone()));
        let is_taken = match draft.users.get(&username) {
            Some(made) => made.email != email,
            None => others.is_some_and(|users| !users.is_empty()),
        };
        if is_taken {
            return Err(ImportReason::UsernameTaken);
        }
        Ok(PlacedUser::New(username, email))
    }

    /// The user's id, and whether this line made the user.
    fn placed_user(
        &self,
        user: &PlacedUser,
        draft: &mut Draft,
        caller: &Caller,
    ) -> Result<(String, bool), Error> {
        let (username, email) = match user {
            PlacedUser::Known(id) => return Ok((id.clone(), false)),
            PlacedUser::New(username, email) => (username, email),
        };
        if let Some(made) = draft.users.get(username) {
            return Ok((made.id.clone(), false));
        }
        let now = self.vault.now();
        let id = seal::random_id(self.vault.entropy.as_ref(), "usr_");
        let made = User {
            id: id.clone(),
            username: username.clone(),
            email: email.clone(),
            name: None,
            blocked_at: None,
            created_at: now,
            updated_at: now,
            profile: UserProfile {
                // Whoever imports says whose it is.
                email_verified: email.is_some(),
                ..UserProfile::default()
            },
            revision: 1,
        };
        let event = self
            .administrator
            .event(EventKind::UserChanged, "created", &id)
            .user(&*id);
        draft.batch.push(user::insert_statement(&made, None)?);
        draft
            .batch
            .push(self.vault.audit_statement(&event, caller, now));
        draft.users.insert(username.clone(), made);
        Ok((id, true))
    }

    /// What the line brings, as if the provider had given it.
    fn grant(&self, line: &ImportLine, place: &Place<'_>) -> Grant {
        let now = self.vault.now();
        let mut answer = TokenAnswer::of(line.access_token.duplicate());
        answer.refresh_token = line
            .refresh_token
            .as_ref()
            .map(seal::SecretString::duplicate);
        let mut tokens = TokenSet::of_grant(answer, now);
        tokens.whole.expires_at = line.expires.map(|expires| expires.at(now)).or_else(|| {
            // It is as old as nobody knows, and known not to live for ever: refreshed before it is handed out.
            let ends = place.options.assumed_lifetime(place.profile).is_some();
            (ends && line.refresh_token.is_some()).then_some(now)
        });
        let scopes = line
            .scopes
            .clone()
            .unwrap_or_else(|| place.connection.scopes.clone());
        let refresh_expires_in = line.refresh_expires_at.map(|end| {
            let left = end.duration_since(now).as_secs();
            u64::try_from(left).unwrap_or(0)
        });
        Grant {
            tokens,
            requested_scopes: scopes.clone(),
            scopes,
            refresh_expires_in,
            variables: line.variables.clone(),
            given_at: None,
        }
    }
}

/// What connection and clock say about a line.
fn check_line(
    line: &ImportLine,
    profile: &Profile,
    options: &ConnectionOptions,
    now: Timestamp,
) -> Result<(), ImportRefusal> {
    if line.identity.subject.is_empty() && !options.allows_missing_user_id(profile) {
        let reason = ImportReason::AccountIdMissing;
        return Err(ImportRefusal::at(reason, "account.id"));
    }
    let unfit = |name: &str, rule: String| {
        let field = format!("variables.{name}");
        Err(ImportRefusal::at(ImportReason::VariablesUnfit, &field).with_rule(rule))
    };
    let learned = |name: &str| {
        let variable = profile.variables.get(name)?;
        (variable.from != VariableSource::Configuration).then_some(variable)
    };
    for (name, value) in &line.variables {
        match learned(name) {
            None => return unfit(name, "unknown field".to_owned()),
            Some(variable) if !variable.takes(value) => {
                return unfit(name, variable.description.clone());
            }
            Some(_) => {}
        }
    }
    for (name, variable) in &profile.variables {
        let is_needed = learned(name).is_some()
            && variable.default.is_none()
            && !variable.optional
            && !options.variables.contains_key(name);
        if is_needed && !line.variables.contains_key(name) {
            return unfit(name, format!("required: {}", variable.description));
        }
    }
    let is_over = |end: Option<Timestamp>| end.is_some_and(|end| end <= now);
    if is_over(line.refresh_expires_at) {
        let reason = ImportReason::TokensEnded;
        return Err(ImportRefusal::at(reason, "refresh_token_expires_at"));
    }
    if line.refresh_token.is_none() && is_over(line.expires.map(|expires| expires.at(now))) {
        let reason = ImportReason::TokensEnded;
        return Err(ImportRefusal::at(reason, "expires_at"));
    }
    Ok(())
}

/// Enough of a digest to tell lines apart in memory.
fn short(parts: &[&str]) -> [u8; 16] {
    let digest = seal::sha256(parts.join("\0").as_bytes());
    std::array::from_fn(|index| digest.get(index).copied().unwrap_or_default())
}
