//! Two processes of every service, on lines that can be bad, and the locks that keep two faults from one thing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use testkit::{Client, Instance, Proxy, Service, Surroundings, System};
use tokio::sync::Mutex;

use crate::rows::broker::copy;
use crate::scene::EVENTS_CHECK_EVERY;
use crate::soak::log::Log;

/// How long a process may take until it is ready, once everything is well again.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A process, and the lock of whoever does something to it.
pub struct Member {
    /// `order-2`.
    pub name: String,
    pub instance: Arc<Instance>,
    pub lock: Mutex<()>,
    /// The clock by which it lives, if not the machine's.
    pub clock: Option<Arc<stack::Clock>>,
}

/// The system under chaos.
pub struct Fleet {
    pub system: System,
    pub members: Vec<Member>,
    /// A lock for each of user, product and order, line to the database and line to the broker.
    pub lines: [Mutex<()>; 6],
    pub broker: Mutex<()>,
    /// An older copy of the broker's store.
    pub old_store: PathBuf,
    pub database: Mutex<()>,
}

impl Fleet {
    /// Starts it, with its data and the logs of all in this folder.
    pub async fn start(folder: &Path, log: &Log) -> Arc<Self> {
        let data = folder.join("data");
        let system = System::builder()
            .impatient()
            .order(|order| {
                // Some orders are given up, most are not.
                order.sagas.timing.step_deadline = Some(Duration::from_secs(20));
                order.sagas.timing.saga_deadline = Duration::from_secs(60);
                order.sagas.events.events_check_every = EVENTS_CHECK_EVERY;
            })
            .stack(|stack| {
                stack.data = stack::Data::Persistent(data);
                stack.postgres.durable = true;
                stack.postgres.steppable_clock = true;
            })
            .linked()
            .start()
            .await;
        let (nats, old_store) = (&system.stack.nats, folder.join("nats.old"));
        let store = nats.store().expect("it was started here").to_owned();
        let copied = || {
            copy(&store, &old_store);
            Ok(())
        };
        nats.stop_and(copied).await.expect("a broker");
        let tools = stack::Options::for_tests().tools_dir;
        let logs = folder.join("logs");
        let clocks = folder.join("clocks");
        [&logs, &clocks].into_iter().for_each(|folder| fs::create_dir_all(folder).expect("a folder"));
        let mut members = Vec::new();
        for service in Service::ALL {
            let first = system.instance(service).clone();
            first.stop().await;
            for (number, instance) in [first, system.another(service)].into_iter().enumerate() {
                let name = format!("{}-{}", service.name(), number + 1);
                // The second of each lives by another clock.
                let clock = match number {
                    0 => None,
                    _ => stack::Clock::new(&tools, clocks.join(&name)).await.ok().map(Arc::new),
                };
                let log = Some(logs.join(format!("{name}.log")));
                instance.surround(Surroundings { clock: clock.clone(), log });
                instance.launch_binary();
                instance.ready().await;
                members.push(Member { name, instance, lock: Mutex::default(), clock });
            }
        }
        log.say("the system is up");
        Arc::new(Self {
            system,
            members,
            lines: Default::default(),
            broker: Mutex::default(),
            old_store,
            database: Mutex::default(),
        })
    }

    /// Where a client may knock for a service: its two instances, and the two gateways.
    pub fn client(&self, service: Service, rng: &mut fastrand::Rng) -> Client {
        let through = if rng.bool() { service } else { Service::Gateway };
        self.members[through as usize * 2 + rng.usize(..2)].instance.client()
    }

    /// The line of a service's, by its number among the locks.
    pub fn line(&self, number: usize) -> (Service, &'static str, &Proxy) {
        let service = [Service::User, Service::Product, Service::Order][number / 2];
        let links = self.system.links(service);
        if number.is_multiple_of(2) { (service, "database", &links.database) } else { (service, "broker", &links.broker) }
    }

    /// Everything is whole again, and every process is ready.
    pub async fn heal(&self) {
        self.system.heal_links();
        let _ = self.system.stack.postgres.step_clock(0);
        for member in &self.members {
            if let Some(clock) = &member.clock {
                let _ = clock.step(0);
            }
            if !member.instance.is_running() {
                member.instance.launch_binary();
            }
        }
        let ready = async {
            for member in &self.members {
                member.instance.ready().await;
            }
        };
        assert!(
            tokio::time::timeout(READY_WITHIN, ready).await.is_ok(),
            "not every process is ready {READY_WITHIN:?} after the heal"
        );
    }
}
