//! Who asks, and whom: tokens and contexts. A token reaches the system that it was kept for and no other, and shows nowhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chassis::identity::{Algorithm, SigningKey};
use serde_json::{Value, json};

use super::fake::Fake;
use super::{USER, nowhere, run_command};

/// A token that says it is ann's, until 2027. Nobody signed it.
const ANN: &str = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbm4iLCJleHAiOjE4MDAwMDAwMDB9.aHVudGVyMg";

/// A folder for one test, with the configuration of its user; removed at the end.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("waybill-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    /// `waybill` as its user types it here, with nothing else set.
    fn waybill(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waybill"));
        command.args(args).env_clear().env("XDG_CONFIG_HOME", self.0.join("config")).current_dir(&self.0).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        run_command(&mut self.waybill(args), "")
    }

    /// What must succeed.
    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(args);
        assert_eq!(code, Some(0), "{args:?}: {stderr}");
        stdout
    }

    fn context(&self, name: &str) -> PathBuf {
        self.0.join(format!("config/waybill/contexts/{name}.json"))
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn last(fake: &Arc<Fake>) -> String {
    fake.asked_by.lock().unwrap().last().cloned().expect("it was asked")
}

#[test]
fn a_flag_counts_before_the_environment_a_context_what_up_left_and_the_usual() {
    let home = Home::new("precedence");
    let [by_flag, by_variable, by_context, by_note] = std::array::from_fn(|_| Fake::default().start());
    home.done(&["context", "add", "shop", "--gateway", &by_context.1]);
    home.done(&["context", "use", "shop"]);
    home.file(".local/waybill.env", &format!("WAYBILL_GATEWAY={}\n", by_note.1));
    let asks = |args: &[&str], variable: Option<&str>| {
        let mut command = home.waybill(&[&["order", "list"], args].concat());
        if let Some(variable) = variable {
            command.env("WAYBILL_GATEWAY", variable);
        }
        let (code, _, stderr) = run_command(&mut command, "");
        assert_eq!(code, Some(0), "{stderr}");
    };
    let asked = || [&by_flag, &by_variable, &by_context, &by_note].map(|(fake, _)| fake.seen.lock().unwrap().len());
    asks(&["--gateway", &by_flag.1], Some(&by_variable.1));
    assert_eq!(asked(), [1, 0, 0, 0]);
    asks(&[], Some(&by_variable.1));
    assert_eq!(asked(), [1, 1, 0, 0]);
    asks(&[], None);
    assert_eq!(asked(), [1, 1, 1, 0]);
    asks(&["--context", "none"], None);
    assert_eq!(asked(), [1, 1, 1, 1]);
    // Another context than the one in use, by a flag or a variable.
    home.done(&["context", "add", "other", "--gateway", &by_flag.1]);
    asks(&["--context=other"], None);
    let (code, ..) = run_command(home.waybill(&["order", "list"]).env("WAYBILL_CONTEXT", "other"), "");
    assert_eq!((code, asked()), (Some(0), [3, 1, 1, 1]));
    home.done(&["context", "rm", "shop"]);
    asks(&[], None);
    assert_eq!(asked(), [3, 1, 1, 2], "the one in use is gone, and none is");
}

#[test]
fn a_token_comes_from_a_flag_the_environment_or_the_context_of_the_very_system_that_is_asked() {
    let home = Home::new("tokens");
    let (fake, gateway) = Fake { wants: Some(ANN), ..Fake::default() }.start();
    let (other, elsewhere) = Fake::default().start();
    let (code, _, stderr) = home.run(&["--gateway", &gateway, "order", "list"]);
    assert_eq!((code, last(&fake).as_str()), (Some(1), ""));
    assert!(stderr.contains("(401)") && stderr.contains("--token-file") && stderr.contains("WAYBILL_TOKEN"), "{stderr}");

    let file = home.file("token", &format!("{ANN}\n"));
    home.done(&["--gateway", &gateway, "--token-file", &file, "order", "list"]);
    let with = |variables: &[(&str, &str)], args: &[&str]| {
        run_command(home.waybill(&[&["--gateway", &gateway, "order", "list"], args].concat()).envs(variables.iter().copied()), "")
    };
    assert_eq!(with(&[("WAYBILL_TOKEN", ANN)], &[]).0, Some(0));
    assert_eq!(with(&[("WAYBILL_TOKEN_FILE", &file)], &[]).0, Some(0));
    assert_eq!(with(&[("WAYBILL_TOKEN", "wrong")], &["--token-file", &file]).0, Some(0), "a flag counts before a variable");
    let (code, _, stderr) = with(&[("WAYBILL_TOKEN", ANN), ("WAYBILL_TOKEN_FILE", &file)], &[]);
    assert!(code == Some(1) && stderr.contains("are both set"), "{stderr}");
    for wrong in ["hunter2 hunter2", " "] {
        let (code, _, stderr) = with(&[("WAYBILL_TOKEN", wrong)], &[]);
        assert!(code == Some(1) && stderr.contains("WAYBILL_TOKEN") && !stderr.contains("hunter2"), "{stderr}");
    }

    // A context keeps it, and it goes nowhere else.
    let (code, stdout, stderr) =
        run_command(&mut home.waybill(&["context", "add", "shop", "--gateway", &gateway, "--token-stdin"]), format!("{ANN}\n"));
    assert!(code == Some(0) && stdout.is_empty() && !stderr.contains(ANN), "{stderr}");
    home.done(&["context", "use", "shop"]);
    home.done(&["order", "list"]);
    home.done(&["--gateway", &elsewhere, "order", "list"]);
    assert_eq!(last(&other), "", "another system is told nothing");
    home.done(&["--gateway", &gateway.replace("127.0.0.1", "localhost"), "order", "list"]);
    assert_eq!(with(&[("WAYBILL_TOKEN", "wrong")], &[]).0, Some(1), "a variable counts before a context");
    for args in
        [&["context", "show"][..], &["context", "show", "-o", "json"], &["context", "ls"], &["context", "ls", "-o", "jsonl"]]
    {
        let said = home.done(args);
        assert!(
            said.contains("ann, until 2027-01-15T08:00:00Z") && !said.contains(ANN) && !said.contains("aHVudGVyMg"),
            "{said}"
        );
    }

    // Somebody renews the file that a context names.
    home.done(&["context", "add", "shop", "--token-file", "token"]);
    home.done(&["order", "list"]);
    home.file("token", "renewed");
    assert_eq!((home.run(&["order", "list"]).0, last(&fake).as_str()), (Some(1), "Bearer renewed"));
    fs::remove_file(&file).unwrap();
    let (code, _, stderr) = home.run(&["order", "list"]);
    assert!(code == Some(1) && stderr.contains(&format!("cannot read the token in {file}")), "{stderr}");
    assert!(home.done(&["context", "ls"]).contains("cannot read the token"));
}

#[test]
fn what_up_left_has_a_token_for_its_own_system_only() {
    let home = Home::new("noted");
    let (fake, gateway) = Fake { wants: Some(ANN), ..Fake::default() }.start();
    let (other, elsewhere) = Fake::default().start();
    let token = home.file("token", ANN);
    home.file(".local/waybill.env", &format!("WAYBILL_GATEWAY={gateway}\nWAYBILL_TOKEN_FILE={token}\n"));
    home.done(&["order", "list"]);
    home.done(&["--gateway", &gateway, "order", "list"]);
    home.done(&["--gateway", &elsewhere, "order", "list"]);
    assert_eq!((last(&fake), last(&other)), (format!("Bearer {ANN}"), String::new()));
    // A context about the same addresses says who asks by itself, or nobody does.
    home.done(&["context", "add", "same", "--gateway", &gateway]);
    assert_eq!((home.run(&["--context", "same", "order", "list"]).0, last(&fake)), (Some(1), String::new()));
}

#[test]
fn contexts_are_their_owners_alone_and_their_passwords_show_nowhere() {
    let home = Home::new("contexts");
    let mut add = home.waybill(&["context", "add", "prod", "--order-url", "orders.internal:8083"]);
    add.env("ORDER_DATABASE_URL", "postgres://u:hunter2@db/waybill_order").env("NATS_URL", "nats://u:hunter2@broker");
    assert_eq!(run_command(&mut add, "").0, Some(0));
    let file = home.context("prod");
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let kept: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(kept["addresses"]["NATS_URL"], "nats://u:hunter2@broker", "{kept}");
    for args in [&["context", "show", "prod"][..], &["context", "show", "prod", "-o", "json"], &["context", "ls", "-o", "json"]] {
        let said = home.done(args);
        assert!(said.contains("postgres://db/waybill_order") && !said.contains("hunter2"), "{said}");
    }

    // What is said again takes the place of what was kept, and the rest stays.
    home.done(&["context", "add", "prod", "--gateway", "https://shop.internal", "--nats-context", "prod"]);
    let kept: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((&kept["nats_context"], &kept["addresses"]["NATS_URL"]), (&"prod".into(), &Value::Null));
    assert_eq!(kept["addresses"]["WAYBILL_ORDER_URL"], "orders.internal:8083");
    assert_eq!(mode(&file), 0o600);

    for (open, who) in [(0o640, "a group"), (0o604, "everybody")] {
        fs::set_permissions(&file, fs::Permissions::from_mode(open)).unwrap();
        let (code, stdout, stderr) = home.run(&["--context", "prod", "order", "list"]);
        assert!(code == Some(1) && stdout.is_empty() && stderr.contains("chmod 600"), "{who} can read it: {stderr}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "{\"token\": hunter2}").unwrap();
    let (code, _, stderr) = home.run(&["--context", "prod", "order", "list"]);
    assert!(code == Some(1) && stderr.contains("is no context") && !stderr.contains("hunter2"), "{stderr}");

    for (args, code) in [
        (&["context", "add", "../x", "--gateway", "h"][..], 2),
        (&["context", "add", "none", "--gateway", "h"], 2),
        (&["context", "add", "empty"], 2),
        (&["context", "add", "x", "--gateway", "ftp://u:hunter2@h"], 2),
        (&["context", "use", "nowhere"], 1),
        (&["context", "rm", "nowhere"], 1),
        (&["context", "show", "nowhere"], 1),
        (&["context", "show"], 1),
        (&["--context", "nowhere", "order", "list"], 1),
        (&["--context", "../../x", "order", "list"], 1),
    ] {
        let (status, stdout, stderr) = home.run(args);
        assert!(status == Some(code) && stdout.is_empty() && !stderr.contains("hunter2"), "{args:?}: {status:?} {stderr}");
    }
}

#[test]
fn a_context_is_of_one_system_as_a_whole() {
    let home = Home::new("whole");
    home.done(&["context", "add", "prod", "--gateway", "https://shop.internal", "--order-url", "https://orders.internal"]);
    home.done(&["context", "use", "prod"]);
    // It has no database: neither the usual one nor that of another system is taken for it.
    let (code, _, stderr) = home.run(&["audit"]);
    assert!(code == Some(1) && stderr.contains("ORDER_DATABASE_URL"), "{stderr}");
    home.file(
        ".local/waybill.env",
        "WAYBILL_GATEWAY=http://127.0.0.1:1\nORDER_DATABASE_URL=postgres://127.0.0.1:1/waybill_order\n",
    );
    let (code, _, stderr) = home.run(&["audit"]);
    assert!(code == Some(1) && stderr.contains("is about another system"), "{stderr}");
    // One of its addresses, while another system's gateway was said.
    let (code, _, stderr) = home.run(&["--gateway", &nowhere(), "saga", "list"]);
    assert!(
        code == Some(1) && stderr.contains("the context prod is about another system: set WAYBILL_ORDER_URL too"),
        "{stderr}"
    );
}

#[test]
fn the_broker_can_be_that_of_a_context_of_the_nats_command_line() {
    let home = Home::new("nats");
    let closed = nowhere().replace("http://", "");
    home.file("config/nats/context/prod.json", &format!(r#"{{"url":"nats://{closed}","user":"ann","password":"hunter2"}}"#));
    home.file("config/nats/context/lost.json", r#"{"url":"nats://h","creds":"/home/ann/lost.creds"}"#);
    home.file("config/nats/context/cert.json", r#"{"url":"nats://h","cert":"/home/ann/hunter2.pem"}"#);
    home.done(&["context", "add", "shop", "--nats-context", "prod"]);
    let asks = |args: &[&str], variables: &[(&str, &str)]| {
        let (code, _, stderr) =
            run_command(home.waybill(&[&["dead-letter", "list"], args].concat()).envs(variables.iter().copied()), "");
        assert!(matches!(code, Some(1 | 2)) && !stderr.contains("hunter2"), "{stderr}");
        stderr
    };
    let answers_not = format!("the broker at nats://{closed} does not answer");
    for (args, variables) in [
        (&["--nats-context", "prod"][..], &[][..]),
        (&[], &[("NATS_CONTEXT", "prod")]),
        (&["--nats-context", "prod"], &[("NATS_URL", "nats://127.0.0.1:1")]),
        (&["--context", "shop"], &[]),
    ] {
        let said = asks(args, variables);
        assert!(said.contains(&answers_not), "{args:?} {variables:?}: {said}");
    }
    let said = asks(&[], &[("NATS_CONTEXT", "prod"), ("NATS_URL", "nats://127.0.0.1:1")]);
    assert!(said.contains("nats://127.0.0.1:1"), "{said}");
    assert!(asks(&["--nats-context", "nowhere"], &[]).contains("there is no nats context nowhere"));
    assert!(asks(&["--nats-context", "../x"], &[]).contains("is no name of a nats context"));
    assert!(asks(&["--nats-context", "cert"], &[]).contains("says `cert`, which is not understood here"));
    assert!(asks(&["--nats-context", "lost"], &[]).contains("/home/ann/lost.creds cannot be read"));
    assert!(asks(&["--nats-context", "prod", "--nats-url", "nats://h"], &[]).contains("one of them is enough"));
}

#[test]
fn a_token_says_whose_it_is_what_its_bearer_may_and_for_how_long() {
    let home = Home::new("issuer");
    let key = home.file("issuer.key", "");
    fs::write(&key, SigningKey::generate(Algorithm::EdDSA).unwrap()).unwrap();
    let (code, _, stderr) = home.run(&["token", "--role", "operator", "--subject", "ann", "--key", &key]);
    assert!(code == Some(1) && stderr.contains("chmod 600"), "a key that others can read is none: {stderr}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let customer = ["token", "--role", "customer", "--subject", USER, "--ttl", "5m"];
    let mut command = home.waybill(&customer);
    let (code, token, stderr) = run_command(command.env("WAYBILL_ISSUER_KEY", &key), "");
    assert!(code == Some(0) && stderr.is_empty(), "{stderr}");
    let parts: Vec<&str> = token.trim().split('.').collect();
    let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let (header, claims) = (read(parts[0]), read(parts[1]));
    assert_eq!((&header["alg"], parts.len()), (&json!("EdDSA"), 3));
    assert_eq!((&claims["sub"], &claims["roles"], &claims["aud"]), (&json!(USER), &json!(["customer"]), &json!("waybill")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300, "{claims}");
    let said = home.done(&["token", "--role=catalog", "--role=operator", "--subject=ann", "--key", &key, "-o", "json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["subject"], &said["roles"]), (&json!("ann"), &json!(["catalog", "operator"])));
    assert_eq!(read(said["token"].as_str().unwrap().split('.').nth(1).unwrap())["sub"], "ann");

    for (args, code) in [
        (&["--role", "nobody"][..], 2),
        (&[], 2),
        (&["--role", "operator", "--subject", " "], 2),
        (&["--role", "customer"], 2),
        (&["--role", "customer", "--subject", "ann"], 2),
        (&["--role", "operator", "--subject", "ann", "--ttl", "59s"], 2),
        (&["--role", "operator", "--subject", "ann", "--ttl", "31d"], 2),
        (&["--role", "operator", "--subject", "ann", "--ttl", "-1"], 2),
        // Nobody's name is in the environment: it is the user's of this process.
        (&["--role", "operator"], 0),
        (&["--role", "operator", "--subject", "ann", "--key", "nowhere"], 1),
        (&["--role", "operator", "--subject", "ann"], 0),
        (&["--role", "operator", "--subject", "ann", "--ttl", "30d"], 0),
    ] {
        let mut command = home.waybill(&[&["token"], args].concat());
        let (status, stdout, stderr) = run_command(command.env("WAYBILL_ISSUER_KEY", &key), "");
        assert_eq!((status, stdout.is_empty()), (Some(code), code != 0), "{args:?}: {stderr}");
    }
    // Without a key it is that of the system that runs here.
    let (code, _, stderr) = home.run(&["token", "--role", "operator", "--subject", "ann"]);
    assert!(code == Some(1) && stderr.contains("no `waybill up --auth` runs in this folder"), "{stderr}");
    home.file(".local/waybill.env", "WAYBILL_GATEWAY=http://127.0.0.1:1\n");
    let (code, _, stderr) = home.run(&["token", "--role", "operator", "--subject", "ann"]);
    assert!(code == Some(1) && stderr.contains("is open and asks for no token"), "{stderr}");
    home.file(".local/waybill.env", &format!("WAYBILL_ISSUER_KEY={key}\n"));
    home.done(&["token", "--role", "operator", "--subject", "ann"]);
}

#[test]
fn certs_make_a_development_issuer_whom_every_service_can_know() {
    let home = Home::new("certs");
    home.done(&["certs", "secrets"]);
    let key = home.0.join("secrets/issuer/issuer.key");
    let (made, known) = (fs::read(&key).unwrap(), fs::read(home.0.join("secrets/issuer/jwks.json")).unwrap());
    assert_eq!(mode(&key), 0o600);
    for service in ["user", "product", "order", "gateway"] {
        assert_eq!(fs::read(home.0.join(format!("secrets/{service}/jwks.json"))).unwrap(), known, "{service}");
        assert!(!home.0.join(format!("secrets/{service}/issuer.key")).exists());
    }
    let file = key.to_str().unwrap();
    home.done(&["token", "--key", file, "--role", "operator", "--subject", "ann"]);
    home.done(&["certs", "secrets"]);
    assert_eq!(fs::read(&key).unwrap(), made, "a token outlives a second start");
}

#[test]
fn a_setting_with_a_secret_comes_from_the_file_that_a_variable_names() {
    let home = Home::new("files");
    let closed = nowhere().replace("http://", "");
    let file = home.file("url", &format!("nats://ann:hunter2@{closed}\n"));
    let (code, _, stderr) = run_command(home.waybill(&["dead-letter", "list"]).env("NATS_URL_FILE", &file), "");
    assert!(code == Some(1) && stderr.contains(&format!("the broker at nats://{closed} does not answer")), "{stderr}");
    let both = run_command(home.waybill(&["dead-letter", "list"]).env("NATS_URL_FILE", &file).env("NATS_URL", "h"), "");
    assert!(both.0 == Some(1) && both.2.contains("are both set: unset one"), "{}", both.2);
    let help = run_command(home.waybill(&["dead-letter", "list", "--help"]).env("NATS_URL_FILE", &file), "");
    assert!(help.0 == Some(0) && !help.1.contains("hunter2"), "{}", help.1);
}
