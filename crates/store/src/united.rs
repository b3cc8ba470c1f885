//! Several queries as one, for an engine to which each statement costs a message, a snapshot and a start of its own.
//!
//! The answer has the number of the query in front and then the columns of all queries side by side; those of the other
//! queries are null.

use crate::value::Params;

/// One query of several.
pub(crate) struct Part<'a> {
    /// With `$1` as its first parameter.
    pub(crate) sql: &'a str,
    pub(crate) params: usize,
    /// The engine's names for the types of its columns.
    pub(crate) columns: Vec<&'static str>,
}

/// The text of several queries as one, and how to tell their answers apart.
pub(crate) struct United {
    pub(crate) text: &'static str,
    /// Of each query, how many parameters it takes.
    params: Vec<usize>,
    /// Of each query, where its columns begin and end.
    places: Vec<(usize, usize)>,
}

impl United {
    pub(crate) fn of(parts: &[Part<'_>]) -> Self {
        let columns: Vec<&str> = parts
            .iter()
            .flat_map(|part| &part.columns)
            .copied()
            .collect();
        let mut text = String::new();
        let mut places = Vec::with_capacity(parts.len());
        let (mut first_param, mut first_column) = (0, 0);
        for (number, part) in parts.iter().enumerate() {
            let end = first_column + part.columns.len();
            if number > 0 {
                text.push_str("\nunion all\n");
            }
            text.push_str(&format!("select {number}"));
            for (index, column) in columns.iter().enumerate() {
                if index == first_column {
                    text.push_str(", q.*");
                }
                if !(first_column..end).contains(&index) {
                    text.push_str(&format!(", null::{column}"));
                }
            }
            let sql = renumbered(part.sql, first_param);
            text.push_str(&format!(" from (\n{sql}\n) q"));
            places.push((first_column + 1, end + 1));
            first_param += part.params;
            first_column = end;
        }
        Self {
            // Leaked on purpose, once for each combination that the program has: prepared statements are kept by text.
            text: Box::leak(text.into_boxed_str()),
            params: parts.iter().map(|part| part.params).collect(),
            places,
        }
    }

    /// How many queries these are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Where the columns of a query begin and end.
    pub(crate) fn place(&self, query: usize) -> Option<(usize, usize)> {
        self.places.get(query).copied()
    }

    /// Whether each query gets as many parameters as it takes.
    pub(crate) fn fits<'a>(&self, given: impl Iterator<Item = &'a Params>) -> bool {
        given.map(Params::len).eq(self.params.iter().copied())
    }
}

/// The text with `$1` as `$(1 + by)`, and so on. There is no `$` in it that is not a parameter's.
pub(crate) fn renumbered(sql: &str, by: usize) -> String {
    let mut pieces = sql.split('$');
    let mut made = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(piece.len());
        let (number, rest) = piece.split_at(end);
        made.push('$');
        match number.parse::<usize>() {
            Ok(number) => made.push_str(&(number + by).to_string()),
            Err(_) => made.push_str(number),
        }
        made.push_str(rest);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params;

    #[test]
    fn parameters_go_on_counting() {
        assert_eq!(renumbered("$1 = $12 or $2", 3), "$4 = $15 or $5");
        assert_eq!(renumbered("none", 3), "none");
    }

    #[test]
    fn each_query_has_columns_of_its_own() {
        let united = United::of(&[
            Part {
                sql: "select a from t where b = $1",
                params: 1,
                columns: vec!["text"],
            },
            Part {
                sql: "select c, d from u where e = $2 and f = $1",
                params: 2,
                columns: vec!["bigint", "bytea"],
            },
        ]);
        assert_eq!(
            united.text,
            "select 0, q.*, null::bigint, null::bytea from (\nselect a from t where b = $1\n) q\n\
             union all\n\
             select 1, null::text, q.* from (\nselect c, d from u where e = $3 and f = $2\n) q"
        );
        assert_eq!(
            (united.place(0), united.place(1), united.place(2)),
            (Some((1, 2)), Some((2, 4)), None)
        );
        let params = [params![1], params![1, 2]];
        assert!(united.fits(params.iter()));
        assert!(!united.fits(params.iter().rev()));
    }
}
