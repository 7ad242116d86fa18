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

/// The name of whoever runs this: `$USER`, else that of the user id, for containers and cron know no `$USER`.
pub fn user() -> String {
    let said = std::env::var("USER").ok().filter(|user| !user.trim().is_empty());
    said.unwrap_or_else(|| {
        let id = rustix::process::getuid().as_raw().to_string();
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let named = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|user| user.get(2) == Some(&id.as_str()));
        named.and_then(|user| user.first().map(|name| (*name).to_owned())).unwrap_or_else(|| format!("user {id}"))
    })
}

/// Who acts.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct By {
    /// Who; kept with what is done [default: the subject of the token that is sent, else $USER, else the name of this process's user].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl By {
    /// The name. `subject`: who the token says it is.
    pub fn name(&self, subject: Option<String>) -> Result<String, Usage> {
        let named = self.by.clone().or(subject).unwrap_or_else(user);
        let by = Some(named.trim()).filter(|by| !by.is_empty());
        by.map(str::to_owned).ok_or_else(|| Usage("say who you are: --by NAME".to_owned()))
    }
}

/// Wrong usage where a reason is none that the services take: one line of 1 to 200 characters. `flag`: by which it came.
pub fn why(flag: &str, text: &str) -> Result<(), Usage> {
    if text.trim().is_empty() {
        return Err(Usage(format!("{flag} is empty: say why")));
    }
    envelope::line(text).map(drop).map_err(|error| Usage(format!("{flag} {error}")))
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
    /// Who acts, if there is a name, a reason, and somebody to ask. `subject`: who the token says it is. To be called before anything else is
    /// done.
    pub fn check(&self, subject: Option<String>) -> Result<String, Usage> {
        self.confirm.check()?;
        why("--reason", &self.reason)?;
        self.by.name(subject)
    }

    /// Asks, unless it was answered beforehand.
    pub fn ask(&self, question: &str) -> anyhow::Result<bool> {
        self.confirm.ask(question)
    }

    /// Whether it was answered beforehand.
    pub fn is_answered(&self) -> bool {
        self.confirm.yes
    }

    /// As the services are told. `by`: who acts.
    pub fn body(&self, by: &str) -> Value {
        json!({ "by": by, "reason": self.reason })
    }
}
