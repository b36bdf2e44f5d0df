//! Tokens of which exactly one thing is wrong: in the header, in what it says, in the signature.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::KeyPair;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Forger, base64, refused};
use crate::people::me;
use crate::support::Node;

/// The order of the base point (RFC 8032, 5.1), little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The signature is right, the header is not.
pub async fn headers(node: &Node, forger: &Forger) {
    for algorithm in [
        "none", "None", "NONE", "nOnE", "", "HS256", "ES256", "ES384", "RS256", "PS256", "Ed25519", "Ed448", "eddsa",
        "EdDSA ",
    ] {
        refused(node, algorithm, &forger.headed(|header| header["alg"] = json!(algorithm))).await;
    }
    let public = forger.pair.public_key().as_ref().to_vec();
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": base64(&public) });
    for (member, value) in [
        ("jwk", jwk.clone()),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/x")),
        ("x5c", json!([STANDARD.encode(&public)])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("typ", json!("JWT")),
        ("typ", json!("at+JWT")),
        ("typ", Value::Null),
        ("kid", json!("sig_01k00000000000000000000000")),
        ("kid", json!(0)),
        ("kid", json!("../../dev/null")),
        ("alg", json!(["EdDSA"])),
        ("alg", json!({ "alg": "EdDSA" })),
        ("alg", json!(0)),
    ] {
        refused(node, member, &forger.headed(|header| header[member] = value)).await;
    }
    for member in ["alg", "typ", "kid"] {
        refused(node, member, &forger.headed(|header| drop(header.as_object_mut().unwrap().remove(member)))).await;
    }
    let header = forger.header.to_string();
    let claims = forger.claims.to_string();
    for header in [
        header.replacen('{', r#"{"alg":"none","#, 1),
        header.replacen('{', r#"{"alg":"EdDSA","#, 1),
        header.replacen('}', r#","alg":"EdDSA"}"#, 1),
        header.replacen(':', ": ", 1),
        format!(" {header}"),
        format!("{header}\n"),
        format!("\u{feff}{header}"),
        header.replace("EdDSA", "\\u0045dDSA"),
        "{}".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        String::new(),
    ] {
        refused(node, "header", &forger.sign(&header, &claims)).await;
    }
    // The public key as the secret of an HMAC, as it may be written down.
    let spki = [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".as_slice(), &public].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&spki));
    for secret in
        [public.clone(), base64(&public).into_bytes(), jwk.to_string().into_bytes(), spki, pem.into_bytes(), vec![]]
    {
        for (algorithm, name) in
            [(hmac::HMAC_SHA256, "HS256"), (hmac::HMAC_SHA512, "HS512"), (hmac::HMAC_SHA256, "EdDSA")]
        {
            let mut header = forger.header.clone();
            header["alg"] = json!(name);
            let message = format!("{}.{}", base64(header.to_string()), base64(&claims));
            let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), message.as_bytes());
            refused(node, name, &format!("{message}.{}", base64(tag))).await;
        }
    }
}

/// Signed by the right key, and yet nothing that this instance says.
pub async fn payloads(node: &Node, forger: &Forger) {
    for claim in forger.claims.as_object().unwrap().keys() {
        refused(node, claim, &forger.claiming(|claims| drop(claims.as_object_mut().unwrap().remove(claim)))).await;
        refused(node, claim, &forger.claiming(|claims| claims[claim] = Value::Null)).await;
        let twice =
            forger.claims.to_string().replacen('{', &format!("{{{}:{},", json!(claim), forger.claims[claim]), 1);
        refused(node, "a member twice", &forger.sign(&forger.header.to_string(), twice)).await;
    }
    let exp = forger.claims["exp"].as_i64().unwrap();
    for (claim, value) in [
        ("exp", json!(exp.to_string())),
        ("exp", json!(exp as f64 + 0.5)),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(0)),
        ("nbf", json!(exp)),
        ("nbf", json!(0)),
        ("aud", json!([forger.claims["aud"]])),
        ("aud", json!("other")),
        ("iss", json!("other")),
        ("iss", json!("keyward/")),
        ("sub", json!("usr_01k00000000000000000000000")),
        ("sid", json!("ses_01k00000000000000000000000")),
        ("sid", forger.claims["sub"].clone()),
        ("gen", json!(2)),
        ("gen", json!(i64::MAX)),
        ("gen", json!("1")),
        ("amr", json!("pwd")),
        ("role", json!("owner")),
    ] {
        refused(node, claim, &forger.claiming(|claims| claims[claim] = value)).await;
    }
    let (header, claims) = (forger.header.to_string(), forger.claims.to_string());
    for payload in [
        String::new(),
        "{}".to_owned(),
        "null".to_owned(),
        format!("[{claims}]"),
        format!("{claims} {claims}"),
        format!("{claims}x"),
        format!("\u{feff}{claims}"),
        json!(claims).to_string(),
        forger.claiming(|_| {}),
        claims[..claims.len() - 1].to_owned(),
        format!("{}1{}", "[".repeat(1_000), "]".repeat(1_000)),
    ] {
        refused(node, "payload", &forger.sign(&header, payload)).await;
    }
    refused(
        node,
        "not UTF-8",
        &forger.sign(
            &header,
            claims.replace("pwd", "p\u{fffd}d").into_bytes().iter().map(|byte| byte | 0x80).collect::<Vec<u8>>(),
        ),
    )
    .await;
}

/// Everything is right but the signature, or how it is written.
pub async fn signatures(node: &Node, forger: &Forger, genuine: &str) {
    let (message, text) = genuine.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(text).unwrap();
    let with = |signature: &[u8]| format!("{message}.{}", base64(signature));
    for length in [0, 1, 31, 32, 63] {
        refused(node, "cut off", &with(&signature[..length])).await;
    }
    for (before, after) in [(&[][..], &[0][..]), (&[0], &[]), (&[], &[0; 64]), (&[0x30, 0x40], &[])] {
        refused(node, "longer", &with(&[before, &signature, after].concat())).await;
    }
    for place in 0..64 {
        let mut flipped = signature.clone();
        flipped[place] ^= 1 << (place % 8);
        refused(node, "one bit", &with(&flipped)).await;
    }
    let (point, scalar) = signature.split_at(32);
    // S + L is the same number for whoever does not look (RFC 8032, 5.1.7).
    let mut beyond = scalar.to_vec();
    let mut carry = 0;
    for (byte, order) in beyond.iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    refused(node, "S + L", &with(&[point, &beyond].concat())).await;
    for top in [0x20, 0x40, 0x80] {
        let mut high = signature.clone();
        high[63] |= top;
        refused(node, "a high bit of S", &with(&high)).await;
    }
    refused(node, "the halves swapped", &with(&[scalar, point].concat())).await;
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut negative_zero = identity;
    negative_zero[31] = 0x80;
    let mut beyond_p = [0xff; 32];
    (beyond_p[0], beyond_p[31]) = (0xee, 0x7f);
    for small in [[0; 32], identity, negative_zero, beyond_p, [0xff; 32]] {
        for scalar in [&[0; 32][..], scalar, &ORDER] {
            refused(node, "a point of small order, or written in another way", &with(&[&small, scalar].concat())).await;
        }
    }
    // 86 letters hold 516 bits: four say nothing, and must be zero.
    let last = text.chars().last().unwrap();
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let value = letters.find(last).unwrap();
    for other in (0..16).map(|low| value & !15 | low).filter(|other| *other != value) {
        refused(
            node,
            "bits that say nothing",
            &format!("{}{}", &genuine[..genuine.len() - 1], &letters[other..=other]),
        )
        .await;
    }
    for other in [
        format!("{genuine}="),
        format!("{genuine}=="),
        format!("{message}.{}", URL_SAFE.encode(&signature)),
        format!("{genuine}A"),
        format!("{genuine}."),
        format!("{genuine}.{text}"),
        format!("{message}."),
        message.to_owned(),
        format!(".{message}.{text}"),
        format!("{message}.~{text}"),
        format!("{message}..{text}"),
    ] {
        refused(node, "written in another way", &other).await;
    }
    // Signed again until its text has a letter that the two alphabets write differently.
    let mut number = 0;
    let other = loop {
        number += 1;
        let token = forger.claiming(|claims| claims["jti"] = json!(number.to_string()));
        let (message, text) = token.rsplit_once('.').unwrap();
        let standard = STANDARD_NO_PAD.encode(URL_SAFE_NO_PAD.decode(text).unwrap());
        if standard != text {
            assert_eq!(me(node, &token).await, 200);
            break format!("{message}.{standard}");
        }
    };
    refused(node, "the other alphabet", &other).await;
    let flattened =
        json!({ "payload": message.split('.').nth(1), "protected": message.split('.').next(), "signature": text });
    refused(node, "as JSON", &base64(flattened.to_string())).await;
}
