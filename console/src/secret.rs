//! Secrets that a console makes for itself.

use uuid::Uuid;

/// A secret that nobody guesses: 122 bits of chance.
pub fn secret() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Whether two secrets are the same; takes as long whatever they differ in.
pub fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |all, (one, other)| all | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_are_compared_whole() {
        assert!(is_same("abc", "abc") && !is_same("abc", "abd") && !is_same("abc", "ab"));
        assert_ne!(secret(), secret());
    }
}
