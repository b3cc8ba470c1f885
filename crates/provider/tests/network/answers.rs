//! What comes back: redirects, answers without an end, answers that are none. Each is cut within its bounds, gets the
//! failure that says what may have happened, and leaves nothing of itself in it.

use std::time::Duration;

use futures_util::future::join_all;
use provider::FailureKind::{self, InvalidResponse, OutcomeUnknown, Unavailable};

use crate::calls::{
    DEADLINE, Field, MARK, PATIENCE, assert_refused, client, honest, identify, policy, redeem_code,
    refresh, revoke, token_answer,
};
use crate::hostile::{Answer, Hostile, json, said};

const OK: &str = "200 OK";
const TOKEN: &str = r#"{"access_token":"at"}"#;
const JSON: (&str, &str) = ("content-type", "application/json");
const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

/// What follows from a request that was sent and not answered: where nothing can have happened, nothing has.
fn unanswered(field: Field) -> FailureKind {
    if Field::READ.contains(&field) {
        Unavailable
    } else {
        OutcomeUnknown
    }
}

/// Asks for an answer at every field that is called, each of a server of its own; expects what follows from no answer,
/// and that nobody asks twice.
async fn nobody_answers(cases: &[(&str, Answer)], deadline: Duration) {
    for (what, answer) in cases {
        let mut calls = Vec::new();
        for field in Field::CALLED {
            let server = honest().await;
            server.answer(field.path(), answer.clone());
            let client = client(policy(&[&server.origin], deadline));
            calls.push((field, server, client));
        }
        // At once, because there may be a deadline to wait for.
        join_all(calls.iter().map(async |(field, server, client)| {
            let settings = field.settings(&server.origin);
            let failure = field.fails(client, &settings, what).await;
            assert_eq!(
                failure.kind,
                unanswered(*field),
                "{field:?}: {what}: {failure}"
            );
            let asked = server.asked();
            let times = asked.iter().filter(|asked| **asked == field.request());
            assert_eq!(times.count(), 1, "{field:?}: {what}: {asked:?}");
        }))
        .await;
    }
}

#[tokio::test]
async fn an_honest_provider_is_reached_at_every_field() {
    for field in Field::CALLED {
        let server = honest().await;
        let settings = field.settings(&server.origin);
        settings
            .check(&provider::Catalogue::built_in().unwrap())
            .unwrap();
        let client = client(policy(&[&server.origin], PATIENCE));
        field.call(&client, &settings).await.unwrap();
        assert_eq!(server.asked().last(), Some(&field.request()), "{field:?}");
    }
}

