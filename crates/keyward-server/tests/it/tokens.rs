//! Access tokens under attack and in others' hands. The forger of these tests has everything, the signing key too, so that of a
//! token exactly one thing is wrong: the cases are those of Wycheproof's JWS, EdDSA and JWK vectors (statement S-08).

mod forgeries;

use std::process::{Command, Stdio};

use aws_lc_rs::aead::{AES_256_GCM, Aad, RandomizedNonceKey};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward_core::access::Role;
use keyward_core::key::Pepper;
use keyward_core::time::Clock;
use serde_json::{Value, json};

use crate::people::{log_in, me, pair, person, tokens};
use crate::support::{Backend, Node, on_both};

const PEPPER: [u8; 32] = [7; 32];
const SEED: [u8; 32] = [3; 32];

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn with_pepper(layers: &mut keyward::config::Layers) {
    let hex: String = PEPPER.iter().map(|byte| format!("{byte:02x}")).collect();
    layers.flag("keys.peppers", vec![format!("1:{hex}")]);
}

/// Seals as the vault does; whoever has the pepper can.
fn sealed(seed: &[u8]) -> Vec<u8> {
    let pepper = Pepper::new(1, &PEPPER);
    let key = RandomizedNonceKey::new(&AES_256_GCM, pepper.digest("keyward sealing key").as_bytes()).unwrap();
    let mut sealed = seed.to_vec();
    let nonce = key.seal_in_place_append_tag(Aad::from(b"signing key"), &mut sealed).unwrap();
    [1_u32.to_le_bytes().as_slice(), nonce.as_ref(), &sealed].concat()
}

/// Puts a key in the place of the node's own, and opens the node again.
async fn plant(node: Node, sealed: &[u8], public_key: &[u8]) -> Node {
    let literal = |bytes: &[u8]| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if node.place.database_url().is_some() { format!("'\\x{hex}'::bytea") } else { format!("x'{hex}'") }
    };
    let (sealed, public_key) = (literal(sealed), literal(public_key));
    node.tamper(&format!("UPDATE signing_key SET sealed = {sealed}, public_key = {public_key}")).await;
    let opened = node.join(node.place.clone(), with_pepper).await;
    node.stop().await;
    opened
}

/// Who holds the node's own signing key.
struct Forger {
    pair: Ed25519KeyPair,
    header: Value,
    claims: Value,
}

impl Forger {
    fn sign(&self, header: &str, payload: impl AsRef<[u8]>) -> String {
        let message = format!("{}.{}", base64(header), base64(payload));
        format!("{message}.{}", base64(self.pair.sign(message.as_bytes())))
    }

    fn claiming(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims.clone();
        change(&mut claims);
        self.sign(&self.header.to_string(), claims.to_string())
    }

    fn headed(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut header = self.header.clone();
        change(&mut header);
        self.sign(&header.to_string(), self.claims.to_string())
    }
}

async fn forger(node: Node) -> (Node, Forger) {
    person(&node, "a@example.com", Role::Owner).await;
    let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap();
    let node = plant(node, &sealed(&SEED), pair.public_key().as_ref()).await;
    let (access, _) = tokens(&node, "a@example.com").await;
    let part = |index: usize| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(access.split('.').nth(index).unwrap()).unwrap()).unwrap()
    };
    let forger = Forger { pair, header: part(0), claims: part(1) };
    (node, forger)
}

async fn refused(node: &Node, what: &str, token: &str) {
    assert_eq!(me(node, token).await, 401, "{what}: {token}");
}

