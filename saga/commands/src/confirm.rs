//! Asking before something is done that cannot be taken back, and who asks for it.

use std::io::IsTerminal as _;

use serde_json::{Value, json};

use crate::output::{prompt, tell};
use crate::usage::Usage;

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
        prompt(&format!("{question} [y/N]"));
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        let yes = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
        if !yes {
            tell("Nothing was done.");
        }
        Ok(yes)
    }
}

/// Who acts.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct By {
    /// Who; kept with what is done [default: $USER].
    #[arg(long, env = "USER", hide_env = true, value_name = "NAME")]
    by: Option<String>,
}

impl By {
    /// The name.
    pub fn name(&self) -> Result<&str, Usage> {
        let by = self.by.as_deref().map(str::trim).filter(|by| !by.is_empty());
        by.ok_or_else(|| Usage("say who you are: --by NAME".to_owned()))
    }
}

/// An operator's word: why, who, and the consent.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Signed {
    /// Why; kept with what is done.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    confirm: Args,
}

impl Signed {
    /// Who acts, if there is a name, a reason, and somebody to ask. To be called before anything else is done.
    pub fn check(&self) -> Result<&str, Usage> {
        self.confirm.check()?;
        if self.reason.trim().is_empty() {
            return Err(Usage("--reason is empty: say why".to_owned()));
        }
        self.by.name()
    }

    /// Asks, unless it was answered beforehand.
    pub fn ask(&self, question: &str) -> anyhow::Result<bool> {
        self.confirm.ask(question)
    }

    /// As the services are told.
    pub fn body(&self) -> Result<Value, Usage> {
        Ok(json!({ "by": self.by.name()?, "reason": self.reason }))
    }
}