#[tokio::test]
async fn ss_11_redirects_are_not_followed() {
    let elsewhere = honest().await;
    for status in [
        "300 Multiple Choices",
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "305 Use Proxy",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        for field in Field::CALLED {
            for location in [
                // Allowed, and would give the answer that is wanted.
                format!("{}{}", elsewhere.origin, field.path()),
                // To itself, and so on without an end.
                field.path().to_owned(),
                elsewhere.origin.replacen("http:", "", 1),
                "http://169.254.169.254/latest/meta-data/".to_owned(),
                "file:///etc/passwd".to_owned(),
            ] {
                let server = honest().await;
                let body =
                    format!(r#"{{"access_token":"at","sub":"somebody","keys":[],"x":"{MARK}"}}"#);
                let headers = [("location", location.as_str()), JSON];
                let answer = said(status, &headers, body.as_bytes());
                server.answer(field.path(), Answer::Bytes(answer));
                let settings = field.settings(&server.origin);
                let client = client(policy(&[&server.origin, &elsewhere.origin], PATIENCE));
                let what = format!("{status} to {location}");
                let failure = field.fails(&client, &settings, &what).await;
                let expected = match field {
                    Field::RevocationEndpoint => Unavailable,
                    _ => InvalidResponse,
                };
                assert_eq!(failure.kind, expected, "{field:?}: {what}");
                assert!(matches!(failure.status, Some(300..=308)), "{field:?}");
                let asked = server.asked();
                let here = asked.iter().filter(|asked| **asked == field.request());
                assert_eq!(here.count(), 1, "{field:?}: {what}");
            }
        }
    }
    assert_eq!(elsewhere.connections(), 0);
    // It would have answered.
    let settings = Field::TokenEndpoint.settings(&elsewhere.origin);
    refresh(&client(policy(&[&elsewhere.origin], PATIENCE)), &settings)
        .await
        .unwrap();
    assert_eq!(elsewhere.connections(), 1);
}

#[tokio::test]
async fn ss_11_a_code_is_not_carried_to_where_a_redirect_points() {
    let elsewhere = honest().await;
    let server = honest().await;
    let location = format!("{}/token", elsewhere.origin);
    let answer = said("307 Temporary Redirect", &[("location", &location)], b"");
    server.answer("/token", Answer::Bytes(answer));
    let client = client(policy(&[&server.origin, &elsewhere.origin], PATIENCE));
    let settings = Field::TokenEndpoint.settings(&server.origin);
    let failure = redeem_code(&client, &settings).await.unwrap_err();
    assert_eq!(failure.kind, InvalidResponse);
    assert!(server.last_request().contains("code=code"));
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn up_01_what_never_ends_is_cut_and_the_connection_with_it() {
    let head = |more: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{more}\r\n\r\n").into_bytes()
    };
    let chunked = "transfer-encoding: chunked";
    let line = format!("x-{MARK}: y\r\n");
    for (what, answer) in [
        (
            "endless chunks",
            Answer::Endless(head(chunked), format!("18\r\n{MARK}\r\n").into_bytes()),
        ),
        (
            "a chunk of 16 EiB",
            Answer::Endless(
                [head(chunked), b"fffffffffffffff\r\n".to_vec()].concat(),
                vec![b' '; 4096],
            ),
        ),
        (
            "100 MB as announced",
            Answer::Endless(head("content-length: 100000000"), vec![b' '; 4096]),
        ),
        (
            "until the connection ends, which it does not",
            Answer::Endless(head("connection: close"), vec![b'['; 4096]),
        ),
        (
            "an endless chunk extension",
            Answer::Endless([head(chunked), b"1;".to_vec()].concat(), vec![b'x'; 4096]),
        ),
        (
            "endless trailers",
            Answer::Endless(
                [head(chunked), b"0\r\n".to_vec()].concat(),
                line.clone().into_bytes(),
            ),
        ),
        (
            "endless headers",
            Answer::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), line.clone().into_bytes()),
        ),
        (
            "one endless header",
            Answer::Endless(b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'y'; 4096]),
        ),
        (
            "an endless reason",
            Answer::Endless(b"HTTP/1.1 200 ".to_vec(), vec![b'y'; 4096]),
        ),
    ] {
        for field in Field::CALLED {
            let server = honest().await;
            server.answer(field.path(), answer.clone());
            let settings = field.settings(&server.origin);
            let client = client(policy(&[&server.origin], PATIENCE));
            let failure = field.fails(&client, &settings, what).await;
            assert_eq!(
                failure.kind,
                unanswered(field),
                "{field:?}: {what}: {failure}"
            );
            server.hung_up().await;
        }
    }
}

#[tokio::test]
async fn up_01_64_kib_are_read_and_not_a_byte_more() {
    for (length, fits) in [(64 * 1024, true), (64 * 1024 + 1, false)] {
        for chunked in [false, true] {
            let body = format!("{TOKEN}{}", " ".repeat(length - TOKEN.len()));
            let answer = if chunked {
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                format!("{head}{length:x}\r\n{body}\r\n0\r\n\r\n").into_bytes()
            } else {
                said(OK, &[JSON], body.as_bytes())
            };
            let server = honest().await;
            server.answer("/token", Answer::Bytes(answer));
            let settings = Field::TokenEndpoint.settings(&server.origin);
            let client = client(policy(&[&server.origin], PATIENCE));
            let kind = refresh(&client, &settings)
                .await
                .err()
                .map(|failure| failure.kind);
            assert_eq!(
                kind,
                (!fits).then_some(OutcomeUnknown),
                "{length} {chunked}"
            );
        }
    }
}

