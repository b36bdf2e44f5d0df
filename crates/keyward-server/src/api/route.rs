//! The table of routes: a route cannot be written down without who may call it. Router, OpenAPI document and the
//! permission matrix of the tests are all made from it.

use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use http::Method;
use keyward::limits::callers::Call;
use keyward_core::access::Permission;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::app::SharedApp;
use crate::hot::VERIFY_PATH;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Callers that hold the permission.
    Needs(Permission),
    /// Every caller that is known; the verb decides what each may see. Says why.
    Known(&'static str),
    /// Callers that hold the permission, or anybody whose body is signed by a configured partner (checked by the handler).
    NeedsOrSignature(Permission),
    /// Anybody who is signed in, about themselves.
    Person,
    /// Everybody, as often as an address may call without a credential; says why.
    Open(&'static str),
    /// Everybody, as often as they like; says why.
    Probe(&'static str),
}

/// Routes of one organization: they stand under `/v1` and under `/v1/organizations/{org}`.
const SCOPED: [&str; 7] =
    ["/api-keys", "/leaked-keys", "/audit-events", "/audit-log", "/usage", "/members", "/invitations"];

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a route reads of a body.
#[derive(Clone, Copy)]
pub enum Body {
    /// None: what is sent nevertheless is refused, but for `{}`.
    Nothing,
    Of(SchemaOf),
    Perhaps(SchemaOf),
    /// Whatever comes, in a form of its own.
    Raw,
}

/// One route and everything that is told about it.
#[derive(Clone)]
pub struct Route {
    pub method: Method,
    /// Without its mount for scoped routes, e.g. `/api-keys/{id}`.
    pub path: &'static str,
    pub access: Access,
    /// The caller's limit that the route draws on.
    pub limited: Option<Call>,
    pub summary: &'static str,
    /// Mounted twice: under `/v1/organizations/{org}`, and under `/v1` for the caller's own organization.
    pub scoped: bool,
    pub takes: Body,
    pub status: u16,
    /// Another status with the same answer.
    pub or_status: Option<u16>,
    pub answers: Option<SchemaOf>,
    pub query: Option<SchemaOf>,
    pub handler: MethodRouter<SharedApp>,
}

impl Route {
    fn new(
        method: Method,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: MethodRouter<SharedApp>,
    ) -> Self {
        let scoped = !path.starts_with("/v1/")
            && !path.starts_with("/.well-known")
            && SCOPED.iter().any(|start| path.starts_with(start));
        Self {
            method,
            path,
            access,
            limited: None,
            summary,
            scoped,
            takes: Body::Nothing,
            status: 200,
            or_status: None,
            answers: None,
            query: None,
            handler,
        }
    }

    /// How often a caller may call it.
    pub fn limited(mut self, call: Call) -> Self {
        self.limited = Some(call);
        self
    }

    /// What the body must be.
    pub fn takes<T: JsonSchema>(mut self) -> Self {
        self.takes = Body::Of(|generator| generator.subschema_for::<T>());
        self
    }

    /// What the body must be, if there is one.
    pub fn may_take<T: JsonSchema>(mut self) -> Self {
        self.takes = Body::Perhaps(|generator| generator.subschema_for::<T>());
        self
    }

    /// The handler reads the body as it comes.
    pub fn takes_raw(mut self) -> Self {
        self.takes = Body::Raw;
        self
    }

    pub fn answers<T: JsonSchema>(mut self, status: u16) -> Self {
        self.status = status;
        self.answers = Some(|generator| generator.subschema_for::<T>());
        self
    }

    /// The same answer comes with this status as well.
    pub fn or(mut self, status: u16) -> Self {
        self.or_status = Some(status);
        self
    }

    pub fn answers_nothing(mut self) -> Self {
        self.status = 204;
        self
    }

    /// An answer without a body whose work goes on.
    pub fn answers_nothing_yet(mut self) -> Self {
        self.status = 202;
        self
    }

    /// Sends the browser elsewhere.
    pub fn redirects(mut self) -> Self {
        self.status = 302;
        self
    }

    /// What the query may hold.
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(|generator| generator.root_schema_for::<T>());
        self
    }

    /// Whether a repeated call with the same Idempotency-Key gets the first one's answer. A verification makes nothing, and each
    /// one counts.
    pub fn is_idempotent_by_key(&self) -> bool {
        self.method == Method::POST && matches!(self.access, Access::Needs(_)) && self.path != VERIFY_PATH
    }

    /// The full paths under which the route stands.
    pub fn paths(&self) -> Vec<String> {
        if self.scoped {
            vec![format!("/v1{}", self.path), format!("/v1/organizations/{{org}}{}", self.path)]
        } else {
            vec![self.path.to_owned()]
        }
    }
}

macro_rules! methods {
    ($($function:ident $method:ident;)*) => {$(
        pub fn $function<H: Handler<T, SharedApp>, T: 'static>(path: &'static str, access: Access, summary: &'static str, handler: H) -> Route {
            Route::new(Method::$method, path, access, summary, routing::$function(handler))
        }
    )*};
}

methods! {
    get GET;
    post POST;
    patch PATCH;
    delete DELETE;
}
