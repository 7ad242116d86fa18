//! What the commands of one saga are: which saga, how it is called, and where its service is.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use clap_complete::CompletionCandidate;
use envelope::Topology;
use saga::{Exportable as _, Milestone, State};
use saga_runtime::steps::step_names;
use saga_runtime::{PlainEvent, Saga};
use serde_json::Value;

/// The commands of one saga. What its steps are called, who does them and which words its sagas end with says the saga itself
/// ([`Saga::channel`], [`Saga::status`]); here is what only a command line needs.
///
/// ```no_run
/// use order::saga::Order;
/// use saga_commands::{CommandLine, Service};
///
/// #[derive(Clone, Debug)]
/// struct Orders;
///
/// impl CommandLine for Orders {
///     type Saga = Order;
///     const COMMAND: &'static str = "shop saga";
///     const ID: &'static str = "ORDER";
///     const SERVICE: Service = Service {
///         name: "order service",
///         id: "order_url",
///         flag: "order-url",
///         variable: "SHOP_ORDER_URL",
///         usual: "http://127.0.0.1:8083",
///         path: "/orders",
///     };
/// }
///
/// fn main() -> std::process::ExitCode {
///     saga_commands::main::<Orders>("shop")
/// }
/// ```
pub trait CommandLine: Clone + Debug + Send + Sync + 'static {
    /// The saga.
    type Saga: Saga;

    /// What is typed before these commands: `waybill saga`.
    const COMMAND: &'static str;
    /// What stands for an id in the help: `ORDER`.
    const ID: &'static str;
    /// The service that runs the sagas.
    const SERVICE: Service;
    /// Flags of `list` that no other saga has.
    const FILTERS: &'static [Filter] = &[];
    /// What an operator should know who gives up a compensation.
    const SKIP_HELP: &'static str = "What the step holds is put right by hand.";

    /// What a cancellation does, for whoever is about to press the button.
    const CANCEL_HELP: &'static str = "in the name of whoever began it";

    /// The services of its system that answer on the broker: one of which nobody does is shown as missing.
    const SERVICES: &'static [&'static str] = &[];

    /// Where the service lists what was begun, the newest first, each with its `id`: for completion. Else those in flight are offered.
    const NEWEST: Option<&'static str> = None;

    /// The streams and consumers that it lives by, and others of its system that its operators care for.
    fn topology() -> Topology {
        saga_runtime::steps::topology::<Self::Saga>()
    }

    /// What began a saga, in words.
    fn began() -> String {
        format!("the {} began", Self::Saga::NAME)
    }

    /// What a cancellation is, in words.
    fn cancels() -> String {
        format!("the {} is cancelled", Self::Saga::NAME)
    }

    /// What stands above a saga's timeline, a line each.
    fn head(saga: &Self::Saga) -> Vec<String> {
        vec![format!("{} {}", Self::Saga::NAME, saga.id())]
    }

    /// What stands below it beside how it ended: what it cost, why it was refused.
    fn outcome(_saga: &Self::Saga, _state: &State<Self::Saga>) -> Vec<String> {
        Vec::new()
    }

    /// Why a participant refused, in a word or two.
    fn refusal(refusal: &<Self::Saga as saga::Plan>::Refusal) -> String {
        serde_json::to_string(refusal).unwrap_or_default()
    }

    /// The command that gives back what a step holds whose compensation was given up.
    fn remedy(_saga: &Self::Saga, _step: <Self::Saga as saga::Plan>::Step) -> Option<String> {
        None
    }

    /// The word of an event's subject: what everyone is told at this milestone.
    fn event(milestone: Milestone, state: &State<Self::Saga>) -> &'static str {
        match milestone {
            Milestone::Started => "started",
            Milestone::Compensating => "compensating",
            Milestone::Completed | Milestone::Compensated => Self::Saga::status(state),
        }
    }

    /// What an event says of its saga, to whoever has nothing else; `None`: such events are not enough to replay from.
    fn told(_event: &<Self::Saga as Saga>::Event) -> Option<Told<'_, Self::Saga>> {
        None
    }

    /// What an event says, in a few words: for `tail`.
    fn gist(_data: &Value) -> String {
        String::new()
    }
}

/// A service that is asked over HTTP.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name, in words.
    pub name: &'static str,
    /// The flag's name, as an identifier: `order_url`.
    pub id: &'static str,
    /// The flag of its address: `order-url`.
    pub flag: &'static str,
    /// The variable of its address.
    pub variable: &'static str,
    /// Where it is if nobody says.
    pub usual: &'static str,
    /// The path under which it serves each saga's `history` and `events`: `/orders`.
    pub path: &'static str,
}

/// A flag that narrows a list.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// The flag: `user`.
    pub flag: &'static str,
    /// What stands for its value.
    pub value_name: &'static str,
    /// What it does.
    pub help: &'static str,
    /// The parameter that the service is asked with.
    pub query: &'static str,
    /// Whether it may be given several times: the service is asked with all values, commas between them.
    pub many: bool,
    /// What is wrong with a value.
    pub check: fn(&str) -> Result<(), String>,
    /// What a shell offers.
    pub candidates: fn() -> Vec<CompletionCandidate>,
}

/// What an event says of its saga.
#[derive(Clone, Debug)]
pub struct Told<'a, S> {
    /// What was asked for.
    pub saga: S,
    /// Its history.
    pub history: History<'a>,
    /// Why it ended, or goes back.
    pub reason: Option<String>,
}

impl<S: Clone> Told<'_, S> {
    /// What a plain event says.
    pub fn plain(event: &PlainEvent<S>) -> Self {
        let whole = |entries| History::Whole(Value::from(entries).to_string().into());
        Self { saga: event.request.clone(), history: event.history.clone().map_or(History::Open, whole), reason: None }
    }
}

/// A history, as an event has it.
#[derive(Clone, Debug)]
pub enum History<'a> {
    /// Not at all: the saga is still open.
    Open,
    /// Whole: a JSON array of entries.
    Whole(Cow<'a, str>),
    /// Somewhere else, because it was too large for the broker.
    Claimed(Claim),
}

/// Says in what a JSON array of entries differs from the one that is meant.
pub type Verify = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// A history that was too large for its event.
#[derive(Clone)]
pub struct Claim {
    /// Its bytes.
    pub length: u64,
    /// How many entries it has.
    pub entries: u32,
    /// What tells that entries are not the ones that are meant.
    pub verify: Verify,
}

impl Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} entries of {} bytes", self.entries, self.length)
    }
}

/// A help text for one saga: its commands, its ids, its words.
pub(crate) fn help<C: CommandLine>(text: &str) -> String {
    let step = step_names::<C::Saga>().pop().unwrap_or_default();
    let url = format!("--{} http://{}.internal:8083", C::SERVICE.flag, C::Saga::NAME);
    text.replace("{saga}", C::COMMAND)
        .replace("{id}", C::ID)
        .replace("{name}", C::Saga::NAME)
        .replace("{service}", C::SERVICE.name)
        .replace("{step}", &step)
        .replace("{url}", &url)
        .replace("{status}", C::Saga::STATUSES.last().map_or("", |status| status.name))
        .replace("{skip}", C::SKIP_HELP)
}
