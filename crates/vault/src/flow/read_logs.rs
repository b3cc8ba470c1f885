//! The log, as an administrator reads it (contract 2.12): the audit rows, newest first by page, or on from one in the
//! order in which they were written.
//!
//! Ids are made before their rows are committed, so that a row can appear before another one that is already there. Who
//! reads on from an id is shown only rows older than [`SETTLED`]: by then, what will be written is written, and nobody who
//! follows the log misses one.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use store::{Row, params};

use crate::document::wrong;
use crate::listing::ListQuery;
use crate::{Error, Listed, Reason, Refusal, Vault, Window};

/// How old a row is before it is shown to those who follow. A commit takes milliseconds.
const SETTLED: SignedDuration = SignedDuration::from_secs(3);

/// An entry of the log.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "LogEntry")]
pub struct LogEntry {
    /// Ordered by time.
    pub log_id: String,
    /// The same, for tools that look here.
    #[serde(rename = "_id")]
    pub id: String,
    /// When it happened.
    pub date: Timestamp,
    /// Auth0's code where it has one for this (`seta`, `feta`, …), else the event.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened: docs/http.md lists the events.
    pub event: String,
    /// `succeeded`, `refused` or `failed`.
    pub outcome: String,
    /// Why not, where it did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The client that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The user whom it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The connected account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// The scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Where it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// What the caller said it was for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_context: Option<String>,
    /// Names the request, as in the server's own log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What else is known. Never a token or a secret.
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    pub details: Value,
}

/// What the entries have to be like; what is empty does not matter.
#[derive(Debug, Default, PartialEq, Eq)]
struct Search {
    event: String,
    outcome: String,
    client_id: String,
    user_id: String,
    connection: String,
    ip: String,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

/// Reads a search: `field:value` with ` AND ` between; the fields are `type`, `event`, `outcome`, `client_id`, `user_id`,
/// `connection`, `ip`, and `date:[FROM TO UNTIL]`, where `*` is open.
fn read_search(text: &str) -> Result<Search, Refusal> {
    let mut search = Search::default();
    for term in text
        .split(" AND ")
        .map(str::trim)
        .filter(|term| !term.is_empty())
    {
        let wrong = || {
            wrong(
                "q",
                format!(
                    "terms field:value with AND between; fields are type, event, outcome, client_id, user_id, \
                     connection, ip and date:[FROM TO UNTIL]; this is none: {}",
                    crate::document::printable(term)
                ),
            )
        };
        let (field, value) = term.split_once(':').ok_or_else(wrong)?;
        if field == "date" {
            let range = value
                .strip_prefix('[')
                .and_then(|value| value.strip_suffix(']'));
            let (from, to) = range
                .and_then(|range| range.split_once(" TO "))
                .ok_or_else(wrong)?;
            (search.from, search.to) = (
                read_date(from.trim()).ok_or_else(wrong)?,
                read_date(to.trim()).ok_or_else(wrong)?,
            );
            continue;
        }
        let value = value.trim_matches('"');
        if value.is_empty() || value.contains('"') {
            return Err(wrong());
        }
        if field == "type" {
            match CODES.iter().find(|(code, _, _)| *code == value) {
                Some((_, event, outcome)) => {
                    search.event = (*event).to_owned();
                    search.outcome = (*outcome).to_owned();
                }
                None => search.event = value.to_owned(),
            }
            continue;
        }
        let place = match field {
            "event" => &mut search.event,
            "outcome" => &mut search.outcome,
            "client_id" => &mut search.client_id,
            "user_id" => &mut search.user_id,
            "connection" => &mut search.connection,
            "ip" => &mut search.ip,
            _ => return Err(wrong()),
        };
        value.clone_into(place);
    }
    Ok(search)
}

/// A date, an instant, or `*`; None where it is none of them.
fn read_date(text: &str) -> Option<Option<Timestamp>> {
    if text == "*" {
        return Some(None);
    }
    let instant = text.parse::<Timestamp>().ok();
    instant
        .or_else(|| {
            let date = text.parse::<jiff::civil::Date>().ok()?;
            date.to_zoned(jiff::tz::TimeZone::UTC)
                .ok()
                .map(|zoned| zoned.timestamp())
        })
        .map(Some)
}

/// Auth0's codes for what is the same here: code, event, outcome. A refusal and a fault are both a failure there.
const CODES: [(&str, &str, &str); 14] = [
    ("seta", "exchange", "succeeded"),
    ("feta", "exchange", "refused"),
    ("s", "login", "succeeded"),
    ("f", "login", "refused"),
    ("ss", "sign_up", "succeeded"),
    ("slo", "logout", "succeeded"),
    ("seacft", "grant.authorization_code", "succeeded"),
    ("feacft", "grant.authorization_code", "refused"),
    ("seccft", "grant.client_credentials", "succeeded"),
    ("feccft", "grant.client_credentials", "refused"),
    ("sertft", "grant.refresh_token", "succeeded"),
    ("fertft", "grant.refresh_token", "refused"),
    (
        "connected_accounts_connection_succeeded",
        "connect.completed",
        "succeeded",
    ),
    (
        "connected_accounts_delete_succeeded",
        "account.disconnected",
        "succeeded",
    ),
];

impl Vault {
    /// Entries of the log that a search finds: by page the newest first, or on from `from` (an entry's id) the ones written
    /// after it, oldest first.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`] points at `q`.
    pub async fn read_logs(
        &self,
        search: Option<&str>,
        window: &Window,
    ) -> Result<Listed<LogEntry>, Error> {
        let text = search.unwrap_or_default();
        let search = read_search(text)?;
        let now = self.now();
        let settled = now.checked_sub(SETTLED).unwrap_or(Timestamp::MIN);
        let follows = matches!(window, Window::After { .. });
        let until = match (follows, search.to) {
            (true, Some(to)) => to.min(settled),
            (true, None) => settled,
            (false, to) => to.unwrap_or(Timestamp::MAX),
        };
        let filters = params![
            search.event,
            search.outcome,
            search.client_id,
            search.user_id,
            search.connection,
            search.ip,
            search.from.unwrap_or(Timestamp::MIN),
            until,
        ];
        if let Window::After { cursor, take } = window {
            let from = cursor.as_deref().unwrap_or_default();
            let mut bound = params![from, i64::from(*take)];
            bound.append(&filters);
            let rows = self.db.read(AFTER, bound).await?;
            let items: Vec<LogEntry> = rows.iter().map(entry).collect::<Result<_, _>>()?;
            return Ok(Listed {
                next: items.last().map(|entry| entry.log_id.clone()),
                items,
                start: 0,
                limit: *take,
                total: None,
            });
        }
        let query = ListQuery {
            name: "logs",
            select: NEWEST,
            count: COUNT,
            filtered_by: text.to_owned(),
            filters,
        };
        self.list(query, window, entry, |entry| &entry.log_id).await
    }

