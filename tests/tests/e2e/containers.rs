//! `docker-compose.yml`, `Dockerfile`, `nats.conf` and `postgres-init.sql` fit together and fit the binaries. No container runs here: this holds what
//! would otherwise show only when somebody starts them. `containers_run.rs` runs what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chassis::environment::may_be_a_file;
use chassis::settings::BrokerSettings;
use chassis::topology::TopologySettings;
use chassis::topology::accounts::{key_variable, members};
use clap::{Arg, Args as _, Command, CommandFactory as _};
use events::streams::TOPOLOGY;
use serde_json::Value;
use stack::Stack;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The file as Compose sees it: merged, and with the default of every variable.
pub fn compose() -> Value {
    serde_saphyr::from_str(&with_defaults(&read("docker-compose.yml"))).unwrap()
}

/// `${NAME:-default}` becomes `default`, as where nothing is set.
fn with_defaults(text: &str) -> String {
    let mut parts = text.split("${");
    let mut result = parts.next().unwrap().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').expect("a variable ends");
        let (_, default) = variable.split_once(":-").unwrap_or_else(|| panic!("{variable} has no default"));
        result.push_str(default);
        result.push_str(rest);
    }
    result
}

pub fn services(compose: &Value) -> BTreeMap<&str, &Value> {
    compose["services"].as_object().unwrap().iter().map(|(name, service)| (name.as_str(), service)).collect()
}

pub fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|word| word.as_str().unwrap()).collect()
}

pub fn pairs(map: &Value) -> BTreeMap<&str, &str> {
    let pairs = map.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_else(|| panic!("{name} is no text")))).collect()
}

/// The command line a container runs, for those of our own image.
fn own(service: &Value) -> Option<Vec<&str>> {
    (service["image"] == "waybill").then(|| words(&service["command"]))
}

/// What the binary takes, by its first words.
fn interface(words: &[&str]) -> Command {
    match words {
        ["waybill-user"] => user::Settings::command(),
        ["waybill-product"] => product::Settings::command(),
        ["waybill-order"] => order::Settings::command(),
        ["waybill-gateway"] => gateway::Settings::command(),
        // What it is told stands in its command line; the key is for `waybill token` in its container.
        ["waybill", "certs", "/secrets"] => Command::new("waybill").arg(Arg::new("key").long("key").env("WAYBILL_ISSUER_KEY")),
        ["waybill", "provision", ..] => TopologySettings::augment_args(BrokerSettings::augment_args(Command::new("waybill"))),
        other => panic!("no binary of ours: {other:?}"),
    }
}

#[test]
fn whoever_is_waited_for_exists_and_can_become_healthy() {
    let compose = compose();
    let services = services(&compose);
    assert_eq!(
        services.keys().copied().collect::<Vec<_>>(),
        [
            "gateway",
            "grafana",
            "nats",
            "order",
            "order-db",
            "product",
            "product-db",
            "prometheus",
            "provision",
            "secrets",
            "user",
            "user-db"
        ]
    );
    let mut started = BTreeSet::new();
    while started.len() < services.len() {
        let before = started.len();
        for (name, service) in &services {
            let awaited = service["depends_on"].as_object().into_iter().flatten();
            let mut ready = true;
            for (awaited, how) in awaited {
                let awaited = services.get_key_value(awaited.as_str()).unwrap_or_else(|| panic!("{name} waits for {awaited}"));
                match how["condition"].as_str() {
                    Some("service_completed_successfully") => assert_eq!(awaited.1["restart"], "no", "{} never ends", awaited.0),
                    Some("service_healthy") => {
                        assert!(!words(&awaited.1["healthcheck"]["test"]).is_empty(), "{} has no healthcheck", awaited.0);
                    }
                    other => panic!("{name} waits for {} to be {other:?}", awaited.0),
                }
                ready &= started.contains(awaited.0);
            }
            if ready {
                started.insert(*name);
            }
        }
        assert!(started.len() > before, "these wait for each other: all but {started:?}");
    }
}

