//! CR-17: the record format, version 1, against known answers that another implementation wrote (`record_v1.py`).
//!
//! These records lie in databases. When this test fails, the code is wrong, never the file.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use seal::{Entropy, KeyRing, Purpose, RecordContext, SecretBytes};
use serde::Deserialize;

#[derive(Deserialize)]
struct KnownAnswers {
    deployment: String,
    keys: BTreeMap<u32, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    table: String,
    row_id: String,
    field: String,
    generation: u64,
    record: String,
    version: Option<u32>,
    plaintext: Option<String>,
    error: Option<String>,
}

impl Case {
    fn context(&self) -> RecordContext<'_> {
        RecordContext {
            table: &self.table,
            row_id: &self.row_id,
            field: &self.field,
            generation: self.generation,
        }
    }
}

/// Yields the salt of the known answer.
struct Salt(Vec<u8>);

impl Entropy for Salt {
    fn fill(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.0);
    }
}

fn known() -> KnownAnswers {
    serde_json::from_str(include_str!("record_v1.json")).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|place| u8::from_str_radix(&hex[place..place + 2], 16).unwrap())
        .collect()
}

fn ring(known: &KnownAnswers, versions: impl Fn(u32) -> bool) -> KeyRing {
    let mut ring = KeyRing::new(&known.deployment);
    for (version, key) in known.keys.iter().filter(|(version, _)| versions(**version)) {
        ring.insert(Purpose::Record, *version, SecretBytes::new(bytes(key)));
    }
    ring
}

#[test]
fn cr_17_every_record_opens_or_is_refused_for_its_reason() {
    let known = known();
    let ring = ring(&known, |_| true);
    assert!(known.cases.len() >= 150);
    for case in &known.cases {
        let opened = ring
            .open(Purpose::Record, &case.context(), &bytes(&case.record))
            .map(|plaintext| plaintext.reveal().to_vec())
            .map_err(|error| format!("{error:?}"));
        let expected = match (&case.plaintext, &case.error) {
            (Some(plaintext), None) => Ok(bytes(plaintext)),
            (None, Some(error)) => Err(error.clone()),
            _ => panic!("{}: neither or both", case.name),
        };
        assert_eq!(opened, expected, "{}", case.name);
    }
}

#[test]
fn cr_17_the_same_salt_gives_the_same_record() {
    let known = known();
    for case in &known.cases {
        let (Some(version), Some(plaintext)) = (case.version, &case.plaintext) else {
            continue;
        };
        let record = bytes(&case.record);
        let sealed = ring(&known, |other| other == version).seal(
            &Salt(record[6..38].to_vec()),
            Purpose::Record,
            &case.context(),
            &bytes(plaintext),
        );
        assert_eq!(sealed, Ok(record), "{}", case.name);
    }
}
