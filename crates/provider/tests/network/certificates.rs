//! TLS as it should not be (UP-14, F-46): certificates that are wrong in one way each, versions that are too old,
//! handshakes that stall, and HTTP/2, which only comes with TLS, as nobody means it.

use std::sync::Arc;

use provider::FailureKind::{OutcomeUnknown, Refused, Unavailable};
use provider::{OutboundPolicy, ProviderClient};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion};

use crate::calls::{DEADLINE, Field, MARK, PATIENCE, make_honest, policy, refresh};
use crate::hostile::{Answer, Hostile, said};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// An authority that signs whatever it is asked to.
fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What a good certificate says: this host, a server, now.
fn good() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn changed(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = good();
    change(&mut params);
    params
}

fn names(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    changed(|params| {
        params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
    })
}

/// A server's settings: a certificate of that authority, and those that are sent after it.
fn server(
    params: &CertificateParams,
    authority: &Authority,
    rest: &[CertificateDer<'static>],
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    with_chain(
        &[&[certificate.der().clone()], rest].concat(),
        &key,
        versions,
    )
}

fn with_chain(
    chain: &[CertificateDer<'static>],
    key: &KeyPair,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.to_vec(), key)
        .unwrap()
}

/// May call `server`, and trusts `authority`.
fn client(
    server: &Hostile,
    authority: &Authority,
    deadline: std::time::Duration,
) -> ProviderClient {
    crate::calls::client(OutboundPolicy {
        extra_root_certificates_pem: vec![authority.pem()],
        ..policy(&[&server.origin], deadline)
    })
}

#[tokio::test]
async fn a_good_certificate_is_trusted_in_every_version_that_we_speak() {
    let authority = authority("trusted");
    for versions in [&[&TLS12][..], &[&TLS13], &[&TLS12, &TLS13]] {
        let server = Hostile::https(self::server(&good(), &authority, &[], versions)).await;
        make_honest(&server);
        let client = client(&server, &authority, PATIENCE);
        for field in Field::CALLED {
            let settings = field.settings(&server.origin);
            field.call(&client, &settings).await.unwrap();
        }
    }
}

#[tokio::test]
async fn up_14_f_46_bad_certificates_are_refused_and_nothing_is_said_to_them() {
    let trusted = authority("trusted");
    let unknown = authority("trusted");
    let both = [&TLS12, &TLS13];
    let sign = |params: &CertificateParams| server(params, &trusted, &[], &both);
    let self_signed = {
        let key = KeyPair::generate().unwrap();
        let certificate = good().self_signed(&key).unwrap();
        with_chain(&[certificate.der().clone()], &key, &both)
    };
    // A certificate that is no authority has signed another one.
    let not_an_authority = {
        let key = KeyPair::generate().unwrap();
        let leaf = CertifiedIssuer::signed_by(good(), key, &trusted).unwrap();
        server(&good(), &leaf, &[leaf.der().clone()], &both)
    };
    let expired_between = {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(2020, 1, 1);
        let between =
            CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &trusted).unwrap();
        server(&good(), &between, &[between.der().clone()], &both)
    };
    let cases = [
        (
            "expired",
            sign(&changed(|params| {
                params.not_after = date_time_ymd(2020, 1, 1)
            })),
        ),
        (
            "not yet valid",
            sign(&changed(|params| {
                params.not_before = date_time_ymd(4000, 1, 1)
            })),
        ),
        ("another name", sign(&names(&["provider.test"]))),
        ("another address", sign(&names(&["127.0.0.2"]))),
        ("an address as a name", sign(&names(&["*.0.0.1"]))),
        (
            "the address as common name only",
            sign(&changed(|params| {
                params.subject_alt_names.clear();
                params
                    .distinguished_name
                    .push(DnType::CommonName, "127.0.0.1");
            })),
        ),
        ("self-signed", self_signed),
        (
            "an unknown authority of the same name",
            server(&good(), &unknown, &[], &both),
        ),
        ("signed by no authority", not_an_authority),
        ("an authority between that has expired", expired_between),
        (
            "for clients",
            sign(&changed(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            })),
        ),
        (
            "for mail",
            sign(&changed(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
            })),
        ),
        (
            "an authority's own",
            sign(&changed(|params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)
            })),
        ),
    ];
    for (what, config) in cases {
        for field in Field::CALLED {
            let server = Hostile::https(config.clone()).await;
            make_honest(&server);
            let client = client(&server, &trusted, PATIENCE);
            let settings = field.settings(&server.origin);
            let failure = field.fails(&client, &settings, what).await;
            assert_eq!(failure.kind, Refused, "{field:?}: {what}: {failure}");
            assert!(failure.detail.contains("certificate"), "{what}: {failure}");
            // Not by another way, and not without TLS.
            server.hung_up().await;
            assert_eq!(server.connections(), 1, "{field:?}: {what}");
            assert!(server.asked().is_empty(), "{field:?}: {what}");
        }
    }
}

