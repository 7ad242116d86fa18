//! Sagas in flight, by what they wait for.

use crate::table::Table;

/// So many of each group are shown.
const NEWEST: usize = 5;

/// Of each plan version, each command that is waited for first, each of in time and late (before `$1`), and each of set aside (`$3`) and not: how many,
/// since when the first of them waits (`$2`: what the steady clock says), and the newest.
///
/// It reads every saga in flight: there is no index on what changes at each step.
pub(super) fn count(table: &Table, steps: &[String]) -> String {
    let name = table.name;
    let (readable, waits) = (readable("state", "steps"), waits(steps, "steps"));
    format!(
        "select case when {readable} then left(state->>'plan', 20) end as plan, \
                {waits} as waits, coalesce(waiting_since < $1, false) as late, id = any($3::uuid[]) as aside, count(*) as sagas, \
                min(waiting_since) + (now() - $2) as since, (array_agg(id order by id desc))[1:{NEWEST}] as newest \
         from (select id, state, state->'steps' as steps, waiting_since from {name} where not settled offset 0) as open group by 1, 2, 3, 4"
    )
}

/// Whether a state is one, of whatever plan.
pub(super) fn readable(state: &str, steps: &str) -> String {
    format!("json_typeof({state}->'plan') = 'number' and {state}->'phase' is not null and json_typeof({steps}) = 'object'")
}

/// The command that a state waits for first: they are numbered in the order of the steps, two for each, done and undone.
pub(super) fn waits(names: &[String], steps: &str) -> String {
    let ways = names.iter().flat_map(|step| ["asked", "undoing"].map(|way| (step.replace('\'', "\'\'"), way))).enumerate();
    let whens = ways.map(|(place, (step, way))| format!(" when {steps}->'{step}'->'{way}' is not null then {place}"));
    format!("case{} end", whens.collect::<String>())
}
