//! Who may use which route. Each operation says it, so that none is forgotten; a route that nothing is said of is not served.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::SetOnce;
use tokio::time::Instant;
use uuid::Uuid;

use crate::http::version::unversioned;
use crate::http::{FieldError, Problem};
use crate::identity::{Claims, Identity, Refusal, Role};

/// Who may use a route.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `None`: any.
    pub method: Option<Method>,
    /// The route, without `/v1`.
    pub path: &'static str,
    /// Who.
    pub who: Who,
}

/// Who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Anyone, without a token.
    Anyone,
    /// Whoever has one of these roles.
    Roles(&'static [Role]),
    /// Customers, about what is their own; and whoever has one of these roles, about everybody's.
    Own(&'static [Role]),
}

impl Who {
    /// Operators alone.
    pub const OPERATORS: Self = Self::Roles(&[Role::Operator]);
}

impl Rule {
    fn is_for(&self, method: &Method) -> bool {
        // HEAD is GET without its body.
        self.method.as_ref().is_none_or(|own| own == method || (*own == Method::GET && *method == Method::HEAD))
    }
}

/// Who sends a request, as far as its route lets it matter.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    claims: Option<Arc<Claims>>,
    only: Option<Uuid>,
}

impl Caller {
    /// The subject of its token; `None` where everybody is believed.
    pub fn subject(&self) -> Option<&str> {
        self.claims.as_ref().map(|claims| claims.subject.as_str())
    }

    /// The user whose things alone it may see and change; `None`: everybody's.
    pub fn only(&self) -> Option<Uuid> {
        self.only
    }

    /// Whether it may ask for something in a user's name.
    ///
    /// # Errors
    /// 403.
    pub fn may_act_for(&self, user: Uuid) -> Result<(), Problem> {
        match self.only {
            Some(only) if only != user => Err(Problem::forbidden("a customer asks for itself alone: `user_id` is another's")),
            _ => Ok(()),
        }
    }

    /// Who signs an action: the subject of the token. Where everybody is believed, whoever it says.
    ///
    /// # Errors
    /// 422 where it says nobody, or somebody else than the subject.
    pub fn signs(&self, by: Option<String>) -> Result<String, Problem> {
        match (self.subject(), by) {
            (None, Some(by)) => Ok(by),
            (None, None) => Err(Problem::invalid(vec![FieldError {
                pointer: "/by".to_owned(),
                detail: "is missing: who signs this?".to_owned(),
            }])),
            (Some(subject), Some(by)) if by.trim() != subject => {
                let detail = "is not the subject of the token, which signs; it can be left out".to_owned();
                Err(Problem::invalid(vec![FieldError { pointer: "/by".to_owned(), detail }]))
            }
            (Some(subject), _) => Ok(subject.to_owned()),
        }
    }

    /// When its token counts no longer, if it has one.
    pub fn ends(&self) -> Option<Instant> {
        self.claims.as_ref().map(|claims| claims.ends())
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get().cloned();
        caller.ok_or_else(|| Problem::internal(&anyhow::anyhow!("nobody asked who sends this request")))
    }
}

/// Lets requests in.
pub(super) struct Door {
    identity: Identity,
    rules: Vec<Rule>,
    /// Set once there is what routes stand on. `None`: they stand on nothing.
    opens: Option<Arc<SetOnce<()>>>,
}

impl Door {
    pub(super) fn new(identity: Identity, rules: Vec<Rule>, opens: Option<Arc<SetOnce<()>>>) -> Self {
        Self { identity, rules, opens }
    }

    /// Who sends a request, if it may. Where there is no such route, or no such method, that is the better answer.
    pub(super) async fn admit(
        &self,
        route: Option<&MatchedPath>,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Caller, Response> {
        let Some(route) = route.map(MatchedPath::as_str) else {
            return Ok(Caller::default());
        };
        // What a resource takes is no secret, and browsers ask for it without a token.
        if *method == Method::OPTIONS {
            return Ok(Caller::default());
        }
        let route = unversioned(route);
        let mut known = false;
        for rule in self.rules.iter().filter(|rule| rule.path == route) {
            if rule.is_for(method) {
                return self.judge(rule.who, headers).await;
            }
            known = true;
        }
        match known {
            true => Err(Problem::method_not_allowed().into_response()),
            false => Err(Problem::internal(&anyhow::anyhow!("no rule says who may use {route}")).into_response()),
        }
    }

    async fn judge(&self, who: Who, headers: &HeaderMap) -> Result<Caller, Response> {
        // Health and documents.
        if who == Who::Anyone {
            return Ok(Caller::default());
        }
        if self.opens.as_ref().is_some_and(|opens| !opens.initialized()) {
            let detail = "the service is starting, and its database is not up to date yet; nothing was done, try again shortly";
            return Err(Problem::unavailable(detail).into_response());
        }
        let Some(claims) = self.identity.of(headers).await.map_err(refused)? else {
            return Ok(Caller::default());
        };
        let has_one_of = |roles: &[Role]| roles.iter().any(|role| claims.roles.contains(*role));
        let only = match who {
            Who::Anyone => None,
            Who::Roles(roles) | Who::Own(roles) if has_one_of(roles) => None,
            Who::Own(_) if claims.roles.contains(Role::Customer) => match Uuid::try_parse(&claims.subject) {
                Ok(user) => Some(user),
                Err(_) => return Err(forbidden("the subject of a customer's token is the id of a user, and this one is none")),
            },
            Who::Roles(roles) => return Err(forbidden(&lacks(roles, false))),
            Who::Own(roles) => return Err(forbidden(&lacks(roles, true))),
        };
        Ok(Caller { claims: Some(claims), only })
    }
}

/// What a token would have to say.
fn lacks(roles: &[Role], customers: bool) -> String {
    let names = customers.then_some(Role::Customer).into_iter().chain(roles.iter().copied()).map(Role::name);
    format!("this takes one of the roles {}", names.collect::<Vec<_>>().join(", "))
}

/// 403 (RFC 6750 section 3.1).
fn forbidden(detail: &str) -> Response {
    let header = [(header::WWW_AUTHENTICATE, "Bearer realm=\"waybill\", error=\"insufficient_scope\"")];
    (header, Problem::forbidden(detail)).into_response()
}

/// 401, or 503 where nobody can know yet. Who brings no token is not told that it is wrong (RFC 6750 section 3).
fn refused(refusal: Refusal) -> Response {
    let detail = refusal.detail();
    let bearer = match refusal {
        Refusal::NoKeys => return Problem::unavailable(detail).into_response(),
        Refusal::Missing => "Bearer realm=\"waybill\"".to_owned(),
        _ => format!("Bearer realm=\"waybill\", error=\"invalid_token\", error_description=\"{detail}\""),
    };
    ([(header::WWW_AUTHENTICATE, bearer)], Problem::unauthenticated(detail)).into_response()
}
