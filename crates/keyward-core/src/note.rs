//! Signed notes and checkpoints as text (C2SP signed-note, tlog-checkpoint, tlog-cosignature): what is signed, and how a signature
//! is written down and found. Signing and checking signatures is left to who holds the keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::time::Timestamp;
use crate::tree::Hash;

/// What a key is used for (C2SP signed-note, signature types).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Ed25519 over the note's text.
    Log = 1,
    /// Ed25519 cosignature with an instant, of a witness.
    Witness = 4,
}

/// A key that signs notes, by its public half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteKey {
    pub name: String,
    pub purpose: Use,
    pub public: [u8; 32],
}

impl NoteKey {
    /// The first four bytes of SHA-256 over name, newline, type and public key.
    pub fn id(&self) -> [u8; 4] {
        let mut hash = Sha256::new();
        hash.update(&self.name);
        hash.update([b'\n', self.purpose as u8]);
        hash.update(self.public);
        let hash = hash.finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// `name+id+key`, as such keys are handed around.
    pub fn text(&self) -> String {
        let id: String = self.id().iter().map(|byte| format!("{byte:02x}")).collect();
        let key = [&[self.purpose as u8], self.public.as_slice()].concat();
        format!("{}+{id}+{}", self.name, STANDARD.encode(key))
    }

    /// Reads `name+id+key`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().splitn(3, '+');
        let (name, id, key) = (parts.next()?, parts.next()?, STANDARD.decode(parts.next()?).ok()?);
        let (purpose, public) = key.split_first()?;
        let purpose = match purpose {
            1 => Use::Log,
            4 => Use::Witness,
            _ => return None,
        };
        let key = Self { name: name.to_owned(), purpose, public: public.try_into().ok()? };
        (key.text().split('+').nth(1) == Some(id) && is_name(name)).then_some(key)
    }
}

/// Names have no space and no plus sign (C2SP signed-note).
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|letter: char| letter.is_whitespace() || letter == '+' || letter.is_control())
}

/// How large a log was, and its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: String,
    pub size: u64,
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (origin, size, root) = (lines.next()?, lines.next()?, STANDARD.decode(lines.next()?).ok()?);
        let plain = size == "0" || !size.starts_with('0') && size.bytes().all(|byte| byte.is_ascii_digit());
        let size = size.parse().ok().filter(|_| plain && !origin.is_empty())?;
        Some(Self { origin: origin.to_owned(), size, root: root.try_into().ok()? })
    }
}

/// A signature line of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub name: String,
    pub key_id: [u8; 4],
    pub bytes: Vec<u8>,
}

impl Signature {
    pub fn by(key: &NoteKey, bytes: &[u8]) -> Self {
        Self { name: key.name.clone(), key_id: key.id(), bytes: bytes.to_vec() }
    }

    /// The line, with its end.
    pub fn line(&self) -> String {
        format!("\u{2014} {} {}\n", self.name, STANDARD.encode([self.key_id.as_slice(), &self.bytes].concat()))
    }

    pub fn parse(line: &str) -> Option<Self> {
        let (name, bytes) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let bytes = STANDARD.decode(bytes).ok()?;
        let (key_id, bytes) = bytes.split_first_chunk::<4>()?;
        (is_name(name) && !bytes.is_empty()).then(|| Self {
            name: name.to_owned(),
            key_id: *key_id,
            bytes: bytes.to_vec(),
        })
    }
}

/// A checkpoint with its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    pub checkpoint: Checkpoint,
    /// What was signed; extension lines included.
    pub text: String,
    pub signatures: Vec<Signature>,
}

impl SignedCheckpoint {
    pub fn new(checkpoint: Checkpoint, signature: Signature) -> Self {
        let text = checkpoint.text();
        Self { checkpoint, text, signatures: vec![signature] }
    }

    pub fn note(&self) -> String {
        self.signatures.iter().fold(format!("{}\n", self.text), |note, signature| note + &signature.line())
    }

    pub fn parse(note: &str) -> Option<Self> {
        let (text, signatures) = note.split_once("\n\n")?;
        let text = format!("{text}\n");
        let checkpoint = Checkpoint::parse(&text)?;
        let signatures: Option<Vec<Signature>> = signatures.lines().map(Signature::parse).collect();
        signatures.filter(|signatures| !signatures.is_empty()).map(|signatures| Self { checkpoint, text, signatures })
    }

    /// Signatures that claim to be by this key.
    pub fn by<'a>(&'a self, key: &'a NoteKey) -> impl Iterator<Item = &'a Signature> {
        let id = key.id();
        self.signatures.iter().filter(move |signature| signature.name == key.name && signature.key_id == id)
    }
}

/// What a witness signs (C2SP tlog-cosignature): its instant in whole seconds, and the checkpoint.
pub fn cosigned_text(at: Timestamp, text: &str) -> String {
    format!("cosignature/v1\ntime {}\n{text}", at.as_seconds())
}

/// A witness's signature as it stands in its line: the instant, then the signature.
pub fn cosignature(at: Timestamp, signature: &[u8]) -> Vec<u8> {
    [&(at.as_seconds() as u64).to_be_bytes(), signature].concat()
}

/// The instant and the signature of a witness's line.
pub fn read_cosignature(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (seconds, signature) = bytes.split_first_chunk::<8>()?;
    let seconds = i64::try_from(u64::from_be_bytes(*seconds)).ok()?;
    Some((Timestamp::from_micros(seconds.checked_mul(1_000_000)?), signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_use_elsewhere_reads() {
        // The key of the examples of Go's package golang.org/x/mod/sumdb/note.
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let parsed = NoteKey::parse(key).unwrap();
        assert_eq!((parsed.name.as_str(), parsed.purpose, parsed.text().as_str()), ("PeterNeumann", Use::Log, key));
        for bad in [&key.replace("c74f20a3", "c74f20a4"), &key.replace("+AR", "+BR"), "PeterNeumann+c74f20a3", ""] {
            assert_eq!(NoteKey::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn notes_read_back_and_others_are_refused() {
        let key = NoteKey { name: "keys.example.com/audit".into(), purpose: Use::Log, public: [7; 32] };
        assert_eq!(NoteKey::parse(&key.text()), Some(key.clone()));
        let checkpoint = Checkpoint { origin: key.name.clone(), size: 12, root: [9; 32] };
        let signed = SignedCheckpoint::new(checkpoint, Signature::by(&key, &[1; 64]));
        let note = signed.note();
        assert!(
            note.starts_with("keys.example.com/audit\n12\n") && note.contains("\n\n\u{2014} keys.example.com/audit ")
        );
        assert_eq!(SignedCheckpoint::parse(&note), Some(signed.clone()));
        assert_eq!(signed.by(&key).count(), 1);
        for bad in [
            "",
            "a\n",
            &note.replace("\n12\n", "\n012\n"),
            &note.replace("\n12\n", "\n+12\n"),
            &note.replace("\n\n", "\n"),
            &note.replace('\u{2014}', "-"),
            note.split("\u{2014}").next().unwrap(),
        ] {
            assert_eq!(SignedCheckpoint::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn cosignatures_carry_their_instant() {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        assert_eq!(cosigned_text(at, "a\n1\nx\n"), "cosignature/v1\ntime 1700000000\na\n1\nx\n");
        assert_eq!(read_cosignature(&cosignature(at, b"s")), Some((at, b"s".as_slice())));
        assert_eq!(read_cosignature(b"short"), None);
    }
}
