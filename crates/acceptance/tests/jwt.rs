//! JWTs that strangers give us, at every endpoint that reads one: a client's assertion, a worker's request, an access
//! token. What is wrong with a token is the same everywhere; how it is told is each endpoint's own.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use std::net::TcpListener;

use acceptance::{DEMO_API, Reply, World, story};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use oauth::grant;
use reqwest::Method;
use seal::{Algorithm, SigningKey, UnverifiedJws};
use serde_json::{Value, json};
use store::params;
use vault::{AppType, KeyPurpose, NewApi, NewClient, SubjectType};

/// The order of P-256 (FIPS 186-4 §D.1.2.3).
const N: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
    0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs any header over any payload with a P-256 key, as whoever has the key can.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn of(key: &SigningKey) -> Self {
        let der = key.to_pkcs8().unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.reveal()).unwrap())
    }

    fn signature(&self, input: &str) -> Vec<u8> {
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes());
        signature.unwrap().as_ref().to_vec()
    }

    fn token(&self, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", b64(header), b64(payload));
        let signature = self.signature(&input);
        format!("{input}.{}", b64(signature))
    }
}

/// What is wrong with a token, and the token.
type Forged = (String, String);

/// What needs no private key: anybody can make these of a good token and the public key.
fn of_anybody(good: &str, public_jwk: &Value) -> Vec<Forged> {
    let (input, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = input.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    let with_alg = |alg: &str| {
        let mut header = header.clone();
        header["alg"] = json!(alg);
        format!("{}.{payload}", b64(header.to_string()))
    };
    let mut tokens = Vec::new();
    for alg in ["none", "None", "nOnE", ""] {
        for signature in ["", "AAAA", signature] {
            let token = format!("{}.{signature}", with_alg(alg));
            tokens.push((format!("jw_01 alg {alg} signature {signature}"), token));
        }
    }
    tokens.push(("jw_01 an empty signature".to_owned(), format!("{input}.")));
    tokens.push(("jw_01 no signature".to_owned(), input.to_owned()));
    for (alg, algorithm) in [
        ("HS256", hmac::HMAC_SHA256),
        ("HS384", hmac::HMAC_SHA384),
        ("HS512", hmac::HMAC_SHA512),
    ] {
        for secret in public_key_texts(public_jwk) {
            let input = with_alg(alg);
            let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), input.as_bytes());
            tokens.push((format!("jw_02 {alg}"), format!("{input}.{}", b64(tag))));
        }
    }
    // The header says who signed it, and whoever wrote the header did.
    let own = SigningKey::generate(Algorithm::Es256).unwrap();
    for (name, value) in [
        ("jwk", own.public_jwk("own")),
        ("x5c", json!([STANDARD.encode("a certificate")])),
    ] {
        let mut header = header.clone();
        header["alg"] = json!("ES256");
        header[name] = value;
        let payload = URL_SAFE_NO_PAD.decode(payload).unwrap();
        let payload = String::from_utf8(payload).unwrap();
        let token = Signer::of(&own).token(&header.to_string(), &payload);
        tokens.push((format!("jw_08 {name}"), token));
    }
    let flattened =
        json!({ "protected": b64(header.to_string()), "payload": payload, "signature": signature });
    let general = json!({ "payload": payload, "signatures": [
        { "protected": b64(header.to_string()), "signature": signature },
        { "protected": b64(header.to_string()), "signature": signature },
    ] });
    for (what, token) in [
        ("flattened", flattened.to_string()),
        ("two signatures", general.to_string()),
        (
            "compact in JSON",
            format!("{{\"payload\":\"{payload}\",\"x\":\"{good}\"}}"),
        ),
        ("five parts", format!("{good}.AAAA.AAAA")),
        ("a part more", format!("{good}.")),
        ("an empty payload", good.replace(payload, "")),
        ("padding", format!("{good}=")),
        ("a space", format!("{good} ")),
        ("a line break", good.replacen('.', "\n.", 1)),
        ("the other alphabet", format!("{input}.{}", "+/".repeat(43))),
    ] {
        tokens.push((format!("jw_13 {what}"), token));
    }
    tokens
}

