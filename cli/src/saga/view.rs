//! A saga as the order service shows it to operators, and as they read it.

use chrono::{DateTime, Utc};
use events::order::Status;
use events::{OrderId, UserId};
use order::saga::{Order, Step};
use saga::{Phase, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::words;
use crate::age;
use crate::output::{Tabular, time};

/// A saga and what it waits for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    /// The order's id.
    pub order_id: OrderId,
    /// Who ordered.
    pub user_id: UserId,
    /// Where the order stands.
    pub status: Status,
    /// The plan version it began with; nothing where its state cannot be read.
    pub plan: Option<u32>,
    /// Whether the order service can read its state and knows its plan.
    #[serde(default = "readable")]
    pub readable: bool,
    /// What that version meant to the build that used it first: 16 hexadecimal digits.
    pub fingerprint: Option<String>,
    /// Its state as it is persisted; kept raw, because another build may have written it.
    pub state: Value,
    /// The unanswered commands.
    pub waiting: Vec<Waiting>,
    /// Since when.
    pub waiting_since: Option<DateTime<Utc>>,
    /// When it is looked at next.
    pub due_at: Option<DateTime<Utc>>,
    /// Whether it has waited too long.
    pub stuck: bool,
    /// What it waits for, in words.
    pub cause: Option<String>,
    /// When the order was placed.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// An order service that does not say so yet.
fn readable() -> bool {
    true
}

/// An unanswered command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// The step's name.
    pub step: String,
    /// `act` or `undo`.
    pub direction: String,
    /// How often it was sent.
    pub attempts: u32,
}

impl View {
    /// The phase's name.
    pub fn phase(&self) -> String {
        match serde_json::from_value::<State<Order>>(self.state.clone()) {
            Ok(state) => words::phase(state.phase()).to_owned(),
            // Written by another build: the name alone.
            Err(_) => match &self.state["phase"] {
                Value::String(name) => name.clone(),
                Value::Object(named) => named.keys().next().cloned().unwrap_or_default(),
                _ => "unreadable".to_owned(),
            },
        }
    }

    /// Whether an operator gave up this step's compensation.
    pub fn gave_up(&self, step: Step) -> bool {
        self.state["steps"][words::name(step)].get("given_up").is_some()
    }

    fn waiting_for(&self) -> String {
        self.waiting.iter().map(Waiting::words).collect::<Vec<_>>().join(", ")
    }

    fn attempts(&self) -> String {
        self.waiting.iter().map(|waiting| waiting.attempts.to_string()).collect::<Vec<_>>().join(", ")
    }
}

impl Waiting {
    fn words(&self) -> String {
        if self.direction == "undo" { format!("undo {}", self.step) } else { self.step.clone() }
    }
}

impl Tabular for View {
    const HEADER: &'static [&'static str] = &["ORDER", "STATUS", "PHASE", "WAITING FOR", "SINCE", "ATTEMPTS", "CAUSE"];

    fn row(&self) -> Vec<String> {
        let cause = self.cause.clone().unwrap_or_default();
        vec![
            self.order_id.to_string(),
            self.status.as_str().to_owned(),
            self.phase(),
            self.waiting_for(),
            self.waiting_since.map(time).unwrap_or_default(),
            self.attempts(),
            if self.stuck { format!("STUCK: {cause}") } else { cause },
        ]
    }

    fn details(&self) -> Vec<(String, String)> {
        let mut pairs = vec![
            ("order", self.order_id.to_string()),
            ("user", self.user_id.to_string()),
            ("status", self.status.as_str().to_owned()),
            ("phase", self.phase()),
            ("plan", self.plan.map_or_else(|| "unreadable".to_owned(), |plan| format!("version {plan}"))),
        ];
        let steps = self.state["steps"].as_object().into_iter().flatten();
        pairs.extend(steps.map(|(name, progress)| ("step", format!("{name}: {}", words::progress(progress)))));
        if let Some(since) = self.waiting_since {
            pairs.push(("waiting", format!("since {}, {}", time(since), age::show(Utc::now() - since))));
        }
        pairs.extend(self.cause.clone().map(|cause| ("cause", cause)));
        pairs.push(("stuck", if self.stuck { "yes" } else { "no" }.to_owned()));
        pairs.extend(self.due_at.map(|due| ("due", time(due))));
        pairs.push(("placed", time(self.created_at)));
        pairs.push(("updated", time(self.updated_at)));
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Whether a saga stands where nothing but an answer moves it.
pub fn is_final(phase: &Phase<Order>) -> bool {
    matches!(phase, Phase::Completed | Phase::Compensated(_))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(state: Value) -> View {
        serde_json::from_value(json!({
            "order_id": "01920000-0000-7000-8000-000000000003", "user_id": "01920000-0000-7000-8000-000000000001",
            "status": "pending", "plan": 1, "fingerprint": null, "state": state,
            "waiting": [{"step": "reserve_stock", "direction": "undo", "attempts": 7}],
            "waiting_since": "2026-01-02T03:04:05.678Z", "due_at": null, "stuck": true,
            "cause": "waiting for the product service", "created_at": "2026-01-02T03:04:05.678Z",
            "updated_at": "2026-01-02T03:04:06Z",
        }))
        .unwrap()
    }

    #[test]
    fn a_stuck_saga_says_what_it_waits_for() {
        let state = json!({"plan": 1, "phase": {"compensating": "cancelled"}, "steps": {"reserve_stock": {"undoing": 7}}});
        let row = view(state.clone()).row();
        let expected = ["pending", "going back", "undo reserve_stock", "2026-01-02T03:04:05Z", "7"];
        assert_eq!(row[1..6], expected);
        assert_eq!(row[6], "STUCK: waiting for the product service");
        let details = view(state.clone()).details();
        assert!(!view(state).gave_up(Step::ReserveStock));
        assert!(details.contains(&("step".to_owned(), "reserve_stock: undoing (7)".to_owned())), "{details:?}");
    }

    #[test]
    fn a_state_that_cannot_be_read_says_so() {
        let mut view = view(json!({}));
        view.plan = None;
        assert_eq!(view.row()[2], "unreadable");
        assert!(view.details().contains(&("plan".to_owned(), "unreadable".to_owned())));
    }

    #[test]
    fn a_compensation_that_was_given_up_is_known() {
        let state = json!({"plan": 1, "phase": {"compensated": "cancelled"}, "steps": {"reserve_stock": {"given_up": 7}}});
        assert!(serde_json::from_value::<State<Order>>(state.clone()).is_ok(), "the words are those of the engine");
        assert!(view(state).gave_up(Step::ReserveStock));
    }

    #[test]
    fn a_saga_of_another_build_is_still_listed() {
        let row = view(json!({"plan": 9, "phase": {"resting": {}}, "steps": {"pay": {"asked": 1}}})).row();
        assert_eq!(row[2], "resting");
    }
}
