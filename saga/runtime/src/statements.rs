//! The statements about one table of sagas. Made once; their texts are constant from then on.

mod actions;
mod count;
mod lists;
mod write;

use std::collections::HashMap;

use crate::filter::Found;
use crate::table::Table;

use actions::{OPERATORS, actions, actions_end};
use count::count;
pub(crate) use lists::List;
use lists::{lists, those};
use write::write;

/// The statements about one table.
#[derive(Debug)]
pub(crate) struct Statements {
    /// Begins sagas.
    pub place: &'static str,
    /// Carries sagas on.
    pub advance: &'static str,
    /// Both.
    pub both: &'static str,
    /// Carries sagas on, and keeps the keys of cancellations among them.
    pub advance_keyed: &'static str,
    /// All three.
    pub both_keyed: &'static str,
    /// The constraints and indexes that those may race for.
    pub raced_for: &'static [&'static str],
    pub held: &'static str,
    pub records: &'static str,
    /// Those of which an entry is missing, and the first that is.
    pub holed: &'static str,
    pub loaded: &'static str,
    pub by_keys: &'static str,
    pub view: &'static str,
    pub due: &'static str,
    pub position: &'static str,
    pub sequences: &'static str,
    pub histories: &'static str,
    pub history_page: &'static str,
    pub cancelled_with: &'static str,
    pub keep_cancelled: &'static str,
    /// What deletes what has expired: keys of cancellations; what operators did outside of any saga.
    pub expire_keys: &'static str,
    pub expire_actions: [&'static str; 2],
    pub lists: HashMap<Found, List>,
    pub exported: &'static str,
    pub oldest_first: &'static str,
    pub count: &'static str,
    /// The parameters of the lists, and the ids.
    pub those: &'static str,
    pub moved_since: &'static str,
    pub moved_late: &'static str,
    pub after: &'static str,
    pub actions: &'static str,
    pub actions_end: &'static str,
    /// The index that finds what operators did: how it is made, how it is removed, and its name.
    pub actions_index: [&'static str; 3],
    /// The index that finds the entries of a span of time: how it is made, how it is removed, and its name.
    pub moved_index: [&'static str; 3],
    /// The same for the index that finds the sagas of a span of time.
    pub created_index: [&'static str; 3],
}

/// A handful of texts for each kind of saga, kept for as long as the process.
fn keep(sql: String) -> &'static str {
    sql.leak()
}

impl Statements {
    /// The statements of a table, for sagas of these steps.
    pub(crate) fn of(table: &Table, steps: &[String]) -> Self {
        let Table { name, history, history_id, cancellations, .. } = table;
        let (columns, view, request) = (table.record_columns(), table.view_columns(), table.request_columns());
        let raced_for = [
            format!("{name}_idempotency_key"),
            format!("{history}_pkey"),
            format!("{cancellations}_pkey"),
            "moved_meanwhile".to_owned(),
        ];
        let [moved_index, actions_index] = ["at", "actions"].map(|name| format!("{history}_{name}"));
        let created_index = format!("{name}_created_at");
        Self {
            place: keep(write(table, true, false, false)),
            advance: keep(write(table, false, true, false)),
            both: keep(write(table, true, true, false)),
            advance_keyed: keep(write(table, false, true, true)),
            both_keyed: keep(write(table, true, true, true)),
            raced_for: raced_for.map(keep).to_vec().leak(),
            held: keep(format!(
                "with free as (select id from {name} where id = any($1) order by id for update skip locked) \
                 select id from {name} where id = any($1) and id not in (select id from free)"
            )),
            records: keep(format!("select {columns} from {name} where id = any($1)")),
            holed: keep(format!(
                "select id, status, (select min(place) from generate_series(1, sequence) as place where not exists (\
                     select from {history} as kept where kept.{history_id} = {name}.id and kept.sequence = place)) as missing \
                 from {name} where id = any($1) and sequence > (\
                     select count(*) from {history} as kept where kept.{history_id} = {name}.id and kept.sequence between 1 and {name}.sequence)"
            )),
            loaded: keep(format!(
                "select {columns}, array(select sequence from {history} where {history_id} = {name}.id order by sequence) as sequences, \
                 array(select at from {history} where {history_id} = {name}.id order by sequence) as times, \
                 array(select entry from {history} where {history_id} = {name}.id order by sequence) as entries \
                 from {name} where id = any($1)"
            )),
            by_keys: keep(format!("select {view}, idempotency_key from {name} where idempotency_key = any($1)")),
            view: keep(format!("select {view} from {name} where id = $1 and {}", table.owned_by("$2"))),
            due: keep(format!(
                "select due_at, id from {name} \
                 where not settled and due_at <= $5 and ($2::timestamptz is null or (due_at, id) > ($2, $3)) and state->>'plan' = any($1) \
                   and ($6::timestamptz is null or waiting_since <= $6 or coalesce(began_at, created_at) <= $7) \
                 order by due_at, id limit $4"
            )),
            position: keep(format!("select sequence, status from {name} where id = $1 and {}", table.owned_by("$2"))),
            sequences: keep(format!("select id, sequence from {name} where id = any($1)")),
            histories: keep(format!(
                "select {history_id} as id, sequence, at, entry from {history} where {history_id} = any($1) order by {history_id}, sequence"
            )),
            // The length of a stored text is known without reading it.
            history_page: keep(format!(
                "select id, sequence, at, entry, found from (\
                     select id, sequence, at, entry, count(*) over () as found, \
                            sum(octet_length(entry)) over (order by sequence) - octet_length(entry) as before \
                     from (select {history_id} as id, sequence, at, entry from {history} where {history_id} = $1 and sequence > $2 \
                             and ($5::uuid is null or exists (select from {name} where id = $1 and {})) \
                           order by sequence limit $3 + 1) as next) as counted \
                 where before < $4 order by sequence limit $3",
                table.owned_by("$5")
            )),
            cancelled_with: keep(format!(
                "select idempotency_key, {history_id} from {cancellations} where idempotency_key = any($1)"
            )),
            keep_cancelled: keep(format!(
                "insert into {cancellations} (idempotency_key, {history_id}) values ($1, $2) on conflict do nothing"
            )),
            expire_keys: keep(format!(
                "delete from {cancellations} where idempotency_key in \
                 (select idempotency_key from {cancellations} where created_at < now() - make_interval(secs => $1) \
                  order by created_at limit $2 for update skip locked)"
            )),
            expire_actions: [keep(actions::expire_actions(table)), actions::EXPIRE_REBUILDS],
            lists: lists(table, steps),
            exported: keep(format!("select {request}, sequence from {name} where id = $1")),
            oldest_first: keep(format!(
                "select {request}, sequence from {name} \
                 where ($1::timestamptz is null or created_at >= $1) and ($2::text is null or status = $2) \
                   and ($3::uuid is null or id > $3) and (not $4 or not settled) \
                 order by id limit $5"
            )),
            count: keep(count(table, steps)),
            those: keep(those(table, steps)),
            moved_since: keep(format!(
                "select id, updated_at >= $2 from {name} where ($1::uuid is null or id > $1) order by id limit $3"
            )),
            // Materialized: read by time, and not by saga, of which there are more.
            moved_late: keep(format!(
                "with moved as materialized (select {history_id} as id from {history} where at >= $3) \
                 select distinct id from moved where id <= $2 and ($1::uuid is null or id > $1) order by id limit $4"
            )),
            after: keep(format!(
                "select count(*) from (select from {name} where ($1::uuid is null or id > $1) limit $2) counted"
            )),
            actions: keep(actions(table)),
            actions_end: keep(actions_end(table)),
            actions_index: [
                format!(
                    "create index concurrently {actions_index} on {history} (at desc, {history_id} desc, sequence desc) \
                     where {OPERATORS}"
                ),
                format!("drop index concurrently {actions_index}"),
                actions_index,
            ]
            .map(keep),
            moved_index: [
                format!("create index concurrently {moved_index} on {history} using brin (at) with (autosummarize = on)"),
                format!("drop index concurrently {moved_index}"),
                moved_index,
            ]
            .map(keep),
            created_index: [
                format!("create index concurrently {created_index} on {name} (created_at, id)"),
                format!("drop index concurrently {created_index}"),
                created_index,
            ]
            .map(keep),
        }
    }
}
