//! One running service: a task of this process, or a process of its own.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::http::{Answer, Client};
use crate::{Service, Settings, eventually};

/// How long a service may take to be ready, on a machine that is busy with other tests.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long a service may take to stop.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// A service on a port that stays its own across restarts.
#[derive(Debug)]
pub struct Instance {
    /// Which service.
    pub service: Service,
    /// Its port on 127.0.0.1.
    pub port: u16,
    settings: Arc<Settings>,
    client: Client,
    running: Mutex<Option<Running>>,
    surroundings: Mutex<Surroundings>,
}

/// What a process of its own finds around it.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The clock by which it lives; else the machine's.
    pub clock: Option<Arc<stack::Clock>>,
    /// Where its log goes; else into the output of the test.
    pub log: Option<PathBuf>,
}

#[derive(Debug)]
enum Running {
    Task { stop: CancellationToken, task: JoinHandle<anyhow::Result<()>> },
    Process(Child),
}

impl Instance {
    pub(crate) fn new(service: Service, port: u16, settings: Arc<Settings>, http: reqwest::Client) -> Self {
        let client = Client::new(format!("http://127.0.0.1:{port}"), http, settings.token.clone());
        Self { service, port, settings, client, running: Mutex::new(None), surroundings: Mutex::default() }
    }

    /// What it is to find around it from the next [`Self::launch_binary`] on.
    pub fn surround(&self, surroundings: Surroundings) {
        *self.surroundings.lock().expect("never poisoned") = surroundings;
    }

    /// Requests to this very instance.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Starts it as a task. Does not wait until it is ready.
    pub fn launch(&self) {
        let stop = CancellationToken::new();
        let (listen, shutdown) = (format!("127.0.0.1:{}", self.port), stop.clone());
        let task = match self.service {
            Service::User => tokio::spawn(user::run(user::Settings { listen, ..self.settings.user.clone() }, shutdown)),
            Service::Product => {
                tokio::spawn(product::run(product::Settings { listen, ..self.settings.product.clone() }, shutdown))
            }
            Service::Order => tokio::spawn(order::run(order::Settings { listen, ..self.settings.order.clone() }, shutdown)),
            Service::Gateway => {
                tokio::spawn(gateway::run(gateway::Settings { listen, ..self.settings.gateway.clone() }, shutdown))
            }
        };
        self.put(Running::Task { stop, task });
    }

    /// Starts it as a process of its own. Does not wait until it is ready.
    pub fn launch_binary(&self) {
        let (flags, environment) = self.settings.arguments(self.service);
        let mut command = Command::new(program("waybill-tests-service"));
        command.arg(self.service.name()).arg(format!("--listen=127.0.0.1:{}", self.port)).args(flags).envs(environment);
        // Into the captured output of the test, where it explains a failure.
        command.stdin(Stdio::null()).env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "error".into()));
        let Surroundings { clock, log } = self.surroundings.lock().expect("never poisoned").clone();
        if let Some(clock) = clock {
            clock.apply(command.as_std_mut());
        }
        if let Some(log) = log {
            let file = OpenOptions::new().create(true).append(true).open(log).expect("a log");
            command.stdout(file.try_clone().expect("the same file")).stderr(file);
        }
        let child = command.kill_on_drop(true).spawn().expect("the service binary starts");
        self.put(Running::Process(child));
    }

    fn put(&self, running: Running) {
        let before = self.running.lock().expect("never poisoned").replace(running);
        assert!(before.is_none(), "the {} service runs already", self.service.name());
    }

    fn take(&self) -> Option<Running> {
        self.running.lock().expect("never poisoned").take()
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) {
        eventually(READY_WITHIN, || async {
            let ended = matches!(&*self.running.lock().expect("never poisoned"),
                Some(Running::Task { task, .. }) if task.is_finished());
            if ended && let Some(Running::Task { task, .. }) = self.take() {
                panic!("the {} service ended while it was starting: {:?}", self.service.name(), task.await);
            }
            match Answer::try_of(self.client.request(reqwest::Method::GET, "/readyz")).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(answer.text),
                Err(error) => Err(format!("{error:?}")),
            }
        })
        .await;
    }

    /// Whether it was started and neither stopped nor killed.
    pub fn is_running(&self) -> bool {
        self.running.lock().expect("never poisoned").is_some()
    }

    /// Stops it as a deployment does (SIGTERM), and waits until it has drained. Does nothing where it does not run.
    pub async fn stop(&self) {
        match self.take() {
            None => {}
            Some(Running::Task { stop, task }) => {
                stop.cancel();
                let ended = tokio::time::timeout(STOPPED_WITHIN, task).await.expect("the service stops in time");
                ended.expect("the service does not panic").expect("the service ends well");
            }
            Some(Running::Process(mut child)) => {
                let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())).expect("it runs");
                rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal to our child");
                let ended = tokio::time::timeout(STOPPED_WITHIN, child.wait()).await.expect("the service stops in time");
                assert!(ended.expect("a child to wait for").success(), "the {} service ends well", self.service.name());
            }
        }
    }

    /// Ends its process with SIGKILL, and waits until it is gone.
    pub async fn kill(&self) {
        match self.take() {
            Some(Running::Process(mut child)) => child.kill().await.expect("a child to kill"),
            other => {
                if let Some(other) = other {
                    self.put(other);
                }
                panic!("only a process can be killed: start the {} service with `spawn_binary`", self.service.name());
            }
        }
    }

    /// How its process ended, if it did without being told to.
    pub fn ended(&self) -> Option<std::process::ExitStatus> {
        match &mut *self.running.lock().expect("never poisoned") {
            Some(Running::Process(child)) => child.try_wait().ok().flatten(),
            _ => None,
        }
    }

    /// Tells its process to stop (SIGTERM) and waits this long for its end; then it is killed. Returns how it ended, if by itself.
    pub async fn stop_within(&self, patience: Duration) -> Option<std::process::ExitStatus> {
        self.signal(rustix::process::Signal::TERM);
        let Some(Running::Process(mut child)) = self.take() else { return None };
        match tokio::time::timeout(patience, child.wait()).await {
            Ok(ended) => ended.ok(),
            Err(_) => {
                child.kill().await.expect("a child to kill");
                None
            }
        }
    }

    /// Sends its process a signal that does not end it: SIGSTOP, SIGCONT.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.pid().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())).expect("a process");
        rustix::process::kill_process(pid, signal).expect("a signal to our child");
    }

    /// The process id, where it is a process.
    pub fn pid(&self) -> Option<u32> {
        match &*self.running.lock().expect("never poisoned") {
            Some(Running::Process(child)) => child.id(),
            _ => None,
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(Running::Task { stop, task }) = self.take() {
            stop.cancel();
            task.abort();
        }
    }
}

/// A program of ours beside this one: beside a program, or beside the folder of a test's executable. Cargo builds this package's along with
/// the integration tests.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a running executable");
    let folder = own.parent().expect("target/<profile> or target/<profile>/deps");
    let folder = if folder.ends_with("deps") { folder.parent().expect("target/<profile>") } else { folder };
    folder.join(name)
}