/// A public key as bytes that a careless verifier could take for an HMAC secret.
fn public_key_texts(jwk: &Value) -> Vec<Vec<u8>> {
    let mut texts = vec![jwk.to_string().into_bytes()];
    let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    if jwk["kty"] == "EC" {
        // SubjectPublicKeyInfo of a P-256 key: a fixed beginning and the point.
        let mut der = STANDARD
            .decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE")
            .unwrap();
        der.extend(part("x"));
        der.extend(part("y"));
        let text = STANDARD.encode(&der);
        let (first, second) = text.split_at(64);
        let pem =
            format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n");
        texts.push(pem.trim_end().as_bytes().to_vec());
        texts.push(pem.into_bytes());
        texts.push(der);
    } else {
        texts.push(part("n"));
    }
    texts
}

/// What takes the registered key itself: the signature is right, and the token is wrong all the same.
fn of_the_owner(key: &SigningKey, kid: &str, typ: &str, claims: &Value, trap: &str) -> Vec<Forged> {
    let signer = Signer::of(key);
    let good = json!({ "alg": "ES256", "typ": typ, "kid": kid });
    let (header, payload) = (good.to_string(), claims.to_string());
    let mut tokens = Vec::new();
    let mut add = |what: String, header: &str, payload: &str| {
        tokens.push((what, signer.token(header, payload)));
    };
    for alg in [
        "RS256", "PS256", "ES384", "EdDSA", "es256", "ES256K", "HS256",
    ] {
        let mut header = good.clone();
        header["alg"] = json!(alg);
        add(format!("jw_04 {alg}"), &header.to_string(), &payload);
    }
    for (name, value) in [
        ("jku", json!(trap)),
        ("x5u", json!(trap)),
        ("jwk", key.public_jwk(kid)),
        ("x5c", json!(["MAA="])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!(["b64"])),
        ("crit", json!(["https://example.com/unknown"])),
        ("b64", json!(false)),
        ("kid", json!(["assertion-1", "worker-key-1"])),
        ("kid", json!({ "kid": kid })),
        ("typ", json!([typ])),
        ("alg", json!(["ES256"])),
    ] {
        let mut header = good.clone();
        header[name] = value;
        add(
            format!("jw_07_08_11 {header}"),
            &header.to_string(),
            &payload,
        );
    }
    for (name, value) in [
        ("exp", json!("1999999999")),
        ("exp", json!([1_999_999_999])),
        ("nbf", json!(true)),
        ("iat", json!([])),
        ("iat", json!(claims["iat"].to_string())),
        ("jti", json!(7)),
        ("iss", json!([claims["iss"]])),
        ("sub", json!({ "id": claims["sub"] })),
        ("aud", json!([[claims["aud"]]])),
        ("aud", json!(true)),
    ] {
        let mut claims = claims.clone();
        claims[name] = value;
        add(
            format!("jw_14 {name} {}", claims[name]),
            &header,
            &claims.to_string(),
        );
    }
    for name in ["sub", "aud", "exp", "iss", "jti"] {
        let twice = payload.replacen('{', &format!("{{\"{name}\":{},", claims[name]), 1);
        add(format!("jw_16 {name} twice"), &header, &twice);
        // The same name, spelled so that only a reader of JSON sees it.
        let escaped = format!("\\u{:04x}{}", u32::from(name.as_bytes()[0]), &name[1..]);
        let twice = payload.replacen('{', &format!("{{\"{escaped}\":{},", claims[name]), 1);
        add(format!("jw_16 {name} twice, escaped"), &header, &twice);
    }
    for name in ["alg", "typ", "kid"] {
        let twice = header.replacen('{', &format!("{{\"{name}\":{},", good[name]), 1);
        add(format!("jw_16 header {name} twice"), &twice, &payload);
    }
    // Within the size, and still more than anybody needs.
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let deep = payload.replacen('{', &format!("{{\"x\":{deep},"), 1);
    add("jw_17 deep".to_owned(), &header, &deep);
    let long = payload.replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(20_000)), 1);
    add("jw_17 long".to_owned(), &header, &long);
    for payload in ["null", "[]", "\"x\"", "{", "{}x", "\u{feff}{}", "{}"] {
        add(format!("jw_13 payload {payload}"), &header, payload);
    }
    // Signatures that are none, on a token that would be good.
    let good = signer.token(&header, &payload);
    let (input, signature) = good.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let der = [&[0x30, 0x44, 0x02, 0x20], r, &[0x02, 0x20], s].concat();
    for (what, signature) in [
        ("psychic", vec![0; 64]),
        ("r zero", [&[0; 32], s].concat()),
        ("s zero", [r, &[0; 32]].concat()),
        ("r the order", [&N, s].concat()),
        ("s the order", [r, &N].concat()),
        ("DER", der),
        ("65 bytes", [r, s, &[0]].concat()),
        ("63 bytes", signature[..63].to_vec()),
    ] {
        tokens.push((
            format!("jw_19 {what}"),
            format!("{input}.{}", b64(signature)),
        ));
    }
    tokens
}

