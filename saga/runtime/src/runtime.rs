//! The sagas of one kind, running: what carries them, what watches over them, and how requests reach them.

use std::sync::Arc;
use std::time::Duration;

use chassis::broker::PayloadMax;
use chassis::clock::SteadyClock;
use chassis::database::Database;
use chassis::http::Problem;
use chassis::settings::Secret;
use chassis::{Client, Failure, GroupCommit, Parts, RebuildMessages, Service, Source, UnitOfWork, keys};
use envelope::Topology;
use saga::Timing;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::aside::Aside;
use crate::cache::SagaCache;
use crate::completeness::Watch;
use crate::coordinator::{Coordinator, ItemResult, Logged};
use crate::count::Count;
use crate::item::{Begun, Item, Moved, NewSaga, Trigger};
use crate::messages::FromHistories;
use crate::metrics::SagaMetrics;
use crate::plan_registry;
use crate::saga::{Saga, View};
use crate::settings::SagaSettings;
use crate::steps::reply_readers;
use crate::store::Store;
use crate::sweeper::Sweeper;
use crate::traces::Tracer;
use crate::verify::verify;
use crate::waiters::{Subscription, Waiters};

/// How long someone who waits rests after a look that failed.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Sagas of one kind, about to run.
pub struct Prepared<S: Saga> {
    settings: SagaSettings,
    timing: Timing<S>,
    store: Store<S>,
    payload_max: PayloadMax,
}

/// Sagas of one kind, running in a service.
pub struct Runtime<S: Saga> {
    pub(crate) database: Database,
    /// The same database by connections of their own, few, for what operators ask.
    pub(crate) operators: Database,
    pub(crate) store: Store<S>,
    pub(crate) clock: SteadyClock,
    coordinator: Arc<Coordinator<S>>,
    beginning: GroupCommit<Coordinator<S>>,
    unit: UnitOfWork,
    /// Streams that read at once. Thousands may wait for one saga: when it moves they leave connections to others.
    pub(crate) stream_reads: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) stuck_after: Duration,
    pub(crate) count: Arc<Count<S>>,
    /// What could not be decided.
    pub(crate) aside: Arc<Aside>,
}

impl<S: Saga> Prepared<S> {
    /// Checks the saga's table of steps and the settings, before anything starts. `provisioned`: the streams and consumers that there are.
    ///
    /// # Errors
    /// Names what is missing, and what of the settings is not so.
    pub fn new(settings: &SagaSettings, provisioned: &Topology) -> anyhow::Result<Self> {
        verify::<S>(provisioned)?;
        let timing = settings.timing.timing()?;
        Ok(Self { settings: settings.clone(), timing, store: Store::new(), payload_max: PayloadMax::default() })
    }

    /// What makes the messages of these sagas again, so that the outbox need not keep them.
    pub fn rebuild_messages(&self) -> Box<dyn RebuildMessages> {
        Box::new(FromHistories { store: self.store, payload_max: self.payload_max.clone() })
    }

