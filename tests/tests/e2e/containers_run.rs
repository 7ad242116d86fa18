//! The system as `docker-compose.yml` says it, with processes in place of containers: its commands, its environment, its files, in its order, on real
//! parts. What a container engine would do is done here by paths and ports: a volume is a folder, a service's name is 127.0.0.1.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use stack::{Port, Stack};
use testkit::{eventually, program};
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::containers::{compose, listens, pairs, root, services, words};

/// Nobody else's business, and gone afterwards.
struct Host {
    folder: PathBuf,
    file: Value,
    /// The ports that are free here, by those of the file.
    ports: BTreeMap<String, u16>,
    databases: BTreeMap<String, Stack>,
    running: BTreeMap<String, Child>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.running.values_mut().for_each(|child| drop(child.start_kill()));
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Host {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("waybill-compose-{}", Uuid::now_v7().simple()));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        let file = compose();
        let inside = services(&file).into_values().filter_map(listens).chain(["4222", "8222"]);
        let ports = inside.map(|port| (port.to_owned(), Port::FREE.pick().unwrap())).collect();
        Self { folder, file, ports, databases: BTreeMap::new(), running: BTreeMap::new() }
    }

    fn service(&self, name: &str) -> &Value {
        services(&self.file)[name]
    }

    /// What the container sees under a path, and where that is here: its volumes, and its part of one.
    fn mounts(&self, name: &str) -> Vec<(String, PathBuf)> {
        let place = |source: &str| match source.strip_prefix("./") {
            Some(file) => root().join(file),
            None => self.folder.join(source),
        };
        let mount = |volume: &Value| match volume.as_str() {
            Some(text) => {
                let (source, rest) = text.split_once(':').unwrap();
                (rest.trim_end_matches(":ro").to_owned(), place(source))
            }
            None => {
                let part = volume["volume"]["subpath"].as_str().unwrap();
                (volume["target"].as_str().unwrap().to_owned(), place(volume["source"].as_str().unwrap()).join(part))
            }
        };
        self.service(name)["volumes"].as_array().into_iter().flatten().map(mount).collect()
    }

    /// A text of the file as it has to read here.
    fn here(&self, name: &str, text: &str) -> String {
        let mut text = text.to_owned();
        for (there, here) in self.mounts(name) {
            text = text.replace(&there, here.to_str().unwrap());
        }
        let known: Vec<&str> = services(&self.file).into_keys().collect();
        for (port, free) in &self.ports {
            for host in known.iter().copied().chain(["0.0.0.0", "127.0.0.1"]) {
                let address = if host == "0.0.0.0" { host } else { "127.0.0.1" };
                text = text.replace(&format!("{host}:{port}"), &format!("{address}:{free}"));
            }
        }
        text
    }

    /// A program of ours in a service's container: nothing is in its environment but what the file says.
    fn command(&self, name: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program(words[0]));
        command.args(words[1..].iter().map(|word| self.here(name, word))).env_clear().current_dir(&self.folder);
        for (variable, value) in pairs(&self.service(name)["environment"]) {
            command.env(variable, self.here(name, value));
        }
        let log = || fs::File::options().create(true).append(true).open(self.folder.join(format!("{name}.log"))).unwrap();
        command.stdin(Stdio::null()).stdout(log()).stderr(log()).kill_on_drop(true);
        command
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Runs it to its end, and returns what it prints.
    async fn run(&self, name: &str, words: &[&str], variables: &[(&str, &str)]) -> String {
        let mut command = self.command(name, words);
        command.envs(variables.iter().map(|(variable, value)| (variable, self.here(name, value))));
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await.unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Starts a service, and waits until its healthcheck says that it is well.
    async fn start(&mut self, name: &str) {
        let own = words(&self.service(name)["command"]);
        let child = match own[0] {
            "sh" => self.broker(own[2]).await.spawn().unwrap(),
            _ => self.command(name, &own).spawn().unwrap(),
        };
        self.running.insert(name.to_owned(), child);
        let check = words(&self.service(name)["healthcheck"]["test"])[1..].to_vec();
        eventually(Duration::from_secs(60), || async {
            let well = match check[0] {
                "wget" => {
                    reqwest::get(self.here(name, check.last().unwrap())).await.is_ok_and(|answer| answer.status().is_success())
                }
                _ => self.command(name, &check).status().await.unwrap().success(),
            };
            if well { Ok(()) } else { Err(self.log(name)) }
        })
        .await;
    }

    /// The broker by the shell's own line. The ports are another's on this machine.
    async fn broker(&self, line: &str) -> Command {
        let server = stack::Options::for_tests().nats_server().await.unwrap();
        let [port, monitor] = ["4222", "8222"].map(|port| self.ports[port]);
        let path = format!("{}:{}", server.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{} -a 127.0.0.1 -p {port} -m {monitor}", self.here("nats", line))).env_clear();
        command.env("PATH", path).env("WAYBILL_NATS_STORE", self.here("nats", "/data"));
        let log = fs::File::create(self.folder.join("nats.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        command
    }

    /// A Postgres, set up as its container sets it up: the files that are its own, then its superuser's script.
    async fn database(&mut self, name: &str) {
        let mut options = stack::Options::for_tests();
        options.nats.url = Some("nats://none.is.wanted".to_owned());
        let stack = Stack::start(options).await.unwrap();
        let data = stack.postgres.data_dir().unwrap().to_owned();
        let owner = data.metadata().unwrap();
        let run = data.join("run");
        fs::create_dir(&run).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).unwrap();
        let there = |text: &str| self.here(name, text).replace("/run/waybill", run.to_str().unwrap());

        // The shell's own line, with the user of this server, and with its last program's arguments printed.
        let line = there(words(&self.service(name)["command"])[2]);
        let line = line
            .replace("-o postgres", &format!("-o {}", owner.uid()))
            .replace("chown postgres", &format!("chown {}", owner.uid()));
        let line = line.replace("exec docker-entrypoint.sh", "exec printf '%s\\n'");
        let output = Command::new("sh").arg("-c").arg(&line).output().await.unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        let arguments = String::from_utf8(output.stdout).unwrap();
        let mut arguments = arguments.lines();
        assert_eq!(arguments.next(), Some("postgres"));
        for file in ["cert.pem", "key.pem", "role.password", "superuser.password"] {
            let meta = run.join(file).metadata().unwrap();
            assert_eq!((meta.uid(), meta.mode() & 0o777), (owner.uid(), 0o600), "{file}");
        }

        let superuser = stack.postgres.superuser_url("postgres");
        let psql = stack.postgres.psql().to_owned();
        let environment: Vec<(String, String)> = pairs(&self.service(name)["environment"])
            .into_iter()
            .map(|(variable, value)| (variable.to_owned(), there(value)))
            .collect();
        let run_psql = async |url: &str, arguments: &[&str]| {
            let mut command = Command::new(&psql);
            command.args(["-X", "-q", "-A", "-t", "-w", "-d", url]).args(arguments).envs(environment.clone());
            let output = command.output().await.unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        };
        // A superuser whose password is the one of the file; the server's own is needed once more.
        let password = fs::read_to_string(run.join("superuser.password")).unwrap();
        run_psql(&superuser, &["-c", &format!("create role image superuser login password '{password}'")]).await;
        let image = superuser.replacen(superuser.split('@').next().unwrap(), &format!("postgres://image:{password}"), 1);
        run_psql(&image, &["-f", &root().join("postgres-init.sql").display().to_string()]).await;
        while let Some(flag) = arguments.next() {
            let (setting, value) = arguments.next().unwrap().split_once('=').unwrap();
            assert_eq!(flag, "-c");
            match setting {
                // To be read by another user, and at the next look.
                "hba_file" => drop(fs::copy(value, data.join("pg_hba.conf")).unwrap()),
                _ => run_psql(&superuser, &["-c", &format!("alter system set {setting} = '{value}'")]).await,
            }
        }
        run_psql(&superuser, &["-c", "select pg_reload_conf()"]).await;

        // What Docker's names would lead to.
        let address = self.folder.join("secrets").join(name.trim_end_matches("-db")).join("database.url");
        let text = fs::read_to_string(&address).unwrap();
        let port = stack.postgres.port().unwrap();
        fs::write(&address, text.replace(&format!("@{name}:5432/"), &format!("@127.0.0.1:{port}/"))).unwrap();
        self.databases.insert(name.to_owned(), stack);
    }
}

fn secret(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_of_the_compose_file_takes_orders_of_those_who_may_and_keeps_its_secrets() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut host = Host::new();
    let secrets = host.folder.join("secrets");
    let own = words(&host.service("secrets")["command"]).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    host.run("secrets", &own, &[]).await;
    for name in ["user-db", "product-db", "order-db"] {
        host.database(name).await;
    }
    for name in ["nats", "provision", "user", "product", "order", "gateway"] {
        host.start(name).await;
    }

    // Nobody does anything without a token, at any port that is open.
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |port: &str, path: &str| format!("http://127.0.0.1:{}{path}", host.ports[port]);
    for (port, path) in [("8080", "/orders"), ("8081", "/users"), ("8082", "/products"), ("8083", "/orders"), ("8083", "/sagas")]
    {
        assert_eq!(http.get(url(port, path)).send().await.unwrap().status(), 401, "{port}{path}");
    }

    // With one of the issuer in the volume they do what they may.
    let token = async |role: &str, subject: &str| {
        host.run("secrets", &["waybill", "token", "--role", role, "--subject", subject], &[]).await
    };
    let (service, catalog, operator) =
        (token("service", "shop").await, token("catalog", "shop").await, token("operator", "me").await);
    let post = async |token: &str, path: &str, body: Value| {
        let answer =
            http.post(url("8080", path)).bearer_auth(token).header("prefer", "wait=20").json(&body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, 201, "{path}: {text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let user = post(&service, "/users", json!({"email": "ada@example.com", "name": "Ada"})).await;
    let product = json!({"name": "Kettle", "price": {"amount": 1999, "currency": "USD"}, "stock": 9});
    let product = post(&catalog, "/products", product).await;
    let customer = token("customer", user["id"].as_str().unwrap()).await;
    let order = json!({"user_id": user["id"], "items": [{"product_id": product["id"], "quantity": 2}]});
    let order = post(&customer, "/orders", order).await;
    assert_eq!(order["status"], "confirmed");
    let sagas = http.get(url("8083", "/sagas")).bearer_auth(&operator).send().await.unwrap();
    assert_eq!(sagas.status(), 200);
    let sagas = http.get(url("8083", "/sagas")).bearer_auth(&customer).send().await.unwrap();
    assert_eq!(sagas.status(), 403);

    // The books, by the addresses in the volume.
    let files = [
        ("ORDER_DATABASE_URL_FILE", "/secrets/order/database.url"),
        ("PRODUCT_DATABASE_URL_FILE", "/secrets/product/database.url"),
    ];
    host.run("secrets", &["waybill", "audit"], &files).await;

    // Every line to a database is encrypted, and one that is not is refused, whoever knows the password.
    for (name, stack) in &host.databases {
        let role = format!("waybill_{}", name.trim_end_matches("-db"));
        let query =
            format!("select count(*), bool_and(ssl) from pg_stat_ssl natural join pg_stat_activity where usename = '{role}'");
        let said = Command::new(stack.postgres.psql())
            .args(["-X", "-A", "-t", "-w", "-d", &stack.postgres.socket_url("postgres"), "-c", &query])
            .output();
        let said = String::from_utf8(said.await.unwrap().stdout).unwrap();
        let (connections, encrypted) = said.trim().split_once('|').unwrap_or_else(|| panic!("{name}: {said}"));
        assert!(connections != "0" && encrypted == "t", "{name}: {said}");
        let open = secret(&secrets.join(name.trim_end_matches("-db")).join("database.url"));
        let open = open.split('?').next().unwrap().to_owned() + "?sslmode=disable";
        let refused =
            Command::new(stack.postgres.psql()).args(["-X", "-w", "-d", &open, "-c", "select 1"]).output().await.unwrap();
        let refused = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.contains("no encryption"), "{name}: {refused}");
    }

    // Nothing secret is on a command line, in the file or in a log.
    let mut hidden = vec![secret(&secrets.join("authority/ca.key")), service, catalog, operator, customer];
    for name in ["user", "product", "order"] {
        let [role, superuser] = ["role", "superuser"].map(|of| secret(&secrets.join(format!("{name}-db/{of}.password"))));
        assert!(role != superuser && role.len() >= 32, "nobody guesses it");
        hidden.extend([role, superuser, secret(&secrets.join(name).join("nkey.seed"))]);
    }
    let lines = host.running.values().map(|child| fs::read(format!("/proc/{}/cmdline", child.id().unwrap())).unwrap());
    let lines = lines.map(|line| String::from_utf8(line).unwrap());
    let logs = host.running.keys().map(|name| host.log(name));
    let shown: String = lines.chain(logs).chain([fs::read_to_string(root().join("docker-compose.yml")).unwrap()]).collect();
    for secret in &hidden {
        assert!(!shown.contains(secret.as_str()), "a secret shows");
    }

    // A second start makes none of them anew.
    let kept = ["order-db/role.password", "order/nkey.seed", "issuer/issuer.key", "ca.pem"]
        .map(|file| fs::read(secrets.join(file)).unwrap());
    host.run("secrets", &own, &[]).await;
    let now = ["order-db/role.password", "order/nkey.seed", "issuer/issuer.key", "ca.pem"]
        .map(|file| fs::read(secrets.join(file)).unwrap());
    assert_eq!(kept, now);
}
