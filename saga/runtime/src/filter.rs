//! Which sagas a list shows, and by which index they are found.
//!
//! A page is a walk through one index, newest first, past at most [`WALKED`] sagas: of those that it meets, a page shows the ones that are meant. So
//! no question costs more than that, whatever is asked and however many sagas there are; a page that ends before it is full has a cursor.

use std::collections::HashMap;

use chassis::http::{FieldError, Operation, Problem, Shape};
use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::saga::{Layout as _, Saga, StatusWord, status_named};
use crate::search::{Search, Walk};
use crate::table::Table;

/// Past how many sagas a page goes, at most.
pub(crate) const WALKED: i64 = 20_000;

/// And where it is put in words what each of them waits for, which costs several times as much.
pub(crate) const WALKED_IN_WORDS: i64 = WALKED / 4;

/// By how much the clock that made a saga's id may differ from the database's, which dates it.
pub(crate) const CLOCKS_DIFFER: TimeDelta = TimeDelta::days(1);

/// A span of time that is found by time rather than by what many sagas have.
const SHORT: TimeDelta = TimeDelta::days(1);

/// The parameters of a request, by name.
pub type Given = HashMap<String, String>;

/// Which sagas to list.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The user whose sagas alone the caller may see.
    pub(crate) only: Option<Uuid>,
    pub(crate) owner: Option<Uuid>,
    pub(crate) status: Option<StatusWord>,
    /// Only those that wait for somebody.
    pub(crate) in_flight: bool,
    pub(crate) from: Option<DateTime<Utc>>,
    /// Up to then, exclusively.
    pub(crate) to: Option<DateTime<Utc>>,
    /// A value for each of [`Table::searches`].
    pub(crate) searched: Vec<Option<String>>,
}

/// The index that finds the sagas of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Found {
    /// That of the place in [`Table::searches`].
    By(usize),
    Owner,
    InFlight,
    Status,
    Time,
    /// By nothing: all there are.
    All,
}

impl Filter {
    /// Everything.
    pub(crate) fn all<S: Saga>() -> Self {
        let searched = vec![None; S::Layout::TABLE.searches.len()];
        Self { only: None, owner: None, status: None, in_flight: false, from: None, to: None, searched }
    }

    /// What the parameters of a request ask for. `only`: the user whose sagas alone the caller may see.
    ///
    /// # Errors
    /// Names a parameter that cannot be read.
    pub fn of<S: Saga>(given: &Given, only: Option<Uuid>) -> Result<Self, Problem> {
        let text = |name: &str| given.get(name).map(String::as_str);
        let status = status::<S>(given)?;
        let searched =
            S::Layout::TABLE.searches.iter().map(|search| text(search.name).map(|text| read(search, text)).transpose());
        let filter = Self {
            only,
            owner: text("user_id").map(user).transpose()?,
            status,
            // What has no end waits for somebody.
            in_flight: status.is_some_and(|status| !status.is_final),
            from: text("created_from").map(|text| moment("created_from", text)).transpose()?,
            to: text("created_to").map(|text| moment("created_to", text)).transpose()?,
            searched: searched.collect::<Result<_, _>>()?,
        };
        match filter.from.zip(filter.to) {
            Some((from, to)) if from >= to => Err(Problem::malformed("`created_from` must be before `created_to`")),
            _ => Ok(filter),
        }
    }

    /// Whether it asks for particular sagas, in flight or not.
    pub(crate) fn searches(&self) -> bool {
        self.from.is_some() || self.to.is_some() || self.searched.iter().any(Option::is_some)
    }