/// A good token with the other `s` that fits its signature: RFC 7518 does not ask for the low one.
fn with_other_s(good: &str) -> String {
    let (input, signature) = good.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0_i16;
    for place in (0..32).rev() {
        let difference = i16::from(N[place]) - i16::from(signature[32 + place]) - borrow;
        borrow = i16::from(difference < 0);
        signature[32 + place] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    format!("{input}.{}", b64(signature))
}

/// An address that nobody has a reason to call.
fn trap() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    (listener, url)
}

async fn refused_since(world: &World, event: &'static str, before: usize) -> usize {
    let rows = world.audited(event).await;
    let refused = rows[before..]
        .iter()
        .filter(|(outcome, _)| outcome == "refused");
    assert_eq!(refused.clone().count(), rows.len() - before);
    rows.len() - before
}

story!(jw_01_to_19_at_a_client_that_signs, |world| {
    world.log_in().await?;
    let (client_id, key) = world.asserting_client().await;
    let (listener, url) = trap();
    let claims = world.assertion_claims(&client_id);
    let good = key.sign(Some("assertion-1"), "JWT", &claims)?;
    let mut tokens = of_anybody(&good, &key.public_jwk("assertion-1"));
    tokens.extend(of_the_owner(&key, "assertion-1", "JWT", &claims, &url));
    let before = world.audited("client.authentication").await.len();
    for (what, token) in &tokens {
        let body = world.assertion_grant(token).to_string();
        let reply = world
            .post_as("oauth/token", "application/json", body)
            .await?;
        reply.assert_oauth_error(401, "invalid_client", what);
        world.secret(token);
    }
    // One row each that says why, and nothing used up by any of them.
    let refused = refused_since(world, "client.authentication", before).await;
    assert_eq!(refused, tokens.len());
    assert_eq!(
        world.count("select count(*) from replays", params![]).await,
        0
    );
    assert!(listener.accept().is_err(), "jw_07: somebody asked for keys");
    let body = world.assertion_grant(&with_other_s(&good));
    world.token(&body).await?.unwrap();
});

story!(jw_01_to_19_at_a_worker, |world| {
    world.connected().await?;
    let (listener, url) = trap();
    let mut claims = world.worker_claims();
    claims["exp"] = json!(claims["iat"].as_i64().unwrap() + 30);
    let good = world.sign_worker(&claims);
    let mut tokens = of_anybody(&good, &world.worker_key.public_jwk("worker-key-1"));
    tokens.extend(of_the_owner(
        &world.worker_key,
        "worker-key-1",
        "token-vault-req+jwt",
        &claims,
        &url,
    ));
    let before = world.audited("exchange").await.len();
    let mut asked = 0;
    for (what, token) in &tokens {
        world.secret(token);
        let mut body = world.worker_exchange(token);
        // More than a token ever has is not looked at at all.
        let too_long = token.len() > 16 * 1024;
        asked += if too_long { 0 } else { 2 };
        let expected = if too_long {
            (400, "invalid_request")
        } else {
            (401, "invalid_grant")
        };
        let reply = world
            .post_as("oauth/token", "application/json", body.to_string())
            .await?;
        reply.assert_oauth_error(expected.0, expected.1, what);
        // The standard's spelling (RFC 8693 §2.2.2).
        body["grant_type"] = json!(grant::TOKEN_EXCHANGE);
        let reply = world
            .post_as("oauth/token", "application/json", body.to_string())
            .await?;
        reply.assert_oauth_error(400, "invalid_request", what);
    }
    assert_eq!(refused_since(world, "exchange", before).await, asked);
    assert_eq!(
        world.count("select count(*) from replays", params![]).await,
        0
    );
    assert!(listener.accept().is_err(), "jw_07: somebody asked for keys");
    let body = world.worker_exchange(&with_other_s(&good));
    world.exchange(&body).await?.unwrap();
});

