//! An error with its causes, as logs and answers say it.

/// The error and what caused it, in one line. A cause that the text before it says already (sqlx and others write it into their own) is not
/// said twice.
pub fn causes(error: &anyhow::Error) -> String {
    each_once(error).join(": ")
}

/// The same, one by one.
pub fn each_once(error: &anyhow::Error) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if !said.last().is_some_and(|before| before.ends_with(&cause)) {
            said.push(cause);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let broken = std::io::Error::other("the line is broken");
        let wrapped = anyhow::Error::from(sqlx::Error::Io(broken)).context("the batch cannot be written");
        assert_eq!(causes(&wrapped), "the batch cannot be written: error communicating with database: the line is broken");
        let plain = Err::<(), _>(anyhow!("no such file")).context("cannot open baskets").unwrap_err();
        assert_eq!(causes(&plain), "cannot open baskets: no such file");
    }
}
