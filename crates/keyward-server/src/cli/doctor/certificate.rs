//! The certificate and its key: whether a start would take them, how long they last, and who else may read the key.

use std::os::unix::fs::PermissionsExt;

use keyward::checkup::{Finding, Status};
use keyward::config::ServerSettings;
use keyward_core::time::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

use crate::tls::Tls;

const DAY: i64 = 86_400;
/// What renews itself is renewed a month before its end.
const WARNS_DAYS: i64 = 14;

pub fn look(settings: &ServerSettings, now: Timestamp) -> Vec<Finding> {
    let check = "certificate";
    match Tls::read(settings) {
        Ok(None) => return vec![Finding::ok(check, "None is set: plain HTTP, for this machine or behind a proxy.")],
        Err(error) => {
            return vec![Finding::failure(check, error.to_string(), "A start fails until both files are good.")];
        }
        Ok(Some(_)) => {}
    }
    let leaf = CertificateDer::pem_file_iter(&settings.tls_certificate_file).ok().and_then(|mut all| all.next()?.ok());
    let lasts = leaf.as_ref().and_then(|leaf| lasts(leaf)).map_or_else(
        || Finding::unknown(check, "It cannot be told how long it lasts.", "Look with `openssl x509 -dates`."),
        |[from, to]| judge(from, to, now.as_seconds()),
    );
    let mode = std::fs::metadata(&settings.tls_key_file).map(|file| file.permissions().mode() & 0o777);
    let named = settings.tls_key_file.display();
    let key = match mode {
        Ok(mode) if mode & 0o077 == 0 => Finding::ok("tls key", format!("{named} is ours alone.")),
        Ok(mode) => {
            let reason = format!("{named} is open to others (mode {mode:03o}).");
            Finding::bad("tls key", Status::Warning, reason, format!("chmod 600 {named}"))
        }
        Err(error) => Finding::unknown("tls key", format!("{named}: {error}"), "Ask as the user that runs Keyward."),
    };
    vec![lasts, key]
}

/// From when to when, in seconds since 1970.
fn lasts(certificate: &[u8]) -> Option<[i64; 2]> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let validity = certificate.validity();
    Some([validity.not_before.timestamp(), validity.not_after.timestamp()])
}

fn judge(from: i64, to: i64, now: i64) -> Finding {
    let (check, days) = ("certificate", (to - now).div_euclid(DAY));
    if now < from {
        return Finding::failure(check, "It is not yet valid.", "See that the clock is right, or wait.");
    }
    match days {
        ..0 => Finding::failure(
            check,
            format!("It ended {} days ago.", -days),
            "Renew it; a new one is taken without a restart.",
        ),
        0..WARNS_DAYS => {
            let reason = format!("It ends in {days} days.");
            Finding::bad(check, Status::Warning, reason, "Renew it; a new one is taken without a restart.")
        }
        _ => Finding::ok(check, format!("It lasts for {days} more days.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_time() {
        let now = 1_000 * DAY;
        for (from, to, status) in [
            (now - DAY, now + WARNS_DAYS * DAY, Status::Ok),
            (now - DAY, now + WARNS_DAYS * DAY - 1, Status::Warning),
            (now - DAY, now, Status::Warning),
            (now - DAY, now - 1, Status::Failure),
            (now + 1, now + 90 * DAY, Status::Failure),
        ] {
            assert_eq!(judge(from, to, now).status, status, "{from} {to}");
        }
    }
}