#[tokio::test]
async fn up_01_a_deadline_is_for_the_whole_call_however_busy_the_line_is() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n".to_vec();
    let cases = [
        ("nothing at all", Answer::Silence),
        ("a head byte by byte", Answer::Drip(head.clone(), b'x')),
        (
            "a body byte by byte",
            Answer::Drip([&*head, b"content-length: 60000\r\n\r\n"].concat(), b' '),
        ),
        (
            "a chunk byte by byte",
            Answer::Drip(
                [&*head, b"transfer-encoding: chunked\r\n\r\nf000\r\n"].concat(),
                b' ',
            ),
        ),
        (
            "early hints without an end",
            Answer::Endless(Vec::new(), b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec()),
        ),
    ];
    nobody_answers(&cases, DEADLINE).await;
}

#[tokio::test]
async fn up_02_a_compressed_answer_is_not_opened() {
    // {"access_token":"at"}, and it would be a perfectly good answer.
    let zipped = [
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab, 0x56, 0x4a, 0x4c, 0x4e,
        0x4e, 0x2d, 0x2e, 0x8e, 0x2f, 0xc9, 0xcf, 0x4e, 0xcd, 0x53, 0xb2, 0x52, 0x4a, 0x2c, 0x51,
        0xaa, 0x05, 0x00, 0xdf, 0xbf, 0xd2, 0x9b, 0x15, 0x00, 0x00, 0x00,
    ];
    let compressed = |coding| said(OK, &[JSON, ("content-encoding", coding)], &zipped);
    let cases = [
        "gzip",
        "x-gzip",
        "deflate",
        "br",
        "zstd",
        "gzip, gzip",
        "GZIP",
    ]
    .map(|coding| (coding, Answer::Bytes(compressed(coding))));
    nobody_answers(&cases, PATIENCE).await;
    // Nor is it opened where the header is missing, or where it is called the way that the answer is sent.
    let coded = [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n29\r\n".as_slice(),
        &zipped,
        b"\r\n0\r\n\r\n",
    ];
    for answer in [said(OK, &[JSON], &zipped), coded.concat()] {
        let server = honest().await;
        server.answer("/token", Answer::Bytes(answer));
        let settings = Field::TokenEndpoint.settings(&server.origin);
        let client = client(policy(&[&server.origin], PATIENCE));
        let failure = refresh(&client, &settings).await.unwrap_err();
        assert_eq!(failure.kind, InvalidResponse);
        // Nobody asked for any of that.
        let request = server.last_request().to_ascii_lowercase();
        assert!(!request.contains("accept-encoding"), "{request}");
        assert!(!request.contains("\r\nte:"), "{request}");
    }
}

