//! A witness of other logs (C2SP tlog-witness): it remembers the last checkpoint of each log that it was told to trust, and signs a new
//! one only when a proof shows that the log has only grown. It knows nothing of events.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{StatusCode, header};
use keyward_core::note::{NoteKey, Signature, SignedCheckpoint, Use, cosignature, cosigned_text, is_name};
use keyward_core::time::Clock;
use keyward_core::tree::{Hash, is_consistent};
use serde::{Deserialize, Serialize};

const KEY_FILE: &str = "witness-key";
const STATE_FILE: &str = "witness-state.json";
/// A proof has at most 63 hashes, a note a few lines.
const MOST_BYTES: usize = 16 * 1_024;

/// Signs what has only grown.
pub struct Witness {
    pair: Ed25519KeyPair,
    pub key: NoteKey,
    logs: Vec<NoteKey>,
    folder: PathBuf,
    clock: Clock,
    seen: Mutex<BTreeMap<String, Seen>>,
}

/// The last checkpoint of a log that was signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    size: u64,
    root: String,
}

/// Why it does not sign.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Malformed,
    UnknownLog,
    NotSigned,
    /// The log's size that is known here.
    Known(u64),
    NotConsistent,
    CannotRemember,
}

impl Witness {
    /// Opens a witness's folder; its key is made there the first time.
    pub fn open(folder: &Path, name: &str, logs: Vec<NoteKey>, clock: Clock) -> io::Result<Self> {
        if !is_name(name) {
            return Err(io::Error::other("a witness's name has no spaces and no plus sign"));
        }
        std::fs::create_dir_all(folder)?;
        let seed = read_or_make_seed(&folder.join(KEY_FILE))?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(io::Error::other)?;
        let public = pair.public_key().as_ref().try_into().map_err(io::Error::other)?;
        let key = NoteKey { name: name.to_owned(), purpose: Use::Witness, public };
        let seen = match std::fs::read(folder.join(STATE_FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { pair, key, logs, folder: folder.to_owned(), clock, seen: Mutex::new(seen) })
    }

    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/", get(async |State(witness): State<Arc<Self>>| format!("{}\n", witness.key.text())))
            .route("/add-checkpoint", post(async |State(witness): State<Arc<Self>>, body: String| witness.add(&body)))
            .layer(DefaultBodyLimit::max(MOST_BYTES))
            .with_state(self)
    }

    fn add(&self, body: &str) -> Response {
        match self.sign(body) {
            Ok(line) => line.into_response(),
            Err(refusal) => refusal.into_response(),
        }
    }

    /// The signature's line.
    fn sign(&self, body: &str) -> Result<String, Refusal> {
        let (old, proof, note) = read(body).ok_or(Refusal::Malformed)?;
        let signed = SignedCheckpoint::parse(note).ok_or(Refusal::Malformed)?;
        let checkpoint = &signed.checkpoint;
        let log = self.logs.iter().find(|log| log.name == checkpoint.origin).ok_or(Refusal::UnknownLog)?;
        let public = UnparsedPublicKey::new(&ED25519, log.public);
        let is_signed = |line: &Signature| public.verify(signed.text.as_bytes(), &line.bytes).is_ok();
        if !signed.by(log).any(is_signed) {
            return Err(Refusal::NotSigned);
        }
        if old > checkpoint.size {
            return Err(Refusal::Malformed);
        }
        // Held until it is remembered: two requests must not both grow from the same.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.get(&log.name).cloned();
        let known_size = known.as_ref().map_or(0, |known| known.size);
        if old != known_size {
            return Err(Refusal::Known(known_size));
        }
        if let Some(known) = known {
            let root = STANDARD.decode(&known.root).ok().and_then(|root| Hash::try_from(root).ok());
            let root = root.ok_or(Refusal::CannotRemember)?;
            if known.size == checkpoint.size && root != checkpoint.root {
                return Err(Refusal::Known(known.size));
            }
            if !is_consistent(known.size, checkpoint.size, &root, &checkpoint.root, &proof) {
                return Err(Refusal::NotConsistent);
            }
        } else if !proof.is_empty() {
            return Err(Refusal::NotConsistent);
        }
        let mut next = seen.clone();
        next.insert(log.name.clone(), Seen { size: checkpoint.size, root: STANDARD.encode(checkpoint.root) });
        self.remember(&next).map_err(|error| {
            tracing::error!(%error, "the witness cannot remember what it would sign");
            Refusal::CannotRemember
        })?;
        *seen = next;
        let at = self.clock.now();
        let signature = self.pair.sign(cosigned_text(at, &signed.text).as_bytes());
        Ok(Signature::by(&self.key, &cosignature(at, signature.as_ref())).line())
    }

    /// On disk before anything is signed.
    fn remember(&self, seen: &BTreeMap<String, Seen>) -> io::Result<()> {
        let beside = self.folder.join(STATE_FILE).with_extension("new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(seen)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, self.folder.join(STATE_FILE))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed request\n").into_response(),
            Self::UnknownLog => (StatusCode::NOT_FOUND, "unknown log\n").into_response(),
            Self::NotSigned => (StatusCode::FORBIDDEN, "not signed by the log's key\n").into_response(),
            Self::Known(size) => {
                (StatusCode::CONFLICT, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n"))
                    .into_response()
            }
            Self::NotConsistent => (StatusCode::UNPROCESSABLE_ENTITY, "the proof does not hold\n").into_response(),
            Self::CannotRemember => (StatusCode::INTERNAL_SERVER_ERROR, "cannot be remembered\n").into_response(),
        }
    }
}

/// The old size, the proof, and the note.
fn read(body: &str) -> Option<(u64, Vec<Hash>, &str)> {
    let (head, note) = body.split_once("\n\n")?;
    let mut lines = head.lines();
    let old = lines.next()?.strip_prefix("old ")?.parse().ok()?;
    let proof: Option<Vec<Hash>> = lines.map(|line| STANDARD.decode(line).ok()?.try_into().ok()).collect();
    Some((old, proof.filter(|proof| proof.len() <= 63)?, note))
}

fn read_or_make_seed(file: &Path) -> io::Result<[u8; 32]> {
    match std::fs::read(file) {
        Ok(seed) => return seed.try_into().map_err(|_| io::Error::other("the witness's key has not 32 bytes")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(io::Error::other)?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut made = options.open(file)?;
    made.write_all(&seed)?;
    made.sync_all()?;
    Ok(seed)
}
