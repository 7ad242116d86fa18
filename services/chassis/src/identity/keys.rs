//! The keys of the issuer: read from a file or an address, read again when a token names one that is not known, kept while they cannot be read.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::settings::JwksAddress;
use crate::causes::causes;

/// How long one look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// The most bytes of a JWKS, and the most keys: issuers have a handful.
const BYTES_MAX: usize = 1 << 20;
const KEYS_MAX: usize = 64;

/// A public key.
#[derive(PartialEq)]
pub struct Key {
    jwk: Jwk,
    /// The one algorithm it is for: a token does not choose how its key is used.
    pub algorithm: Algorithm,
}

impl Key {
    /// `None`: not a key for a signature that is taken here.
    fn new(jwk: Jwk) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            _ => return None,
        };
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|purposes| purposes.contains(&KeyOperations::Verify))
            && common.key_algorithm.is_none_or(|said| said == KeyAlgorithm::from(algorithm));
        (signs && DecodingKey::from_jwk(&jwk).is_ok()).then_some(Self { jwk, algorithm })
    }

    /// What a signature is checked with.
    pub fn decoding(&self) -> jsonwebtoken::errors::Result<DecodingKey> {
        DecodingKey::from_jwk(&self.jwk)
    }

    /// Whether it may be the one that a token names, or leaves unnamed.
    fn fits(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        self.algorithm == algorithm && (id.is_none() || self.jwk.common.key_id.as_deref() == id)
    }
}

/// What is known of the issuer's keys.
#[derive(Default)]
struct Known {
    keys: Vec<Arc<Key>>,
    /// Whether they were ever read. A set that holds none of use is an answer too: all that there were are taken back.
    read: bool,
    /// Why the last look failed, if it did.
    failed: Option<String>,
}

/// The keys.
pub struct Keys {
    address: JwksAddress,
    http: Option<reqwest::Client>,
    known: RwLock<Known>,
    /// The last look; held while one is under way, so that all who want one share it.
    looked: Mutex<Option<Instant>>,
}

/// What a look brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Nothing: it failed, or there was one lately.
    Nothing,
    /// Keys.
    Found,
    /// Keys, and one that was known is not among them: the issuer took it back.
    Withdrawn,
}

impl Keys {
    /// None yet.
    ///
    /// # Errors
    /// Where the system's certificates cannot be used.
    pub fn new(address: JwksAddress) -> anyhow::Result<Self> {
        let http = match &address {
            JwksAddress::File(_) => None,
            JwksAddress::Url(_) => {
                // reqwest is built without a TLS provider of its own. Err only says that one is installed already.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let client =
                    reqwest::Client::builder().timeout(LOOK_WITHIN).redirect(reqwest::redirect::Policy::none()).no_proxy();
                Some(client.build().context("cannot make a client for the issuer's keys")?)
            }
        };
        Ok(Self { address, http, known: RwLock::default(), looked: Mutex::new(None) })
    }

    /// Those that may have signed a token.
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<Arc<Key>> {
        let known = self.known.read().expect("the keys are never poisoned");
        known.keys.iter().filter(|key| key.fits(id, algorithm)).cloned().collect()
    }

    /// Whether this is one of them still.
    pub fn has(&self, key: &Arc<Key>) -> bool {
        self.known.read().expect("the keys are never poisoned").keys.contains(key)
    }

    /// Whether any are known, and why the last look failed, if it did.
    pub fn state(&self) -> (bool, Option<String>) {
        let known = self.known.read().expect("the keys are never poisoned");
        (!known.keys.is_empty(), known.failed.clone())
    }

    /// Whether a key that is not known is none of the issuer's.
    pub fn is_certain(&self) -> bool {
        let known = self.known.read().expect("the keys are never poisoned");
        known.read && known.failed.is_none()
    }

    /// Looks at the issuer's keys, unless somebody did so lately.
    pub async fn look(&self, lately: Duration) -> Looked {
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|looked| looked.elapsed() < lately) {
            return Looked::Nothing;
        }
        // Before, because who asks may leave meanwhile.
        *looked = Some(Instant::now());
        let found = self.read().await.and_then(|text| parse(&text));
        // And after, because whoever waited for it shares it: an issuer that hangs is asked once, and not once for each who waits.
        *looked = Some(Instant::now());
        let mut known = self.known.write().expect("the keys are never poisoned");
        match found {
            Ok(keys) => {
                let withdrawn = known.keys.iter().any(|key| !keys.contains(key));
                if withdrawn || known.failed.is_some() || known.keys.len() != keys.len() {
                    tracing::info!(keys = keys.len(), "the keys of the issuer of tokens");
                }
                *known = Known { keys, read: true, failed: None };
                if withdrawn { Looked::Withdrawn } else { Looked::Found }
            }
            Err(error) => {
                let why = format!("the keys at {} cannot be read: {}", self.address, causes(&error));
                if known.failed.as_ref() != Some(&why) {
                    tracing::warn!(why, known = known.keys.len(), "those that are known go on being used");
                }
                known.failed = Some(why);
                Looked::Nothing
            }
        }
    }

    async fn read(&self) -> anyhow::Result<Vec<u8>> {
        let JwksAddress::Url(url) = &self.address else {
            let JwksAddress::File(path) = &self.address else { unreachable!("it is the one or the other") };
            return Ok(tokio::fs::read(path).await?);
        };
        let client = self.http.as_ref().expect("there is a client for an address");
        let mut response = client.get(url.clone()).send().await.map_err(reqwest::Error::without_url)?;
        if response.status() != reqwest::StatusCode::OK {
            bail!("the answer is {}", response.status());
        }
        let mut text = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            if text.len() + piece.len() > BYTES_MAX {
                bail!("the answer is longer than {BYTES_MAX} bytes");
            }
            text.extend_from_slice(&piece);
        }
        Ok(text)
    }
}

/// The keys of a JWKS that are of use here. Others may stand beside them, also ones that nobody knows yet.
fn parse(text: &[u8]) -> anyhow::Result<Vec<Arc<Key>>> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(text).context("not a JWKS")?;
    let keys = set.keys.into_iter().filter_map(|key| Key::new(serde_json::from_value(key).ok()?)).map(Arc::new);
    Ok(keys.take(KEYS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn algorithms(keys: Value) -> Option<Vec<Algorithm>> {
        let keys = parse(json!({ "keys": keys }).to_string().as_bytes()).ok()?;
        Some(keys.iter().map(|key| key.algorithm).collect())
    }

    #[test]
    fn a_key_is_for_one_algorithm_and_what_is_not_for_signatures_is_left_out() {
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": X, "kid": "a"});
        let encrypts = json!({"kty": "OKP", "crv": "Ed25519", "x": X, "use": "enc"});
        let secret = json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"});
        let other = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS512"});
        let odd = json!({"kty": "ML-DSA", "pub": "x"});
        assert_eq!(algorithms(json!([ed.clone(), encrypts.clone(), secret, other, odd, 5])), Some(vec![Algorithm::EdDSA]));
        assert_eq!(algorithms(json!([encrypts])), Some(vec![]), "it takes back all that there were");
        assert_eq!(algorithms(json!("none")), None);
        let keys = parse(json!({ "keys": [ed] }).to_string().as_bytes()).unwrap();
        assert!(keys[0].fits(Some("a"), Algorithm::EdDSA) && keys[0].fits(None, Algorithm::EdDSA));
        assert!(!keys[0].fits(Some("b"), Algorithm::EdDSA) && !keys[0].fits(Some("a"), Algorithm::RS256));
    }
}