#[tokio::test]
async fn f_11_answers_that_are_not_http_or_break_off() {
    let with = |head: &str, body: &str| {
        let text = format!("{head}\r\ncontent-type: application/json\r\n{body}");
        Answer::Bytes(text.into_bytes())
    };
    let ok = |more: &str| with("HTTP/1.1 200 OK", more);
    let chunks = |chunks: &str| ok(&format!("transfer-encoding: chunked\r\n\r\n{chunks}"));
    let token = format!(r#"{{"access_token":"at","x":"{MARK}"}}"#);
    let length = token.len();
    let flood: String = (0..10_000).map(|n| format!("x-{n}: {MARK}\r\n")).collect();
    let cases = [
        ("the end at once", Answer::Bytes(Vec::new())),
        ("no HTTP", Answer::Bytes(MARK.as_bytes().to_vec())),
        ("SSH", Answer::Bytes(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec())),
        ("half a head", ok("content-le")),
        ("another version", with("HTTP/9.9 200 OK", "\r\n")),
        ("a status of letters", with("HTTP/1.1 2OO OK", "\r\n")),
        ("a status of four digits", with("HTTP/1.1 2000 OK", "\r\n")),
        ("a header without a colon", ok(&format!("{MARK}\r\n\r\n"))),
        ("a header with a NUL", ok("x: \0\r\n\r\n")),
        ("ten thousand headers", ok(&format!("{flood}\r\n{token}"))),
        (
            "less than announced",
            ok(&format!("content-length: {}\r\n\r\n{token}", length + 1)),
        ),
        (
            "a length below zero",
            ok(&format!("content-length: -1\r\n\r\n{token}")),
        ),
        (
            "a length beyond numbers",
            ok(&format!(
                "content-length: 99999999999999999999\r\n\r\n{token}"
            )),
        ),
        (
            "two lengths",
            ok(&format!(
                "content-length: 2\r\ncontent-length: {length}\r\n\r\n{token}"
            )),
        ),
        (
            "a chunk of no size",
            chunks(&format!("zz\r\n{token}\r\n0\r\n\r\n")),
        ),
        (
            "a chunk below zero",
            chunks(&format!("-1\r\n{token}\r\n0\r\n\r\n")),
        ),
        (
            "a chunk beyond numbers",
            chunks(&format!("fffffffffffffffff\r\n{token}\r\n0\r\n\r\n")),
        ),
        (
            "a chunk that is longer than it says",
            chunks(&format!("2\r\n{token}\r\n0\r\n\r\n")),
        ),
        ("a chunk that breaks off", chunks(&format!("ff\r\n{token}"))),
        (
            "chunks without the last",
            chunks(&format!("{length:x}\r\n{token}\r\n")),
        ),
    ];
    nobody_answers(&cases, PATIENCE).await;
}

#[tokio::test]
async fn f_11_up_04_up_05_answers_that_are_not_what_was_asked_for() {
    let token = format!(r#"{{"access_token":"at","x":"{MARK}"}}"#);
    let deep = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(
            r#"{{"access_token":"at","sub":"somebody","keys":[],"issuer":"x","x":{open}{close}}}"#
        )
    };
    let utf_16: Vec<u8> = token.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let page = format!("<!doctype html><title>{MARK}</title><script>alert(1)</script>");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a page", said(OK, &[HTML], page.as_bytes())),
        (
            "a page that says it is JSON",
            said(OK, &[JSON], page.as_bytes()),
        ),
        (
            "XML",
            said(
                OK,
                &[("content-type", "application/xml")],
                b"<access_token>at</access_token>",
            ),
        ),
        (
            "a script",
            said(
                OK,
                &[("content-type", "text/javascript")],
                format!("f({token})").as_bytes(),
            ),
        ),
        (
            "a picture",
            said(
                OK,
                &[("content-type", "image/png")],
                b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            ),
        ),
        (
            "parts",
            said(
                OK,
                &[("content-type", "multipart/mixed; boundary=b")],
                format!("--b\r\ncontent-type: application/json\r\n\r\n{token}\r\n--b--").as_bytes(),
            ),
        ),
        (
            "a stream of events",
            said(
                OK,
                &[("content-type", "text/event-stream")],
                format!("data: {token}\n\n").as_bytes(),
            ),
        ),
        ("nothing", said(OK, &[JSON], b"")),
        ("nothing to say", said("204 No Content", &[], b"")),
        (
            "another protocol",
            said("101 Switching Protocols", &[("upgrade", "x")], b""),
        ),
        ("a list", said(OK, &[JSON], format!("[{token}]").as_bytes())),
        ("a text", said(OK, &[JSON], format!("{token:?}").as_bytes())),
        ("null", said(OK, &[JSON], b"null")),
        (
            "two objects",
            said(OK, &[JSON], format!("{token}{token}").as_bytes()),
        ),
        ("half an object", said(OK, &[JSON], &token.as_bytes()[..20])),
        (
            "an object after a BOM",
            said(OK, &[JSON], format!("\u{feff}{token}").as_bytes()),
        ),
        (
            "UTF-16",
            said(
                OK,
                &[("content-type", "application/json; charset=utf-16")],
                &utf_16,
            ),
        ),
        (
            "invalid UTF-8 where it counts",
            said(
                OK,
                &[JSON],
                b"{\"access_token\":\"\xff\xfe\",\"sub\":\"\xff\xfe\"}",
            ),
        ),
        (
            "invalid UTF-8 where nobody looks",
            said(
                OK,
                &[JSON],
                b"{\"access_token\":\"at\",\"sub\":\"somebody\",\"keys\":[],\"x\":\"\xff\xfe\"}",
            ),
        ),
        ("10,000 levels", said(OK, &[JSON], deep(10_000).as_bytes())),
        ("17 levels", said(OK, &[JSON], deep(16).as_bytes())),
        (
            "10,000 levels and no end",
            said(OK, &[JSON], "[".repeat(10_000).as_bytes()),
        ),
    ];
    for (what, answer) in cases {
        for field in [&Field::READ[..], &[Field::TokenEndpoint]].concat() {
            let server = honest().await;
            server.answer(field.path(), Answer::Bytes(answer.clone()));
            let settings = field.settings(&server.origin);
            let client = client(policy(&[&server.origin], PATIENCE));
            let failure = field.fails(&client, &settings, what).await;
            assert_eq!(
                failure.kind, InvalidResponse,
                "{field:?}: {what}: {failure}"
            );
        }
    }
}

