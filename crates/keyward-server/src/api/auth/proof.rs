//! A second factor as bodies name it: by its method, with a code or with a passkey's answer.

use keyward::sessions::Proof;
use keyward::sessions::passkeys::{Assertion, Credential};
use keyward_core::id::{self, Id};

use crate::problem::Problem;

/// The fields of a body that make a proof.
pub struct Shown<'a> {
    pub method: &'a str,
    pub code: Option<String>,
    pub challenge_id: Option<Id<id::Challenge>>,
    pub credential: Option<Credential>,
}

impl Shown<'_> {
    /// The fields that the method needs; a field of another method is refused.
    pub fn proof(self) -> Result<Proof, Problem> {
        let Self { method, code, challenge_id, credential } = self;
        if method == "passkey" {
            refuse(code.is_some(), "/code", "does not belong to a passkey")?;
            let challenge = challenge_id.ok_or_else(|| required("/challenge_id"))?;
            let credential = credential.ok_or_else(|| required("/credential"))?;
            return Ok(Proof::Passkey(Box::new(Assertion { challenge, credential })));
        }
        let proof: fn(String) -> Proof = match method {
            "totp" => Proof::Totp,
            "backup_code" => Proof::BackupCode,
            _ => return Err(keyward::Error::field("/method", "must be totp, backup_code or passkey").into()),
        };
        refuse(challenge_id.is_some(), "/challenge_id", "belongs to a passkey")?;
        refuse(credential.is_some(), "/credential", "belongs to a passkey")?;
        Ok(proof(code.ok_or_else(|| required("/code"))?))
    }
}

fn required(pointer: &str) -> Problem {
    keyward::Error::field(pointer, "is required").into()
}

fn refuse(is_given: bool, pointer: &str, why: &str) -> Result<(), Problem> {
    if is_given { Err(keyward::Error::field(pointer, why).into()) } else { Ok(()) }
}
