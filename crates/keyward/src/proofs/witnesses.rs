//! Witnesses: others who see every checkpoint, remember it, and sign only what grew from what they saw (C2SP tlog-witness). With one,
//! not even who holds the database and the key can tell two stories.

use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward_core::note::{NoteKey, Signature, SignedCheckpoint, Use, cosigned_text, read_cosignature};
use keyward_core::problem::Code;

use super::Proofs;
use crate::config::AuditSettings;
use crate::error::{Error, Result};

/// A witness that does not answer delays nobody longer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Witness {
    url: String,
    key: NoteKey,
    http: reqwest::Client,
}

/// The settings name each as `<key> <url>`.
pub(super) fn configured(settings: &AuditSettings) -> Result<Vec<Witness>> {
    let read = |(index, text): (usize, &String)| {
        let wrong =
            || Error::field(format!("/audit/witnesses/{index}"), "must be a witness key and a URL, parted by a space");
        let (key, url) = text.trim().split_once(' ').ok_or_else(wrong)?;
        let key = NoteKey::parse(key).filter(|key| key.purpose == Use::Witness).ok_or_else(wrong)?;
        let url = url.trim().trim_end_matches('/').to_owned();
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(wrong());
        }
        let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
        let http =
            client.map_err(|error| Error::new(Code::NotReady, "No HTTP client can be made.").with_source(error))?;
        Ok(Witness { url, key, http })
    };
    settings.witnesses.iter().enumerate().map(read).collect()
}

impl Proofs {
    /// Asks each witness that has not signed the checkpoint, and keeps what they sign.
    pub(super) async fn ask_witnesses(&self, mut signed: SignedCheckpoint) -> Result<()> {
        let before = signed.signatures.len();
        for witness in self.witnesses.iter() {
            if signed.checkpoint.size == 0 || signed.by(&witness.key).next().is_some() {
                continue;
            }
            match self.ask(witness, &signed).await {
                Ok(signature) => signed.signatures.push(signature),
                Err(error) => {
                    tracing::warn!(witness = witness.key.name, %error, "a witness did not sign the checkpoint")
                }
            }
        }
        if signed.signatures.len() > before {
            self.keep(&signed).await?;
        }
        Ok(())
    }

    /// Offers the checkpoint, first from nothing; the witness then says what it knows.
    async fn ask(&self, witness: &Witness, signed: &SignedCheckpoint) -> Result<Signature> {
        let refused = |why: String| Error::new(Code::Conflict, why);
        let mut known = 0;
        for _ in 0..2 {
            let proof = self.consistency(known, Some(signed.checkpoint.size)).await?.hashes;
            let lines: String = proof.iter().map(|hash| STANDARD.encode(hash) + "\n").collect();
            let body = format!("old {known}\n{lines}\n{}", signed.note());
            let sent = witness.http.post(format!("{}/add-checkpoint", witness.url)).body(body).send().await;
            let answer = sent.map_err(|error| refused(error.without_url().to_string()))?;
            let status = answer.status().as_u16();
            let text = answer.text().await.map_err(|error| refused(error.without_url().to_string()))?;
            match status {
                200 => {
                    let lines = text.lines().filter_map(Signature::parse);
                    let ours = lines.into_iter().find(|line| is_cosigned(&witness.key, line, &signed.text));
                    return ours.ok_or_else(|| refused("its signature is not one of its key".to_owned()));
                }
                409 => known = text.trim().parse().map_err(|_| refused("it does not say what it knows".to_owned()))?,
                other => return Err(refused(format!("it answered {other}: {}", text.trim()))),
            }
        }
        Err(refused("it knows a checkpoint that is not of this book".to_owned()))
    }
}

/// Whether the line is the witness's signature under the checkpoint.
fn is_cosigned(key: &NoteKey, line: &Signature, text: &str) -> bool {
    let public = UnparsedPublicKey::new(&ED25519, key.public);
    let signed = read_cosignature(&line.bytes)
        .is_some_and(|(at, signature)| public.verify(cosigned_text(at, text).as_bytes(), signature).is_ok());
    line.name == key.name && line.key_id == key.id() && signed
}
