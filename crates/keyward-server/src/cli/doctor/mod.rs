//! `keyward doctor`: looks over an installation as it stands, running or stopped. It only looks: no file, no row and no
//! setting is changed, and no secret is told. What it could not look at is unknown, never good.

mod address;
mod certificate;
mod folder;

use anyhow::Result;
use clap::Args;
use keyward::checkup::{self, Finding, Status};
use keyward::config::Settings;
use keyward_core::time::{Clock, Timestamp};
use serde_json::json;

use super::serve::ServeArgs;
use super::{config, output};

/// No working clock shows an instant before this.
const EARLIEST: &str = "2026-01-01T00:00:00Z";

/// The flags of `keyward serve`: what it would run with is looked over.
#[derive(Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    serve: ServeArgs,
}

/// Answers whether nothing failed.
pub async fn run(args: DoctorArgs, json: bool) -> Result<bool> {
    let findings = match args.serve.settings() {
        Ok(settings) => look_over(&settings).await,
        Err(error) => vec![
            Finding::failure(
                "settings",
                format!("{error:#}"),
                "Mend it; `keyward config show --origin` tells them all.",
            ),
            Finding::unknown("installation", "Without settings nothing else can be looked at.", "Mend them first."),
        ],
    };
    let worst = findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Unknown);
    if json {
        output::line(format_args!("{:#}", json!({ "status": worst, "checks": findings })));
    } else {
        show(&findings);
    }
    Ok(worst < Status::Failure)
}

async fn look_over(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![check_settings(settings)];
    findings.extend(folder::look(settings));
    findings.extend(own_clock(Clock::System.now()));
    let (database, addresses, mail, redis) = tokio::join!(
        checkup::database(settings, &Clock::System),
        address::look(&settings.server),
        checkup::mail(&settings.mail),
        checkup::redis(&settings.redis),
    );
    findings.extend(database);
    findings.extend(certificate::look(&settings.server, Clock::System.now()));
    findings.extend(addresses);
    findings.extend([mail, redis]);
    findings
}

fn check_settings(settings: &Settings) -> Finding {
    let action = "Mend it; `keyward config show --origin` tells where each value comes from.";
    let countries = &settings.verify.country_database;
    if !countries.as_os_str().is_empty()
        && let Err(error) = std::fs::File::open(countries)
    {
        return Finding::failure(
            "settings",
            format!("verify.country_database: {}: {error}", countries.display()),
            action,
        );
    }
    match config::check(settings) {
        Ok(()) => Finding::ok("settings", "They can be read, and hold."),
        Err(error) => Finding::failure("settings", format!("{error:#}"), action),
    }
}

/// The database's clock is compared by the checkup; a clock that was never set needs no second one.
fn own_clock(now: Timestamp) -> Option<Finding> {
    let earliest: Timestamp = EARLIEST.parse().expect("an instant");
    (now < earliest).then(|| {
        Finding::failure("clock", format!("This machine says that it is {now}."), "Set it; let NTP keep it right.")
    })
}

fn show(findings: &[Finding]) {
    let word = |status| match status {
        Status::Ok => "ok",
        Status::Unknown => "unknown",
        Status::Warning => "warning",
        Status::Failure => "failure",
    };
    let mut table = output::table();
    for Finding { check, status, reason, action } in findings {
        table.add_row([word(*status), check, reason]);
        if let Some(action) = action {
            table.add_row(["", "", &format!("→ {action}")]);
        }
    }
    output::line(format_args!("{table}\n"));
    let count = |wanted| findings.iter().filter(|finding| finding.status == wanted).count();
    let all = [Status::Ok, Status::Warning, Status::Failure, Status::Unknown];
    let told: Vec<String> = all.map(|status| format!("{} {}", count(status), word(status))).into();
    output::line(told.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_told() {
        assert!(own_clock("1970-01-01T00:10:00Z".parse().unwrap()).is_some());
        assert!(own_clock("2026-11-20T12:00:00Z".parse().unwrap()).is_none());
    }
}