async fn s_08(backend: Backend) {
    let (node, forger) = forger(Node::start_with(backend, with_pepper).await).await;
    let genuine = forger.claiming(|_| {});
    assert_eq!(me(&node, &genuine).await, 200, "the forger can sign");
    forgeries::headers(&node, &forger).await;
    forgeries::payloads(&node, &forger).await;
    forgeries::signatures(&node, &forger, &genuine).await;
    assert_eq!(me(&node, &genuine).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_08_each_forged_token_is_refused_on_sqlite() {
    s_08(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_08_each_forged_token_is_refused_on_postgres() {
    s_08(Backend::Postgres).await;
}

/// A stored key that is not whole is no key: nothing that it would verify is believed, and the node makes another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_08_a_key_of_another_kind_verifies_nothing() {
    let own = Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap();
    let own = own.public_key().as_ref();
    let mut identity = [0; 32];
    identity[0] = 1;
    let other = Ed25519KeyPair::from_seed_unchecked(&[4; 32]).unwrap();
    let cases: [(&str, Vec<u8>, &[u8]); 6] = [
        ("of small order", sealed(&SEED), &identity),
        ("zero", sealed(&SEED), &[0; 32]),
        ("of another pair", sealed(&SEED), other.public_key().as_ref()),
        ("too short", sealed(&SEED), &own[..31]),
        ("on another curve", sealed(&[3; 48]), own),
        ("not sealed by us", SEED.to_vec(), own),
    ];
    for (what, sealed, public_key) in cases {
        let (node, forger) = forger(Node::start_with(Backend::Sqlite, with_pepper).await).await;
        let genuine = forger.claiming(|_| {});
        assert_eq!(me(&node, &genuine).await, 200);
        let node = plant(node, &sealed, public_key).await;
        let published = node.get("/.well-known/jwks.json").await;
        let kid = &forger.header["kid"];
        assert!(
            published.json["keys"].as_array().unwrap().iter().all(|key| key["kid"] != *kid),
            "{what}: {published:?}"
        );
        for key in published.json["keys"].as_array().unwrap() {
            assert_eq!(
                (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
                (&json!("OKP"), &json!("Ed25519"), &json!("EdDSA"), &json!("sig"))
            );
            assert_eq!(URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap().len(), 32);
        }
        let message = genuine.rsplit_once('.').unwrap().0;
        refused(&node, what, &genuine).await;
        refused(&node, what, &format!("{message}.{}", base64([&identity[..], &[0; 32]].concat()))).await;
        assert_eq!(me(&node, &tokens(&node, "a@example.com").await.0).await, 200, "{what}: another key signs");
    }
}

const PYJWT: &str = "
import jwt, sys
url, token, issuer = sys.argv[1:]
key = jwt.PyJWKClient(url).get_signing_key_from_jwt(token).key
required = ['exp', 'iat', 'iss', 'aud', 'sub', 'jti', 'client_id']
def read(token, **other):
    return jwt.decode(token, key, **{'algorithms': ['EdDSA'], 'audience': issuer, 'issuer': issuer, 'options': {'require': required}, **other})
print(jwt.get_unverified_header(token)['typ'], read(token)['sub'])
head, body, signature = token.split('.')
for told, attempt in [
    ('signature', lambda: read('.'.join([head, body, ('B' if signature[0] == 'A' else 'A') + signature[1:]]))),
    ('audience', lambda: read(token, audience='other')),
    ('issuer', lambda: read(token, issuer='other')),
    ('algorithm', lambda: read(token, algorithms=['ES256', 'RS256', 'HS256'])),
]:
    try:
        attempt()
    except jwt.InvalidTokenError as error:
        print(told, type(error).__name__)
";

on_both! {
    async fn others_verify_access_tokens_with_pyjwt(node: Node) {
        let owner = person(&node, "a@example.com", Role::Owner).await;
        // PyJWT has the machine's clock.
        node.clock.set(Clock::System.now());
        node.app.keyward.sessions.sweep().await.unwrap();
        let (access, _) = pair(&log_in(&node, "a@example.com", crate::people::PASSWORD).await);
        let keys = format!("{}/.well-known/jwks.json", node.url);
        let run = move || Command::new(xtask::packages::PYTHON).args(["-I", "-c", PYJWT, &keys, &access, "keyward"]).stdin(Stdio::null()).output();
        let output = tokio::task::spawn_blocking(run).await.unwrap().expect("Debian's python3 is installed: make test installs it");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let wanted = format!("at+jwt {owner}\nsignature InvalidSignatureError\naudience InvalidAudienceError\nissuer InvalidIssuerError\nalgorithm InvalidAlgorithmError\n");
        assert_eq!(told, wanted, "{}", String::from_utf8_lossy(&output.stderr));
    }
}
