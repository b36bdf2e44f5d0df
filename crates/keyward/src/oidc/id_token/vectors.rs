//! Project Wycheproof's vectors for the three algorithms that ID tokens may be signed by (statement S-08): signatures that are
//! right, and those that careless implementations have taken. `crate::sessions::tokens` verifies by the same Ed25519.

use serde_json::{Value, json};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify as rsa};

use super::*;

/// Counts what was judged as the vector says, right ones and wrong ones. What is only tolerable may be judged either way.
#[derive(Default)]
struct Tally {
    taken: usize,
    refused: usize,
}

impl Tally {
    fn judge(&mut self, algorithm: Algorithm, key: &Value, (message, signature): (&[u8], &[u8]), result: TestResult) {
        let key: Jwk = serde_json::from_value(key.clone()).expect("a key");
        assert!(key.fits(algorithm), "{key:?}");
        let is_taken = key.has_signed(algorithm, message, signature);
        match result {
            TestResult::Valid => assert!(is_taken, "{algorithm:?}: a right signature is refused: {key:?}"),
            TestResult::Invalid => {
                assert!(!is_taken, "{algorithm:?}: a wrong signature is taken: {key:?} {signature:?}")
            }
            TestResult::Acceptable => return,
        }
        *(if is_taken { &mut self.taken } else { &mut self.refused }) += 1;
    }
}

fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// RFC 7518, 6.3: as few bytes as the number needs.
fn number(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    base64(&bytes[zeros..])
}

#[test]
fn s_08_ed25519_as_wycheproof_says() {
    let mut tally = Tally::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).expect("vectors").test_groups {
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "x": base64(&group.key.pk) });
        for test in &group.tests {
            tally.judge(Algorithm::EdDsa, &key, (&test.msg, &test.sig), test.result);
        }
    }
    assert!(tally.taken > 80 && tally.refused > 50, "{} {}", tally.taken, tally.refused);
}

#[test]
fn s_08_es256_as_wycheproof_says() {
    let mut tally = Tally::default();
    for group in ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).expect("vectors").test_groups {
        let point = &group.key.key[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let key = json!({ "kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y) });
        for test in &group.tests {
            tally.judge(Algorithm::Es256, &key, (&test.msg, &test.sig), test.result);
        }
    }
    assert!(tally.taken > 100 && tally.refused > 80, "{} {}", tally.taken, tally.refused);
}

#[test]
fn s_08_rs256_as_wycheproof_says() {
    let mut tally = Tally::default();
    for name in [rsa::TestName::Rsa2048Sha256, rsa::TestName::Rsa3072Sha256, rsa::TestName::Rsa4096Sha256] {
        for group in rsa::TestSet::load(name).expect("vectors").test_groups {
            let key = json!({ "kty": "RSA", "n": number(&group.key.n), "e": number(&group.key.e) });
            for test in &group.tests {
                tally.judge(Algorithm::Rs256, &key, (&test.msg, &test.sig), test.result);
            }
        }
    }
    assert!(tally.taken > 20 && tally.refused > 500, "{} {}", tally.taken, tally.refused);
}