/// A label is not worth more than what it is on: providers send JSON as text/plain and text/html, and mean it.
#[tokio::test]
async fn json_is_read_by_whatever_name_it_is_called() {
    for content_type in ["text/plain", "text/html", "application/octet-stream", ""] {
        let server = honest().await;
        let headers = [("content-type", content_type)];
        let answer = said(OK, &headers, TOKEN.as_bytes());
        server.answer("/token", Answer::Bytes(answer));
        let settings = Field::TokenEndpoint.settings(&server.origin);
        let client = client(policy(&[&server.origin], PATIENCE));
        let read = refresh(&client, &settings).await.unwrap();
        assert_eq!(read.access_token.reveal(), "at", "{content_type}");
    }
}

#[tokio::test]
async fn what_a_revocation_answers_does_not_matter_once_it_is_done() {
    for (answer, expected) in [
        (said(OK, &[HTML], MARK.as_bytes()), Ok(true)),
        (said("204 No Content", &[], b""), Ok(true)),
        (
            said("400 Bad Request", &[JSON], MARK.as_bytes()),
            Err(Unavailable),
        ),
        (
            said("500 Internal Server Error", &[HTML], MARK.as_bytes()),
            Err(Unavailable),
        ),
    ] {
        let server = honest().await;
        server.answer("/revoke", Answer::Bytes(answer));
        let settings = Field::RevocationEndpoint.settings(&server.origin);
        let client = client(policy(&[&server.origin], PATIENCE));
        let revoked = revoke(&client, &settings).await;
        if let Err(failure) = &revoked {
            assert!(!format!("{failure:?}").contains(MARK));
        }
        assert_eq!(revoked.map_err(|failure| failure.kind), expected);
    }
}

#[tokio::test]
async fn up_13_an_error_is_told_by_its_code_and_only_if_it_is_one() {
    for (code, kept) in [
        ("temporarily_unavailable", true),
        (MARK, false),
        ("<script>alert(1)</script>", false),
        ("\\u001b[31mred", false),
        ("x\\r\\nset-cookie: a=b", false),
    ] {
        let body = format!(
            r#"{{"error":"{code}","error_description":"{MARK}","error_uri":"https://{MARK}/"}}"#
        );
        let server = honest().await;
        let answer = said(
            "400 Bad Request",
            &[JSON, ("x-error", MARK)],
            body.as_bytes(),
        );
        server.answer("/token", Answer::Bytes(answer));
        let settings = Field::TokenEndpoint.settings(&server.origin);
        let client = client(policy(&[&server.origin], PATIENCE));
        let failure = Field::TokenEndpoint.fails(&client, &settings, code).await;
        assert_eq!(failure.provider_error.is_some(), kept, "{code}");
    }
}

