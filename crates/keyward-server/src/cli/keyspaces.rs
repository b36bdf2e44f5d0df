//! `keyward keyspaces`: how the keys of each of the operator's APIs look and how long they live, over the API.

use anyhow::Result;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::{Connection, given};
use super::output;

const PATH: &str = "/v1/keyspaces";

#[derive(Args)]
pub struct KeyspacesArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: KeyspacesCommand,
}

#[derive(Subcommand)]
enum KeyspacesCommand {
    /// List keyspaces.
    #[command(after_help = "Example: keyward keyspaces list")]
    List,
    /// Show a keyspace, by id or name.
    #[command(after_help = "Example: keyward keyspaces show billing")]
    Show { id: String },
    /// Create a keyspace.
    #[command(
        after_help = "Example: keyward keyspaces create --name billing --prefix bill --environment prod --environment dev"
    )]
    Create {
        #[arg(long)]
        name: String,
        /// What keys begin with: 1–16 of a–z and 0–9.
        #[arg(long)]
        prefix: String,
        #[command(flatten)]
        look: Look,
    },
    /// Change what new keys look like.
    #[command(after_help = "Example: keyward keyspaces update billing --default-expiry-days 30 --max-expiry-days 90")]
    Update {
        id: String,
        #[arg(long)]
        name: Option<String>,
        /// What keys begin with: 1–16 of a–z and 0–9.
        #[arg(long)]
        prefix: Option<String>,
        #[command(flatten)]
        look: Look,
        /// New keys live for ever unless they say otherwise.
        #[arg(long, conflicts_with = "default_expiry_days")]
        no_default_expiry: bool,
        /// New keys may live for ever.
        #[arg(long, conflicts_with = "max_expiry_days")]
        no_max_expiry: bool,
    },
    /// Delete a keyspace that has no keys.
    #[command(after_help = "Example: keyward keyspaces delete billing")]
    Delete { id: String },
}

/// What may be left out.
#[derive(Args)]
struct Look {
    /// checksummed (the default) or plain.
    #[arg(long, value_parser = ["checksummed", "plain"])]
    style: Option<String>,
    /// An environment; may be given several times, the first is the default. live and test when absent.
    #[arg(long = "environment")]
    environments: Vec<String>,
    /// What a new key lives that says nothing itself.
    #[arg(long)]
    default_expiry_days: Option<i64>,
    /// The longest that a new key may live; needs a default as well.
    #[arg(long)]
    max_expiry_days: Option<i64>,
}

/// The fields that were given; a limit that was taken away is null.
fn body(name: Option<String>, prefix: Option<String>, look: Look, [no_default, no_max]: [bool; 2]) -> Value {
    let days = |days: Option<i64>, none: bool| if none { Some(Value::Null) } else { days.map(Value::from) };
    given([
        ("name", name.map(Value::from)),
        ("prefix", prefix.map(Value::from)),
        ("style", look.style.map(Value::from)),
        ("environments", Some(Value::from(look.environments)).filter(|list| *list != json!([]))),
        ("default_expiry_days", days(look.default_expiry_days, no_default)),
        ("max_expiry_days", days(look.max_expiry_days, no_max)),
    ])
}

pub async fn run(args: KeyspacesArgs, json: bool) -> Result<()> {
    let client = args.connection.client()?;
    let path = |id: &str| format!("{PATH}/{id}");
    let shown = match args.command {
        KeyspacesCommand::List => {
            let items = client.list(PATH, &[], usize::MAX).await?;
            let columns = ["name", "prefix", "style", "environments", "default_expiry_days", "max_expiry_days", "id"];
            output::list(&items, &columns, json);
            return Ok(());
        }
        KeyspacesCommand::Show { id } => client.get(&path(&id)).await?,
        KeyspacesCommand::Create { name, prefix, look } => {
            client.post(PATH, &body(Some(name), Some(prefix), look, [false; 2])).await?
        }
        KeyspacesCommand::Update { id, name, prefix, look, no_default_expiry, no_max_expiry } => {
            let change = body(name, prefix, look, [no_default_expiry, no_max_expiry]);
            client.call(Method::PATCH, &path(&id), Some(&change)).await?
        }
        KeyspacesCommand::Delete { id } => {
            client.delete(&path(&id)).await?;
            json!({ "deleted": id })
        }
    };
    output::object(&shown, json);
    Ok(())
}