#[test]
fn every_variable_is_one_the_binary_reads_and_takes() {
    for (name, service) in services(&compose()) {
        let Some(words) = own(service) else { continue };
        let interface = interface(&words);
        let known: BTreeMap<String, &clap::Arg> =
            interface.get_arguments().filter_map(|arg| Some((arg.get_env()?.to_string_lossy().into_owned(), arg))).collect();
        let mut flags = vec![words[0].to_owned()];
        for (variable, value) in pairs(&service["environment"]) {
            if let Some(secret) = variable.strip_suffix("_FILE") {
                assert!(known.contains_key(secret), "{name}: {} does not read {secret}", words[0]);
                continue;
            }
            if variable == "NATS_CA" {
                assert!(known.contains_key(variable) && value == "/secrets/ca.pem", "{name}: {value}");
                continue;
            }
            let arg = known.get(variable).unwrap_or_else(|| panic!("{name}: {} does not read {variable}", words[0]));
            flags.push(format!("--{}={value}", arg.get_long().unwrap()));
        }
        interface.clone().try_get_matches_from(flags).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn every_address_leads_to_somebody_who_knows_who_comes() {
    let compose = compose();
    let services = services(&compose);
    let members = members(&TOPOLOGY);
    for (name, service) in &services {
        for (variable, value) in pairs(&service["environment"]) {
            if variable == "WAYBILL_AUTH_JWKS" {
                assert_eq!(
                    (value, secrets(service)),
                    ("/secrets/jwks.json", Some(("/secrets", *name))),
                    "{name} knows the issuer"
                );
            }
            // The issuer's name is no address.
            let Some((scheme, rest)) = value.split_once("://").filter(|_| variable != "WAYBILL_AUTH_ISSUER") else { continue };
            let (host, port) = rest.split_once(':').unwrap();
            assert!(services.contains_key(host), "{name}: {variable} leads to {host}");
            match scheme {
                "tls" => {
                    assert_eq!((host, port), ("nats", "4222"));
                    assert!(members.contains(name), "nobody on the broker is {name}");
                    assert_eq!(pairs(&service["environment"])["NATS_NKEY_SEED_FILE"], "/secrets/nkey.seed");
                    assert_eq!(secrets(service), Some(("/secrets", *name)), "each service sees its own secrets alone");
                }
                _ => assert_eq!(port, listens(services[host]).unwrap(), "{name}: {variable}"),
            }
        }
    }
}

#[test]
fn no_secret_is_in_the_file_and_each_container_sees_its_own_alone() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for (variable, value) in pairs(&service["environment"]) {
            let is_secret = ["PASSWORD", "SEED", "DATABASE_URL", "TOKEN"].iter().any(|end| variable.ends_with(end));
            assert!(!is_secret && !value.contains('@'), "{name}: {variable} comes in a file");
            let Some(of) = variable.strip_suffix("_FILE") else { continue };
            assert!(may_be_a_file(of) || service["image"] != "waybill", "{name}: {variable}");
            // Postgres takes copies of what is in its folder.
            let place = if service["image"] == "waybill" { "/secrets/" } else { "/run/waybill/" };
            assert!(value.starts_with(place), "{name}: {value}");
        }
        let whole = service["volumes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .any(|volume| volume.starts_with("secrets:"));
        assert_eq!(whole, name == "secrets", "{name}");
        match (name, secrets(service)) {
            // Those that watch know none.
            ("secrets" | "prometheus" | "grafana", None) => {}
            ("nats", Some(seen)) => assert_eq!(seen, ("/secrets/nats", "nats")),
            (_, seen) => assert_eq!(seen, Some(("/secrets", name)), "{name}"),
        }
        if let Some(service) = name.strip_suffix("-db") {
            let file = format!("{}_DATABASE_URL_FILE", service.to_uppercase());
            assert_eq!(pairs(&services(&compose)[service]["environment"])[file.as_str()], "/secrets/database.url");
        }
    }
}

/// Where a service finds its secrets, and which folder of theirs it is.
fn secrets(service: &Value) -> Option<(&str, &str)> {
    let mounts = service["volumes"].as_array()?.iter().filter(|volume| volume["source"] == "secrets");
    let mut found = mounts.map(|volume| (volume["target"].as_str().unwrap(), volume["volume"]["subpath"].as_str().unwrap()));
    found.next()
}

/// The port a service of ours listens on.
pub fn listens(service: &Value) -> Option<&str> {
    pairs(&service["environment"])
        .into_iter()
        .find_map(|(name, value)| name.ends_with("_LISTEN").then_some(value)?.split(':').nth(1))
}

#[test]
fn every_port_is_the_one_people_know_and_on_this_machine_only() {
    let mut open = BTreeMap::new();
    for (name, service) in services(&compose()) {
        for port in words(&service["ports"]) {
            let [address, outside, inside] = port.split(':').collect::<Vec<_>>()[..] else { panic!("{name}: {port}") };
            assert_eq!((address, outside), ("127.0.0.1", inside), "{name}");
            open.entry(name.to_owned()).or_insert_with(Vec::new).push(outside.parse::<u16>().unwrap());
        }
        if let Some(port) = listens(service) {
            assert!(pairs(&service["environment"]).contains_key("WAYBILL_AUTH_JWKS"), "{name} asks nobody who it is");
            assert_eq!(words(&service["healthcheck"]["test"]), ["CMD", "waybill", "health", &format!("http://127.0.0.1:{port}")]);
            assert_eq!(open[name], [port.parse::<u16>().unwrap()]);
        }
    }
    let known = [
        ("gateway", vec![8080]),
        ("grafana", vec![3000]),
        ("nats", vec![4222]),
        ("order", vec![8083]),
        ("product", vec![8082]),
        ("prometheus", vec![9090]),
        ("user", vec![8081]),
    ];
    assert_eq!(open, known.map(|(name, ports)| (name.to_owned(), ports)).into());
}

#[test]
fn what_watches_is_there_only_when_asked_for_pinned_and_asks_every_service() {
    let compose = compose();
    let services = services(&compose);
    for watcher in ["prometheus", "grafana"] {
        let (_, version) = services[watcher]["image"].as_str().unwrap().split_once(':').expect("a version");
        assert!(words(&services[watcher]["profiles"]) == ["observe"] && version.split('.').count() == 3, "{watcher} {version}");
    }
    let prometheus: Value = serde_saphyr::from_str(&read("deploy/prometheus.yml")).unwrap();
    let mut asked = BTreeMap::new();
    for job in prometheus["scrape_configs"].as_array().unwrap() {
        let target = job["static_configs"][0]["targets"][0].as_str().unwrap();
        asked.insert(job["job_name"].as_str().unwrap().to_owned(), target.to_owned());
    }
    let serving = services.iter().filter_map(|(name, service)| Some((name, listens(service)?)));
    assert_eq!(asked, serving.map(|(name, port)| (format!("waybill-{name}"), format!("{name}:{port}"))).collect());
    let source: Value = serde_saphyr::from_str(&read("deploy/grafana/provisioning/datasources/prometheus.yml")).unwrap();
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let files: Value = serde_saphyr::from_str(&read("deploy/grafana/provisioning/dashboards/waybill.yml")).unwrap();
    let path = files["providers"][0]["options"]["path"].as_str().unwrap();
    assert!(words(&services["grafana"]["volumes"]).contains(&&*format!("./deploy/grafana/dashboards:{path}:ro")), "{path}");
}

#[test]
fn volumes_are_declared_and_files_exist() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume["source"].as_str().or_else(|| volume.as_str()?.split(':').next()).unwrap();
            let there =
                if source.starts_with('.') { root().join(source).exists() } else { compose["volumes"].get(source).is_some() };
            assert!(there, "{name}: {source}");
        }
    }
}

