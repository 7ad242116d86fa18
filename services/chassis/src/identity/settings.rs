//! What says whose tokens are believed.

use std::fmt;
use std::str::FromStr;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

/// Whose tokens are believed. Without them a service that listens on loopback alone lets everybody do everything, and any other does not start.
#[derive(Args, Clone, Debug)]
pub struct IdentitySettings {
    /// The public keys of whoever issues tokens, as a JWKS: a file, or an address that begins with http:// or https://. Both are read again every
    /// five minutes, and once a token names a key that is not among them. Keys once known go on being used while they cannot be read.
    #[arg(long, env = "WAYBILL_AUTH_JWKS", value_name = "FILE|URL")]
    pub auth_jwks: Option<JwksAddress>,

    /// The issuer that tokens must name (`iss`). Wanted with the JWKS.
    #[arg(long, env = "WAYBILL_AUTH_ISSUER", value_name = "ISSUER")]
    pub auth_issuer: Option<String>,

    /// The audience that tokens must be for (`aud`): a token that was issued for another system means nothing here. Wanted with the JWKS.
    #[arg(long, env = "WAYBILL_AUTH_AUDIENCE", value_name = "AUDIENCE")]
    pub auth_audience: Option<String>,

    /// The claim that holds the roles: an array, or words with spaces between them. Dots lead into objects: `realm_access.roles`.
    #[arg(long, env = "WAYBILL_AUTH_ROLES_CLAIM", default_value = "roles", value_name = "CLAIM")]
    pub auth_roles_claim: String,

    /// Seconds by which the clocks of the issuer and this machine may differ. A token counts so much longer, and so much sooner.
    #[arg(long, env = "WAYBILL_AUTH_CLOCK_SKEW", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub auth_clock_skew: u64,

    /// Lets everybody who reaches this service do everything. For networks where somebody else asks who it is.
    #[arg(
        long,
        env = "WAYBILL_INSECURE_NO_AUTH",
        value_name = "true|false",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub insecure_no_auth: bool,
}

/// Where a JWKS is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksAddress {
    /// A file.
    File(String),
    /// An address.
    Url(reqwest::Url),
}

impl FromStr for JwksAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return if text.is_empty() { Err("is empty".to_owned()) } else { Ok(Self::File(text.to_owned())) };
        }
        let url: reqwest::Url = text.parse().map_err(|error| format!("is not an address: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a name or a password, and public keys need none".to_owned());
        }
        Ok(Self::Url(url))
    }
}

impl fmt::Display for JwksAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(path),
            Self::Url(url) => f.write_str(url.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwks_is_a_file_or_an_address_without_a_password() {
        assert_eq!("/etc/keys.json".parse(), Ok(JwksAddress::File("/etc/keys.json".to_owned())));
        assert!(matches!("https://issuer.example/jwks".parse(), Ok(JwksAddress::Url(_))));
        for wrong in ["", "https://me:hunter2@issuer.example/jwks", "http://"] {
            let refused = wrong.parse::<JwksAddress>().unwrap_err();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
