//! The other side: a key that issues tokens, for development and for tests.

use anyhow::anyhow;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, encode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaPublicKeyComponents};
use serde::Serialize;

use super::provider;

/// A private key and its name. Whoever has it is believed to be anybody.
pub struct SigningKey {
    id: String,
    algorithm: Algorithm,
    private: EncodingKey,
    public: DecodingKey,
}

impl SigningKey {
    /// A new private key, as a PKCS#8 document: EdDSA, or ES256. RSA keys are made elsewhere.
    ///
    /// # Errors
    /// Where the system gives no random numbers, or it is another algorithm.
    pub fn generate(algorithm: Algorithm) -> anyhow::Result<Vec<u8>> {
        let random = SystemRandom::new();
        let document = match algorithm {
            Algorithm::EdDSA => Ed25519KeyPair::generate_pkcs8(&random),
            Algorithm::ES256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random),
            other => return Err(anyhow!("keys for {other:?} are not made here")),
        };
        Ok(document.map_err(|_| anyhow!("the system gives no random numbers"))?.as_ref().to_vec())
    }

    /// A key by its PKCS#8 document.
    ///
    /// # Errors
    /// Where that is not a key of the algorithm.
    pub fn new(id: impl Into<String>, algorithm: Algorithm, pkcs8: &[u8]) -> anyhow::Result<Self> {
        provider::install();
        let wrong = |error| anyhow!("not a private key for {algorithm:?}: {error}");
        let (private, public) = match algorithm.family() {
            AlgorithmFamily::Ed => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(wrong)?;
                (EncodingKey::from_ed_der(pkcs8), DecodingKey::from_ed_der(pair.public_key().as_ref()))
            }
            AlgorithmFamily::Ec => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new());
                let pair = pair.map_err(wrong)?;
                (EncodingKey::from_ec_der(pkcs8), DecodingKey::from_ec_der(pair.public_key().as_ref()))
            }
            AlgorithmFamily::Rsa => {
                let pair = provider::rsa(pkcs8).map_err(wrong)?;
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                (EncodingKey::from_rsa_der(pkcs8), DecodingKey::from_rsa_raw_components(&public.n, &public.e))
            }
            AlgorithmFamily::Hmac => return Err(anyhow!("secrets that both sides know are not used here")),
        };
        Ok(Self { id: id.into(), algorithm, private, public })
    }

    /// The public half, as an entry of a JWKS: `{"keys": [...]}`.
    ///
    /// # Errors
    /// Where the key cannot be written so.
    pub fn public(&self) -> anyhow::Result<Jwk> {
        let mut jwk = Jwk::from_decoding_key(&self.public, Some(self.algorithm))?;
        jwk.common.key_id = Some(self.id.clone());
        Ok(jwk)
    }

    /// A token of these claims.
    ///
    /// # Errors
    /// Where the claims cannot be written as JSON.
    pub fn sign(&self, claims: &impl Serialize) -> anyhow::Result<String> {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        Ok(encode(&header, claims, &self.private)?)
    }
}