#[tokio::test]
async fn up_20_a_key_set_of_thousands_is_refused() {
    let keys = |number: usize| format!(r#"{{"keys":[{}]}}"#, vec!["{}"; number].join(","));
    for (number, expected) in [(10_000, InvalidResponse), (100_000, Unavailable)] {
        let server = honest().await;
        server.answer("/jwks", json(&keys(number)));
        let settings = Field::JwksUri.settings(&server.origin);
        let client = client(policy(&[&server.origin], PATIENCE));
        let failure = Field::JwksUri.fails(&client, &settings, "keys").await;
        assert_eq!(failure.kind, expected, "{number}");
    }
}

/// Names that are answered by the provider are addresses like those that were typed in (SS-19).
#[tokio::test]
async fn ss_19_metadata_cannot_name_what_a_connection_may_not() {
    let inside = honest().await;
    let server = honest().await;
    for (member, field) in [
        ("authorization_endpoint", Field::AuthorizationEndpoint),
        ("jwks_uri", Field::JwksUri),
        ("revocation_endpoint", Field::RevocationEndpoint),
        ("token_endpoint", Field::TokenEndpoint),
    ] {
        for url in [
            format!("{}{}", inside.origin, field.path()),
            format!(
                "{}{}",
                inside.origin.replace("http:", "https:"),
                field.path()
            ),
            "https://127.0.0.1/".to_owned(),
            "https://169.254.169.254/latest/meta-data/".to_owned(),
            "https://[::ffff:a9fe:a9fe]/".to_owned(),
            "http://provider.test/".to_owned(),
            "file:///etc/passwd".to_owned(),
        ] {
            let mut metadata = serde_json::json!({
                "issuer": server.origin,
                "authorization_endpoint": format!("{}/authorize", server.origin),
                "token_endpoint": format!("{}/token", server.origin),
                "jwks_uri": format!("{}/jwks", server.origin),
            });
            metadata[member] = url.clone().into();
            server.answer(Field::Issuer.path(), json(&metadata.to_string()));
            let settings = Field::Issuer.settings(&server.origin);
            let client = client(policy(&[&server.origin], PATIENCE));
            let failure = field.fails(&client, &settings, &url).await;
            assert_refused(&failure, &url);
            assert_eq!(server.asked().last(), Some(&Field::Issuer.request()));
        }
    }
    assert_eq!(inside.connections(), 0);
}

/// The ID token has said who it is; a userinfo that may not be asked takes nothing away and gets no packet.
#[tokio::test]
async fn ss_19_a_userinfo_address_inside_is_not_asked() {
    let inside = honest().await;
    let server = honest().await;
    let metadata = serde_json::json!({
        "issuer": server.origin,
        "authorization_endpoint": format!("{}/authorize", server.origin),
        "token_endpoint": format!("{}/token", server.origin),
        "jwks_uri": format!("{}/jwks", server.origin),
        "userinfo_endpoint": format!("{}/userinfo", inside.origin),
    });
    server.answer(Field::Issuer.path(), json(&metadata.to_string()));
    let settings = Field::Issuer.settings(&server.origin);
    let client = client(policy(&[&server.origin], PATIENCE));
    let tokens = token_answer(Some(&server.origin));
    let identity = identify(&client, &settings, &tokens).await.unwrap();
    assert_eq!(identity.subject, "somebody");
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn a_provider_that_recovers_is_believed_again() {
    let server: Hostile = honest().await;
    let settings = Field::TokenEndpoint.settings(&server.origin);
    let client = client(policy(&[&server.origin], PATIENCE));
    server.answer("/token", Answer::Bytes(MARK.as_bytes().to_vec()));
    assert!(refresh(&client, &settings).await.is_err());
    server.answer("/token", json(TOKEN));
    assert!(refresh(&client, &settings).await.is_ok());
}
