//! `keyward organizations` and `keyward plans`: the operator's customers and their limits, over the API.

use anyhow::Result;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::{Connection, given};
use super::output;

#[derive(Args)]
pub struct OrganizationsArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: OrganizationsCommand,
}

#[derive(Subcommand)]
enum OrganizationsCommand {
    /// List organizations.
    #[command(after_help = "Example: keyward organizations list")]
    List,
    /// Show an organization.
    #[command(after_help = "Example: keyward organizations show org_…")]
    Show { id: String },
    /// Create an organization.
    #[command(after_help = "Example: keyward organizations create --name Acme --email dev@acme.example --plan pro")]
    Create {
        #[arg(long)]
        name: String,
        #[arg(long)]
        email: String,
        /// Made of the name when absent.
        #[arg(long)]
        slug: Option<String>,
        /// free when absent.
        #[arg(long)]
        plan: Option<String>,
    },
    /// Change an organization.
    #[command(after_help = "Example: keyward organizations update org_… --plan enterprise")]
    Update {
        id: String,
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        email: Option<String>,
        #[arg(long)]
        plan: Option<String>,
    },
    /// Stop every key of an organization.
    #[command(after_help = "Example: keyward organizations suspend org_…")]
    Suspend { id: String },
    /// Resume every key of an organization.
    #[command(after_help = "Example: keyward organizations activate org_…")]
    Activate { id: String },
    /// Delete an organization.
    #[command(after_help = "Example: keyward organizations delete org_… --cascade")]
    Delete {
        id: String,
        /// Delete even while keys are active.
        #[arg(long)]
        cascade: bool,
    },
}

#[derive(Args)]
pub struct PlansArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: PlansCommand,
}

#[derive(Subcommand)]
enum PlansCommand {
    /// List plans.
    #[command(after_help = "Example: keyward plans list")]
    List,
    /// Show a plan, by id or name.
    #[command(after_help = "Example: keyward plans show pro")]
    Show { id: String },
    /// Create a plan.
    #[command(
        after_help = "Example: keyward plans create --name team --key-limit 20 --requests-per-minute 2000 --quota-per-month 500000"
    )]
    Create {
        #[arg(long)]
        name: String,
        #[arg(long)]
        key_limit: u64,
        #[arg(long)]
        requests_per_minute: u64,
        #[arg(long)]
        quota_per_month: u64,
    },
    /// Change a plan; organizations on it are under the new terms at once.
    #[command(after_help = "Example: keyward plans update team --key-limit 30")]
    Update {
        id: String,
        #[arg(long)]
        key_limit: Option<u64>,
        #[arg(long)]
        requests_per_minute: Option<u64>,
        #[arg(long)]
        quota_per_month: Option<u64>,
    },
    /// Delete a plan that nobody is on.
    #[command(after_help = "Example: keyward plans delete team")]
    Delete { id: String },
}

pub async fn run(args: OrganizationsArgs, json: bool) -> Result<()> {
    let client = args.connection.client()?;
    let path = |id: &str| format!("/v1/organizations/{id}");
    let shown = match args.command {
        OrganizationsCommand::List => {
            let items = client.list("/v1/organizations", &[], usize::MAX).await?;
            output::list(&items, &["id", "name", "slug", "plan", "status", "created_at"], json);
            return Ok(());
        }
        OrganizationsCommand::Delete { id, cascade } => {
            client.delete(&format!("{}?cascade={cascade}", path(&id))).await?;
            json!({ "deleted": id })
        }
        OrganizationsCommand::Show { id } => client.get(&path(&id)).await?,
        OrganizationsCommand::Create { name, email, slug, plan } => {
            let body = given([
                ("name", Some(name.into())),
                ("email", Some(email.into())),
                ("slug", slug.map(Value::from)),
                ("plan", plan.map(Value::from)),
            ]);
            client.post("/v1/organizations", &body).await?
        }
        OrganizationsCommand::Update { id, name, email, plan } => {
            let body = given([
                ("name", name.map(Value::from)),
                ("email", email.map(Value::from)),
                ("plan", plan.map(Value::from)),
            ]);
            client.call(Method::PATCH, &path(&id), Some(&body)).await?
        }
        OrganizationsCommand::Suspend { id } => client.post(&format!("{}/suspend", path(&id)), &json!({})).await?,
        OrganizationsCommand::Activate { id } => client.post(&format!("{}/activate", path(&id)), &json!({})).await?,
    };
    output::object(&shown, json);
    Ok(())
}

pub async fn run_plans(args: PlansArgs, json: bool) -> Result<()> {
    let client = args.connection.client()?;
    let path = |id: &str| format!("/v1/plans/{id}");
    let shown = match args.command {
        PlansCommand::List => {
            let items = client.list("/v1/plans", &[], usize::MAX).await?;
            output::list(
                &items,
                &["name", "key_limit", "requests_per_minute", "quota_per_month", "version", "id"],
                json,
            );
            return Ok(());
        }
        PlansCommand::Delete { id } => {
            client.delete(&path(&id)).await?;
            json!({ "deleted": id })
        }
        PlansCommand::Show { id } => client.get(&path(&id)).await?,
        PlansCommand::Create { name, key_limit, requests_per_minute, quota_per_month } => {
            let body = json!({
                "name": name, "key_limit": key_limit, "requests_per_minute": requests_per_minute, "quota_per_month": quota_per_month,
            });
            client.post("/v1/plans", &body).await?
        }
        PlansCommand::Update { id, key_limit, requests_per_minute, quota_per_month } => {
            let body = given([
                ("key_limit", key_limit.map(Value::from)),
                ("requests_per_minute", requests_per_minute.map(Value::from)),
                ("quota_per_month", quota_per_month.map(Value::from)),
            ]);
            client.call(Method::PATCH, &path(&id), Some(&body)).await?
        }
    };
    output::object(&shown, json);
    Ok(())
}
