//! Tags of an order: words of its customer's, `key=value`, that it is found by.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use envelope::{TextError, checked};
use serde::{Deserialize, Serialize};

/// One tag: `channel=web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    key: String,
    value: String,
}

/// Why a tag was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// More than there may be.
    #[error("must hold at most {} tags", Tags::MAX)]
    Many,
    /// Not of the form.
    #[error("is not of the form key=value")]
    Form,
    /// The key.
    #[error("its key must be 1 to {} of a-z, 0-9, `_`, `-` and `.`", Tag::KEY_MAX)]
    Key,
    /// The value.
    #[error("its value {0}")]
    Value(TextError),
    /// Several tags are written with commas between them.
    #[error("its value must not hold a comma, nor a line break")]
    Comma,
}

impl Tag {
    /// The most characters of a key.
    pub const KEY_MAX: usize = 32;
    /// The most characters of a value.
    pub const VALUE_MAX: usize = 100;

    /// Checks a tag.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn new(key: &str, value: &str) -> Result<Self, TagError> {
        let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'_' | b'-' | b'.');
        if !(1..=Self::KEY_MAX).contains(&key.len()) || !key.bytes().all(letter) {
            return Err(TagError::Key);
        }
        let value = checked(value, 1, Self::VALUE_MAX).map_err(TagError::Value)?;
        if value.contains([',', '\n', '\t']) {
            return Err(TagError::Comma);
        }
        Ok(Self { key: key.to_owned(), value })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let (key, value) = text.split_once('=').ok_or(TagError::Form)?;
        Self::new(key.trim_start(), value)
    }
}

/// The tags of an order, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// The most tags of one order.
    pub const MAX: usize = 8;

    /// Gathers tags; of two with one key the last counts.
    ///
    /// # Errors
    /// Where there are too many.
    pub fn of(tags: impl IntoIterator<Item = Tag>) -> Result<Self, TagError> {
        let tags: BTreeMap<String, String> = tags.into_iter().map(|Tag { key, value }| (key, value)).collect();
        if tags.len() > Self::MAX { Err(TagError::Many) } else { Ok(Self(tags)) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each as `key=value`, in the order of keys.
    pub fn pairs(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(key, value)| format!("{key}={value}"))
    }
}

impl TryFrom<BTreeMap<String, String>> for Tags {
    type Error = TagError;

    fn try_from(tags: BTreeMap<String, String>) -> Result<Self, TagError> {
        let tags: Vec<Tag> = tags.iter().map(|(key, value)| Tag::new(key, value)).collect::<Result<_, _>>()?;
        Self::of(tags)
    }
}

impl From<Tags> for BTreeMap<String, String> {
    fn from(tags: Tags) -> Self {
        tags.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_key_and_a_value_within_limits() {
        let longest = format!("{}={}", "k".repeat(32), "é".repeat(100));
        for text in ["channel=web", "a.b-c_9=x=y", "campaign=Summer Sale 2026", &longest] {
            assert_eq!(text.parse::<Tag>().map(|tag| tag.to_string()).as_deref(), Ok(text));
        }
        for (text, why) in [
            ("web", TagError::Form),
            ("=web", TagError::Key),
            ("Channel=web", TagError::Key),
            ("a b=web", TagError::Key),
            (&format!("{}=x", "k".repeat(33)), TagError::Key),
            ("a=", TagError::Value(TextError::Length { min: 1, max: 100 })),
            (&format!("a={}", "x".repeat(101)), TagError::Value(TextError::Length { min: 1, max: 100 })),
            ("a=x\u{200b}", TagError::Value(TextError::Control)),
            ("a=x,b", TagError::Comma),
        ] {
            assert_eq!(text.parse::<Tag>(), Err(why), "{text}");
        }
    }

    #[test]
    fn an_order_has_eight_at_most() {
        let tags = |count: usize| Tags::of((0..count).map(|n| Tag::new(&format!("k{n}"), "v").unwrap()));
        assert_eq!(tags(8).map(|tags| tags.pairs().count()), Ok(8));
        assert_eq!(tags(9), Err(TagError::Many));
        assert_eq!(serde_json::from_str::<Tags>(r#"{"a":"1","b":"2"}"#).unwrap().pairs().collect::<Vec<_>>(), ["a=1", "b=2"]);
        assert!(serde_json::from_str::<Tags>(r#"{"A":"1"}"#).is_err());
    }
}
