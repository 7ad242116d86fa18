//! The settings of whatever runs sagas.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chassis::Parts;
use chassis::database::Database;
use chassis::keys::{KeySettings, a_day_or_more};
use chassis::settings::{DatabaseSettings, Secret, seconds};
use clap::Args;
use saga::{RetryOverride, Timing, step_name};

use crate::completeness::Completeness;
use crate::saga::{Record, Saga};
use crate::steps::step_named;

/// The settings of a service that runs sagas, beside those that every service has.
#[derive(Args, Clone, Debug)]
pub struct SagaSettings {
    #[allow(missing_docs)]
    #[command(flatten)]
    pub timing: TimingSettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub limit: HistoryLimit,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub operators: OperatorSettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub events: Completeness,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub keys: KeySettings,
}

/// How long a saga waits, and for what.
#[derive(Args, Clone, Debug)]
pub struct TimingSettings {
    /// Seconds before a command without a reply is sent again; each further wait is twice as long. Shorter heals a lost message sooner; too
    /// short adds to the load of a service that is merely busy. Default: what the plan says of each step.
    #[arg(long, env = "WAYBILL_RETRY_FIRST", value_parser = seconds)]
    pub retry_first: Option<Duration>,

    /// The longest wait, in seconds, between two sendings of one command. Default: what the plan says of each step.
    #[arg(long, env = "WAYBILL_RETRY_MAX", value_parser = seconds)]
    pub retry_max: Option<Duration>,

    /// Seconds a step may go without a reply before the saga is given up and undone. Longer than a deployment of the service that replies.
    /// Default: what the plan says of each step.
    #[arg(long, env = "WAYBILL_STEP_DEADLINE", value_parser = seconds)]
    pub step_deadline: Option<Duration>,

    /// The same for single steps: `reserve_stock.deadline=60,validate_user.first_retry=2`. Goes before what is set for all. The names after
    /// the step are `first_retry`, `max_retry` and `deadline`.
    #[arg(long, env = "WAYBILL_STEPS", value_delimiter = ',', value_name = "STEP.NAME=SECONDS")]
    pub steps: Vec<StepSetting>,

    /// Seconds a saga may take in all before it is given up and undone.
    #[arg(long, alias = "order-deadline", env = "WAYBILL_SAGA_DEADLINE", default_value = "900", value_parser = seconds)]
    pub saga_deadline: Duration,

    /// Seconds a saga may wait for one reply before it counts as stuck: listed, counted in /metrics and noted in /readyz.
    #[arg(long, env = "WAYBILL_STUCK_AFTER", default_value = "30", value_parser = seconds)]
    pub stuck_after: Duration,

    /// Seconds a saga may take before its trace is told, whatever its end. Ten times what is long for one that nothing is wrong with.
    #[arg(long, env = "WAYBILL_TRACES_SLOW", default_value = "5", value_parser = seconds)]
    pub traces_slow: Duration,

    /// Seconds between two looks for sagas that are due.
    #[arg(long, env = "WAYBILL_SWEEP_EVERY", default_value = "1", value_parser = seconds)]
    pub sweep_every: Duration,
}

/// A span of time of one step: `reserve_stock.deadline=60`. Which steps there are, only the saga knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepSetting {
    step: String,
    what: StepSpan,
    span: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepSpan {
    FirstRetry,
    MaxRetry,
    Deadline,
}

impl FromStr for StepSetting {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, value) = text.split_once('=').context("it is not of the form STEP.NAME=SECONDS")?;
        let (step, what) = name.trim().rsplit_once('.').context("it is not of the form STEP.NAME=SECONDS")?;
        let what = match what {
            "first_retry" => StepSpan::FirstRetry,
            "max_retry" => StepSpan::MaxRetry,
            "deadline" => StepSpan::Deadline,
            _ => anyhow::bail!("there is no `{what}` of a step; there are first_retry, max_retry and deadline"),
        };
        let span = seconds(value.trim()).map_err(anyhow::Error::msg)?;
        Ok(Self { step: step.to_owned(), what, span })
    }
}