#[test]
fn the_broker_is_told_everything_its_configuration_asks_for() {
    let compose = compose();
    let conf = read("nats.conf") + &read("nats-accounts.conf");
    let settings = conf.lines().filter(|line| !line.trim_start().starts_with('#'));
    let asked: BTreeSet<String> = settings
        .flat_map(|line| line.split('$').skip(1))
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap().to_owned())
        .filter(|name| !["JS", "SRV"].contains(&name.as_str()))
        .collect();

    // What the file of `waybill certs` tells it, which its command reads, and the rest.
    let nats = services(&compose)["nats"];
    let (target, folder) = secrets(nats).unwrap();
    let command = words(&nats["command"])[2];
    assert!(command.contains(&format!(". {target}/nats.env ")) && folder == "nats", "{command}");
    let keys = members(&TOPOLOGY).into_iter().map(key_variable);
    let told = pairs(&nats["environment"]).into_keys().map(str::to_owned);
    let told: BTreeSet<String> = told.chain(keys).chain(["CERT", "KEY"].map(|name| format!("WAYBILL_NATS_{name}"))).collect();
    assert_eq!(asked, told);
}

/// As the Postgres image runs it: its superuser, in a database that is new.
#[tokio::test]
async fn the_databases_of_the_containers_belong_to_a_role_that_is_no_superuser() {
    let file = std::env::temp_dir().join(format!("waybill-role-{}", uuid::Uuid::now_v7()));
    std::fs::write(&file, "").unwrap();
    let stack = Stack::start(stack::Options::for_tests()).await.unwrap();
    // Not the server's own role, which the rest of this test needs, but one like it.
    let psql = async |url: &str, arguments: &[&str]| {
        let mut command = tokio::process::Command::new(stack.postgres.psql());
        command.args(["-X", "-q", "-A", "-t", "-w", "-d", url]).args(arguments);
        command.env("WAYBILL_DB_ROLE", "waybill_user").env("WAYBILL_DB_PASSWORD_FILE", &file);
        let output = command.output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    };
    let superuser = stack.postgres.superuser_url("postgres");
    psql(&superuser, &["-c", "create role image superuser login password 'known'"]).await.unwrap();
    let (_, host) = superuser.rsplit_once('@').unwrap();
    let image = format!("postgres://image:known@{host}");
    let script = root().join("postgres-init.sql").display().to_string();
    assert!(psql(&image, &["-f", &script]).await.is_err(), "a role without a password");
    std::fs::write(&file, "pass'word\n").unwrap();
    psql(&image, &["-f", &script]).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(psql(&image, &["-c", "select 1"]).await.unwrap_err().contains("password"), "the superuser's password is of use");

    let service = format!("postgres://waybill_user:pass%27word@{}", host.replace("/postgres", "/waybill_user"));
    psql(&service, &["-c", "create table made (id bigint)"]).await.unwrap();
    let program = psql(&service, &["-c", "copy made from program 'echo 1'"]).await.unwrap_err();
    assert!(program.contains("permission denied") || program.contains("must be superuser"), "{program}");
    let elsewhere = format!("{}/postgres", service.rsplit_once('/').unwrap().0);
    let elsewhere = psql(&elsewhere, &["-c", "select 1"]).await.unwrap_err();
    assert!(elsewhere.contains("permission denied"), "{elsewhere}");
}

