//! What operators did, newest first, wherever it is kept: in the histories of sagas, among what they do outside of any, and among the rebuilds that
//! somebody asked for.

use crate::table::Table;

/// Whether an entry is an operator's: how its text begins.
pub(super) const OPERATORS: &str = "left(entry, 22) = '{\"message\":{\"operator\"'";

/// The action, and who took it, in the text of such an entry.
const ACTION: &str = r#"^\{"message":\{"operator":\{"action":\{?"([^"]*)""#;
const BY: &str = r#"^\{"message":\{"operator":\{"action":(?:"[^"]*"|\{[^}]*\}),"by":"((?:[^"\\]|\\.)*)""#;

/// A page of `$3` rows: what was done at the moment `$1` or before, without the first `$2` of that moment. `$4`: also what was done outside of any saga.
/// Of these, what `$5` did (`$6`: the name as JSON has it), by the word `$7`, at the moment `$8` or later, before the moment `$9`; each of these may be null.
/// What one batch did bears one time, so a page begins within a moment. Each place is read by an index of its own, and no further than the page goes.
pub(super) fn actions(table: &Table) -> String {
    let Table { history, history_id, .. } = table;
    let wanted = |at: &str, action: &str, by: &str, name: &str| {
        format!(
            "($1::timestamptz is null or {at} <= $1) and ($8::timestamptz is null or {at} >= $8) and ($9::timestamptz is null or {at} < $9) \
               and ($7::text is null or {action} = $7) and (${name}::text is null or lower({by}) = lower(${name}))"
        )
    };
    let (action, by) = (format!("substring(entry from '{ACTION}')"), format!("substring(entry from '{BY}')"));
    let (of_saga, other) = (wanted("at", &action, &by, "6"), wanted("at", "action", "by", "5"));
    let rebuilt = wanted("begun_at", "'rebuild'", "asked_by", "5");
    let limit = "limit $2::bigint + $3::bigint";
    format!(
        "select id, sequence, at, entry, by, action, about, saga, reason, outcome from (\
             (select {history_id} as id, sequence, at, entry, null::text as by, null::text as action, null::text as about, \
                     null::uuid as saga, null::text as reason, null::text as outcome \
              from {history} where {OPERATORS} and {of_saga} order by at desc, {history_id} desc, sequence desc {limit}) \
             union all \
             (select id, 0, at, null, by, action, about, saga, reason, outcome \
              from operator_actions where $4 and {other} order by at desc, id desc {limit}) \
             union all \
             (select id, 0, begun_at, null, asked_by, 'rebuild', \
                     case when since <= 'epoch' then 'all events' \
                          else 'events since ' || to_char(since at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') end, \
                     null, reason, case when ended_at is not null then checked || ' looked for, ' || missing || ' published again' end \
              from event_rebuilds where asked_by is not null and not dry_run and $4 and {rebuilt} order by begun_at desc, id desc {limit})\
         ) as taken order by at desc, id desc, sequence desc offset $2 limit $3"
    )
}

/// The moment at which a page of these ends that looks at the text of each: past `$2` of those taken at the moment `$1` (or null) or before. `$3`: also
/// outside of any saga. None: it goes to the first of all.
pub(super) fn actions_end(table: &Table) -> String {
    let history = table.history;
    let past = "at <= coalesce($1::timestamptz, 'infinity') order by at desc offset $2 limit 1";
    format!(
        "select max(at) from ((select at from {history} where {OPERATORS} and {past}) \
                              union all (select at from operator_actions where $3 and {past})) as ends"
    )
}

/// Deletes what was done outside of any saga more than `$1` seconds ago, the oldest first and `$2` at most. What is about a saga lives as long as it.
pub(super) fn expire_actions(table: &Table) -> String {
    let name = table.name;
    format!(
        "delete from operator_actions where id in (\
             select id from operator_actions as done where at < now() - make_interval(secs => $1) \
             and not exists (select from {name} where {name}.id = done.saga) order by at limit $2 for update skip locked)"
    )
}

/// The same of the rebuilds, which are listed with it. One that is under way stays.
pub(super) const EXPIRE_REBUILDS: &str = "delete from event_rebuilds where id in (\
         select id from event_rebuilds where ended_at < now() - make_interval(secs => $1) order by ended_at limit $2 for update skip locked)";
