//! `docker-compose.yml`, `Dockerfile` and `nats.conf` fit together and fit the binaries. No container runs here: this holds what
//! would otherwise show only when somebody starts them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chassis::settings::BrokerSettings;
use chassis::topology::TopologySettings;
use clap::{Args as _, Command, CommandFactory as _};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The file as Compose sees it: merged, and with the default of every variable.
fn compose() -> Value {
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

fn services(compose: &Value) -> BTreeMap<&str, &Value> {
    compose["services"].as_object().unwrap().iter().map(|(name, service)| (name.as_str(), service)).collect()
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|word| word.as_str().unwrap()).collect()
}

fn pairs(map: &Value) -> BTreeMap<&str, &str> {
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
        ["gateway", "nats", "order", "order-db", "product", "product-db", "provision", "user", "user-db"]
    );
    let mut started = BTreeSet::new();
    while started.len() < services.len() {
        let before = started.len();
        for (name, service) in &services {
            let awaited = service["depends_on"].as_object().into_iter().flatten();
            let mut ready = true;
            for (awaited, how) in awaited {
                let awaited = services.get_key_value(awaited.as_str()).unwrap_or_else(|| panic!("{name} waits for {awaited}"));
                assert_eq!(how["condition"], "service_healthy", "{name} waits for {}", awaited.0);
                assert!(!words(&awaited.1["healthcheck"]["test"]).is_empty(), "{} has no healthcheck", awaited.0);
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
            let arg = known.get(variable).unwrap_or_else(|| panic!("{name}: {} does not read {variable}", words[0]));
            flags.push(format!("--{}={value}", arg.get_long().unwrap()));
        }
        interface.clone().try_get_matches_from(flags).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn every_address_leads_to_somebody_who_knows_the_password() {
    let compose = compose();
    let services = services(&compose);
    let nats = pairs(&services["nats"]["environment"]);
    for (name, service) in &services {
        for (variable, value) in pairs(&service["environment"]) {
            let Some((scheme, rest)) = value.split_once("://") else { continue };
            let (credentials, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
            let (host, port) = rest.split_once(':').unwrap();
            let (user, password) = credentials.split_once(':').unwrap_or_default();
            assert!(services.contains_key(host), "{name}: {variable} leads to {host}");
            match scheme {
                "nats" => {
                    assert_eq!((host, port), ("nats", "4222"));
                    assert_eq!(nats[format!("WAYBILL_NATS_{}_PASSWORD", user.to_uppercase()).as_str()], password, "{name}");
                    assert_eq!(user, *name, "each service is its own user");
                }
                "postgres" => {
                    let database = pairs(&services[host]["environment"]);
                    let known = (database["POSTGRES_USER"], database["POSTGRES_PASSWORD"], database["POSTGRES_DB"]);
                    assert_eq!((user, password, port.split_once('/').unwrap()), (known.0, known.1, ("5432", known.2)), "{name}");
                    assert_eq!(host, format!("{name}-db"), "no service goes to another's database");
                }
                _ => assert_eq!(port, listens(services[host]).unwrap(), "{name}: {variable}"),
            }
        }
    }
}

/// The port a service of ours listens on.
fn listens(service: &Value) -> Option<&str> {
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
            assert_eq!(words(&service["healthcheck"]["test"]), ["CMD", "waybill", "health", &format!("http://127.0.0.1:{port}")]);
            assert_eq!(open[name], [port.parse::<u16>().unwrap()]);
        }
    }
    let known = [
        ("gateway", vec![8080]),
        ("nats", vec![4222, 8222]),
        ("order", vec![8083]),
        ("product", vec![8082]),
        ("user", vec![8081]),
    ];
    assert_eq!(open, known.map(|(name, ports)| (name.to_owned(), ports)).into());
}

#[test]
fn volumes_are_declared_and_files_exist() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for volume in words(&service["volumes"]) {
            let source = volume.split(':').next().unwrap();
            let there =
                if source.starts_with('.') { root().join(source).is_file() } else { compose["volumes"].get(source).is_some() };
            assert!(there, "{name}: {source}");
        }
    }
}

#[test]
fn the_broker_is_told_everything_its_configuration_asks_for() {
    let compose = compose();
    let told: BTreeSet<&str> = pairs(&services(&compose)["nats"]["environment"]).into_keys().collect();
    let conf = read("nats.conf");
    let settings = conf.lines().filter(|line| !line.trim_start().starts_with('#'));
    let asked: BTreeSet<&str> = settings
        .flat_map(|line| line.split('$').skip(1))
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap())
        .filter(|name| !["JS", "SRV"].contains(name))
        .collect();
    assert_eq!(asked, told);
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
