//! Lists of sagas: one text for each index that finds them, of what their customers see and of what operators do.
//!
//! The parameters are the same in all: `$1` and `$2`, between which the ids are (below the first, not below the second); `$3`, past how many sagas a
//! walk goes; `$4`, how many are listed; `$5`, the owner, `$6`, the only owner there may be; `$7`, the status; `$8`, whether they are in flight; `$9`
//! and `$10`, from when and until when; `$11`, before when a walk by time begins; then the values of [`Table::searches`]. The statements are planned
//! with their values: what is not asked for folds away.

use std::collections::HashMap;

use super::count::{readable, waits};
use crate::cause::{NOBODY, UNDECIDED, UNREADABLE, unknown_plan};
use crate::filter::Found;
use crate::search::{By, Search};
use crate::table::Table;

/// Past how many sagas a walk goes. The planner is not told how many: it would rather gather and sort what it believes to be fewer.
const MOST: &str = "(select $3::bigint)";

/// How many parameters come before those of [`Table::searches`].
pub(crate) const BEFORE_SEARCHES: usize = 11;

/// The statements of one index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    /// What customers see.
    pub views: &'static str,
    /// What operators see. After the common parameters: before when a wait is too long, the plans this build knows, what the steady clock says, the
    /// step that is waited for, whether only those are meant that are stuck, those that are set aside, what each command is called, and a part of the
    /// cause.
    pub sagas: &'static str,
    /// Where the walk ended, if it went as far as it may.
    pub end: &'static str,
}

/// A walk through an index.
struct Walked {
    /// The sagas it meets, as rows of their table.
    rows: String,
    /// The order it meets them in. Said again of its rows, which costs nothing: they are in that order.
    order: String,
}

/// Those of every index.
pub(crate) fn lists(table: &Table, steps: &[String]) -> HashMap<Found, List> {
    let searched = table.searches.iter().enumerate();
    let by = searched.filter_map(|(place, search)| Some((Found::By(place), searched_walk(table, search, place)?)));
    let owner = table.owner.map(|owner| (Found::Owner, walk(table, owner, "true", "coalesce($6::uuid, $5::uuid)")));
    let rare: Vec<String> = table.rare_statuses.iter().map(|status| format!("'{status}'")).collect();
    let rare = (!rare.is_empty()).then(|| format!("status in ({})", rare.join(", ")));
    let status = rare.map(|rare| (Found::Status, walk(table, "status", &rare, "$7::text")));
    let name = table.name;
    let by_id = |holds: &str| Walked {
        rows: format!("select * from {name} where {holds} and id < $1 and id >= $2 order by id desc limit {MOST}"),
        order: "id desc".to_owned(),
    };
    // A cursor is an id. Where its saga is not there, its own time is as good.
    let by_time = Walked {
        rows: format!(
            "select * from {name} where (created_at, id) < (coalesce((select created_at from {name} where id = $1), $11, 'infinity'), $1) \
               and ($9::timestamptz is null or created_at >= $9) \
             order by created_at desc, id desc limit {MOST}"
        ),
        order: "created_at desc, id desc".to_owned(),
    };
    let others = [(Found::InFlight, by_id("not settled")), (Found::Time, by_time), (Found::All, by_id("true"))];
    let text = |(found, walk): (Found, Walked)| {
        // No more than most indexes hold, so that the rows themselves are not read.
        let place = if found == Found::Time { "id, created_at" } else { "id" };
        let end = format!("select {place} from ({}) as walked order by {} offset $3 - 1 limit 1", walk.rows, walk.order);
        (found, List { views: keep(views(table, &walk)), sagas: keep(sagas(table, steps, &walk)), end: keep(end) })
    };
    by.chain(owner).chain(status).chain(others).map(text).collect()
}

fn keep(sql: String) -> &'static str {
    sql.leak()
}

/// Through an index of a value and the id. The two are compared as one, and ordered by both: the order of an index that holds other values too, and
/// of ids alone, is not this one, so no plan goes past what has another value.
fn walk(table: &Table, value: &str, holds: &str, wanted: &str) -> Walked {
    let name = table.name;
    // What is no column is shown under a name, so that the order can be said of it.
    let (shown, named) = match value.starts_with('(') {
        true => (format!("*, {value} as walked_value"), "walked_value"),
        false => ("*".to_owned(), value),
    };
    let rows = format!(
        "select {shown} from {name} \
         where {holds} and ({value}, id) < ({wanted}, $1) and ({value}, id) >= ({wanted}, $2) \
         order by {value} desc, id desc limit {MOST}"
    );
    Walked { rows, order: format!("{named} desc, id desc") }
}

