//! Bringing accounts along that were connected elsewhere: lines of a file become accounts, many in one transaction.
//!
//! 1. Read what the lines name, as it is now: connections, users, and what of the lines is there already.
//! 2. Decide each line in its order: refused with a reason, or an account, new or replaced.
//! 3. Write the accounts with their audit rows, and a mark for each line, all or nothing. Whoever changed something of it
//!    meanwhile makes the batch be decided anew.
//!
//! The marks make it safe to run the same file again, after whatever end of the first run, and from two places at once: a
//! line whose mark is there was imported, and whatever became of its account since is not undone. Between two runs the
//! provider may have rotated the tokens: the older ones never overwrite the newer ones.
//!
//! 4. Proving an account refreshes it once, by the same flow, lease and gate as any refresh.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use store::WriteError;

use crate::account::{self, Account};
use crate::connection::{self, Connection};
use crate::flow::manage_clients::ROUNDS;
use crate::flow::refresh::Wanted;
use crate::import_line::{ImportLine, ImportRefusal, UserRef};
use crate::token_set::{Target, TokenSet};
use crate::user::{self, User, canonical_username};
use crate::{Administrator, Caller, Error, Reason, Vault, replay, revocation};

mod decide;

use decide::Draft;

/// What the marks of lines are among the identifiers that are good once, and how long they are kept: 30 days.
const MARKS: &str = "import";
const MARKS_KEPT: u64 = 30 * 24 * 3600;

/// What an import may do.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImportOptions {
    /// Decides everything and writes nothing.
    pub dry_run: bool,
    /// Gives accounts that are connected already the tokens of their lines.
    pub replace: bool,
    /// Makes users that are named by username or e-mail address and do not exist. They cannot log in before an
    /// administrator gives them a password.
    pub create_users: bool,
}

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// The line was imported before; nothing was done.
    Before {
        /// The account, where it is still connected.
        account_id: Option<String>,
    },
    /// It is an account now.
    Connected {
        /// The account; of no meaning in a dry run.
        account_id: String,
        /// Whether its user was made for it.
        new_user: bool,
    },
    /// An account that was connected has its tokens now.
    Replaced {
        /// The account.
        account_id: String,
    },
}

impl Imported {
    /// The account that the line stands for.
    pub fn account_id(&self) -> Option<&str> {
        match self {
            Self::Before { account_id } => account_id.as_deref(),
            Self::Connected { account_id, .. } | Self::Replaced { account_id } => Some(account_id),
        }
    }
}

/// What proving an account came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Its tokens were refreshed since they were imported, and not by this proof.
    Before,
    /// It was refreshed.
    Refreshed,
    /// There is no refresh token, or the provider refuses to refresh one so young.
    Unprovable,
}

/// An import that is under way.
pub struct Import {
    vault: Vault,
    administrator: Administrator,
    options: ImportOptions,
    /// Of a dry run, where no row remembers them: digests of the lines and of the accounts so far, 16 bytes each.
    seen: HashSet<[u8; 16]>,
}

/// What the database says about a batch of lines.
struct Known {
    connections: HashMap<String, Connection>,
    users: BTreeMap<UserRef, Vec<User>>,
    lines: Vec<KnownLine>,
}

#[derive(Default)]
struct KnownLine {
    imported: bool,
    account: Option<Account>,
    /// An account of somebody else under the same id at the provider.
    elsewhere: Option<String>,
}

impl Vault {
    /// Begins an import.
    pub fn begin_import(&self, administrator: &Administrator, options: ImportOptions) -> Import {
        Import {
            vault: self.clone(),
            administrator: administrator.clone(),
            options,
            seen: HashSet::new(),
        }
    }

    /// Step 4: refreshes an imported account, which rotates its refresh token where the provider does that. One that was
    /// refreshed since it was imported is proven already.
    ///
    /// # Errors
    /// What the refresh is refused with; [`Reason::AccountNotConnected`] where the account is gone.
    pub async fn prove_imported(&self, account_id: &str, caller: &Caller) -> Result<Proof, Error> {
        let row = self.first(account::by_id_statement(account_id)).await?;
        let account = account::from_row(&row.ok_or(Reason::AccountNotConnected)?)?;
        if let Some(reason) = account.status.refusal() {
            return Err(reason.into());
        }
        if account.refreshed_at.is_some() {
            return Ok(Proof::Before);
        }
        let row = self
            .first(connection::by_id_statement(&account.connection_id))
            .await?;
        let connection = connection::from_row(&row.ok_or(Reason::AccountNotConnected)?)?;
        let profile = connection
            .profile(self)
            .ok_or(Reason::ProviderClientMisconfigured)?;
        let tokens = TokenSet::open(self, &account.id, account.generation, &account.token_set)?;
        let left = tokens.whole.seconds_left(self.now());
        let too_young = profile
            .refresh
            .not_before
            .is_some_and(|most| left.is_none_or(|left| left > most));
        if too_young || !connection.can_renew(self, profile, &tokens, &Target::Whole)? {
            return Ok(Proof::Unprovable);
        }
        let wanted = Wanted {
            target: Target::Whole,
            since: Some(tokens.whole.since),
        };
        let patience = self.settings.refresh_wait;
        self.refresh_account(account_id, wanted, patience, caller)
            .await?;
        Ok(Proof::Refreshed)
    }
}

