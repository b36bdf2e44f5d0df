//! Which account a visitor gets, and with which roles, once the provider's word about them is believed. Issuer and subject
//! decide; the address decides once, where the provider vouches for it and the account is not joined to anybody yet.

use keyward_core::access::Role;
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;
use serde_json::{Value, json};

use super::id_token::Claims;
use super::{Oidc, Refusal, rules, sql as statements};
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::{Actor, Context};
use crate::db::sql;
use crate::error::Result;
use crate::sessions::vouched::Vouched;
use crate::sessions::{Asked, Client, SignedIn, address_of};

/// Sign-ins of somebody new at the same time: each but the first finds, after a try or two, what the first has made.
const TRIES: usize = 3;
/// Longest word of `amr`, or `acr`, and most of them: an access token goes with every call.
const MAX_WORD: usize = 128;
const MAX_METHODS: usize = 16;
/// The end of the year 9999.
const MAX_SECONDS: i64 = 253_402_300_800;

impl Oidc {
    /// Opens a session for whoever the claims name, or waits for the second factor.
    pub(super) async fn let_in(
        &self,
        context: &Context,
        client: &Client,
        device: Option<&str>,
        claims: &Claims,
    ) -> Result<SignedIn, Refusal> {
        let ours = Context { actor: Actor::system("oidc"), grant: None, ..context.clone() };
        let mut tries = 0..TRIES;
        let person = loop {
            match self.settle(&ours, claims).await {
                Err(Refusal::Error(error)) if error.code == Code::AlreadyTaken && tries.next().is_some() => {}
                settled => break settled?,
            }
        };
        let vouched = Vouched {
            person,
            issuer: &self.settings.issuer,
            asked: asked(claims),
            has_factor: self.settings.trust_second_factor && has_factor(claims),
            device,
        };
        Ok(self.sessions.log_in_vouched(context, client, &vouched).await?)
    }

    /// The account, with its roles as the provider's groups give them.
    async fn settle(&self, context: &Context, claims: &Claims) -> Result<Id<id::User>, Refusal> {
        let person = self.account(context, claims).await?;
        self.map_roles(context, person, claims).await?;
        Ok(person)
    }

    /// The account of whoever the claims name: joined before, joined now by its address, or made.
    async fn account(&self, context: &Context, claims: &Claims) -> Result<Id<id::User>, Refusal> {
        let (issuer, subject) = (&self.settings.issuer, claims.text("sub").unwrap_or_default());
        let mut tx = self.ground.db.begin().await?;
        let find = sql(statements::USE_IDENTITY).bind(issuer).bind(subject).bind(self.ground.now());
        let known: Option<(Id<id::User>,)> = find.optional(&mut tx).await?;
        tx.commit().await?;
        if let Some((person,)) = known {
            self.sessions.require_open(person).await?;
            return Ok(person);
        }
        let refused = |why: &str| Err(Refusal::Because(why.to_owned()));
        let email = address_of(claims.text("email").unwrap_or_default());
        if email.is_empty() || claims.0.get("email_verified") != Some(&Value::Bool(true)) {
            return refused("the provider does not vouch for an address");
        }
        let person = match self.people.find_by_email(&email).await? {
            Some(person) => {
                self.sessions.require_open(person).await?;
                person
            }
            None if self.settings.create_people => {
                match self.people.create_provided(context, &email, claims.text("name")).await? {
                    Some(person) => person,
                    None => return refused("the address is not one that mail can be sent to"),
                }
            }
            None => return refused("there is no account with this address, and oidc.create_people is off"),
        };
        let mut change = Change::begin(&self.ground, context).await?;
        let anothers = sql(statements::IS_ANOTHERS).bind(issuer).bind(person).bind(subject);
        if anothers.optional::<(i64,)>(change.tx()).await?.is_some() {
            // The address has another owner at the provider now; the account has not.
            return refused("the account with this address is joined to another subject");
        }
        let now = change.now();
        let insert = sql(statements::INSERT_IDENTITY).bind(issuer).bind(subject).bind(person).bind(now);
        insert.execute(change.tx()).await?;
        let event = Event::new(EventType::Security, "identity_linked", "user", person).named(&email);
        change.commit(event.details(json!({ "issuer": issuer, "subject": subject }))).await?;
        Ok(person)
    }

    async fn map_roles(&self, context: &Context, person: Id<id::User>, claims: &Claims) -> Result<()> {
        let Some(given) = rules::apply(&self.checked.rules, claims, &self.settings.groups_claim) else {
            tracing::warn!(%person, "the provider leaves the groups out, because they are too many; roles stay as they are");
            return Ok(());
        };
        let mut wanted: Vec<(Option<Id<id::Organization>>, Role)> = Vec::new();
        for (place, role) in given {
            let place = match place {
                None => None,
                Some(name) => match self.organization(name).await? {
                    Some(organization) => Some(organization),
                    None => {
                        tracing::warn!(organization = name, "oidc.roles names an organization that does not exist");
                        continue;
                    }
                },
            };
            if wanted.iter().all(|(known, _)| *known != place) {
                wanted.push((place, role));
            }
        }
        self.people.provide_roles(context, person, &wanted).await
    }

    async fn organization(&self, name: &str) -> Result<Option<Id<id::Organization>>> {
        let find = match name.parse::<Id<id::Organization>>() {
            Ok(id) => sql(statements::ORGANIZATION_BY_ID).bind(id),
            Err(_) => sql(statements::ORGANIZATION_BY_SLUG).bind(name),
        };
        let found: Option<(Id<id::Organization>,)> = find.optional(&self.ground.db).await?;
        Ok(found.map(|(organization,)| organization))
    }
}

/// How the provider has asked, as it tells itself (Core 2). What could not stand in a token of ours is left out.
fn asked(claims: &Claims) -> Asked {
    let is_word =
        |text: &&str| (1..=MAX_WORD).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let methods = claims.0.get("amr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let words: Vec<&str> = methods.iter().filter_map(Value::as_str).filter(is_word).take(MAX_METHODS).collect();
    let at = claims.0.get("auth_time").and_then(Value::as_i64).filter(|at| (0..MAX_SECONDS).contains(at));
    Asked::with(&words, claims.text("acr").filter(is_word), at.map(|at| Timestamp::from_micros(at * 1_000_000)))
}

/// Whether the provider has asked for more than one factor (RFC 8176).
fn has_factor(claims: &Claims) -> bool {
    let methods = claims.0.get("amr").and_then(Value::as_array);
    methods.is_some_and(|methods| methods.iter().any(|method| method == "mfa"))
}