async fn bearer(
    world: &mut World,
    method: Method,
    path: &str,
    token: &str,
) -> anyhow::Result<Reply> {
    let request = world
        .agent
        .request(method, &world.url(path))
        .header("authorization", format!("Bearer {token}"));
    world.send(request).await
}

story!(jw_01_to_22_at_an_access_token, |world| {
    let login = world.connected().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let keys = world
        .agent
        .expect(Method::GET, &world.url(".well-known/jwks.json"), None, None)
        .await?;
    // As a user's own client has them: the key that signed, and the others that are published.
    let kid_of = |token: &str| {
        let jws = UnverifiedJws::parse(token).unwrap();
        jws.unverified_kid().unwrap().to_owned()
    };
    let public = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["kid"] == json!(kid_of(&me)))
        .unwrap()
        .clone();
    // Somebody's own key under our name, and with the issuer of somebody else.
    let own = SigningKey::generate(Algorithm::Rs256)?;
    let own_tokens = |good: &str| {
        let claims = Value::Object(acceptance::jwt_claims(good));
        let mut tokens = Vec::new();
        for kid in [Some(kid_of(good)), Some("own".to_owned()), None] {
            tokens.push((
                format!("ex_04 signed by somebody, kid {kid:?}"),
                own.sign(kid.as_deref(), "at+jwt", &claims).unwrap(),
            ));
        }
        for issuer in [
            "https://evil.test/",
            "https://vault.test",
            "https://vault.test.evil.test/",
        ] {
            let mut claims = claims.clone();
            claims["iss"] = json!(issuer);
            let token = own.sign(Some("own"), "at+jwt", &claims).unwrap();
            tokens.push((format!("ex_02 {issuer}"), token));
        }
        tokens
    };
    let mut tokens = of_anybody(&login.access_token, &public);
    tokens.extend(own_tokens(&login.access_token));
    // JW-22: signed by us, and something else.
    tokens.push(("jw_22 an ID token".to_owned(), login.id_token.clone()));
    tokens.push(("a refresh token".to_owned(), login.refresh_token.clone()));
    for (what, token) in &tokens {
        let body = world.access_exchange(token).to_string();
        let reply = world
            .post_as("oauth/token", "application/json", body)
            .await?;
        reply.assert_oauth_error(401, "invalid_grant", what);
    }
    let mut tokens = of_anybody(&me, &public);
    tokens.extend(own_tokens(&me));
    for (what, token) in &tokens {
        // A line break cannot be sent in a header, and a space ends the token.
        if token.contains(['\n', ' ']) {
            continue;
        }
        let reply = bearer(
            world,
            Method::GET,
            "me/v1/connected-accounts/accounts",
            token,
        )
        .await?;
        reply.assert_problem(401, what);
        let reply = bearer(world, Method::GET, "userinfo", token).await?;
        assert_eq!(reply.status, 401, "{what}");
        let challenge = reply.headers["www-authenticate"].to_str()?;
        assert!(challenge.contains("invalid_token"), "{what}: {challenge}");
    }
    let reply = bearer(world, Method::GET, "me/v1/connected-accounts/accounts", &me).await?;
    assert_eq!(reply.status, 200);
    let body = world.access_exchange(&login.access_token);
    world.exchange(&body).await?.unwrap();
});