/// A provider whose certificate is good is refused all the same where its authority is not among ours.
#[tokio::test]
async fn up_14_an_authority_is_trusted_where_it_was_configured_only() {
    let authority = authority("trusted");
    let server = Hostile::https(self::server(&good(), &authority, &[], &[&TLS13])).await;
    make_honest(&server);
    let settings = Field::TokenEndpoint.settings(&server.origin);
    let stranger = crate::calls::client(policy(&[&server.origin], PATIENCE));
    let failure = refresh(&stranger, &settings).await.unwrap_err();
    assert_eq!(failure.kind, Refused);
    refresh(&client(&server, &authority, PATIENCE), &settings)
        .await
        .unwrap();
}

#[tokio::test]
async fn up_14_old_versions_and_servers_without_tls_get_no_request() {
    let authority = authority("trusted");
    // RFC 4346 §7.4.1.3: a ServerHello of the version, a random, no session, ECDHE-RSA-AES128-SHA, no compression.
    let server_hello = |version: u8| {
        let hello = [&[3, version][..], &[7; 32], &[0, 0xc0, 0x13, 0]].concat();
        let handshake = [&[2, 0, 0, u8::try_from(hello.len()).unwrap()][..], &hello].concat();
        let length = u8::try_from(handshake.len()).unwrap();
        [&[22, 3, version, 0, length][..], &handshake].concat()
    };
    let token = format!(r#"{{"access_token":"at","x":"{MARK}"}}"#);
    for (what, answer, deadline) in [
        ("SSL 3.0", Answer::Bytes(server_hello(0)), PATIENCE),
        ("TLS 1.0", Answer::Bytes(server_hello(1)), PATIENCE),
        ("TLS 1.1", Answer::Bytes(server_hello(2)), PATIENCE),
        // RFC 8446 §6.2: protocol_version, fatal.
        (
            "an alert",
            Answer::Bytes(vec![21, 3, 3, 0, 2, 2, 70]),
            PATIENCE,
        ),
        (
            "HTTP without TLS",
            Answer::Bytes(said("200 OK", &[], token.as_bytes())),
            PATIENCE,
        ),
        ("the end at once", Answer::Bytes(Vec::new()), PATIENCE),
        (
            "records without an end",
            Answer::Endless(Vec::new(), vec![22, 3, 3, 0, 1, 0]),
            PATIENCE,
        ),
        ("a handshake that stalls", Answer::Silence, DEADLINE),
        (
            "a handshake byte by byte",
            Answer::Drip(vec![22, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc], 3),
            DEADLINE,
        ),
    ] {
        for field in Field::CALLED {
            let server = Hostile::no_tls(answer.clone()).await;
            let client = client(&server, &authority, deadline);
            let settings = field.settings(&server.origin);
            let failure = field.fails(&client, &settings, what).await;
            assert_eq!(failure.kind, Unavailable, "{field:?}: {what}: {failure}");
            assert_eq!(server.connections(), 1, "{field:?}: {what}");
        }
    }
}

/// Without the alert that says so, nobody knows that this was the whole answer (RFC 8446 §6.1): somebody on the way may
/// have cut it where it pleased them.
#[tokio::test]
async fn up_14_an_answer_without_a_length_ends_when_tls_says_so() {
    let authority = authority("trusted");
    let text = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"access_token\":\"at\"}";
    let whole = Answer::Bytes(text.as_bytes().to_vec());
    let cut = Answer::Dropped(text.as_bytes().to_vec());
    for (answer, expected) in [(whole, None), (cut, Some(OutcomeUnknown))] {
        let server = Hostile::https(self::server(&good(), &authority, &[], &[&TLS13])).await;
        server.answer("/token", answer);
        let client = client(&server, &authority, PATIENCE);
        let settings = Field::TokenEndpoint.settings(&server.origin);
        let answered = refresh(&client, &settings).await;
        assert_eq!(answered.err().map(|failure| failure.kind), expected);
    }
}

/// A frame on the first stream, or on none (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

#[tokio::test]
async fn up_01_http_2_is_cut_like_any_other() {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const CONTINUATION: u8 = 9;
    const END_HEADERS: u8 = 4;
    // HPACK (RFC 7541): `:status: 200` is one byte, a new name and value are spelled out.
    let ok = [0x88];
    let field = [&[0, 1, b'x', 24][..], MARK.as_bytes()].concat();
    let begin = |more: &[u8]| [&frame(SETTINGS, 0, 0, &[]), more].concat();
    let answered = frame(HEADERS, END_HEADERS, 1, &ok);
    let token = format!(r#"{{"access_token":"at","x":"{MARK}"}}"#);

    let authority = authority("trusted");
    for (what, answer, deadline) in [
        (
            "endless data",
            Answer::Endless(begin(&answered), frame(DATA, 0, 1, &[b' '; 16_384])),
            PATIENCE,
        ),
        (
            "endless empty data",
            Answer::Endless(begin(&answered), frame(DATA, 0, 1, &[])),
            DEADLINE,
        ),
        (
            "headers continued without an end",
            Answer::Endless(
                begin(&frame(HEADERS, 0, 1, &ok)),
                frame(CONTINUATION, 0, 1, &field.repeat(100)),
            ),
            PATIENCE,
        ),
        (
            "pings without an end",
            Answer::Endless(begin(&[]), frame(PING, 0, 0, &[0; 8])),
            DEADLINE,
        ),
        (
            "settings without an end",
            Answer::Endless(begin(&[]), frame(SETTINGS, 0, 0, &[])),
            DEADLINE,
        ),
        ("silence", Answer::Silence, DEADLINE),
        (
            "refused",
            Answer::Endless(
                begin(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 7])),
                frame(PING, 1, 0, &[0; 8]),
            ),
            PATIENCE,
        ),
        (
            "reset in the middle",
            Answer::Bytes(begin(
                &[
                    &*answered,
                    &frame(DATA, 0, 1, token.as_bytes()),
                    &frame(RST_STREAM, 0, 1, &[0, 0, 0, 2]),
                ]
                .concat(),
            )),
            PATIENCE,
        ),
        (
            "going away before the answer",
            Answer::Bytes(begin(&frame(GOAWAY, 0, 0, &[0; 8]))),
            PATIENCE,
        ),
        (
            "the end in the middle",
            Answer::Bytes(begin(
                &[&*answered, &frame(DATA, 0, 1, token.as_bytes())].concat(),
            )),
            PATIENCE,
        ),
        (
            "a frame that is too large",
            Answer::Bytes(begin(&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1])),
            PATIENCE,
        ),
        (
            "an answer to another request",
            Answer::Bytes(begin(&frame(HEADERS, END_HEADERS, 3, &ok))),
            PATIENCE,
        ),
        (
            "a page without HTTP/2",
            Answer::Bytes(said("200 OK", &[], token.as_bytes())),
            PATIENCE,
        ),
    ] {
        for (field, expected) in [
            (Field::TokenEndpoint, OutcomeUnknown),
            (Field::UserinfoEndpoint, Unavailable),
        ] {
            let config = self::server(&good(), &authority, &[], &[&TLS13]);
            let server = Hostile::http2(config, answer.clone()).await;
            let client = client(&server, &authority, deadline);
            let settings = field.settings(&server.origin);
            let failure = field.fails(&client, &settings, what).await;
            assert_eq!(failure.kind, expected, "{field:?}: {what}: {failure}");
            assert_eq!(server.asked().len(), 1, "{field:?}: {what}");
        }
    }
}
