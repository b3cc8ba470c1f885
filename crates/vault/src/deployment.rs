//! The deployment: one issuer, one database, one set of keys. Opened at start, before anything listens.

use seal::{DataKeyContext, Entropy, KeyEncryption, KeyRing, Purpose, WrappedKey};
use store::{Batch, Db, Migration, Statement, params};

use jiff::Timestamp;

/// The schema, in order. A released file is never edited.
pub const MIGRATIONS: &[Migration] = &[
    Migration::new(1, "first", include_str!("../migrations/0001_first.sql")),
    Migration::new(
        2,
        "providers",
        include_str!("../migrations/0002_providers.sql"),
    ),
    Migration::new(
        3,
        "management",
        include_str!("../migrations/0003_management.sql"),
    ),
    Migration::new(
        4,
        "due_accounts",
        include_str!("../migrations/0004_due_accounts.sql"),
    ),
    Migration {
        sqlite: include_str!("../migrations/0005_configuration_mark.sqlite.sql"),
        postgres: include_str!("../migrations/0005_configuration_mark.postgres.sql"),
        ..Migration::new(
            5,
            "configuration_mark",
            include_str!("../migrations/0005_configuration_mark.sql"),
        )
    },
    Migration::new(
        6,
        "fewer_indexes",
        include_str!("../migrations/0006_fewer_indexes.sql"),
    ),
];

/// Why a deployment cannot be opened. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenDeploymentError {
    /// The database answered with an error or not at all.
    #[error("the database cannot be used")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database was made for another issuer.
    #[error(
        "this database belongs to the issuer {stored}, but the configuration says {configured}; tokens name their issuer, so it cannot be changed in place"
    )]
    OtherIssuer {
        /// The issuer the database was created with.
        stored: String,
        /// The issuer of the configuration.
        configured: String,
    },
    /// What every deployment has could not be made.
    #[error("the deployment's own APIs and keys cannot be made: {0}")]
    Prepare(String),
    /// A data key does not open under the configured master key.
    #[error(
        "the data key '{purpose}' does not open with the configured master key; was the database restored without its key?"
    )]
    MasterKey {
        /// The data key's purpose.
        purpose: String,
        /// What the key source said.
        #[source]
        source: seal::KeyEncryptionError,
    },
}

/// Reads the deployment's row and opens its data keys into a ring; creates both on an empty database.
///
/// Safe to run on several nodes at once: the first insert wins and the others read it.
pub(crate) async fn open(
    db: &Db,
    master_key: &dyn KeyEncryption,
    entropy: &dyn Entropy,
    issuer: &str,
    now: Timestamp,
) -> Result<KeyRing, OpenDeploymentError> {
    let database =
        |error: Box<dyn std::error::Error + Send + Sync>| OpenDeploymentError::Database(error);

    // Two nodes that start on an empty database both propose an id; there is one row to win.
    db.write(Batch::new().with(Statement::new(
        "insert into deployment (singleton, id, issuer, created_at)
         values (1, $1, $2, $3)
         on conflict do nothing",
        params![seal::random_id(entropy, "dep_"), issuer, now],
    )))
    .await
    .map_err(|error| database(error.into()))?;
    let row = db
        .read_one("select id, issuer from deployment", params![])
        .await
        .map_err(|error| database(error.into()))?
        .ok_or_else(|| database("the deployment row is missing".into()))?;
    let id = row
        .text(0)
        .map_err(|error| database(error.into()))?
        .to_owned();
    let stored = row
        .text(1)
        .map_err(|error| database(error.into()))?
        .to_owned();
    if stored != issuer {
        return Err(OpenDeploymentError::OtherIssuer {
            stored,
            configured: issuer.to_owned(),
        });
    }

    for purpose in Purpose::ALL {
        create_first_key(db, master_key, entropy, &id, purpose, now).await?;
    }

    let mut ring = KeyRing::new(&id);
    let rows = db
        .read(
            "select purpose, version, master_key_id, wrapped from data_keys order by purpose, version",
            params![],
        )
        .await
        .map_err(|error| database(error.into()))?;
    for row in rows {
        let text = row.text(0).map_err(|error| database(error.into()))?;
        let Some(purpose) = Purpose::from_str(text) else {
            // A newer node may keep keys for purposes that this one does not know.
            continue;
        };
        let version = u32::try_from(row.int(1).map_err(|error| database(error.into()))?)
            .map_err(|error| database(error.into()))?;
        let wrapped = WrappedKey {
            key_id: row
                .text(2)
                .map_err(|error| database(error.into()))?
                .to_owned(),
            ciphertext: row
                .blob(3)
                .map_err(|error| database(error.into()))?
                .to_vec(),
        };
        let context = DataKeyContext {
            deployment_id: id.clone(),
            purpose,
            version,
        };
        let key = master_key
            .unwrap(&context, &wrapped)
            .await
            .map_err(|source| OpenDeploymentError::MasterKey {
                purpose: purpose.as_str().to_owned(),
                source,
            })?;
        ring.insert(purpose, version, key);
    }
    Ok(ring)
}

