//! Wrong usage: an error of its own, and numbers out of bounds.

/// A combination of flags that clap alone cannot see is wrong: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Reads a whole number within bounds, and says which where it is not.
pub fn number<T: TryFrom<u64>, const LEAST: u64, const MOST: u64>(text: &str) -> Result<T, String> {
    let number = text.parse::<u64>().ok().filter(|number| (LEAST..=MOST).contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match MOST {
        u64::MAX => format!("`{text}` is not a whole number from {LEAST} on"),
        _ => format!("`{text}` is not a whole number from {LEAST} to {MOST}"),
    })
}
