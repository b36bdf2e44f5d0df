//! `keyward members`: who belongs to an organization and with which role, over the API. Changes need a person's access token
//! with a fresh second factor in KEYWARD_SERVICE_KEY; a service key may only read.

use anyhow::Result;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::client::{Client, Connection};
use super::output;

const COLUMNS: &[&str] = &["id", "email", "name", "role", "status", "second_factor_enabled"];

#[derive(Args)]
pub struct MembersArgs {
    #[command(flatten)]
    connection: Connection,
    /// The organization; the caller's own when absent.
    #[arg(long, global = true)]
    organization: Option<String>,
    #[command(subcommand)]
    command: MembersCommand,
}

#[derive(Subcommand)]
enum MembersCommand {
    /// List members.
    #[command(after_help = "Example: keyward members list")]
    List,
    /// Show a member.
    #[command(after_help = "Example: keyward members show usr_…")]
    Show { id: String },
    /// Invite somebody; prints the link once.
    #[command(after_help = "Example: keyward members invite maria@example.com --role developer")]
    Invite {
        email: String,
        #[arg(long)]
        role: String,
    },
    /// Change a member's role.
    #[command(after_help = "Example: keyward members set-role usr_… admin")]
    SetRole { id: String, role: String },
    /// Remove a member.
    #[command(after_help = "Example: keyward members remove usr_…")]
    Remove { id: String },
    /// Close a member's account.
    #[command(after_help = "Example: keyward members disable usr_…")]
    Disable { id: String },
    /// Open a member's account again.
    #[command(after_help = "Example: keyward members enable usr_…")]
    Enable { id: String },
}

pub async fn run(args: MembersArgs, json: bool) -> Result<()> {
    let client: Client = args.connection.client()?;
    let place = args.organization.map_or_else(|| "/v1".to_owned(), |id| format!("/v1/organizations/{id}"));
    let member = |id: &str| format!("{place}/members/{id}");
    let shown = match args.command {
        MembersCommand::List => {
            output::list(&client.list(&format!("{place}/members"), &[], usize::MAX).await?, COLUMNS, json);
            return Ok(());
        }
        MembersCommand::Show { id } => client.get(&member(&id)).await?,
        MembersCommand::Invite { email, role } => {
            client.post(&format!("{place}/invitations"), &json!({ "email": email, "role": role })).await?
        }
        MembersCommand::SetRole { id, role } => {
            client.call(Method::PATCH, &member(&id), Some(&json!({ "role": role }))).await?
        }
        MembersCommand::Remove { id } => {
            client.call(Method::DELETE, &member(&id), None).await?;
            return Ok(());
        }
        MembersCommand::Disable { id } => client.post(&format!("{}/disable", member(&id)), &json!({})).await?,
        MembersCommand::Enable { id } => client.post(&format!("{}/enable", member(&id)), &json!({})).await?,
    };
    output::object(&shown, json);
    Ok(())
}
