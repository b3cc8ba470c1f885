//! The attack cases JW-01 to JW-23, as far as they end in this crate, and vectors of the standards.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key of each kind, made once: RSA takes its time.
struct Keys {
    ed25519: SigningKey,
    p256: SigningKey,
    p384: SigningKey,
    rsa: SigningKey,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    ed25519: SigningKey::generate(Algorithm::EdDsa).unwrap(),
    p256: SigningKey::generate(Algorithm::Es256).unwrap(),
    p384: SigningKey::generate(Algorithm::Es384).unwrap(),
    rsa: SigningKey::generate(Algorithm::Rs256).unwrap(),
});

/// The key of `KEYS` that goes with an algorithm.
fn signing_key(algorithm: Algorithm) -> SigningKey {
    let key = match algorithm {
        Algorithm::EdDsa => &KEYS.ed25519,
        Algorithm::Es256 => &KEYS.p256,
        Algorithm::Es384 => &KEYS.p384,
        _ => &KEYS.rsa,
    };
    SigningKey::from_pkcs8(algorithm, key.to_pkcs8().unwrap().reveal()).unwrap()
}

fn public(key: &SigningKey) -> VerifyingKey {
    key.verifying_key(None).unwrap()
}

fn claims() -> Value {
    serde_json::json!({ "iss": "https://issuer.example/", "sub": "u1", "aud": "https://api.example/", "exp": 2_000_000_000, "iat": 1_900_000_000 })
}

/// Signs any header and payload, well-formed or not, with a right signature.
fn sign_raw(key: &SigningKey, header: &str, payload: &str) -> String {
    let input = format!("{}.{}", b64(header), b64(payload));
    let signature = key.sign_bytes(input.as_bytes()).unwrap();
    format!("{input}.{}", b64(signature))
}

fn verify(token: &str, keys: &[&VerifyingKey]) -> Result<Claims, JwsError> {
    UnverifiedJws::parse(token)?.verify(keys, &Algorithm::ALL)
}

fn refused(token: &str, key: &SigningKey) -> JwsError {
    verify(token, &[&public(key)]).unwrap_err()
}

#[test]
fn every_algorithm_signs_and_verifies() {
    for algorithm in Algorithm::ALL {
        let key = signing_key(algorithm);
        let token = key.sign(Some("k1"), "at+jwt", &claims()).unwrap();
        let public = VerifyingKey::from_jwk(&key.public_jwk("k1")).unwrap();
        let parsed = UnverifiedJws::parse(&token).unwrap();
        assert_eq!(parsed.algorithm(), algorithm);
        assert_eq!(parsed.unverified_kid(), Some("k1"));
        assert_eq!(parsed.unverified_claims()["sub"], "u1");
        let claims = parsed.verify(&[&public], &[algorithm]).unwrap();
        assert!(claims.is_typ("at+jwt"));
        assert_eq!(claims.str("sub"), Ok(Some("u1")));
        assert_eq!(Algorithm::from_str(algorithm.as_str()), Some(algorithm));
    }
}

#[test]
fn every_changed_character_of_a_token_is_refused() {
    let key = &KEYS.p256;
    let public = public(key);
    let token = key.sign(None, "JWT", &claims()).unwrap();
    for place in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(verify(&changed, &[&public]).is_err(), "{place}");
    }
}

#[test]
fn jw_01_none() {
    let key = &KEYS.rsa;
    for alg in ["none", "None", "nOnE", "NONE", ""] {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        for signature in ["", "AAAA"] {
            let token = format!("{}.{}.{signature}", b64(&header), b64(claims().to_string()));
            assert_eq!(refused(&token, key), JwsError::UnknownAlgorithm);
        }
    }
    let good = key.sign(None, "JWT", &claims()).unwrap();
    let (input, _) = good.rsplit_once('.').unwrap();
    assert_eq!(refused(&format!("{input}."), key), JwsError::Signature);
    assert_eq!(refused(input, key), JwsError::NotCompact);
}