    /// One entry.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn view_log(&self, id: &str) -> Result<LogEntry, Error> {
        let row = self
            .db
            .read_one(ONE, params![id])
            .await?
            .ok_or(Reason::ObjectUnknown)?;
        entry(&row)
    }
}

// The columns of an entry, in the order that `entry` reads them.
macro_rules! entries {
    () => {
        "select a.id, a.at, a.event, a.outcome, a.reason, a.client_id, a.user_id, a.connection, a.account_id, a.scopes,
                a.address, a.audit_context, a.request_id, a.details
           from audit a "
    };
}

const ONE: &str = concat!(entries!(), "where a.id = $1");

/// On from an entry. The parameters of the filters begin at `$3`.
const AFTER: &str = concat!(
    entries!(),
    "where a.id > $1
       and ($3 = '' or a.event = $3) and ($4 = '' or a.outcome = $4) and ($5 = '' or a.client_id = $5)
       and ($6 = '' or a.user_id = $6) and ($7 = '' or a.connection = $7) and ($8 = '' or a.address = $8)
       and a.at >= $9 and a.at <= $10
     order by a.id limit $2"
);

/// By page, the newest first; there is no cursor in this direction, so the key is not compared.
const NEWEST: &str = concat!(
    entries!(),
    "where $1 = ''
       and ($4 = '' or a.event = $4) and ($5 = '' or a.outcome = $5) and ($6 = '' or a.client_id = $6)
       and ($7 = '' or a.user_id = $7) and ($8 = '' or a.connection = $8) and ($9 = '' or a.address = $9)
       and a.at >= $10 and a.at <= $11
     order by a.id desc limit $2 offset $3"
);

const COUNT: &str = "select count(*) from audit a
     where ($1 = '' or a.event = $1) and ($2 = '' or a.outcome = $2) and ($3 = '' or a.client_id = $3)
       and ($4 = '' or a.user_id = $4) and ($5 = '' or a.connection = $5) and ($6 = '' or a.address = $6)
       and a.at >= $7 and a.at <= $8";

fn entry(row: &Row) -> Result<LogEntry, Error> {
    let text = |index: usize| -> Result<Option<String>, Error> {
        Ok(row.opt_text(index)?.map(str::to_owned))
    };
    let (event, outcome) = (row.text(2)?, row.text(3)?);
    let like = if outcome == "succeeded" {
        "succeeded"
    } else {
        "refused"
    };
    let code = CODES
        .iter()
        .find(|(_, known, ended)| *known == event && *ended == like);
    Ok(LogEntry {
        log_id: row.text(0)?.to_owned(),
        id: row.text(0)?.to_owned(),
        date: row.timestamp(1)?,
        kind: code.map_or(event, |(code, _, _)| code).to_owned(),
        event: event.to_owned(),
        outcome: outcome.to_owned(),
        description: text(4)?,
        client_id: text(5)?,
        user_id: text(6)?,
        connection: text(7)?,
        account_id: text(8)?,
        scope: text(9)?,
        ip: text(10)?,
        audit_context: text(11)?,
        request_id: text(12)?.filter(|id| !id.is_empty()),
        details: serde_json::from_str(row.text(13)?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_has_terms() {
        let search =
            read_search("type:seta AND client_id:\"cl_1\" AND date:[2026-01-01 TO *]").unwrap();
        assert_eq!(search.event, "exchange");
        assert_eq!(search.outcome, "succeeded");
        assert_eq!(search.client_id, "cl_1");
        assert_eq!(search.from, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(search.to, None);
        assert_eq!(read_search("").unwrap(), Search::default());
        for text in [
            "seta",
            "colour:blue",
            "type:",
            "date:2026",
            "date:[a TO b]",
            "type:a OR type:b",
            "user_id:\"a\"b\"",
        ] {
            let refused = read_search(text);
            // A value may have spaces; what stands there as one is no event, and finds nothing.
            if text != "type:a OR type:b" {
                assert!(refused.is_err(), "{text}");
            }
        }
    }
}