    /// The index that finds them: of what is asked for, what has the fewest sagas as a rule.
    pub(crate) fn found(&self, table: &Table) -> Found {
        if self.only.is_some() {
            // A walk past somebody else's sagas would show in its cursors.
            return Found::Owner;
        }
        let by = |few: bool| {
            let walked = |(place, search): (usize, &Search)| {
                (self.searched[place].is_some() && search.walk.is_some_and(|walk: Walk| walk.few == few))
                    .then_some(Found::By(place))
            };
            table.searches.iter().enumerate().find_map(walked)
        };
        let owner = self.owner.filter(|_| table.owner.is_some()).map(|_| Found::Owner);
        let in_flight = self.in_flight.then_some(Found::InFlight);
        let short = self.from.zip(self.to).filter(|(from, to)| *to - *from <= SHORT).map(|_| Found::Time);
        let status = self.status.filter(|status| table.rare_statuses.contains(&status.name)).map(|_| Found::Status);
        let time = self.from.or(self.to).map(|_| Found::Time);
        let found = by(true).or(owner).or(in_flight).or(short).or_else(|| by(false)).or(status).or(time);
        found.unwrap_or(Found::All)
    }

    /// Refuses what no index finds.
    ///
    /// # Errors
    /// Names the parameter, and those to combine it with.
    pub(crate) fn check(&self, table: &Table) -> Result<(), Problem> {
        let endless = match self.found(table) {
            Found::All => true,
            Found::Time => self.from.is_none(),
            _ => false,
        };
        let unserved = |(place, search): (usize, &Search)| self.searched[place].is_some() && search.walk.is_none();
        match table.searches.iter().enumerate().find(|found| unserved(*found)) {
            Some((_, search)) if endless => {
                let walked = table.searches.iter().filter(|search| search.walk.is_some()).map(|search| search.name);
                let others: Vec<String> =
                    table.owner.into_iter().chain(walked).chain(["created_from"]).map(|name| format!("`{name}`")).collect();
                let name = search.name;
                let detail = format!("`{name}` alone has no index: combine it with {}", others.join(", or "));
                Err(Problem::invalid(vec![FieldError { pointer: String::new(), detail }]))
            }
            _ => Ok(()),
        }
    }
}

/// The parameters that [`Filter::of`] reads beside the status and the owner.
pub(crate) fn parameters<S: Saga>(operation: Operation) -> Operation {
    let time = || Shape::Value(json!({ "type": "string", "format": "date-time" }));
    let operation = operation.query("created_from", "Those that began then or later", time()).query(
        "created_to",
        "Those that began before then",
        time(),
    );
    let searches = S::Layout::TABLE.searches;
    let searched = |operation: Operation, search: &Search| operation.query(search.name, search.description, (search.shape)());
    let operation = searches.iter().fold(operation, searched);
    match searches.iter().any(|search| search.walk.is_none()) {
        true => operation.refuses(422, "invalid", "No index finds what is asked for: the detail says what to combine it with"),
        false => operation,
    }
}

fn user(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::malformed("`user_id` must be a UUID"))
}

fn read(search: &Search, text: &str) -> Result<String, Problem> {
    (search.read)(text).map_err(|why| Problem::malformed(format!("`{}` {why}", search.name)))
}

/// What is wrong with a text that says no time.
const NOT_A_TIME: &str = "must be a time such as 2026-01-31T12:00:00Z";

/// A moment of RFC 3339, whose years have four digits. (What reads it here would take others, which no database knows and no sum holds.)
pub(crate) fn time(text: &str) -> Result<DateTime<Utc>, &'static str> {
    text.parse().ok().filter(|time: &DateTime<Utc>| (0..=9_999).contains(&time.year())).ok_or(NOT_A_TIME)
}

/// A parameter that says a time.
pub(crate) fn moment(name: &str, text: &str) -> Result<DateTime<Utc>, Problem> {
    time(text).map_err(|why| Problem::malformed(format!("`{name}` {why}")))
}

/// A parameter that is any text the database takes.
pub(crate) fn words(name: &str, text: &str) -> Result<String, Problem> {
    if text.contains('\0') { Err(Problem::malformed(format!("`{name}` must be text without NUL"))) } else { Ok(text.to_owned()) }
}

/// The status of a saga that a parameter names.
pub(crate) fn status<S: Saga>(given: &Given) -> Result<Option<StatusWord>, Problem> {
    let named = given.get("status").map(|name| status_named::<S>(name));
    named.transpose().map_err(|why| Problem::malformed(format!("`status`: {why}")))
}
