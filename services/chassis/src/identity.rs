//! Who calls. Every service checks bearer tokens (JWT) by itself, by the public keys of their issuer; what a caller may do is said beside each
//! route ([`http::Rule`](crate::http::Rule)).

mod keys;
mod provider;
mod refusal;
mod roles;
mod settings;
mod signing;
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::http::{HeaderMap, header};
use tokio_util::sync::CancellationToken;

pub use jsonwebtoken::Algorithm;
pub use refusal::Refusal;
pub use roles::{Role, Roles};
pub use settings::{IdentitySettings, JwksAddress};
pub use signing::SigningKey;
pub use tokens::Claims;

use crate::health::Health;
use keys::Keys;
use tokens::Tokens;

/// The name of the check in `/readyz`.
const CHECK: &str = "identity";

/// How often the issuer's keys are looked at; and while none are known.
const LOOK_EVERY: Duration = Duration::from_secs(300);
const LOOK_FIRST: Duration = Duration::from_secs(1);

/// Who is believed: whoever bears a token of the issuer, or, where there is none, everybody.
#[derive(Clone)]
pub struct Identity(Option<Arc<Tokens>>);

impl Identity {
    /// For a service that listens on an address.
    ///
    /// # Errors
    /// Where the settings leave open who may do what on an address that others reach, or contradict each other.
    pub fn new(settings: &IdentitySettings, address: SocketAddr) -> anyhow::Result<Self> {
        let Some(jwks) = &settings.auth_jwks else {
            if settings.auth_issuer.is_some() || settings.auth_audience.is_some() {
                bail!("WAYBILL_AUTH_ISSUER and WAYBILL_AUTH_AUDIENCE mean nothing without WAYBILL_AUTH_JWKS (--auth-jwks)");
            }
            if !settings.insecure_no_auth && !address.ip().to_canonical().is_loopback() {
                bail!(
                    "others reach {address}, and nothing says who may do what there: WAYBILL_AUTH_JWKS (--auth-jwks) names the keys of \
                     whoever issues tokens, WAYBILL_INSECURE_NO_AUTH=true (--insecure-no-auth) lets everybody do everything"
                );
            }
            return Ok(Self(None));
        };
        if settings.insecure_no_auth {
            bail!(
                "WAYBILL_AUTH_JWKS (--auth-jwks) asks who it is, WAYBILL_INSECURE_NO_AUTH (--insecure-no-auth) does not: unset one"
            );
        }
        let wanted = |name: &str| {
            format!("WAYBILL_AUTH_JWKS requires {name}: tokens of another issuer, or for another system, must not count here")
        };
        let issuer = settings.auth_issuer.as_deref().with_context(|| wanted("WAYBILL_AUTH_ISSUER (--auth-issuer)"))?;
        let audience = settings.auth_audience.as_deref().with_context(|| wanted("WAYBILL_AUTH_AUDIENCE (--auth-audience)"))?;
        if let JwksAddress::Url(url) = jwks
            && url.scheme() == "http"
        {
            tracing::warn!(%url, "the keys of the issuer of tokens come by plain http: whoever is on the way can put in their own");
        }
        let keys = Keys::new(jwks.clone())?;
        Ok(Self(Some(Arc::new(Tokens::new(keys, issuer, audience, &settings.auth_roles_claim, settings.auth_clock_skew)))))
    }

    /// Whether everybody is believed.
    pub fn is_open(&self) -> bool {
        self.0.is_none()
    }

    /// Who sends a request; `None` where everybody is believed.
    ///
    /// # Errors
    /// Why the caller is not believed.
    pub async fn of(&self, headers: &HeaderMap) -> Result<Option<Arc<Claims>>, Refusal> {
        let Some(tokens) = &self.0 else { return Ok(None) };
        tokens.check(bearer(headers)?).await.map(Some)
    }

    /// Keeps the issuer's keys until shutdown. The service is not ready before it has any.
    pub(crate) async fn watch(self, health: Health, shutdown: CancellationToken) {
        let Some(tokens) = self.0 else { return };
        health.expect(CHECK);
        loop {
            tokens.look(Duration::ZERO).await;
            let (known, failed) = tokens.keys().state();
            let why = failed.clone().unwrap_or_else(|| "the issuer has no key for EdDSA, ES256 or RS256".to_owned());
            health.set(CHECK, if known { Ok(()) } else { Err(why) });
            health
                .note("issuer", failed.unwrap_or_else(|| if known { "its keys are known" } else { "it has no keys" }.to_owned()));
            tokio::select! {
                () = tokio::time::sleep(if known { LOOK_EVERY } else { LOOK_FIRST }) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

/// The token of a request (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal::Missing)?;
    if values.next().is_some() {
        return Err(Refusal::Malformed);
    }
    let (scheme, token) = value.to_str().ok().and_then(|value| value.trim().split_once(' ')).ok_or(Refusal::Malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Refusal::Missing) }
}