impl Import {
    /// Imports some lines, in one transaction; one answer for each. Where this fails, nothing of them was imported, or, if
    /// the database went away while it was committing, all: the same lines again find out.
    ///
    /// # Errors
    /// Faults; [`Reason::ChangedMeanwhile`] where others write the same accounts again and again.
    pub async fn import(
        &mut self,
        lines: &[ImportLine],
        caller: &Caller,
    ) -> Result<Vec<Result<Imported, ImportRefusal>>, Error> {
        for _ in 0..ROUNDS {
            let known = self.load(lines).await?;
            let mut draft = Draft::default();
            let mut answers = Vec::with_capacity(lines.len());
            for (line, known_line) in lines.iter().zip(&known.lines) {
                answers.push(self.decide_line(line, &known, known_line, &mut draft, caller)?);
            }
            if self.options.dry_run {
                self.seen.extend(draft.seen);
                return Ok(answers);
            }
            match self.vault.db.write(draft.batch).await {
                Ok(_) => return Ok(answers),
                // A refresh, a connect flow, or the same import from elsewhere came between.
                Err(WriteError::Expectation { .. } | WriteError::UniqueViolation { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Reason::ChangedMeanwhile.into())
    }

    /// Step 1, in two round trips.
    async fn load(&self, lines: &[ImportLine]) -> Result<Known, Error> {
        let db = &self.vault.db;
        let names: BTreeSet<&str> = lines.iter().map(|line| line.connection.as_str()).collect();
        let refs: BTreeSet<&UserRef> = lines.iter().map(|line| &line.user).collect();
        let mut asked = Vec::with_capacity(names.len() + refs.len() + lines.len());
        asked.extend(names.iter().map(|name| connection::by_name_statement(name)));
        asked.extend(refs.iter().map(|user| match user {
            UserRef::Email(email) => user::by_email_statement(email),
            UserRef::Id(id) => user::by_id_statement(id),
            UserRef::Username(name) => user::by_username_statement(name),
        }));
        asked.extend(
            lines
                .iter()
                .map(|line| replay::find_statement(MARKS, &line.digest)),
        );
        let mut answers = db.read_all(asked).await?.into_iter();
        let mut connections = HashMap::new();
        for (name, rows) in names.iter().zip(answers.by_ref()) {
            if let Some(row) = rows.first() {
                connections.insert((*name).to_owned(), connection::from_row(row)?);
            }
        }
        let mut users = BTreeMap::new();
        for (user, rows) in refs.iter().zip(answers.by_ref()) {
            let found = rows.iter().map(user::from_row);
            users.insert((*user).clone(), found.collect::<Result<Vec<_>, _>>()?);
        }
        let mut known = Known {
            connections,
            users,
            lines: answers
                .map(|rows| KnownLine {
                    imported: !rows.is_empty(),
                    ..KnownLine::default()
                })
                .collect(),
        };
        self.load_accounts(lines, &mut known).await?;
        Ok(known)
    }

    /// The second round trip: what is there under each line's id at the provider, and who else has a name that an
    /// e-mail address would take.
    async fn load_accounts(&self, lines: &[ImportLine], known: &mut Known) -> Result<(), Error> {
        let mut asked = Vec::with_capacity(lines.len() * 2);
        let mut of_lines = Vec::with_capacity(lines.len());
        let mut of_names = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let found = known.users.get(&line.user).map(Vec::as_slice);
            let connection = known.connections.get(&line.connection);
            if let (Some([user]), Some(connection)) = (found, connection) {
                let subject = &line.identity.subject;
                asked.push(account::by_subject_statement(
                    &user.id,
                    &connection.id,
                    subject,
                ));
                asked.push(revocation::elsewhere_statement(
                    &connection.strategy,
                    &connection.client_id,
                    subject,
                    (&user.id, &connection.id),
                ));
                of_lines.push(index);
            }
        }
        for (user, found) in &known.users {
            if let (UserRef::Email(email), []) = (user, found.as_slice())
                && let Some(name) = canonical_username(email)
            {
                asked.push(user::by_username_statement(&name));
                of_names.push(name);
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let mut answers = self.vault.db.read_all(asked).await?.into_iter();
        for index in of_lines {
            let (accounts, elsewhere) = (answers.next(), answers.next());
            let Some(line) = known.lines.get_mut(index) else {
                continue;
            };
            let first = |rows: Option<Vec<store::Row>>| rows.into_iter().flatten().next();
            line.account = first(accounts)
                .map(|row| account::from_row(&row))
                .transpose()?;
            let subject = lines.get(index).map(|line| line.identity.subject.as_str());
            if subject.is_some_and(|subject| !subject.is_empty()) {
                line.elsewhere = first(elsewhere)
                    .map(|row| row.text(0).map(str::to_owned))
                    .transpose()?;
            }
        }
        for (name, rows) in of_names.into_iter().zip(answers) {
            let found = rows.iter().map(user::from_row);
            let found = found.collect::<Result<Vec<_>, _>>()?;
            known.users.insert(UserRef::Username(name), found);
        }
        Ok(())
    }
}
