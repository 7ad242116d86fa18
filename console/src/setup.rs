//! What a console speaks to, and in whose name.

use std::marker::PhantomData;
use std::sync::Arc;

use chassis::broker::Broker;
use envelope::Topology;
use reqwest::Url;
use saga_commands::CommandLine;
use saga_commands::client::Gateway;
use saga_commands::confirm::user;
use saga_commands::problem::Failure;
use saga_commands::record::{Deed, Recorded};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::jobs::Jobs;
use crate::letters::Letters;
use crate::samples::Samples;
use crate::secret::secret;

/// Where it listens if nobody says.
pub const PORT: u16 = 8090;

/// Pages that are live at once: more than anybody has open, and few of the streams and connections of the service, which others need.
pub const LIVE: usize = 100;

/// What a console speaks to, and in whose name.
pub struct Setup {
    /// The service that runs the sagas, asked with the operator's token.
    pub service: Gateway,
    /// The broker, for who is there, streams and dead letters; `None`: these are not shown.
    pub broker: Option<Broker>,
    /// Services that are there whether or not they answer on the broker: name and address.
    pub places: Vec<(String, Url)>,
    /// Who acts: signs what is done, where no token says it.
    pub by: String,
    /// What a browser must show before it is answered; `None`: whoever reaches the port may do everything.
    pub key: Option<String>,
}

impl Setup {
    /// For this service. Where a token says who acts, it is lent to nobody but whoever has the key.
    pub fn new(service: Gateway, broker: Option<Broker>, places: Vec<(String, Url)>) -> Self {
        let by = service.subject().filter(|by| !by.trim().is_empty()).unwrap_or_else(user);
        let key = service.has_token().then(secret);
        Self { service, broker, places, by, key }
    }

    /// The address of the console on this port, with the key if it wants one.
    pub fn url(&self, port: u16) -> String {
        let key = self.key.as_ref().map(|key| format!("?key={key}")).unwrap_or_default();
        format!("http://127.0.0.1:{port}/{key}")
    }
}

/// What every page is made with.
pub struct Console<C> {
    /// The service that runs the sagas.
    pub service: Gateway,
    /// Who acts.
    pub by: String,
    /// What a form must bring to be one of ours.
    pub token: String,
    /// Ends what lasts.
    pub shutdown: CancellationToken,
    /// The broker.
    pub broker: Option<Broker>,
    /// The streams and consumers of the system.
    pub topology: Topology,
    /// What the services say of themselves.
    pub samples: Arc<Samples>,
    /// What is wrong with the dead letters.
    pub letters: Arc<Letters>,
    /// What is done to many.
    pub jobs: Jobs,
    /// Room for pages that are live.
    pub live: Arc<Semaphore>,
    saga: PhantomData<C>,
}

impl<C: CommandLine> Console<C> {
    /// As it was set up.
    pub fn new(setup: Setup, shutdown: CancellationToken) -> Self {
        let Setup { service, broker, by, .. } = setup;
        Self {
            service,
            by,
            token: secret(),
            shutdown,
            broker,
            topology: C::topology(),
            samples: Arc::default(),
            letters: Arc::default(),
            saga: PhantomData,
            jobs: Jobs::default(),
            live: Arc::new(Semaphore::new(LIVE)),
        }
    }

    /// Writes down what is about to be done outside of a saga. Where it cannot be, it is not done.
    pub async fn record(
        &self,
        action: &'static str,
        about: String,
        saga: Option<Uuid>,
        reason: &str,
    ) -> Result<Recorded, Failure> {
        let deed = Deed { by: self.by.clone(), action, about, saga, reason: Some(reason.to_owned()) };
        Recorded::begin(&self.service, deed).await
    }

    /// Writes down what came of it. Where it cannot be, the log says that it was begun.
    pub async fn recorded(recorded: Recorded, outcome: String) {
        if let Err(error) = recorded.end(&outcome).await {
            tracing::warn!(error = error.to_string(), outcome, "what came of an action is not written down");
        }
    }

    /// The path of a saga's page.
    pub fn path(id: Uuid) -> String {
        format!("/sagas/{id}")
    }
}
