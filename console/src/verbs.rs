//! What operators can do with a saga.

/// What an action does, for whoever is about to take it.
pub fn meaning(verb: &str) -> Option<&'static str> {
    Some(match verb {
        "retry" => {
            "Sends every unanswered command again now. Participants answer a repeated command as they answered the first, so it does nothing twice."
        }
        "cancel" => "Calls it off in the name of whoever began it: what was done is undone.",
        "compensate" => "Undoes what was done so far, and what may have been.",
        "skip" => {
            "Gives up a compensation that can never succeed. The saga ends although its step may still hold something, which is then put right by hand."
        }
        _ => return None,
    })
}
