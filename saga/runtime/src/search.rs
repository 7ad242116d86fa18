//! What sagas are found by beside what every saga has: columns of their own, and the indexes that serve them.

use chassis::http::Shape;
use chassis::indexes::Index;

/// A parameter of lists: a value that a saga of this kind may have.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The parameter: `reference`.
    pub name: &'static str,
    /// What it finds: "Those with this reference".
    pub description: &'static str,
    /// What a value is.
    pub shape: fn() -> Shape,
    /// Reads a value, as the text that is bound.
    pub read: fn(&str) -> Result<String, String>,
    /// Whether a saga has the value, in SQL about the saga's row. `{}` is the value, a text.
    pub condition: &'static str,
    /// How those that have it are walked through. `None`: no index finds them, and something else must.
    pub walk: Option<Walk>,
}

/// How the sagas that have a value are walked through, newest first, without a look at any other.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Whether a value has few sagas as a rule. It then goes before everything else that sagas are found by.
    pub few: bool,
    /// Where the index is.
    pub by: By,
}

/// An index in the order of a value and the id.
#[derive(Clone, Copy, Debug)]
pub enum By {
    /// Of the sagas' own table.
    Column {
        /// The first column of the index, in SQL: a column of the table, or an expression in parentheses.
        value: &'static str,
        /// Which sagas are in the index, in SQL.
        holds: &'static str,
        /// The index.
        index: Index,
    },
    /// The key of a table beside it.
    Beside {
        /// The table.
        table: &'static str,
        /// The first column of its key.
        value: &'static str,
        /// The second: the saga's id.
        id: &'static str,
        /// What is looked for there, in SQL. `{}` is the value that is bound.
        wanted: &'static str,
    },
}
