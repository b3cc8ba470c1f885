//! Migrations: numbered, forward only, never edited after release.

use crate::error::MigrateError;

/// One step of the schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Its place, from 1, without gaps.
    pub number: u32,
    /// What it is about, for people.
    pub name: &'static str,
    /// Statements that both engines take and that end in semicolons. They run in one transaction, before those of one engine.
    pub sql: &'static str,
    /// What SQLite alone is asked: triggers, for which no spelling is common.
    pub sqlite: &'static str,
    /// What PostgreSQL alone is asked.
    pub postgres: &'static str,
}

pub(crate) const CREATE_TABLE: &str = "create table if not exists migrations (
    number      bigint primary key,
    name        text   not null,
    checksum    text   not null,
    applied_at  bigint not null
)";

impl Migration {
    /// One that asks the same of both engines.
    pub const fn new(number: u32, name: &'static str, sql: &'static str) -> Self {
        Self {
            number,
            name,
            sql,
            sqlite: "",
            postgres: "",
        }
    }

    /// A checksum that is stable over builds and machines: FNV-1a, 64 bits. It finds edits, not attacks.
    pub(crate) fn checksum(&self) -> String {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let parts = [self.sql, self.sqlite, self.postgres];
        for byte in parts.into_iter().flat_map(str::bytes) {
            hash ^= u64::from(byte);
            hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
        }
        format!("{hash:016x}")
    }

    /// Whether this one still has to run, given what is applied. Numbers beyond ours belong to a newer node and are
    /// left alone: during a rolling upgrade old nodes keep working.
    pub(crate) fn is_missing(&self, applied: &[(i64, String)]) -> Result<bool, MigrateError> {
        match applied
            .iter()
            .find(|(number, _)| *number == i64::from(self.number))
        {
            None => Ok(true),
            Some((_, checksum)) if *checksum == self.checksum() => Ok(false),
            Some(_) => Err(MigrateError::Changed {
                number: self.number,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_of_the_text_and_never_changes() {
        let sum = |sql| Migration::new(1, "", sql).checksum();
        // From the authors' own list of FNV-1a test vectors.
        assert_eq!(sum(""), "cbf29ce484222325");
        assert_eq!(sum("a"), "af63dc4c8601ec8c");
        assert_eq!(sum("foobar"), "85944171f73967e8");
        let parts = Migration {
            sqlite: "oba",
            postgres: "r",
            ..Migration::new(1, "", "fo")
        };
        assert_eq!(parts.checksum(), sum("foobar"));
    }
}