story!(jw_05_tk_34_the_registration_says_how_a_key_signs, |world| {
    world.log_in().await?;
    let (client_id, _) = world.asserting_client().await;
    let (other_client, other_key) = world.asserting_client().await;
    let rsa = SigningKey::generate(Algorithm::Rs256)?;
    let p384 = SigningKey::generate(Algorithm::Es384)?;
    let worker = SigningKey::generate(Algorithm::Es256)?;
    for (purpose, algorithm, key, kid) in [
        (
            KeyPurpose::ClientAuthentication,
            Algorithm::Ps256,
            &rsa,
            "rsa",
        ),
        (
            KeyPurpose::ClientAuthentication,
            Algorithm::Es384,
            &p384,
            "p384",
        ),
        (
            KeyPurpose::PrivilegedAccess,
            Algorithm::Es256,
            &worker,
            "worker",
        ),
    ] {
        let mut jwk = key.public_jwk(kid);
        jwk["alg"] = json!(algorithm.as_str());
        world
            .vault
            .create_client_key(&client_id, purpose, algorithm, &jwk, None)
            .await
            .unwrap();
    }
    let claims = world.assertion_claims(&client_id);
    let signer = Signer::of(&other_key);
    for (what, token) in [
        // Registered for PS256; the same key makes RS256 signatures as well.
        ("RS256", rsa.sign(Some("rsa"), "JWT", &claims)?),
        // A key of P-384 under the name of the smaller curve.
        (
            "ES256 with a kid of P-384",
            signer.token(
                r#"{"alg":"ES256","typ":"JWT","kid":"p384"}"#,
                &claims.to_string(),
            ),
        ),
        // Another client's key, also under the own key's name.
        (
            "another's",
            other_key.sign(Some("assertion-1"), "JWT", &claims)?,
        ),
        ("another's, no kid", other_key.sign(None, "JWT", &claims)?),
        // The key for worker requests is none for assertions.
        (
            "another purpose",
            worker.sign(Some("worker"), "JWT", &claims)?,
        ),
    ] {
        let body = world.assertion_grant(&token).to_string();
        let reply = world
            .post_as("oauth/token", "application/json", body)
            .await?;
        reply.assert_oauth_error(401, "invalid_client", what);
    }
    let good = p384.sign(Some("p384"), "JWT", &claims)?;
    let body = world.assertion_grant(&good);
    world.token(&body).await?.unwrap();
    let good = other_key.sign(None, "JWT", &world.assertion_claims(&other_client))?;
    let body = world.assertion_grant(&good);
    world.token(&body).await?.unwrap();
});

story!(jw_10_without_a_kid_few_keys_are_tried, |world| {
    world.connected().await?;
    let (client_id, key) = world.asserting_client().await;
    let worker_id = world.clients.worker.client.client_id.clone();
    // Up to four keys of the algorithm are tried; with a fifth, the token has to say which.
    for (count, expected) in [(1, 200), (4, 200), (5, 401)] {
        for (client_id, purpose) in [
            (&client_id, KeyPurpose::ClientAuthentication),
            (&worker_id, KeyPurpose::PrivilegedAccess),
        ] {
            let sql = "select count(*) from client_keys where client_id = $1";
            while world.count(sql, params![client_id.as_str()]).await < count {
                let more = SigningKey::generate(Algorithm::Es256)?;
                let kid = more.thumbprint();
                world
                    .vault
                    .create_client_key(
                        client_id,
                        purpose,
                        Algorithm::Es256,
                        &more.public_jwk(&kid),
                        None,
                    )
                    .await
                    .unwrap();
            }
        }
        let token = key.sign(None, "JWT", &world.assertion_claims(&client_id))?;
        let body = world.assertion_grant(&token).to_string();
        let reply = world
            .post_as("oauth/token", "application/json", body)
            .await?;
        assert_eq!(reply.status, expected, "{count} keys: {}", reply.text);
        let claims = world.worker_claims();
        let token = world
            .worker_key
            .sign(None, "token-vault-req+jwt", &claims)?;
        let body = world.worker_exchange(&token).to_string();
        let reply = world
            .post_as("oauth/token", "application/json", body)
            .await?;
        assert_eq!(reply.status, expected, "{count} keys: {}", reply.text);
    }
    let token = key.sign(
        Some("assertion-1"),
        "JWT",
        &world.assertion_claims(&client_id),
    )?;
    let body = world.assertion_grant(&token);
    world.token(&body).await?.unwrap();
    let jwt = world.sign_worker(&world.worker_claims());
    let body = world.worker_exchange(&jwt);
    world.exchange(&body).await?.unwrap();
});