    /// Starts whatever carries the sagas and watches over them, until the service stops.
    ///
    /// # Errors
    /// Where a setting is malformed.
    pub fn start(self, service: &Service, database_url: &Secret, parts: &Parts) -> anyhow::Result<Arc<Runtime<S>>> {
        let Self { settings, timing, store, payload_max } = self;
        let (database, shutdown, clock, waiters) =
            (service.database(), service.shutdown(), SteadyClock::default(), Waiters::default());
        let operators = settings.operators.database(database_url, parts, &format!("waybill-{}", S::NAME))?;
        let operators = operators.measured(&service.metrics(), "operators");
        let metrics = Arc::new(SagaMetrics::new(service.metrics()));
        service.follow_payload_max(&payload_max);
        service.spawn(clock.clone().run(database.clone(), shutdown.clone()));
        service.spawn(waiters.clone().look(store, database.clone(), shutdown.clone()));
        let stuck_after = settings.timing.stuck_after;
        let traces = service.traces().map(|traces| {
            let from = (operators.clone(), clock.clone());
            let (chosen, tracer) = Tracer::new(&settings.timing, (traces, service.metrics()), store, from);
            service.spawn(tracer.run(shutdown.clone()));
            chosen
        });
        let coordinator = Arc::new(Coordinator {
            traces,
            database: database.clone(),
            store,
            clock: clock.clone(),
            timing,
            limit: settings.limit,
            payload_max: payload_max.clone(),
            cache: SagaCache::default(),
            waiters,
            logged: Logged::default(),
            metrics: metrics.clone(),
        });
        // What begins and what comes to those under way share the batches of one handler.
        let beginning = service.intake(sources(), coordinator.clone());
        let aside = Arc::new(Aside::default());
        let sweeper = Sweeper {
            database: database.clone(),
            unit: service.unit_of_work(),
            coordinator: coordinator.clone(),
            aside: aside.clone(),
            every: settings.timing.sweep_every,
        };
        service.spawn(sweeper.run(shutdown.clone()));
        let watch = Watch {
            store,
            database: database.clone(),
            broker: service.broker(),
            health: service.health(),
            settings: settings.events,
            payload_max,
            holder: Uuid::now_v7(),
            metrics: metrics.clone(),
        };
        service.spawn(watch.run(shutdown.clone()));
        // One after the other: two at once on one table wait for each other.
        let (indexes, of, until) = (store.list_indexes(), database.clone(), shutdown.clone());
        service.spawn(async move {
            for index in indexes {
                index.ensure(of.clone(), until.clone()).await;
            }
        });
        let actions = store.expire_actions().map(|statement| (settings.operators.actions_expire_after, statement));
        for (after, expired) in [(settings.keys.keys_expire_after, store.expire_keys())].into_iter().chain(actions) {
            service.spawn(keys::expire(database.clone(), after, expired, shutdown.clone()));
        }
        service.health().expect(plan_registry::CHECK);
        service.spawn(plan_registry::record::<S>(database.clone(), service.health(), shutdown.clone()));
        let (last, counting) = Default::default();
        let count = Count {
            operators: operators.clone(),
            clock: clock.clone(),
            store,
            stuck_after,
            aside: aside.clone(),
            last,
            counting,
        };
        let count = Arc::new(count);
        service.spawn(count.clone().run(metrics, service.health(), shutdown.clone()));
        Ok(Arc::new(Runtime {
            database,
            operators,
            store,
            clock,
            beginning,
            coordinator,
            unit: service.unit_of_work(),
            stream_reads: Arc::new(Semaphore::new((parts.database.database_connections as usize / 2).max(1))),
            shutdown,
            stuck_after,
            count,
            aside,
        }))
    }
}

/// The replies of every participant.
fn sources<S: Saga>() -> Vec<Source<Item<S>>> {
    let source = |(consumer, read): (_, crate::steps::ReadReply<S>)| {
        let read = move |json: &RawValue| {
            let reply = read(json)?;
            Ok(Item::Input(S::correlate(&reply), Trigger::Reply(reply)))
        };
        Source::new(consumer, read)
    };
    reply_readers::<S>().into_iter().map(source).collect()
}

impl<S: Saga> Runtime<S> {
    /// Begins a saga, in a batch with whatever else comes.
    ///
    /// # Errors
    /// Where there is no room, or the database is in trouble.
    pub async fn begin(&self, client: Client, new: NewSaga<S>) -> Result<Begun<S>, Problem> {
        match self.beginning.submit(client, Item::Begin(new)).await??.result {
            ItemResult::Begun(begun) => Ok(begun),
            ItemResult::Moved(_) => Err(Problem::internal(&anyhow::anyhow!("a saga that was to begin was not begun"))),
        }
    }

    /// Takes what comes to a saga; `None`: there is no such saga.
    ///
    /// # Errors
    /// Where the database is in trouble, or somebody holds the saga for too long.
    pub async fn input(&self, id: Uuid, trigger: Trigger<S>) -> Result<Option<Moved<S>>, Failure> {
        let output = self.unit.run_detached(&self.coordinator, Item::Input(id, trigger)).await?;
        Ok(output.into_moved())
    }

    /// A saga as whoever began it sees it. `only`: where it is this user's.
    ///
    /// # Errors
    /// Those of the database; `unreadable`, where its row cannot be read.
    pub async fn view(&self, id: Uuid, only: Option<Uuid>) -> Result<Option<View<S>>, Problem> {
        let store = self.store;
        let view = self.database.read(|mut db| async move { store.view(&mut db, id, only).await }).await;
        view.map_err(|error| match error {
            sqlx::Error::Decode(why) => Problem::unreadable(why),
            error => error.into(),
        })
    }

    /// A place among those who wait for a saga to move.
    pub fn subscribe(&self, id: Uuid) -> Subscription {
        self.coordinator.waiters.join(id)
    }

    /// The service's database, for reads.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// There is no such saga.
    pub fn not_found(&self, id: Uuid) -> Problem {
        Problem::not_found(format!("there is no {} {id}", S::NAME))
    }
}