async fn create_first_key(
    db: &Db,
    master_key: &dyn KeyEncryption,
    entropy: &dyn Entropy,
    deployment_id: &str,
    purpose: Purpose,
    now: Timestamp,
) -> Result<(), OpenDeploymentError> {
    let database =
        |error: Box<dyn std::error::Error + Send + Sync>| OpenDeploymentError::Database(error);
    let known = db
        .read_one(
            "select version from data_keys where purpose = $1 limit 1",
            params![purpose.as_str()],
        )
        .await
        .map_err(|error| database(error.into()))?;
    if known.is_some() {
        return Ok(());
    }
    let context = DataKeyContext {
        deployment_id: deployment_id.to_owned(),
        purpose,
        version: 1,
    };
    let wrapped = master_key
        .wrap(&context, &seal::generate_data_key(entropy))
        .await
        .map_err(|source| OpenDeploymentError::MasterKey {
            purpose: purpose.as_str().to_owned(),
            source,
        })?;
    db.write(Batch::new().with(Statement::new(
        "insert into data_keys (purpose, version, master_key_id, wrapped, created_at)
         values ($1, 1, $2, $3, $4)
         on conflict do nothing",
        params![purpose.as_str(), wrapped.key_id, wrapped.ciphertext, now],
    )))
    .await
    .map_err(|error| database(error.into()))?;
    Ok(())
}

impl From<crate::Error> for OpenDeploymentError {
    fn from(error: crate::Error) -> Self {
        Self::Prepare(match error {
            crate::Error::Refused(refusal) => refusal.description().to_owned(),
            crate::Error::Fault(fault) => fault.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use store::Options;

    use super::*;

    #[tokio::test]
    async fn no_index_is_the_beginning_of_another() {
        let db = Db::open("sqlite::memory:", Options::default())
            .await
            .unwrap();
        db.migrate(MIGRATIONS).await.unwrap();
        let rows = db
            .read(
                "select t.name, i.name, i.\"unique\", c.name
                   from sqlite_master t, pragma_index_list(t.name) i, pragma_index_info(i.name) c
                  where t.type = 'table' and i.partial = 0
                  order by t.name, i.name, c.seqno",
                params![],
            )
            .await
            .unwrap();
        let mut indexes: BTreeMap<(&str, &str, bool), Vec<&str>> = BTreeMap::new();
        for row in &rows {
            let (table, index) = (row.text(0).unwrap(), row.text(1).unwrap());
            let columns = indexes.entry((table, index, row.bool(2).unwrap()));
            columns.or_default().push(row.text(3).unwrap());
        }
        let names: Vec<&str> = indexes.keys().map(|(_, index, _)| *index).collect();
        assert!(names.contains(&"accounts_by_subject"), "{names:?}");
        for ((table, index, is_unique), columns) in &indexes {
            let longer = indexes.iter().find(|((of, other, _), more)| {
                of == table && other != index && more.starts_with(columns)
            });
            // One that is unique says something of its own.
            assert!(*is_unique || longer.is_none(), "{index}: {longer:?}");
        }
    }
}