story!(jw_17_tokens_of_a_megabyte, |world| {
    let login = world.connected().await?;
    let huge = format!(
        "{}.{}.{}",
        "a".repeat(500_000),
        "b".repeat(400_000),
        "c".repeat(100_000)
    );
    for body in [
        world.access_exchange(&huge),
        world.worker_exchange(&huge),
        world.refresh_exchange(&huge),
        world.assertion_grant(&huge),
    ] {
        let reply = world
            .post_as("oauth/token", "application/json", body.to_string())
            .await?;
        assert_eq!(reply.status, 413);
    }
    // In a header it is cut off before; what fits into one is refused like any other token.
    let reply = bearer(world, Method::GET, "userinfo", &"a".repeat(100_000)).await?;
    assert!(matches!(reply.status, 401 | 431), "{}", reply.status);
    let reply = bearer(world, Method::GET, "userinfo", &"a".repeat(40_000)).await?;
    assert_eq!(reply.status, 401);
    let body = world.access_exchange(&login.access_token);
    world.exchange(&body).await?.unwrap();
});

story!(jw_20_weak_keys_are_not_registered, |world| {
    world.connected().await?;
    let good = world.worker_key.public_jwk("x");
    let rsa = SigningKey::generate(Algorithm::Rs256)?.public_jwk("x");
    let with = |jwk: &Value, name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk
    };
    let modulus = |bytes: usize, last: u8| {
        let mut n = vec![0xff; bytes];
        n[bytes - 1] = last;
        json!(b64(n))
    };
    let ed25519 = |x: [u8; 32]| json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(x) });
    let mut identity = [0; 32];
    identity[0] = 1;
    let es256k = json!({ "kty": "EC", "crv": "secp256k1", "x": good["x"], "y": good["y"] });
    let p192 = json!({ "kty": "EC", "crv": "P-192", "x": b64([1; 24]), "y": b64([2; 24]) });
    let clients = [
        (
            world.clients.worker.client.client_id.clone(),
            KeyPurpose::PrivilegedAccess,
        ),
        (
            world.asserting_client().await.0,
            KeyPurpose::ClientAuthentication,
        ),
    ];
    let before = world
        .count("select count(*) from client_keys", params![])
        .await;
    for (client_id, purpose) in &clients {
        for (what, algorithm, jwk) in [
            ("e is 1", Algorithm::Rs256, with(&rsa, "e", json!("AQ"))),
            (
                "e is even",
                Algorithm::Rs256,
                with(&rsa, "e", json!("AQAC")),
            ),
            (
                "an even modulus",
                Algorithm::Rs256,
                with(&rsa, "n", modulus(256, 0xfe)),
            ),
            (
                "1024 bits",
                Algorithm::Rs256,
                with(&rsa, "n", modulus(128, 0xff)),
            ),
            (
                "16384 bits",
                Algorithm::Rs256,
                with(&rsa, "n", modulus(2048, 0xff)),
            ),
            ("P-192", Algorithm::Es256, p192.clone()),
            ("secp256k1", Algorithm::Es256, es256k.clone()),
            (
                "not on the curve",
                Algorithm::Es256,
                with(&good, "y", json!(b64([1; 32]))),
            ),
            (
                "a private key",
                Algorithm::Es256,
                with(&good, "d", json!(b64([1; 32]))),
            ),
            ("small order", Algorithm::EdDsa, ed25519(identity)),
            ("order four", Algorithm::EdDsa, ed25519([0; 32])),
            (
                "a symmetric key",
                Algorithm::Es256,
                json!({ "kty": "oct", "k": "AAAA" }),
            ),
            ("another algorithm", Algorithm::Rs256, good.clone()),
            (
                "for encryption",
                Algorithm::Es256,
                with(&good, "use", json!("enc")),
            ),
        ] {
            let registered = world
                .vault
                .create_client_key(client_id, *purpose, algorithm, &jwk, None)
                .await;
            match registered {
                Err(vault::Error::Refused(refusal)) => assert_eq!(refusal.status(), 400, "{what}"),
                other => panic!("{what}: {other:?}"),
            }
        }
    }
    let after = world
        .count("select count(*) from client_keys", params![])
        .await;
    assert_eq!(after, before);
});

