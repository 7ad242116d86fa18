//! Asking before something is done that cannot be taken back.

use std::io::{IsTerminal as _, Write as _};

use crate::args::Usage;

/// The flag that answers beforehand.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Do it without asking: for scripts, which cannot answer.
    #[arg(long, short = 'y')]
    yes: bool,
}

impl Args {
    /// Wrong usage where nobody could be asked. To be called before anything else is done.
    pub fn check(&self) -> Result<(), Usage> {
        if self.yes || std::io::stdin().is_terminal() {
            return Ok(());
        }
        Err(Usage("this asks before it acts, and stdin is no terminal: add --yes".to_owned()))
    }

    /// Asks, unless it was answered beforehand.
    pub fn ask(&self, question: &str) -> anyhow::Result<bool> {
        if self.yes {
            return Ok(true);
        }
        let mut stderr = std::io::stderr().lock();
        write!(stderr, "{question} [y/N] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        let yes = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
        if !yes {
            writeln!(stderr, "Nothing was done.")?;
        }
        Ok(yes)
    }
}
