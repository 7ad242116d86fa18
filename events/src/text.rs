//! Text that came from outside: trimmed, of bounded length, without characters that do not show or that change how others show.
//!
//! Joiners (U+200C, U+200D) and variation selectors (U+FE0E, U+FE0F) are letters to some scripts and parts of many emoji, so they may follow a
//! visible character that is not ASCII; in an e-mail address nothing hidden may stand at all.

pub use envelope::TextError;
use envelope::{LINE_MAX, checked, is_hidden, line};
use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizer;
use serde::{Deserialize, Serialize};

impl Email {
    /// What two spellings of one address have in common: compatible characters are one (NFKC), and so are upper and lower case, by Unicode's case
    /// folding. Two addresses with the same key are the same.
    pub fn key(&self) -> String {
        let compose = ComposingNormalizer::new_nfkc();
        let folded = CaseMapper::new().fold_string(&compose.normalize(&self.0)).into_owned();
        compose.normalize(&folded).into_owned()
    }
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident($max:expr): |$text:ident| $parse:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The most characters.
            pub const MAX: usize = $max;

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
    Name(LINE_MAX): |text| line(text);
    /// What somebody else calls a thing, in their own system: 1 to 200 characters.
    Reference(LINE_MAX): |text| line(text);
    /// A description: at most 2,000 characters, may be empty, may have lines.
    Description(2_000): |text| checked(text, 0, Self::MAX);
    /// An e-mail address: at most 200 characters, one `@` between two non-empty parts without spaces. More than that only a
    /// delivered message can prove.
    Email(LINE_MAX): |text| line(text).and_then(email);
}

fn email(text: String) -> Result<String, TextError> {
    if text.chars().any(is_hidden) {
        return Err(TextError::Control);
    }
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

    #[test]
    fn what_does_not_show_is_refused_by_its_property() {
        // Directions, zero widths, separators, soft hyphen, fillers, tags, private use, noncharacters, C1.
        for c in "\u{202e}\u{2066}\u{200f}\u{061c}\u{200b}\u{2060}\u{feff}\u{2028}\u{2029}\u{ad}\u{3164}\u{115f}\u{180e}\u{e0041}\u{e000}\u{fffe}\u{9b}\u{85}\u{7f}\u{fff9}\u{2800}\u{fffc}\u{1d159}".chars() {
            assert_eq!(Name::new(&format!("a{c}b")), Err(TextError::Control), "{c:?}");
            assert_eq!(Description::new(&format!("a{c}b")), Err(TextError::Control), "{c:?}");
            assert_eq!(Email::new(&format!("a{c}b@c")), Err(TextError::Control), "{c:?}");
        }
        // A joiner that joins nothing is a zero width like any other.
        for text in ["a\u{200d}b", "a\u{200c}b", "a\u{fe0f}b", "\u{200d}\u{e9}"] {
            assert_eq!(Name::new(text), Err(TextError::Control), "{text:?}");
        }
        for text in [
            "\u{1f469}\u{200d}\u{1f680}",
            "\u{2764}\u{fe0f}\u{200d}\u{1f525}",
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}",
            "1\u{fe0f}\u{20e3}",
            "Ada Ωmega 界 e\u{301}",
        ] {
            assert!(Name::new(text).is_ok(), "{text:?}");
        }
        assert_eq!(Email::new("\u{e9}\u{200d}@c"), Err(TextError::Control));
        assert_eq!(Name::new("\u{3000}Ada\u{a0}").unwrap().as_str(), "Ada", "Unicode's white space is trimmed");
    }

    #[test]
    fn an_address_is_the_same_in_any_case_and_normal_form() {
        let key = |text: &str| Email::new(text).unwrap().key();
        for (one, other) in [
            ("Ada@Example.COM", "ada@example.com"),
            ("Stra\u{df}e@x", "STRASSE@X"),
            ("\u{c9}@x", "e\u{301}@x"),
            ("\u{ff21}da@x", "ada@x"),
            ("\u{3a3}\u{3a3}@x", "\u{3c3}\u{3c2}@x"),
            ("\u{fb01}n@x", "FIN@x"),
        ] {
            assert_eq!(key(one), key(other), "{one} {other}");
        }
        // Turkish letters without a dot are letters of their own.
        assert_ne!(key("\u{131}@x"), key("i@x"));
        assert_eq!(key("I@x"), "i@x");
        assert_ne!(key("\u{e9}@x"), key("e@x"));
    }
}