story!(jw_23_ex_05_a_token_is_for_its_own_api, |world| {
    let login = world.connected().await?;
    let other_api = "https://other-api.test/";
    world
        .vault
        .create_api(NewApi {
            identifier: other_api.to_owned(),
            name: "Other".to_owned(),
            scopes: vec!["read:reports".into()],
            ..NewApi::default()
        })
        .await
        .unwrap();
    let other = world
        .register(NewClient {
            name: "Other API".to_owned(),
            grant_types: vec![grant::TOKEN_VAULT.to_owned()],
            app_type: AppType::ResourceServer,
            resource_server_identifier: Some(other_api.to_owned()),
            ..NewClient::default()
        })
        .await;
    let web = world.clients.web.client.client_id.clone();
    world
        .vault
        .create_client_grant(
            &web,
            other_api,
            SubjectType::Client,
            vec!["read:reports".to_owned()],
        )
        .await
        .unwrap();
    // Contract 2.1: the client's API has to be the token's audience. Its prefix or another spelling is not.
    for (client_id, secret) in [
        (other.client.client_id.as_str(), other.secret.as_str()),
        (web.as_str(), world.clients.web.secret.as_str()),
    ] {
        let mut body = world.access_exchange(&login.access_token);
        body["client_id"] = json!(client_id);
        body["client_secret"] = json!(secret);
        let reply = world
            .agent
            .call(Method::POST, &world.url("oauth/token"), None, Some(&body))
            .await?;
        assert_eq!(
            (reply.0.as_u16(), &reply.1["error"]),
            (403, &json!("access_denied"))
        );
    }
    for audience in [
        "https://api.test",
        "https://api.test/v1",
        "https://API.test/",
    ] {
        world
            .vault
            .create_api(NewApi {
                identifier: audience.to_owned(),
                name: "Look-alike".to_owned(),
                ..NewApi::default()
            })
            .await
            .unwrap();
        world
            .execute(
                "update clients set resource_server_identifier = $2 where client_id = $1",
                params![world.clients.api.client.client_id.as_str(), audience],
            )
            .await;
        let body = world.access_exchange(&login.access_token).to_string();
        let reply = world
            .post_as("oauth/token", "application/json", body)
            .await?;
        reply.assert_oauth_error(403, "access_denied", audience);
    }
    world
        .execute(
            "update clients set resource_server_identifier = $2 where client_id = $1",
            params![world.clients.api.client.client_id.as_str(), DEMO_API],
        )
        .await;
    let body = world.access_exchange(&login.access_token);
    world.exchange(&body).await?.unwrap();
});

story!(
    jw_22_our_own_tokens_are_no_assertions_and_no_worker_requests,
    |world| {
        let login = world.connected().await?;
        let (client_id, key) = world.asserting_client().await;
        for (what, token) in [
            ("an access token", login.access_token.clone()),
            ("an ID token", login.id_token.clone()),
        ] {
            let body = world.assertion_grant(&token).to_string();
            let reply = world
                .post_as("oauth/token", "application/json", body)
                .await?;
            reply.assert_oauth_error(401, "invalid_client", what);
            let body = world.worker_exchange(&token).to_string();
            let reply = world
                .post_as("oauth/token", "application/json", body)
                .await?;
            reply.assert_oauth_error(401, "invalid_grant", what);
        }
        // Signed by the client's own key, and of another type.
        for typ in [
            "at+jwt",
            "application/at+jwt",
            "logout+jwt",
            "dpop+jwt",
            "token-vault-req+jwt",
            "",
        ] {
            let token = key.sign(
                Some("assertion-1"),
                typ,
                &world.assertion_claims(&client_id),
            )?;
            let body = world.assertion_grant(&token).to_string();
            let reply = world
                .post_as("oauth/token", "application/json", body)
                .await?;
            reply.assert_oauth_error(401, "invalid_client", typ);
        }
        // WK-26, the other way round: an assertion of the worker's is no request of its.
        let claims = world.worker_claims();
        for typ in ["JWT", "client-authentication+jwt"] {
            let token = world.worker_key.sign(Some("worker-key-1"), typ, &claims)?;
            let body = world.worker_exchange(&token).to_string();
            let reply = world
                .post_as("oauth/token", "application/json", body)
                .await?;
            reply.assert_oauth_error(401, "invalid_grant", typ);
        }
    }
);