#[test]
fn the_image_is_built_from_the_whole_workspace_and_holds_every_binary() {
    let dockerfile = read("Dockerfile");
    let lines: Vec<Vec<&str>> = dockerfile.lines().map(|line| line.split_whitespace().collect()).collect();
    let copied: BTreeSet<&str> = lines
        .iter()
        .filter(|words| words.first() == Some(&"COPY") && !words[1].starts_with("--from"))
        .flat_map(|words| &words[1..words.len() - 1])
        .copied()
        .collect();

    // Exactly what the build context lets through.
    let ignore = read(".dockerignore");
    let mut rules = ignore.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    assert_eq!(rules.next(), Some("*"));
    assert_eq!(rules.map(|rule| rule.strip_prefix('!').unwrap()).collect::<BTreeSet<_>>(), copied);

    let manifest: Vec<String> = read("Cargo.toml").lines().map(str::to_owned).collect();
    let members = manifest.iter().skip_while(|line| *line != "members = [").skip(1).take_while(|line| *line != "]");
    for member in members.map(|line| line.trim().trim_matches(['"', ','])) {
        assert!(copied.contains(member.split('/').next().unwrap()), "{member} is not copied into the build");
    }
    for path in ["Cargo.toml", "Cargo.lock", "migrations"] {
        assert!(copied.contains(path), "{path} is not copied into the build");
    }

    let kept: BTreeSet<&str> = lines.iter().flatten().filter_map(|word| word.strip_prefix("target/dist/")).collect();
    for (name, service) in services(&compose()) {
        if let Some(words) = own(service) {
            assert!(kept.contains(words[0]), "{name}: {} is not in the image", words[0]);
        }
    }
}