fn searched_walk(table: &Table, search: &Search, place: usize) -> Option<Walked> {
    Some(match search.walk?.by {
        By::Column { value, holds, .. } => walk(table, value, holds, &bound(place)),
        By::Beside { table: beside, value, id, wanted } => {
            let (name, wanted) = (table.name, wanted.replace("{}", &bound(place)));
            // Each saga is read when it is its turn.
            let rows = format!(
                "select {name}.*, walked_value, walked_id from (\
                     select {value} as walked_value, {id} as walked_id from {beside} \
                     where ({value}, {id}) < ({wanted}, $1) and ({value}, {id}) >= ({wanted}, $2) \
                     order by {value} desc, {id} desc limit {MOST}) as beside \
                 cross join lateral (select * from {name} where id = walked_id offset 0) as {name}"
            );
            Walked { rows, order: "walked_value desc, walked_id desc".to_owned() }
        }
    })
}

/// The parameter of a search.
fn bound(place: usize) -> String {
    format!("${}::text", BEFORE_SEARCHES + 1 + place)
}

/// Whether a saga is meant.
fn meant(table: &Table) -> String {
    let owner = table.owned_by("$5");
    let only = table.owned_by("$6");
    let searched = table.searches.iter().enumerate().map(|(place, search)| {
        let value = bound(place);
        format!(" and ({value} is null or {})", search.condition.replace("{}", &value))
    });
    format!(
        "{owner} and {only} and ($7::text is null or status = $7) and (not $8 or not settled) \
         and ($9::timestamptz is null or created_at >= $9) and ($10::timestamptz is null or created_at < $10){}",
        searched.collect::<String>()
    )
}

fn views(table: &Table, Walked { rows, order }: &Walked) -> String {
    let (name, view, meant) = (table.name, table.view_columns(), meant(table));
    format!("select {view} from ({rows}) as {name} where {meant} order by {order} limit $4")
}

/// Those of these ids: a parameter behind the others.
pub(super) fn those(table: &Table, steps: &[String]) -> String {
    let ids = BEFORE_SEARCHES + table.searches.len() + 9;
    let rows = format!("select * from {} where id = any(${ids}::uuid[])", table.name);
    sagas(table, steps, &Walked { rows, order: "id desc".to_owned() })
}

/// Readings of the steady clock are shown as times of day: what has passed since is the same by both.
///
/// The last reply is cut out of the entry's text. As JSON (`entry::json->...`) it takes a quarter more, and one entry that is no JSON, which somebody
/// damaged, would hide all sagas. Read by the service instead it takes the database half as much, and brings up to 64 whole entries of each saga
/// here: 4 MB for a page of 200 sagas of small orders, a hundred for large ones.
fn sagas(table: &Table, steps: &[String], Walked { rows, order }: &Walked) -> String {
    let Table { name, history, history_id, .. } = table;
    let (view, meant) = (table.view_columns(), meant(table));
    let next = |more: usize| format!("${}", BEFORE_SEARCHES + table.searches.len() + more);
    let (waits, plans, steady, step, stuck) = (next(1), next(2), next(3), next(4), next(5));
    let (aside, words, cause) = (format!("{}::uuid[]", next(6)), format!("{}::text[]", next(7)), format!("{}::text", next(8)));
    let causes = causes(steps, &aside, &words);
    format!(
        "select {view}, state, settled, waiting_since + (now() - {steady}) as waiting_since, due_at + (now() - {steady}) as due_at, \
                coalesce(waiting_since < {waits}, false) or (not settled and (not known or id = any({aside}))) as stuck, \
                (select fingerprint from plans where version::text = state->>'plan') as fingerprint, \
                case when not settled then (\
                    select said from (\
                        select sequence, substring(entry from '^\\{{\"message\":\\{{\"answer\":\\{{\"type\":\"([^\"]+)') as said \
                        from {history} where {history_id} = id order by sequence desc limit 64) as lately \
                    where said is not null order by sequence desc limit 1) end as last_answer \
         from ({rows}) as {name} cross join lateral (select coalesce(state->>'plan' = any({plans}) and state->'phase' is not null \
                  and json_typeof(state->'steps') = 'object', false) as known) as plan \
         where {meant} \
           and ({step}::text is null or coalesce(state->'steps'->{step}->>'asked', state->'steps'->{step}->>'undoing') is not null) \
           and (not {stuck} or waiting_since < {waits} or not known or id = any({aside})) \
           and ({cause} is null or strpos(lower({causes}), lower({cause})) > 0) \
         order by {order} limit $4"
    )
}

/// What a saga in flight waits for, in the words of the counts by cause.
fn causes(steps: &[String], aside: &str, words: &str) -> String {
    let (readable, waits) = (readable("state", "state->'steps'"), waits(steps, "state->'steps'"));
    let unknown = unknown_plan("' || left(state->>'plan', 20) || '");
    format!(
        "case when not coalesce({readable}, false) then '{UNREADABLE}' when id = any({aside}) then '{UNDECIDED}' \
              when known then coalesce(({words})[1 + {waits}], '{NOBODY}') else '{unknown}' end"
    )
}
