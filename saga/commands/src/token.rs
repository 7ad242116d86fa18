//! The token that says who asks: from a flag, from the environment, from the chosen context, or from what `waybill up` wrote down. One that
//! was kept for a system is sent to that system and no other.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use crate::system;

/// The variable of a token.
pub const TOKEN: &str = "WAYBILL_TOKEN";
/// The variable of a file with a token.
pub const TOKEN_FILE: &str = "WAYBILL_TOKEN_FILE";

/// A token, or where one is.
#[derive(Clone)]
pub enum Token {
    /// This one.
    Text(String),
    /// Whatever the file holds at the time: somebody renews it.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("[not shown]"),
            Self::File(path) => path.fmt(f),
        }
    }
}

impl Token {
    /// What is sent to this address; `None`: nobody said who asks.
    ///
    /// # Errors
    /// Where two tokens were given, or what was kept cannot be read.
    pub fn for_address(url: &Url) -> anyhow::Result<Option<Self>> {
        let given = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
        match (system::token_file(), given) {
            (Some((file, true)), _) | (Some((file, false)), None) => return Ok(Some(Self::File(file))),
            (Some((_, false)), Some(_)) => bail!("{TOKEN} and {TOKEN_FILE} are both set: unset one"),
            (None, Some(token)) => return Ok(Some(Self::Text(token))),
            (None, None) => {}
        }
        let context = system::context()?.filter(|context| system::is_of(url, |name| context.addresses.get(name).cloned()));
        if let Some(context) = context {
            return Ok(context.token.clone().map(Self::Text).or_else(|| context.token_file.clone().map(Self::File)));
        }
        let Some(note) = crate::note::Note::read()? else { return Ok(None) };
        let is_noted = system::is_of(url, |name| note.get(name).map(str::to_owned));
        Ok(note.get(TOKEN_FILE).filter(|_| is_noted).map(|file| Self::File(file.into())))
    }

    /// The token itself.
    ///
    /// # Errors
    /// Where its file cannot be read, or holds none.
    pub fn text(&self) -> anyhow::Result<String> {
        let (text, from) = match self {
            Self::Text(text) => (text.clone(), TOKEN.to_owned()),
            Self::File(path) => {
                let text = fs::read_to_string(path).with_context(|| format!("cannot read the token in {}", path.display()))?;
                (text, path.display().to_string())
            }
        };
        checked(&text).with_context(|| format!("the token in {from}"))
    }

    /// The header that bears it.
    ///
    /// # Errors
    /// Those of [`Self::text`].
    pub fn header(&self) -> anyhow::Result<HeaderValue> {
        let mut header = HeaderValue::from_str(&format!("Bearer {}", self.text()?))?;
        header.set_sensitive(true);
        Ok(header)
    }

    /// Who it says it is.
    pub fn subject(&self) -> Option<String> {
        Some(claims(&self.text().ok()?)?.sub).filter(|subject| !subject.trim().is_empty())
    }
}

/// A token without what stands around it.
///
/// # Errors
/// Where it is none; nothing of it is shown.
pub fn checked(text: &str) -> anyhow::Result<String> {
    let token = text.trim();
    ensure!(!token.is_empty(), "is empty");
    ensure!(token.bytes().all(|byte| byte.is_ascii_graphic()), "is no token: a token is one word");
    Ok(token.to_owned())
}

/// What a token says of itself. Nothing of it is proven: that is for whom it is sent to.
#[derive(Clone, Debug, Deserialize)]
pub struct Claims {
    /// Whose it is.
    #[serde(default)]
    pub sub: String,
    /// When it expires, in seconds since 1970.
    pub exp: Option<f64>,
}

impl Claims {
    /// When it expires.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(self.exp? as i64, 0)
    }
}

/// What a token says of itself, where it can be read.
pub fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_says_of_itself_is_read_and_nothing_else_is_shown() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"ann","exp":1800000000,"roles":["operator"]}"#);
        let token = Token::Text(format!(" e30.{payload}.c2ln\n"));
        assert_eq!(token.subject().as_deref(), Some("ann"));
        let expires = claims(&token.text().unwrap()).unwrap().expires_at().unwrap();
        assert_eq!(expires.to_rfc3339(), "2027-01-15T08:00:00+00:00");
        assert_eq!(format!("{token:?}"), "[not shown]");
        assert!(token.header().unwrap().is_sensitive());
        for wrong in ["", " \n", "two words", "a\nb", "ü"] {
            let error = format!("{:#}", Token::Text(wrong.to_owned()).header().unwrap_err());
            assert!(error.contains(TOKEN) && !error.contains("words"), "{error}");
        }
        for unreadable in ["hunter2", "a.b.c", "..", "e30.e30.x"] {
            assert_eq!(Token::Text(unreadable.to_owned()).subject(), None);
        }
    }
}
