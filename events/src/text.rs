//! Text that came from outside: trimmed, of bounded length, without control characters.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// Shorter or longer than allowed, counted in characters.
    #[error("must be {min} to {max} characters long")]
    Length {
        /// The least number of characters.
        min: usize,
        /// The most.
        max: usize,
    },
    /// Holds a control character, which could forge a log line or a terminal sequence.
    #[error("must not hold control characters")]
    Control,
    /// Not of the form `name@host`.
    #[error("is not an e-mail address")]
    Email,
}

fn checked(text: &str, min: usize, max: usize) -> Result<String, TextError> {
    let text = text.trim();
    if !(min..=max).contains(&text.chars().count()) {
        return Err(TextError::Length { min, max });
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(TextError::Control);
    }
    Ok(text.to_owned())
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: |$text:ident| $parse:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text.
            pub fn new($text: &str) -> Result<Self, TextError> {
                $parse.map(Self)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextError;

            fn try_from(text: String) -> Result<Self, TextError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }
    )*};
}

texts! {
    /// A name: 1 to 200 characters.
    Name: |text| checked(text, 1, 200).and_then(one_line);
    /// A description: at most 2,000 characters, may be empty, may have lines.
    Description: |text| checked(text, 0, 2_000);
    /// An e-mail address: at most 200 characters, one `@` between two non-empty parts without spaces. More than that only a
    /// delivered message can prove.
    Email: |text| checked(text, 1, 200).and_then(one_line).and_then(email);
}

fn one_line(text: String) -> Result<String, TextError> {
    if text.contains(['\n', '\t']) { Err(TextError::Control) } else { Ok(text) }
}

fn email(text: String) -> Result<String, TextError> {
    let well_formed = !text.contains(char::is_whitespace)
        && text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
    if well_formed { Ok(text) } else { Err(TextError::Email) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters() {
        assert!(Name::new(&"é".repeat(200)).is_ok());
        assert_eq!(Name::new(&"é".repeat(201)), Err(TextError::Length { min: 1, max: 200 }));
        assert_eq!(Name::new("  "), Err(TextError::Length { min: 1, max: 200 }));
        assert!(Description::new("").is_ok());
    }

    #[test]
    fn control_characters_are_refused() {
        assert_eq!(Name::new("a\u{1b}[2Jb"), Err(TextError::Control));
        assert_eq!(Name::new("a\nb"), Err(TextError::Control));
        assert!(Description::new("a\nb").is_ok());
        assert_eq!(Description::new("a\0b"), Err(TextError::Control));
    }

    #[test]
    fn an_email_has_two_parts() {
        assert!(Email::new("ada@example.com").is_ok());
        for wrong in ["ada", "@example.com", "ada@", "a b@c", "a@b@c"] {
            assert_eq!(Email::new(wrong), Err(TextError::Email), "{wrong}");
        }
    }
}
