//! What an import did: the counts, and how they are told.

use std::collections::BTreeMap;
use std::fmt;

use events::Money;
use saga_commands::problem::{FieldError, Problem};
use serde::Serialize;

use crate::price;

/// How many different reasons are told apart. A server whose details never repeat must not fill the memory.
const MOST_REASONS: usize = 50;

/// How often something happened, by reason.
pub type Reasons = BTreeMap<String, u64>;

/// What became of the lines of one kind.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// Made by this run.
    pub created: u64,
    /// Made by a run before.
    pub already_there: u64,
    /// Not made because the server does not accept such a thing, by reason.
    pub refused_at_the_edge: Reasons,
}

/// What became of the orders in the end.
#[derive(Debug, Default, Serialize)]
pub struct Outcomes {
    /// Confirmed.
    pub confirmed: u64,
    /// Rejected, by reason.
    pub rejected: Reasons,
    /// Cancelled.
    pub cancelled: u64,
    /// Not final.
    pub pending: u64,
    /// Submitted by this import, and not in the list of orders: must be zero.
    pub missing: u64,
    /// What the confirmed ones cost together.
    pub total: Option<Money>,
}

/// All there is to say about one run.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// The products.
    pub products: Tally,
    /// The users, one a household.
    pub users: Tally,
    /// The orders, one a basket.
    pub orders: Tally,
    /// Baskets not sent, because a product of theirs was not imported.
    pub baskets_without_product: u64,
    /// Lines that could not be read, in both files.
    pub malformed_lines: u64,
    /// How often a request was sent again, because the server was busy or away.
    pub retries: u64,
    /// What became of the orders; `null` if nobody looked.
    pub outcomes: Option<Outcomes>,
    /// How long the run took, without counting the outcomes.
    pub seconds: f64,
    /// How long the orders took: from the first basket to the last outcome, or with `--no-wait` to the last answer.
    pub orders_seconds: f64,
    /// Orders made by this run, for each of these seconds.
    pub orders_per_s: f64,
}

impl Tally {
    /// Counts one refusal.
    pub fn refuse(&mut self, reason: String) {
        count(&mut self.refused_at_the_edge, reason);
    }

    /// How many were refused.
    pub fn refused(&self) -> u64 {
        self.refused_at_the_edge.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} created, {} already there, {} refused", self.created, self.already_there, self.refused())
    }
}

/// Counts one more of this reason.
pub fn count(reasons: &mut Reasons, reason: String) {
    let known = reasons.contains_key(&reason) || reasons.len() < MOST_REASONS;
    *reasons.entry(if known { reason } else { "other".to_owned() }).or_default() += 1;
}

/// The kind of a refusal: the first wrong field and what is wrong with it, without what is particular to this one request.
pub fn kind(problem: &Problem) -> String {
    if problem.body.is_key_reused() {
        return "imported before with other contents".to_owned();
    }
    let Some(FieldError { pointer, detail }) = problem.body.errors.first() else {
        return problem.body.detail.as_ref().unwrap_or(&problem.body.title).clone();
    };
    let pointer: Vec<_> = pointer.split('/').map(|part| if part.parse::<u64>().is_ok() { "*" } else { part }).collect();
    let detail: Vec<_> = detail.split(' ').map(|word| if is_id(word) { "<id>" } else { word }).collect();
    format!("{}: {}", pointer.join("/"), detail.join(" "))
}

fn is_id(word: &str) -> bool {
    word.trim_matches(|c: char| !c.is_ascii_hexdigit()).parse::<uuid::Uuid>().is_ok()
}

impl Summary {
    /// Names and values for people.
    pub fn lines(&self) -> Vec<(String, String)> {
        let mut lines = vec![];
        let mut line = |name: &str, value: String| lines.push((name.to_owned(), value));
        for (name, tally) in [("products", &self.products), ("users", &self.users), ("orders", &self.orders)] {
            line(name, format!("{} created, {} already there", tally.created, tally.already_there));
            for (reason, times) in &tally.refused_at_the_edge {
                line("", format!("{times} refused at the edge: {reason}"));
            }
        }
        for (name, number) in [
            ("baskets without product", self.baskets_without_product),
            ("malformed lines", self.malformed_lines),
            ("requests sent again", self.retries),
        ] {
            if number > 0 {
                line(name, number.to_string());
            }
        }
        if let Some(outcomes) = &self.outcomes {
            line("confirmed", outcomes.confirmed.to_string());
            line("rejected", outcomes.rejected.values().sum::<u64>().to_string());
            for (reason, times) in &outcomes.rejected {
                line("", format!("{times} {reason}"));
            }
            for (name, number) in
                [("cancelled", outcomes.cancelled), ("pending", outcomes.pending), ("missing", outcomes.missing)]
            {
                if number > 0 {
                    line(name, number.to_string());
                }
            }
            if let Some(total) = outcomes.total {
                line("total value", price::show(total));
            }
        }
        line("seconds", format!("{:.1}, {:.1} for the orders", self.seconds, self.orders_seconds));
        line("orders/s", format!("{:.0}", self.orders_per_s));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(body: &str) -> Problem {
        let body = serde_json::from_str(body).unwrap();
        Problem { status: reqwest::StatusCode::UNPROCESSABLE_ENTITY, body, request_id: None, retry_after: None }
    }

    #[test]
    fn refusals_of_one_kind_count_together_wherever_they_are() {
        let first = problem(r#"{"errors":[{"pointer":"/items/0/quantity","detail":"must be 1 to 100000"}]}"#);
        let second = problem(r#"{"errors":[{"pointer":"/items/160/quantity","detail":"must be 1 to 100000"}]}"#);
        assert_eq!(kind(&first), "/items/*/quantity: must be 1 to 100000");
        assert_eq!(kind(&first), kind(&second));
        let twice =
            problem(r#"{"errors":[{"pointer":"/items/3","detail":"names `01920000-0000-7000-8000-000000000002` twice"}]}"#);
        assert_eq!(kind(&twice), "/items/*: names <id> twice");
        assert_eq!(kind(&problem(r#"{"title":"No"}"#)), "No");
        let reused =
            problem(r#"{"type":"urn:waybill:problem:idempotency-key-reused","errors":[{"pointer":"/","detail":"differs"}]}"#);
        assert_eq!(kind(&reused), "imported before with other contents");
    }

    #[test]
    fn reasons_that_never_repeat_do_not_pile_up() {
        let mut tally = Tally::default();
        (0..1_000).for_each(|number| tally.refuse(number.to_string()));
        assert_eq!(tally.refused_at_the_edge.len(), MOST_REASONS + 1);
        assert_eq!(tally.refused(), 1_000);
    }

    #[test]
    fn what_did_not_happen_is_not_told() {
        let mut summary = Summary { malformed_lines: 2, ..Summary::default() };
        summary.orders.refuse("too few".to_owned());
        let text = saga_commands::output::pairs(&summary.lines());
        assert!(text.contains("1 refused at the edge: too few") && text.contains("malformed lines"), "{text}");
        assert!(!text.contains("confirmed") && !text.contains("requests sent again"), "{text}");
    }
}
