//! What the plan versions mean: recorded by the build that used each first, compared by every build after it. And which of them this build
//! does not know: after a rollback sagas may be in flight that only the build rolled back can continue.

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::database::Database;
use chassis::health::Health;
use tokio_util::sync::CancellationToken;

use crate::saga::Saga;
use crate::steps::known_plans;
use crate::store::{Waiting, record_plan};

/// What `/readyz` calls it.
pub(crate) const CHECK: &str = "plan";

/// Records this build's plan versions. A build that means something else by a version some build before it used is not ready: it would
/// carry on sagas it misreads.
pub(crate) async fn record<S: Saga>(database: Database, health: Health, shutdown: CancellationToken) {
    const TRY_EVERY: Duration = Duration::from_millis(200);
    while !shutdown.is_cancelled() {
        if let Ok(state) = compare::<S>(&database).await {
            return health.set(CHECK, state);
        }
        tokio::select! {
            () = tokio::time::sleep(TRY_EVERY) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn compare<S: Saga>(database: &Database) -> sqlx::Result<Result<(), String>> {
    for (version, stages) in S::VERSIONS {
        let mine = &format!("{:016x}", stages.fingerprint());
        let recorded = database.read(|mut db| async move { record_plan(&mut db, *version, mine).await }).await?;
        if recorded != *mine {
            let why = format!(
                "version {version} of the {} plan is {mine} in this build and {recorded} in the sagas begun with it",
                S::NAME
            );
            return Ok(Err(why));
        }
    }
    Ok(Ok(()))
}

/// Sagas in flight, counted.
#[derive(Default)]
pub(crate) struct Tally {
    pub in_flight: i64,
    /// Those that have waited for too long, and all that this build cannot continue.
    pub stuck: i64,
    /// By version: those that this build does not know.
    unknown: BTreeMap<String, i64>,
    /// Those whose state is none.
    pub unreadable: i64,
}

impl Tally {
    pub fn of<S: Saga>(waiting: &[Waiting<S>]) -> Self {
        Self::with(
            &known_plans::<S>(),
            waiting.iter().map(|group| (group.plan.as_deref(), group.sagas, group.late || group.aside)),
        )
    }

    fn with<'a>(known: &[String], groups: impl IntoIterator<Item = (Option<&'a str>, i64, bool)>) -> Self {
        let mut tally = Self::default();
        for (plan, in_flight, late) in groups {
            tally.in_flight += in_flight;
            match plan {
                Some(plan) if known.iter().any(|known| known == plan) => tally.stuck += if late { in_flight } else { 0 },
                Some(plan) => {
                    tally.stuck += in_flight;
                    *tally.unknown.entry(plan.to_owned()).or_default() += in_flight;
                }
                None => {
                    tally.stuck += in_flight;
                    tally.unreadable += in_flight;
                }
            }
        }
        tally
    }

    /// How many are of a plan version that this build does not know.
    pub fn unknown_plan(&self) -> i64 {
        self.unknown.values().sum()
    }

    /// The note in `/readyz`. Not a check: orders are taken, and those of known versions go on.
    pub fn words(&self, aside: usize) -> String {
        let mut words = format!("{} in flight, {} stuck", self.in_flight, self.stuck);
        for (version, count) in self.unknown.iter().take(8) {
            words += &format!(
                "; {count} of plan version {version}, which this build does not know: a build that does must go on with them"
            );
        }
        if self.unknown.len() > 8 {
            words += &format!("; and {} more unknown plan versions", self.unknown.len() - 8);
        }
        if self.unreadable > 0 {
            words += &format!("; {} whose state cannot be read (`waybill saga list --stuck` names them)", self.unreadable);
        }
        if aside > 0 {
            words += &format!("; {aside} that could not be decided are set aside, and tried again");
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sagas_of_an_unknown_version_are_stuck_and_named() {
        let known = [(Some("1"), 8, false), (Some("1"), 2, true)];
        let tally = Tally::with(&["1".to_owned()], known.into_iter().chain([(Some("99"), 3, false), (None, 1, false)]));
        assert_eq!((tally.in_flight, tally.stuck, tally.unknown_plan(), tally.unreadable), (14, 6, 3, 1));
        let words = tally.words(5);
        assert!(words.starts_with("14 in flight, 6 stuck; 3 of plan version 99, which this build does not know"), "{words}");
        assert!(
            words.contains("; 1 whose state cannot be read")
                && words.ends_with("; 5 that could not be decided are set aside, and tried again")
        );
        assert_eq!(Tally::with(&["1".to_owned()], known).words(0), "10 in flight, 2 stuck");
    }
}
