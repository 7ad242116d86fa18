//! Sagas in flight, by what they wait for.

use crate::table::Table;

/// So many of each group are shown.
const NEWEST: usize = 5;

/// Of each plan version, each command that is waited for first, and each of in time and late (before `$1`): how many, since when the first of them waits
/// (`$2`: what the steady clock says), and the newest. Commands are numbered in the order of the steps, two for each: done, and undone.
///
/// It reads every saga in flight: there is no index on what changes at each step.
pub(super) fn count(table: &Table, steps: &[String]) -> String {
    let name = table.name;
    let ways = steps.iter().flat_map(|step| ["asked", "undoing"].map(|way| (step.replace('\'', "\'\'"), way))).enumerate();
    let waits: Vec<String> =
        ways.map(|(place, (step, way))| format!("when steps->'{step}'->'{way}' is not null then {place}")).collect();
    format!(
        "select case when json_typeof(state->'plan') = 'number' and state->'phase' is not null and json_typeof(steps) = 'object' \
                     then left(state->>'plan', 20) end as plan, \
                case {} end as waits, coalesce(waiting_since < $1, false) as late, count(*) as sagas, \
                min(waiting_since) + (now() - $2) as since, (array_agg(id order by id desc))[1:{}] as newest \
         from (select id, state, state->'steps' as steps, waiting_since from {name} where not settled offset 0) as open group by 1, 2, 3",
        waits.join(" "),
        NEWEST
    )
}
