//! Texts with placeholders, as profiles write them: `https://{shop}.myshopify.com/admin/oauth/access_token`.

use std::collections::BTreeMap;

use url::form_urlencoded::byte_serialize;

/// What placeholders stand for.
pub(crate) type Values<'a> = BTreeMap<&'a str, &'a str>;

/// The placeholders of a text, in order. None where a brace is left open.
pub(crate) fn placeholders(text: &str) -> Option<Vec<&str>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        found.push(name);
        rest = after;
    }
    (!rest.contains('}')).then_some(found)
}

/// Puts values in as they are. None where one is missing.
pub(crate) fn fill(text: &str, values: &Values<'_>) -> Option<String> {
    fill_with(text, |name, _| {
        values.get(name).map(|value| (*value).to_owned())
    })
}

/// Puts values into a URL: as they are before the path, percent-encoded after it. None where one is missing.
pub(crate) fn fill_url(text: &str, values: &Values<'_>) -> Option<String> {
    fill_with(text, |name, before| {
        let value = values.get(name)?;
        Some(if in_authority(before) {
            (*value).to_owned()
        } else {
            byte_serialize(value.as_bytes())
                .collect::<String>()
                .replace('+', "%20")
        })
    })
}

/// Whether what follows `before` still says where the request goes, rather than what for.
pub(crate) fn in_authority(before: &str) -> bool {
    before
        .split_once("://")
        .is_none_or(|(_, rest)| !rest.contains(['/', '?']))
}

fn fill_with(text: &str, value: impl Fn(&str, &str) -> Option<String>) -> Option<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        filled.push_str(before);
        let put = value(name, &filled)?;
        filled.push_str(&put);
        rest = after;
    }
    filled.push_str(rest);
    Some(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_where_they_belong() {
        let values = Values::from([
            ("shop", "acme"),
            ("server", "https://a.example"),
            ("id", "a/b c"),
        ]);
        for (text, expected) in [
            ("https://{shop}.x.com/t", Some("https://acme.x.com/t")),
            (
                "{server}/oauth/token",
                Some("https://a.example/oauth/token"),
            ),
            (
                "https://x.com/{id}/grant?i={id}",
                Some("https://x.com/a%2Fb%20c/grant?i=a%2Fb%20c"),
            ),
            ("https://{unknown}.x.com/", None),
            ("no placeholders", Some("no placeholders")),
        ] {
            assert_eq!(fill_url(text, &values).as_deref(), expected, "{text}");
        }
        assert_eq!(fill("{id}!", &values).as_deref(), Some("a/b c!"));
    }

    #[test]
    fn placeholders_are_found_and_braces_counted() {
        assert_eq!(placeholders("a{b}c{d}"), Some(vec!["b", "d"]));
        assert_eq!(placeholders("a{b"), None);
        assert_eq!(placeholders("a}b"), None);
    }
}
