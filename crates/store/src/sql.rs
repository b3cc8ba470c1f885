//! What the engines spell differently: the database's clock, the position of a part in a text, and the parameters.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Tells texts of the program apart without reading them.
pub(crate) type Place = (usize, usize);

/// A static text is known by its place and length.
pub(crate) fn place_of(sql: &'static str) -> Place {
    (sql.as_ptr() as usize, sql.len())
}

/// The SQL text of one engine, made once for each text of the program.
pub(crate) struct Dialect {
    spell: fn(&str) -> String,
    made: RwLock<HashMap<Place, &'static str>>,
}

impl Dialect {
    pub(crate) fn new(spell: fn(&str) -> String) -> Self {
        Self {
            spell,
            made: RwLock::new(HashMap::new()),
        }
    }

    /// The text as this engine takes it.
    pub(crate) fn text(&self, sql: &'static str) -> &'static str {
        let key = place_of(sql);
        if let Some(made) = self
            .made
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            return made;
        }
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        // Leaked on purpose, once for each text of the program: prepared statements are kept by text.
        made.entry(key)
            .or_insert_with(|| Box::leak((self.spell)(sql).into_boxed_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_made_once() {
        let dialect = Dialect::new(|sql| sql.replace("{now}", "clock()"));
        let made = dialect.text("select {now}, '{now }'");
        assert_eq!(made, "select clock(), '{now }'");
        assert!(std::ptr::eq(made, dialect.text("select {now}, '{now }'")));
    }

    #[test]
    fn texts_that_begin_at_the_same_place_are_told_apart() {
        let dialect = Dialect::new(str::to_owned);
        let long = "select 1, 2";
        let (short, _) = long.split_at("select 1".len());
        assert_eq!(dialect.text(long), long);
        assert_eq!(dialect.text(short), short);
        assert_eq!(dialect.text(""), "");
    }
}
