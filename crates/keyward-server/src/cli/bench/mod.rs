//! `keyward bench`: how fast a running server verifies, seen from here. It asks on a few connections for a short time, with keys
//! of a file or with some that it makes and revokes again. It takes its own share of the machine: figures of a server on the
//! same one are lower than the server's best (`make bench` measures that).

mod latency;
mod load;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::client::{Client, Connection};
use super::output;
use load::{Load, Outcome};

const VERIFY: &str = "/v1/api-keys/verify";
/// The longest bar of the drawing.
const WIDTH: u64 = 40;

#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    connection: Connection,
    /// Keys to verify, one a line.
    #[arg(long, required_unless_present = "organization", conflicts_with = "organization")]
    keys_file: Option<PathBuf>,
    /// Where keys are made for this test, and revoked after it. What is verified counts against its plan: name one that is there for
    /// tests.
    #[arg(long)]
    organization: Option<String>,
    /// How many keys are made.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5), requires = "organization")]
    temporary_keys: u8,
    /// The longest that it asks.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How many connections ask at the same time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    connections: u16,
    /// The most questions in all.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    requests: u64,
    /// The server is not on this machine, and may be put under load all the same.
    #[arg(long)]
    yes_load_this_server: bool,
}

pub async fn run(args: BenchArgs, json: bool) -> Result<()> {
    let client = args.connection.client()?;
    ensure!(
        args.yes_load_this_server || client.is_loopback(),
        "{} is not on this machine; give --yes-load-this-server if it may be put under load",
        client.url()
    );
    let outcome = match (&args.keys_file, &args.organization) {
        (Some(file), _) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
            let keys: Vec<String> =
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Into::into).collect();
            ensure!(!keys.is_empty(), "{} holds no key", file.display());
            load(&client, &args, &keys).await?
        }
        (None, Some(organization)) => {
            let place = format!("/v1/organizations/{organization}/api-keys");
            let mut ids = Vec::new();
            let outcome = with_own_keys(&client, &args, &place, &mut ids).await;
            // Whatever happened, none of them stays.
            let mut left = Vec::new();
            for id in ids {
                let reason = json!({ "reason": "keyward bench is done" });
                if client.call_patiently(Method::POST, &format!("{place}/{id}/revoke"), Some(&reason)).await.is_err() {
                    left.push(id);
                }
            }
            ensure!(left.is_empty(), "could not be revoked, do it by hand: {}", left.join(" "));
            outcome?
        }
        (None, None) => bail!("name the keys: --keys-file or --organization"),
    };
    ensure!(outcome.latencies.total() > 0, "no answer from {}", client.url());
    if json {
        output::line(format_args!("{:#}", as_json(&client, &args, &outcome)));
    } else {
        show(&client, &args, &outcome);
    }
    Ok(())
}

/// Makes keys, noting the id of each, and asks about them.
async fn with_own_keys(client: &Client, args: &BenchArgs, place: &str, ids: &mut Vec<String>) -> Result<Outcome> {
    let mut keys = Vec::new();
    for _ in 0..args.temporary_keys {
        // Should this be ended by force, they end by themselves.
        let body = json!({ "name": "keyward bench", "expires_in_days": 1 });
        let made = client.call_patiently(Method::POST, place, Some(&body)).await?;
        ids.extend(made["id"].as_str().map(str::to_owned));
        keys.extend(made["key"].as_str().map(str::to_owned));
    }
    ensure!(!keys.is_empty(), "the server made no key");
    load(client, args, &keys).await
}

async fn load(client: &Client, args: &BenchArgs, keys: &[String]) -> Result<Outcome> {
    // What is wrong with the caller is told before, and in words.
    client.post(VERIFY, &json!({ "key": keys[0] })).await?;
    let load = Load {
        address: format!("{}{VERIFY}", client.url()),
        service_key: client.service_key().to_owned(),
        bodies: keys.iter().map(|key| Bytes::from(json!({ "key": key }).to_string())).collect(),
        connections: args.connections.into(),
        time: Duration::from_secs(args.seconds),
        most_requests: args.requests,
    };
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    Ok(load.run(interrupted).await?)
}

fn per_second(outcome: &Outcome) -> f64 {
    outcome.latencies.total() as f64 / outcome.elapsed.as_secs_f64().max(f64::EPSILON)
}

/// Names of quantiles and their milliseconds; the worst stands last.
fn quantiles(outcome: &Outcome) -> Vec<(&'static str, f64)> {
    let all = &outcome.latencies;
    let shares = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
    let told = shares.map(|(name, share)| (name, milliseconds(all.quantile(share))));
    told.into_iter().chain([("max", milliseconds(all.most()))]).collect()
}

fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

fn as_json(client: &Client, args: &BenchArgs, outcome: &Outcome) -> Value {
    let latency: serde_json::Map<String, Value> =
        quantiles(outcome).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let rows = outcome.latencies.by_doubling();
    let histogram: Vec<Value> =
        rows.into_iter().map(|(from, count)| json!({ "from_ms": milliseconds(from), "requests": count })).collect();
    json!({
        "url": client.url(), "connections": args.connections, "seconds": outcome.elapsed.as_secs_f64(),
        "requests": outcome.latencies.total(), "requests_per_second": per_second(outcome), "latency_ms": latency,
        "codes": outcome.codes, "histogram": histogram,
    })
}

fn show(client: &Client, args: &BenchArgs, outcome: &Outcome) {
    let (total, seconds) = (outcome.latencies.total(), outcome.elapsed.as_secs_f64());
    output::line(format_args!(
        "{}: {total} requests in {seconds:.1} s on {} connections, {:.0} a second\n",
        client.url(),
        args.connections,
        per_second(outcome)
    ));
    let mut table = output::table();
    table.set_header(["LATENCY", "MILLISECONDS"]);
    for (name, value) in quantiles(outcome) {
        table.add_row([name.to_owned(), format!("{value:.3}")]);
    }
    output::line(format_args!("{table}\n"));
    let mut table = output::table();
    table.set_header(["CODE", "REQUESTS"]);
    for (code, count) in &outcome.codes {
        table.add_row([code.clone(), count.to_string()]);
    }
    output::line(format_args!("{table}\n"));
    let rows = outcome.latencies.by_doubling();
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let mut table = output::table();
    table.set_header(["FROM MS", "REQUESTS", ""]);
    for (from, count) in rows {
        // What is there at all is seen.
        let bar = "█".repeat((count * WIDTH).div_ceil(most.max(1)) as usize);
        table.add_row([format!("{:.3}", milliseconds(from)), count.to_string(), bar]);
    }
    output::line(table);
}
