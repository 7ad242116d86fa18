//! Tokens: what one says, and whether it is believed.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envelope::line;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use quick_cache::sync::Cache;
use ring::digest;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::keys::{Keys, Looked};
use super::refusal::Refusal;
use super::roles::{Role, Roles};

/// The longest token.
const TOKEN_MAX: usize = 8 * 1024;

/// Tokens whose signatures need not be checked again, a few hundred bytes each.
const CHECKED_MAX: usize = 16_384;

/// The least time between two looks at the issuer for the sake of tokens: with invented key names nobody can have us ask it without end.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The longest that anything is kept for the sake of a token: some have no end worth the name.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// What a token that is believed says.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Who the caller is.
    pub subject: String,
    /// What the caller is.
    pub roles: Roles,
    /// Seconds since 1970 when it counts no longer, the clock's skew allowed for.
    ends: u64,
}

impl Claims {
    /// When it counts no longer.
    pub fn ends(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.ends.saturating_sub(now())).min(LONGEST)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Checks tokens.
pub struct Tokens {
    keys: Keys,
    rules: [Validation; 3],
    roles_claim: Vec<String>,
    skew: u64,
    /// By the digest of the token: the tokens themselves are kept nowhere.
    checked: Cache<[u8; 32], Arc<Claims>>,
}

impl Tokens {
    /// Believes tokens that these keys signed, of this issuer and for this audience.
    pub fn new(keys: Keys, issuer: &str, audience: &str, roles_claim: &str, skew: u64) -> Self {
        super::provider::install();
        let rules = [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256].map(|algorithm| {
            let mut rules = Validation::new(algorithm);
            rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
            rules.set_issuer(&[issuer]);
            rules.set_audience(&[audience]);
            rules.validate_nbf = true;
            rules.leeway = skew;
            rules
        });
        let roles_claim = roles_claim.split('.').map(str::to_owned).collect();
        Self { keys, rules, roles_claim, skew, checked: Cache::new(CHECKED_MAX) }
    }

    /// The keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Looks at the issuer's keys, unless somebody did so lately. Tokens that were believed are looked at again once one was withdrawn.
    pub async fn look(&self, lately: Duration) -> Looked {
        let looked = self.keys.look(lately).await;
        if looked == Looked::Withdrawn {
            self.checked.clear();
        }
        looked
    }

    /// What a token says, if it is believed.
    pub async fn check(&self, token: &str) -> Result<Arc<Claims>, Refusal> {
        if token.len() > TOKEN_MAX {
            return Err(Refusal::Malformed);
        }
        let digest: [u8; 32] = digest::digest(&digest::SHA256, token.as_bytes()).as_ref().try_into().expect("32 bytes");
        if let Some(claims) = self.checked.get(&digest) {
            return if claims.ends > now() { Ok(claims) } else { Err(Refusal::Expired) };
        }
        let header = decode_header(token).map_err(|_| Refusal::Malformed)?;
        let rules = self.rules.iter().find(|rules| rules.algorithms.contains(&header.alg)).ok_or(Refusal::Algorithm)?;
        if !is_access_token(&header) {
            return Err(Refusal::Malformed);
        }
        let mut refusal = self.keys_known(&header).await;
        for key in self.keys.find(header.kid.as_deref(), header.alg) {
            let decoding = key.decoding().map_err(|_| Refusal::Signature)?;
            match decode::<Map<String, Value>>(token, &decoding, rules) {
                Ok(token) => {
                    let claims = Arc::new(self.claims(&token.claims)?);
                    self.checked.insert(digest, claims.clone());
                    // The issuer may have taken the key back meanwhile, and what was believed by it been forgotten before this.
                    if !self.keys.has(&key) {
                        self.checked.remove(&digest);
                        return Err(Refusal::UnknownKey);
                    }
                    return Ok(claims);
                }
                // Another key may have signed it.
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => refusal = Refusal::Signature,
                Err(error) => return Err(class(&error)),
            }
        }
        Err(refusal)
    }

    /// Has a key looked for that a token names and that is not known. What the token is refused with if there is none.
    async fn keys_known(&self, header: &Header) -> Refusal {
        if self.keys.find(header.kid.as_deref(), header.alg).is_empty() {
            self.look(LOOK_AGAIN).await;
        }
        // While they cannot be read, nobody knows whether there is such a key.
        if self.keys.is_certain() { Refusal::UnknownKey } else { Refusal::NoKeys }
    }

    fn claims(&self, claims: &Map<String, Value>) -> Result<Claims, Refusal> {
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        // It becomes part of histories and keys: one line, as it is.
        if line(subject).as_deref() != Ok(subject) {
            return Err(Refusal::Subject);
        }
        let ends = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        let roles = self.roles_claim.iter().try_fold(None, |at: Option<&Value>, name| {
            let found = match at {
                None => claims.get(name),
                Some(at) => at.get(name),
            };
            found.map(Some)
        });
        let roles = match roles.flatten() {
            Some(Value::String(words)) => words.split_whitespace().filter_map(Role::named).collect(),
            Some(Value::Array(words)) => words.iter().filter_map(|word| Role::named(word.as_str()?)).collect(),
            _ => Roles::default(),
        };
        Ok(Claims { subject: subject.to_owned(), roles, ends: (ends as u64).saturating_add(self.skew) })
    }
}

/// Whether the token is meant for what it is used for here. One that says nothing, or only that it is a JWT, may be.
fn is_access_token(header: &Header) -> bool {
    let kind = header.typ.as_deref().map(|kind| kind.trim_start_matches("application/").to_ascii_lowercase());
    // What must be understood and is not known here is not taken (RFC 7515 section 4.1.11).
    header.crit.is_none() && matches!(kind.as_deref(), None | Some("jwt" | "at+jwt"))
}

/// What is said of a token that is not believed: enough to mend an honest mistake, nothing about its signature.
fn class(error: &Error) -> Refusal {
    match error.kind() {
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::NotYetValid,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        ErrorKind::InvalidAudience => Refusal::Audience,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => Refusal::Claims,
        ErrorKind::InvalidAlgorithm => Refusal::Algorithm,
        _ => Refusal::Malformed,
    }
}
