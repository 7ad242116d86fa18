//! How steps are asked for, and the words that people read.

use envelope::Participant;

/// How a step is asked for, and how people are told of it.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// Whoever does it.
    pub participant: Participant,
    /// The subject of the command that does it.
    pub execute: &'static str,
    /// The subject of the command that undoes it; needed where the plan has a compensation.
    pub compensate: Option<&'static str>,
    /// The kinds of its participant's replies: `<user::Reply as Message>::kinds`. No other participant's replies are among them.
    pub replies: fn() -> Vec<&'static str>,
    /// What is being done, in words: "waiting for the user service to *validate the user*".
    pub executing: &'static str,
    /// What is being done when it is undone: "waiting for the product service to *give back the stock*"; empty where nothing is.
    pub compensating: &'static str,
}

/// A word for where a saga stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusWord {
    /// The word.
    pub name: &'static str,
    /// Whether the saga has come to an end.
    pub is_final: bool,
}

impl StatusWord {
    /// Of a saga under way.
    pub const fn under_way(name: &'static str) -> Self {
        Self { name, is_final: false }
    }

    /// Of a saga that has come to an end.
    pub const fn ended(name: &'static str) -> Self {
        Self { name, is_final: true }
    }
}
