//! How a command line is read, and what is said where it cannot be.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};

use crate::output::{is_plain, plain, tell};

/// The same command, with `-1` as a value wherever a value is expected: its flag says what is wrong with it.
pub fn with_values(command: clap::Command) -> clap::Command {
    let takes = |argument: clap::Arg| match argument.get_action().takes_values() {
        true => argument.allow_negative_numbers(true),
        false => argument,
    };
    command.mut_args(takes).mut_subcommands(with_values)
}

/// Says what is wrong with the command line, and where what can be named comes from; or shows the help that was asked for. `sources`: the name
/// that a value has in the usage, and where such values are shown.
pub fn wrong(mut error: clap::Error, sources: &[(&str, &'static str)]) -> ! {
    let arguments = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(one)) => one.clone(),
        Some(ContextValue::Strings(several)) => several.join(" "),
        _ => String::new(),
    };
    let arguments = arguments.replace('[', "<");
    let tips: Vec<StyledStr> =
        sources.iter().filter(|(name, _)| arguments.contains(name)).map(|(_, tip)| StyledStr::from(*tip)).collect();
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