impl TimingSettings {
    /// As the engine takes them.
    ///
    /// # Errors
    /// Names a step the saga does not have, with those it has; a setting of a step that there is not; and two settings that disagree.
    pub fn timing<S: Saga>(&self) -> anyhow::Result<Timing<S>> {
        let all = RetryOverride { first_retry: self.retry_first, max_retry: self.retry_max, deadline: self.step_deadline };
        let mut of_steps: BTreeMap<S::Step, RetryOverride> = BTreeMap::new();
        for StepSetting { step, what, span } in &self.steps {
            let step = step_named::<S>(step).map_err(|why| anyhow::anyhow!("--steps or WAYBILL_STEPS: the step {why}"))?;
            let of_step = of_steps.entry(step).or_default();
            *match what {
                StepSpan::FirstRetry => &mut of_step.first_retry,
                StepSpan::MaxRetry => &mut of_step.max_retry,
                StepSpan::Deadline => &mut of_step.deadline,
            } = Some(*span);
        }
        let timing = Timing { all, steps: of_steps, deadline: self.saga_deadline };
        for (version, stages) in S::VERSIONS {
            for spec in stages.iter().flatten() {
                let Some(policy) = timing.policy(*version, spec.step) else { continue };
                ensure!(
                    policy.first_retry <= policy.max_retry,
                    "--retry-first or WAYBILL_RETRY_FIRST ({} s) is more than --retry-max or WAYBILL_RETRY_MAX ({} s), for the step {}",
                    policy.first_retry.as_secs_f64(),
                    policy.max_retry.as_secs_f64(),
                    step_name::<S>(spec.step)
                );
            }
        }
        Ok(timing)
    }
}

/// How long a history may grow. An ordinary one has three to twenty entries.
#[derive(Args, Clone, Copy, Debug)]
pub struct HistoryLimit {
    /// Entries of a saga's history from which on repetitions are no longer recorded (they are sent all the same) and an operator's
    /// `retry` is refused. What moves a saga towards its end is recorded whatever its history's length. A history is read whole for
    /// the saga's last event and for its replay: the limit keeps that affordable.
    #[arg(long, env = "WAYBILL_HISTORY_MAX_ENTRIES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(16..))]
    pub history_max_entries: u32,

    /// The same in bytes. A nats-server takes messages of 1 MiB at its own defaults, and a saga's last event carries its history.
    #[arg(long, env = "WAYBILL_HISTORY_MAX_BYTES", default_value_t = 768 * 1024, value_parser = clap::value_parser!(u64).range(65_536..=1 << 30))]
    pub history_max_bytes: u64,
}

impl HistoryLimit {
    pub(crate) fn is_reached<S: Saga>(&self, record: &Record<S>) -> bool {
        record.sequence >= self.history_max_entries || record.history_bytes >= self.history_max_bytes
    }
}

/// What operators may take of the database.
#[derive(Args, Clone, Debug)]
pub struct OperatorSettings {
    /// Connections for what operators ask: sagas, exports, the counts in /readyz. They have their own, so that no question of theirs
    /// takes one from customers; who finds none free is answered 503.
    #[arg(long, env = "WAYBILL_OPERATOR_CONNECTIONS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub operator_connections: u32,

    /// Seconds a statement of an operator may run before the database ends it.
    #[arg(long, env = "WAYBILL_OPERATOR_TIMEOUT", default_value = "10", value_parser = seconds)]
    pub operator_timeout: Duration,

    /// Seconds after which what operators did outside of any saga is forgotten: with dead letters, with what no saga gives back, and rebuilds of
    /// the events; at least a day. More than a year, so that whoever looks through the last one finds all of it. What they did with a saga lasts as
    /// long as the saga.
    #[arg(long, env = "WAYBILL_ACTIONS_EXPIRE_AFTER", default_value = "34560000", value_parser = a_day_or_more)]
    pub actions_expire_after: Duration,
}

impl OperatorSettings {
    /// The service's database, by connections of their own. `name`: what they are called in the database's own lists.
    pub(crate) fn database(&self, url: &Secret, parts: &Parts, name: &str) -> anyhow::Result<Database> {
        let settings = DatabaseSettings {
            database_connections: self.operator_connections,
            statement_timeout: self.operator_timeout,
            ..parts.database.clone()
        };
        Database::new(url, &settings, &format!("{name}-operators"))
    }
}