#[test]
fn jw_02_hmac_with_a_public_key_as_its_secret() {
    let key = &KEYS.rsa;
    let jwk = key.public_jwk("k1");
    for (alg, algorithm) in [("HS256", hmac::HMAC_SHA256), ("HS512", hmac::HMAC_SHA512)] {
        for secret in [jwk.to_string(), jwk["n"].as_str().unwrap().to_owned()] {
            let input = format!(
                "{}.{}",
                b64(format!(r#"{{"alg":"{alg}"}}"#)),
                b64(claims().to_string())
            );
            let tag = hmac::sign(
                &hmac::Key::new(algorithm, secret.as_bytes()),
                input.as_bytes(),
            );
            let token = format!("{input}.{}", b64(tag));
            assert_eq!(refused(&token, key), JwsError::UnknownAlgorithm);
        }
    }
}

#[test]
fn jw_04_an_algorithm_of_another_kind_of_key() {
    for (alg, key) in [
        ("ES256", &KEYS.rsa),
        ("RS256", &KEYS.p256),
        ("ES256", &KEYS.ed25519),
        ("ES384", &KEYS.p256),
        ("EdDSA", &KEYS.p384),
    ] {
        let token = sign_raw(key, &format!(r#"{{"alg":"{alg}"}}"#), &claims().to_string());
        assert_eq!(refused(&token, key), JwsError::NoKey, "{alg}");
    }
}

#[test]
fn jw_05_the_keys_own_algorithm_binds() {
    let token = signing_key(Algorithm::Ps256)
        .sign(None, "JWT", &claims())
        .unwrap();
    // The same RSA key, published for RS256.
    assert_eq!(refused(&token, &KEYS.rsa), JwsError::NoKey);
    let mut jwk = KEYS.rsa.public_jwk("k1");
    jwk.as_object_mut().unwrap().remove("alg");
    let any = VerifyingKey::from_jwk(&jwk).unwrap();
    assert!(verify(&token, &[&any]).is_ok());
    let relabelled = sign_raw(&KEYS.rsa, r#"{"alg":"PS256"}"#, &claims().to_string());
    assert_eq!(
        verify(&relabelled, &[&any]).unwrap_err(),
        JwsError::Signature
    );
}

#[test]
fn jw_05_the_verifier_decides_which_algorithms_it_accepts() {
    let token = KEYS.rsa.sign(None, "JWT", &claims()).unwrap();
    let result = UnverifiedJws::parse(&token)
        .unwrap()
        .verify(&[&public(&KEYS.rsa)], &[Algorithm::Es256, Algorithm::Ps256]);
    assert_eq!(
        result.unwrap_err(),
        JwsError::AlgorithmNotAllowed(Algorithm::Rs256)
    );
}

#[test]
fn jw_07_08_a_key_in_the_header_is_refused() {
    let key = &KEYS.p256;
    for member in [
        r#""jku":"https://evil.example/jwks""#.to_owned(),
        r#""x5u":"https://evil.example/chain""#.to_owned(),
        r#""x5c":["MIIB"]"#.to_owned(),
        format!(r#""jwk":{}"#, key.public_jwk("k1")),
    ] {
        let token = sign_raw(key, &format!(r#"{{"alg":"ES256",{member}}}"#), "{}");
        assert_eq!(refused(&token, key), JwsError::EmbeddedKey);
    }
}

#[test]
fn jw_10_a_token_without_kid() {
    let token = KEYS.p256.sign(None, "JWT", &claims()).unwrap();
    let right = KEYS.p256.verifying_key(Some("right")).unwrap();
    let others: Vec<_> = (0..4)
        .map(|number| {
            SigningKey::generate(Algorithm::Es256)
                .unwrap()
                .verifying_key(Some(&number.to_string()))
                .unwrap()
        })
        .collect();
    let rsa = KEYS.rsa.verifying_key(Some("rsa")).unwrap();
    assert!(verify(&token, &[&right]).is_ok());
    assert!(verify(&token, &[&others[0], &others[1], &others[2], &rsa, &right]).is_ok());
    let all: Vec<_> = others.iter().chain([&right]).collect();
    assert_eq!(verify(&token, &all).unwrap_err(), JwsError::TooManyKeys);
    assert_eq!(verify(&token, &[]).unwrap_err(), JwsError::NoKey);
    assert_eq!(
        verify(&token, &[&others[0]]).unwrap_err(),
        JwsError::Signature
    );
}

#[test]
fn jw_10_a_token_with_kid() {
    let key = &KEYS.p256;
    let token = key.sign(Some("right"), "JWT", &claims()).unwrap();
    let named = key.verifying_key(Some("right")).unwrap();
    let misnamed = key.verifying_key(Some("wrong")).unwrap();
    assert!(verify(&token, &[&misnamed, &named]).is_ok());
    assert_eq!(verify(&token, &[&misnamed]).unwrap_err(), JwsError::NoKey);
    // A key that was registered without a name fits any.
    assert!(verify(&token, &[&public(key)]).is_ok());
    assert!(verify(&token, &[&public(key).with_kid("right")]).is_ok());
    let token = sign_raw(key, r#"{"alg":"ES256","kid":7}"#, "{}");
    assert_eq!(refused(&token, key), JwsError::Header);
}

#[test]
fn jw_11_no_extension_is_understood() {
    let key = &KEYS.p256;
    for member in [
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""crit":["b64"],"b64":false"#,
        r#""b64":false"#,
        r#""b64":true"#,
    ] {
        let token = sign_raw(key, &format!(r#"{{"alg":"ES256",{member}}}"#), "{}");
        assert_eq!(refused(&token, key), JwsError::CriticalHeader);
    }
}

#[test]
fn jw_13_only_the_compact_form_is_read() {
    let key = &KEYS.p256;
    let token = key.sign(None, "JWT", &claims()).unwrap();
    let [header, payload, signature]: [&str; 3] =
        token.split('.').collect::<Vec<_>>().try_into().unwrap();
    for other in [
        format!(r#"{{"protected":"{header}","payload":"{payload}","signature":"{signature}"}}"#),
        format!(
            r#"{{"payload":"{payload}","signatures":[{{"protected":"{header}","signature":"{signature}"}}]}}"#
        ),
        format!("{token}.{signature}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{token} "),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{token}="),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}.{}", signature.replace(['-', '_'], "+")),
        "..".to_owned(),
        String::new(),
    ] {
        if other != token {
            assert!(verify(&other, &[&public(key)]).is_err(), "{other}");
        }
    }
}

#[test]
fn jw_14_string_exp() {
    let key = &KEYS.p256;
    for (name, value) in [
        ("exp", r#""1999999999""#),
        ("nbf", "true"),
        ("iat", "[]"),
        ("exp", "null"),
        ("exp", "{}"),
        ("exp", "1e300"),
        ("exp", "9223372036854775807"),
        ("nbf", "-9223372036854775808"),
        ("iat", "18446744073709551615"),
    ] {
        let token = sign_raw(
            key,
            r#"{"alg":"ES256"}"#,
            &format!(r#"{{"{name}":{value}}}"#),
        );
        assert_eq!(
            refused(&token, key),
            JwsError::ClaimType(name.to_owned()),
            "{name}: {value}"
        );
    }
    let token = sign_raw(
        key,
        r#"{"alg":"ES256"}"#,
        r#"{"exp":1999999999.25,"iat":1900000000,"auth_time":"1"}"#,
    );
    let claims = verify(&token, &[&public(key)]).unwrap();
    let microseconds = |name| {
        claims
            .timestamp(name)
            .map(|time| time.map(Timestamp::as_microsecond))
    };
    assert_eq!(microseconds("exp"), Ok(Some(1_999_999_999_250_000)));
    assert_eq!(microseconds("iat"), Ok(Some(1_900_000_000_000_000)));
    assert_eq!(microseconds("nbf"), Ok(None));
    assert!(microseconds("auth_time").is_err());
}

#[test]
fn jw_16_duplicate_members() {
    let key = &KEYS.p256;
    for payload in [
        r#"{"sub":"a","sub":"b"}"#,
        r#"{"sub":"a","sub":"a"}"#,
        r#"{"aud":"a","aud":["b"]}"#,
        r#"{"exp":1,"exp":2}"#,
        r#"{"sub":"a","s\u0075b":"b"}"#,
        r#"{"act":{"sub":"a","sub":"b"}}"#,
        r#"{"list":[{"a":1,"a":1}]}"#,
    ] {
        let token = sign_raw(key, r#"{"alg":"ES256"}"#, payload);
        assert_eq!(refused(&token, key), JwsError::DuplicateMember, "{payload}");
    }
    for header in [
        r#"{"alg":"none","alg":"ES256"}"#,
        r#"{"alg":"ES256","kid":"a","kid":"b"}"#,
    ] {
        let token = sign_raw(key, header, "{}");
        assert_eq!(refused(&token, key), JwsError::DuplicateMember, "{header}");
    }
}

#[test]
fn jw_17_size_and_depth() {
    let key = &KEYS.p256;
    let nested = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let header = r#"{"alg":"ES256"}"#;
    let fits = sign_raw(key, header, &nested(15));
    assert!(verify(&fits, &[&public(key)]).is_ok());
    for depth in [16, 5_000] {
        let token = sign_raw(key, header, &nested(depth));
        assert_eq!(refused(&token, key), JwsError::TooDeep);
    }
    let many: Vec<_> = (0..100_000)
        .map(|number| format!(r#""{number}":0"#))
        .collect();
    for payload in [
        nested(10_000),
        format!("{{{}}}", many.join(",")),
        format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20)),
    ] {
        let token = sign_raw(key, header, &payload);
        assert_eq!(refused(&token, key), JwsError::TooLarge);
    }
    let token = "a".repeat(MAX_LEN);
    assert_eq!(refused(&token, key), JwsError::NotCompact);
}

#[test]
fn parts_that_are_not_json_objects_are_refused() {
    let key = &KEYS.p256;
    for payload in [
        "",
        "null",
        "[]",
        "1",
        "\"x\"",
        "{",
        "{}{}",
        "{}x",
        "{\"a\":}",
        "{\"a\":1,}",
        "{'a':1}",
        "{\"a\":NaN}",
        "{\"a\":01}",
        "{\"a\":\"\\ud800\"}",
    ] {
        let token = sign_raw(key, r#"{"alg":"ES256"}"#, payload);
        assert_eq!(refused(&token, key), JwsError::Json, "{payload}");
        let token = sign_raw(key, payload, "{}");
        assert_eq!(refused(&token, key), JwsError::Json, "{payload}");
    }
    for header in [
        "{}",
        r#"{"alg":1}"#,
        r#"{"alg":null}"#,
        r#"{"alg":"ES256","typ":[]}"#,
    ] {
        let token = sign_raw(key, header, "{}");
        assert_eq!(refused(&token, key), JwsError::Header, "{header}");
    }
    let token = format!("{}.{}.AAAA", b64([0xff, 0xfe]), b64("{}"));
    assert_eq!(refused(&token, key), JwsError::Json);
}

#[test]
fn jw_19_ecdsa_signatures_that_are_none() {
    // The order of P-256 (FIPS 186-4 §D.1.2.3).
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let key = &KEYS.p256;
    let token = key.sign(None, "JWT", &claims()).unwrap();
    let (input, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let zero = [0; 32];
    // DER, and DER cut or filled to 64 bytes.
    let der = [&[0x30, 0x44, 0x02, 0x20], r, &[0x02, 0x20], s].concat();
    for forged in [
        [zero, zero].concat(),
        [&zero, s].concat(),
        [r, &zero].concat(),
        [&N, s].concat(),
        [r, &N].concat(),
        [N, N].concat(),
        [[0xff; 32], [0xff; 32]].concat(),
        [s, r].concat(),
        der.clone(),
        der[..64].to_vec(),
        [r, s, &[0]].concat(),
        [&[0], r, s].concat(),
        [r, &s[..31]].concat(),
        Vec::new(),
    ] {
        let token = format!("{input}.{}", b64(&forged));
        assert_eq!(refused(&token, key), JwsError::Signature, "{forged:02x?}");
    }
    // The other of the two s that fit: allowed, as RFC 7518 does not ask for the low one.
    let mut borrow = 0_i16;
    let mut high = [0; 32];
    for place in (0..32).rev() {
        let digit = i16::from(N[place]) - i16::from(s[place]) - borrow;
        borrow = i16::from(digit < 0);
        high[place] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    let token = format!("{input}.{}", b64([r, &high].concat()));
    assert!(verify(&token, &[&public(key)]).is_ok());
}

#[test]
fn jw_20_weak_rsa_keys() {
    let jwk = KEYS.rsa.public_jwk("k1");
    let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    let key = |n: &[u8], e: &[u8]| {
        VerifyingKey::from_jwk(&serde_json::json!({ "kty": "RSA", "n": b64(n), "e": b64(e) }))
            .map(|_| ())
    };
    let f4 = [1, 0, 1];
    assert_eq!(key(&n, &f4), Ok(()));
    assert_eq!(key(&[&[0], &n[..]].concat(), &f4), Ok(()));
    let even = {
        let mut even = n.clone();
        even[255] &= 0xfe;
        even
    };
    let huge = vec![0xff; 2048];
    let wide = [1, 0, 0, 0, 0, 0, 0, 0, 1];
    for (n, e) in [
        (&n[..], &[1][..]),
        (&n, &[]),
        (&n, &[0]),
        (&n, &[3]),
        (&n, &[1, 0, 0]),
        (&n, &[2, 0, 0, 0, 1]),
        (&n, &wide),
        (&even, &f4),
        (&n[..128], &f4),
        (&n[..255], &f4),
        (&huge, &f4),
        (&[], &f4),
        (&[0; 256], &f4),
    ] {
        assert_eq!(key(n, e), Err(KeyError::Weak), "{} {e:?}", n.len());
    }
}

#[test]
fn jw_20_weak_and_wrong_curve_keys() {
    let key = |jwk: Value| VerifyingKey::from_jwk(&jwk).map(|_| ());
    let jwk = KEYS.p256.public_jwk("k1");
    let with = |name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk
    };
    assert_eq!(key(jwk.clone()), Ok(()));
    assert_eq!(key(with("crv", "P-192".into())), Err(KeyError::Algorithm));
    assert_eq!(
        key(with("crv", "secp256k1".into())),
        Err(KeyError::Algorithm)
    );
    assert_eq!(key(with("crv", "P-384".into())), Err(KeyError::Malformed));
    assert_eq!(key(with("alg", "ES384".into())), Err(KeyError::Algorithm));
    assert_eq!(key(with("alg", "RS256".into())), Err(KeyError::Algorithm));
    assert_eq!(key(with("alg", "HS256".into())), Err(KeyError::Algorithm));
    assert_eq!(key(with("alg", 7.into())), Err(KeyError::Malformed));
    // Not on the curve, zero, too short.
    assert_eq!(key(with("y", jwk["x"].clone())), Err(KeyError::Malformed));
    assert_eq!(
        key(with("x", b64([0; 32]).into())),
        Err(KeyError::Malformed)
    );
    assert_eq!(
        key(with("x", b64([1; 31]).into())),
        Err(KeyError::Malformed)
    );
}

#[test]
fn jw_20_small_order_ed25519_keys() {
    let key = |x: &[u8]| {
        VerifyingKey::from_jwk(&serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(x) }))
            .map(|_| ())
    };
    let with_last = |first: u8, fill: u8, last: u8| {
        let mut y = [fill; 32];
        y[0] = first;
        y[31] = last;
        y
    };
    let order_8 = [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ]
    .map(|hex| {
        let mut y = [0; 32];
        for (place, byte) in y.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * place..2 * place + 2], 16).unwrap();
        }
        y
    });
    let mut weak = vec![
        with_last(0, 0, 0),
        with_last(1, 0, 0),
        // p - 1, p, p + 1 and the largest of all.
        with_last(0xec, 0xff, 0x7f),
        with_last(0xed, 0xff, 0x7f),
        with_last(0xee, 0xff, 0x7f),
        with_last(0xff, 0xff, 0x7f),
    ];
    weak.extend(order_8);
    for mut y in weak {
        assert_eq!(key(&y), Err(KeyError::Weak), "{y:02x?}");
        y[31] |= 0x80;
        assert_eq!(key(&y), Err(KeyError::Weak), "{y:02x?}");
    }
    assert_eq!(key(&[9; 31]), Err(KeyError::Malformed));
}

#[test]
fn keys_that_are_private_or_for_another_use_are_refused() {
    let jwk = KEYS.p256.public_jwk("k1");
    let with = |name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        VerifyingKey::from_jwk(&jwk).map(|_| ())
    };
    assert_eq!(with("d", "AAAA".into()), Err(KeyError::Private));
    assert_eq!(with("use", "enc".into()), Err(KeyError::Use));
    assert_eq!(with("use", Value::Null), Err(KeyError::Use));
    assert_eq!(
        with("key_ops", serde_json::json!(["sign"])),
        Err(KeyError::Use)
    );
    assert_eq!(with("key_ops", serde_json::json!(["verify"])), Ok(()));
    assert_eq!(with("x5c", serde_json::json!(["MIIB"])), Ok(()));
    assert_eq!(with("kty", "oct".into()), Err(KeyError::Algorithm));
    let symmetric = serde_json::json!({ "kty": "oct", "k": "AAAA" });
    assert_eq!(
        VerifyingKey::from_jwk(&symmetric).unwrap_err(),
        KeyError::Private
    );
    assert_eq!(
        VerifyingKey::from_jwk(&Value::Null).unwrap_err(),
        KeyError::Malformed
    );
}

#[test]
fn jw_22_types_are_compared_as_the_standard_says() {
    let key = &KEYS.p256;
    let typ = |typ: &str| {
        let token = sign_raw(key, &format!(r#"{{"alg":"ES256","typ":"{typ}"}}"#), "{}");
        verify(&token, &[&public(key)]).unwrap().is_typ("at+jwt")
    };
    for same in [
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "Application/AT+jwt",
    ] {
        assert!(typ(same), "{same}");
    }
    for other in [
        "JWT",
        "",
        "at+jwt ",
        "application/",
        "text/at+jwt",
        "xat+jwt",
        "logout+jwt",
    ] {
        assert!(!typ(other), "{other}");
    }
    let token = sign_raw(key, r#"{"alg":"ES256"}"#, "{}");
    let parsed = UnverifiedJws::parse(&token).unwrap();
    assert_eq!(parsed.typ(), None);
    assert!(!parsed.is_typ("at+jwt"));
}

#[test]
fn audiences() {
    let key = &KEYS.p256;
    let claims = |payload: &str| {
        let token = sign_raw(key, r#"{"alg":"ES256"}"#, payload);
        verify(&token, &[&public(key)]).unwrap()
    };
    assert_eq!(claims("{}").audience(), Ok(vec![]));
    assert_eq!(claims(r#"{"aud":"a"}"#).audience(), Ok(vec!["a"]));
    assert!(claims(r#"{"aud":"a"}"#).audience_is_single_string());
    assert_eq!(
        claims(r#"{"aud":["a","b"]}"#).audience(),
        Ok(vec!["a", "b"])
    );
    assert!(!claims(r#"{"aud":["a"]}"#).audience_is_single_string());
    for wrong in [
        r#"{"aud":1}"#,
        r#"{"aud":null}"#,
        r#"{"aud":["a",1]}"#,
        r#"{"aud":{}}"#,
    ] {
        assert!(claims(wrong).audience().is_err(), "{wrong}");
    }
    assert!(claims(r#"{"sub":["u"]}"#).str("sub").is_err());
    assert!(claims(r#"{"sub":null}"#).str("sub").is_err());
}

#[test]
fn nothing_personal_or_secret_prints() {
    let key = &KEYS.p256;
    let token = key.sign(None, "JWT", &claims()).unwrap();
    let parsed = UnverifiedJws::parse(&token).unwrap();
    let printed = format!("{parsed:?} {key:?}");
    let claims = parsed.verify(&[&public(key)], &Algorithm::ALL).unwrap();
    let printed = format!("{printed} {claims:?}");
    assert!(!printed.contains("u1"));
    assert!(!printed.contains("issuer.example"));
    assert!(printed.contains("SigningKey(ES256)"));
}

#[test]
fn signing_needs_an_object() {
    assert_eq!(
        KEYS.p256.sign(None, "JWT", &Value::Null).unwrap_err(),
        KeyError::Malformed
    );
}

#[test]
fn keys_do_not_change_their_algorithm() {
    let pkcs8 = KEYS.p256.to_pkcs8().unwrap();
    for algorithm in [Algorithm::Es384, Algorithm::EdDsa, Algorithm::Rs256] {
        assert_eq!(
            SigningKey::from_pkcs8(algorithm, pkcs8.reveal()).unwrap_err(),
            KeyError::Malformed
        );
    }
}

mod pem {
    //! Made with OpenSSL; keys of these tests and nothing else.

    use super::*;

    fn private(name: &str) -> String {
        let text = match name {
            "rsa_pkcs8" => include_str!("testdata/rsa_pkcs8.pem"),
            "rsa_pkcs1" => include_str!("testdata/rsa_pkcs1.pem"),
            "ec_pkcs8" => include_str!("testdata/ec_pkcs8.pem"),
            "ec_sec1" => include_str!("testdata/ec_sec1.pem"),
            "ed25519" => include_str!("testdata/ed25519.pem"),
            _ => panic!("{name}"),
        };
        text.to_owned()
    }

    #[test]
    fn private_and_public_texts_go_together() {
        let rsa = [
            include_str!("testdata/rsa_public.pem"),
            include_str!("testdata/rsa_public_pkcs1.pem"),
            include_str!("testdata/rsa_certificate.pem"),
        ];
        let ec = [include_str!("testdata/ec_public.pem")];
        let ed25519 = [include_str!("testdata/ed25519_public.pem")];
        for (algorithm, privates, publics) in [
            (Algorithm::Rs256, &["rsa_pkcs8", "rsa_pkcs1"][..], &rsa[..]),
            (Algorithm::Ps512, &["rsa_pkcs8", "rsa_pkcs1"], &rsa),
            (Algorithm::Es256, &["ec_pkcs8", "ec_sec1"], &ec),
            (Algorithm::EdDsa, &["ed25519"], &ed25519),
        ] {
            for name in privates {
                let key = SigningKey::from_pem(algorithm, &private(name)).unwrap();
                let token = key.sign(None, "JWT", &claims()).unwrap();
                for text in publics {
                    let public = VerifyingKey::from_public_pem(text, algorithm).unwrap();
                    assert!(verify(&token, &[&public]).is_ok(), "{name}");
                    assert_eq!(public.thumbprint(), key.thumbprint());
                    assert_eq!(public.algorithms().collect::<Vec<_>>(), [algorithm]);
                    let windows = text.replace('\n', "\r\n");
                    assert!(VerifyingKey::from_public_pem(&windows, algorithm).is_ok());
                }
                let again = key.to_pkcs8().unwrap();
                let again = SigningKey::from_pkcs8(algorithm, again.reveal()).unwrap();
                assert_eq!(again.thumbprint(), key.thumbprint());
            }
        }
    }

    #[test]
    fn wrong_texts_are_refused() {
        let public = |text: &str, algorithm| {
            VerifyingKey::from_public_pem(text, algorithm)
                .map(|_| ())
                .unwrap_err()
        };
        let rsa = include_str!("testdata/rsa_public.pem");
        assert_eq!(public(rsa, Algorithm::Es256), KeyError::Algorithm);
        for name in ["rsa_pkcs8", "rsa_pkcs1", "ec_sec1"] {
            assert_eq!(public(&private(name), Algorithm::Rs256), KeyError::Private);
        }
        let weak = include_str!("testdata/rsa_1024_public.pem");
        assert_eq!(public(weak, Algorithm::Rs256), KeyError::Weak);
        let cut: String = rsa.chars().filter(|letter| *letter != 'M').collect();
        for text in [
            "",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY----------END PUBLIC KEY-----",
            &rsa.replace("END PUBLIC", "END RSA PUBLIC"),
            &rsa.replace("PUBLIC KEY", "DOG"),
            &cut,
        ] {
            assert_eq!(
                public(text, Algorithm::Rs256),
                KeyError::Malformed,
                "{text}"
            );
        }
        for (name, algorithm) in [
            ("rsa_pkcs1", Algorithm::Es256),
            ("ec_sec1", Algorithm::Rs256),
        ] {
            assert_eq!(
                SigningKey::from_pem(algorithm, &private(name)).unwrap_err(),
                KeyError::Algorithm
            );
        }
        assert_eq!(
            SigningKey::from_pem(Algorithm::Rs256, rsa).unwrap_err(),
            KeyError::Malformed
        );
    }
}

mod vectors {
    use super::*;

    /// RFC 7515 §A.2 and §A.3 sign this text; with line breaks as they stand there.
    const PAYLOAD: &str =
        "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";

    #[test]
    fn rfc_7515_a_3_es256() {
        let key = VerifyingKey::from_jwk(&serde_json::json!({
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }))
        .unwrap();
        let token = format!(
            "{}.{}.{}",
            b64(r#"{"alg":"ES256"}"#),
            b64(PAYLOAD),
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        );
        let claims = verify(&token, &[&key]).unwrap();
        assert_eq!(claims.str("iss"), Ok(Some("joe")));
        assert_eq!(
            claims.timestamp("exp"),
            Ok(Some(Timestamp::from_second(1_300_819_380).unwrap()))
        );
    }

    #[test]
    fn rfc_7638_3_1_thumbprint() {
        let jwk = serde_json::json!({
            "kty": "RSA",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "e": "AQAB",
            "alg": "RS256",
            "kid": "2011-04-29",
        });
        assert_eq!(
            jwk_thumbprint(&jwk),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
        let key = VerifyingKey::from_jwk(&jwk).unwrap();
        assert_eq!(key.thumbprint(), jwk_thumbprint(&jwk));
        assert_eq!(key.kid(), Some("2011-04-29"));
    }

    #[test]
    fn rfc_8037_a_3_thumbprint_and_a_5_signature() {
        let jwk = serde_json::json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        });
        let key = VerifyingKey::from_jwk(&jwk).unwrap();
        assert_eq!(
            key.thumbprint(),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
        // The example signs a text that is no JSON, so only the signature is looked at.
        let input = format!(
            "{}.{}",
            b64(r#"{"alg":"EdDSA"}"#),
            b64("Example of Ed25519 signing")
        );
        let signature = URL_SAFE_NO_PAD
            .decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
            .unwrap();
        assert!(key.verifies(Algorithm::EdDsa, input.as_bytes(), &signature));
    }
}

proptest! {
    #[test]
    fn parsing_anything_never_panics(text in "[\\PC.]{0,60}", header in "\\PC{0,40}", payload in "\\PC{0,40}") {
        let _ = UnverifiedJws::parse(&text);
        let _ = UnverifiedJws::parse(&format!("{}.{}.AAAA", b64(header), b64(payload)));
    }

    #[test]
    fn reading_der_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), place in 0..300_usize, byte: u8) {
        let _ = der::subject_public_key_info(&bytes);
        let _ = der::certificate_key(&bytes);
        let (_, mut known) = der::pem(include_str!("testdata/rsa_certificate.pem")).unwrap();
        known[place] = byte;
        if let Some(key) = der::certificate_key(&known) {
            let _ = der::subject_public_key_info(key);
        }
    }

    #[test]
    fn reading_jwks_never_panics(x in "[A-Za-z0-9_-]{0,90}", kty in "(RSA|EC|OKP|oct)", crv in "(P-256|P-384|Ed25519)") {
        let jwk = serde_json::json!({ "kty": kty, "crv": crv, "x": x, "y": x, "n": x, "e": "AQAB" });
        let _ = VerifyingKey::from_jwk(&jwk);
        prop_assert_eq!(jwk_thumbprint(&jwk).len(), 43);
    }
}

#[test]
fn a_key_survives_being_written_as_pem() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        let key = SigningKey::generate(algorithm).unwrap();
        let again = SigningKey::from_pem(algorithm, key.to_pem().unwrap().reveal()).unwrap();
        assert_eq!(again.thumbprint(), key.thumbprint());
    }
}

#[test]
fn a_public_key_goes_to_pem_and_back() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let jwk = SigningKey::generate(algorithm).unwrap().public_jwk("k");
        let key = VerifyingKey::from_jwk(&jwk).unwrap();
        let pem = key.to_public_pem().unwrap();
        assert!(pem.lines().all(|line| line.len() <= 64), "{pem}");
        let read = VerifyingKey::from_public_pem(&pem, algorithm).unwrap();
        assert_eq!(read.thumbprint(), key.thumbprint());
    }
}

#[test]
fn a_certificate_says_when_it_ends() {
    let pem = include_str!("testdata/rsa_certificate.pem");
    let end = certificate_end(pem).unwrap();
    assert_eq!(end.to_string(), "2126-10-30T10:21:52Z");
    assert_eq!(certificate_end("x"), None);
    let jwk = SigningKey::generate(Algorithm::Es256)
        .unwrap()
        .public_jwk("k");
    let key = VerifyingKey::from_jwk(&jwk)
        .unwrap()
        .to_public_pem()
        .unwrap();
    assert_eq!(certificate_end(&key), None);
}
