//! What is said when the command line cannot be read.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};

use crate::output::{is_plain, plain, tell};

/// Where ids and numbers come from, by the name that a value has in the usage.
const SOURCES: [(&str, &str); 5] = [
    ("<ORDER", "`waybill order list` shows orders with their ids"),
    ("<USER", "`waybill user list` shows users with their ids"),
    ("<PRODUCT", "`waybill product list` shows products with their ids"),
    ("<RESERVATION", "`waybill audit` names what is held for an order that nobody placed"),
    ("<SEQUENCE", "`waybill dead-letter list` shows dead letters with their sequences"),
];

/// Says what is wrong with the command line, and what can be named instead; or shows the help that was asked for.
pub fn wrong(mut error: clap::Error) -> ! {
    let arguments = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(one)) => one.clone(),
        Some(ContextValue::Strings(several)) => several.join(" "),
        _ => String::new(),
    };
    let arguments = arguments.replace('[', "<");
    let tips: Vec<StyledStr> =
        SOURCES.iter().filter(|(name, _)| arguments.contains(name)).map(|(_, tip)| StyledStr::from(*tip)).collect();
    if !tips.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    // With its colours and lines, unless it quotes something that could steer the terminal or forge a line: a word from elsewhere.
    let harmless = error.context().all(|(_, value)| match value {
        ContextValue::String(one) => is_plain(one),
        ContextValue::Strings(several) => several.iter().all(|one| is_plain(one)),
        _ => true,
    });
    if !harmless {
        tell(plain(error.render().to_string()).trim_end());
        std::process::exit(error.exit_code());
    }
    error.exit()
}
