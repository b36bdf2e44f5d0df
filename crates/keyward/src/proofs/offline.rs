//! Checking an export without a server and without a database.

use std::io::BufRead;

use keyward_core::note::NoteKey;
use keyward_core::problem::Code;
use keyward_core::tree::{Edge, Hash, cover};

use super::export::ExportLine;
use super::signer::check;
use crate::audit::{Fault, Findings};
use crate::error::{Error, Result};

fn no_export(number: usize, why: impl std::fmt::Display) -> Error {
    Error::new(Code::MalformedRequest, format!("Line {} is not one of an audit export: {why}.", number + 1))
}

/// Builds the tree of an export again and compares its root with the signed one. Without a trusted key, the export's own is
/// taken: it is told in the answer.
pub fn verify_export(
    lines: impl BufRead,
    trusted: Option<&NoteKey>,
    mut progress: impl FnMut(u64),
) -> Result<(Findings, NoteKey)> {
    let mut findings = Findings { compared: 0, erased: 0, retired: 0, fault: None };
    let mut edge = Edge::default();
    let mut log = None;
    for (number, line) in lines.lines().enumerate() {
        let line = line.map_err(|error| no_export(number, error))?;
        let line: ExportLine = serde_json::from_str(&line).map_err(|error| no_export(number, error))?;
        match (line, &log) {
            (ExportLine::Log { public_key, log_id, .. }, None) => {
                let key =
                    NoteKey::parse(&public_key).ok_or_else(|| no_export(number, "its public key cannot be read"))?;
                if trusted.is_some_and(|trusted| *trusted != key) {
                    return Err(no_export(number, "it is of another log than the trusted key's"));
                }
                log = Some((key, log_id));
            }
            (ExportLine::Event(event), Some((_, log_id))) => {
                let (sequence, id) = (event.sequence, event.id);
                if sequence as u64 != edge.size() {
                    let missing = Fault::Missing { sequence: edge.size() as i64 };
                    findings.fault = Some(missing);
                    break;
                }
                let leaf = hash(&event.leaf_hash).ok_or_else(|| no_export(number, "its hash cannot be read"))?;
                let row = event.into_row().ok_or_else(|| no_export(number, "its seals cannot be read"))?;
                if row.leaf_hash(*log_id) != Some(leaf) {
                    findings.fault = Some(Fault::Altered { sequence, event: id });
                    break;
                }
                edge.push(0, leaf).expect("a single hash stands anywhere");
                findings.compared += 1;
                findings.erased += u64::from(row.actor_seal.len() == 32 || row.object_seal.len() == 32);
                if findings.compared.is_multiple_of(1_000) {
                    progress(findings.compared);
                }
            }
            (ExportLine::Skipped { from, to, hashes }, Some(_)) => {
                let nodes = cover(from, to);
                if from != edge.size() || nodes.len() != hashes.len() {
                    findings.fault = Some(Fault::Missing { sequence: edge.size() as i64 });
                    break;
                }
                for (node, text) in nodes.into_iter().zip(hashes) {
                    let hash = hash(&text).ok_or_else(|| no_export(number, "its hashes cannot be read"))?;
                    edge.push(node.level, hash).ok_or_else(|| no_export(number, "its hashes do not fit"))?;
                }
            }
            (ExportLine::Checkpoint { note }, Some((key, _))) => {
                let signed =
                    check(key, &note).ok_or_else(|| no_export(number, "its checkpoint is not signed with its key"))?;
                if signed.size > edge.size() {
                    findings.fault = Some(Fault::Truncated { size: edge.size(), signed: signed.size });
                } else if signed.root != edge.root() || signed.size != edge.size() {
                    findings.fault = Some(Fault::Root { size: signed.size });
                }
                return Ok((findings, key.clone()));
            }
            _ => return Err(no_export(number, "it does not stand at its place")),
        }
    }
    match (log, findings.fault) {
        (Some((key, _)), Some(_)) => Ok((findings, key)),
        (Some((key, _)), None) => {
            // Its end is missing, and with it the signature.
            findings.fault = Some(Fault::Missing { sequence: edge.size() as i64 });
            Ok((findings, key))
        }
        (None, _) => Err(no_export(0, "it is empty")),
    }
}

fn hash(text: &str) -> Option<Hash> {
    keyward_core::text::from_hex(text)?.try_into().ok()
}
