//! The one statement that writes a batch: what begins, what goes on, their histories, and what is sent.

use crate::table::{Column, Table};

/// What of the runtime's is written of a saga that begins, in the order it is bound in.
const PLACED: &[(&str, &str)] = &[
    ("id", "uuid[]"),
    ("state", "text[]"),
    ("status", "text[]"),
    ("began_at", "timestamptz[]"),
    ("due_at", "timestamptz[]"),
    ("timers", "text[]"),
    ("traceparent", "text[]"),
    ("tracestate", "text[]"),
    ("idempotency_key", "text[]"),
];

/// And of one that goes on.
const MOVED: &[(&str, &str)] = &[
    ("id", "uuid[]"),
    ("was", "int[]"),
    ("sequence", "int[]"),
    ("state", "text[]"),
    ("status", "text[]"),
    ("settled", "boolean[]"),
    ("waiting_since", "timestamptz[]"),
    ("due_at", "timestamptz[]"),
    ("timers", "text[]"),
    ("updated_at", "timestamptz[]"),
    ("history_bytes", "bigint[]"),
];

/// The parameters of a statement, numbered in the order they are bound in.
struct Parameters(u32);

impl Parameters {
    /// The next one: `$10`.
    fn next(&mut self) -> String {
        self.0 += 1;
        format!("${}", self.0)
    }

    /// The same of a type: `$10::uuid[]`.
    fn array(&mut self, of: &str) -> String {
        format!("{}::{of}", self.next())
    }

    /// The names of the columns of `new`, and the arrays it is made from.
    fn columns(&mut self, runtime: &[(&str, &str)], own: &[Column]) -> (String, Vec<String>) {
        let own = own.iter().map(|column| (column.name, column.bound.array()));
        let columns: Vec<(&str, &str)> = runtime.iter().copied().chain(own).collect();
        let arrays = columns.iter().map(|(_, array)| self.array(array)).collect();
        (columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "), arrays)
    }
}

/// The outbox row is bound as the first five parameters, then the history entries (id, sequence, entry; and the time of all), then what is placed,
/// then the keys of cancellations, then what is moved. Where a saga that goes on stands elsewhere by now, somebody was first, and nothing is
/// written: the check of the domain `undisturbed` fails the statement, which needs no other round trip.
pub(super) fn write(table: &Table, places: bool, moves: bool, keyed: bool) -> String {
    let mut parameters = Parameters(5);
    let Table { name, history, history_id, cancellations, .. } = table;
    let (ids, sequences, entries) = (parameters.array("uuid[]"), parameters.array("int[]"), parameters.array("text[]"));
    let now = parameters.next();
    let mut sql = format!(
        "with sent as ({}), appended as (insert into {history} ({history_id}, sequence, at, entry) \
         select id, sequence, {now}, entry from unnest({ids}, {sequences}, {entries}) as new (id, sequence, entry))",
        chassis::outbox!("$1", "$2", "$3", "$4", "$5")
    );
    if places {
        let (names, arrays) = parameters.columns(PLACED, table.placed);
        let (own, bound) = (list(table.placed, |column| column.name.to_owned()), list(table.placed, Column::bound_as));
        sql += &format!(
            ", placed as (insert into {name} (id, state, status, sequence, began_at, waiting_since, due_at, timers, traceparent, \
             tracestate, idempotency_key, created_at, updated_at{own}) \
             select id, state::json, status, 1, began_at, began_at, due_at, timers::json, traceparent, tracestate, idempotency_key, {now}, {now}{bound} \
             from unnest({}) as new ({names}))",
            arrays.join(", ")
        );
    }
    if keyed {
        let (keys, ids) = (parameters.array("text[]"), parameters.array("uuid[]"));
        sql += &format!(
            ", keyed as (insert into {cancellations} (idempotency_key, {history_id}) select * from unnest({keys}, {ids}))"
        );
    }
    if !moves {
        return sql + " select 1";
    }
    let (names, arrays) = parameters.columns(MOVED, table.moved);
    let own = list(table.moved, |column| format!("{} = {}", column.name, column.bound_as()));
    sql + &format!(
        ", moved as (update {name} set state = new.state::json, sequence = new.sequence, status = new.status, settled = new.settled, \
         waiting_since = new.waiting_since, due_at = new.due_at, timers = new.timers::json, updated_at = new.updated_at, \
         history_bytes = new.history_bytes{own} \
         from unnest({}) as new ({names}) where {name}.id = new.id and {name}.sequence = new.was returning 1) \
         select (count(*) = cardinality({}))::undisturbed from moved",
        arrays.join(", "),
        arrays[0]
    )
}

/// What is said of each column, each after a comma.
fn list(columns: &[Column], of: impl Fn(&Column) -> String) -> String {
    columns.iter().map(|column| format!(", {}", of(column))).collect()
}
