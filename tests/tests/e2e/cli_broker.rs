//! The commands on a broker that asks who they are: contexts of the `nats` command line and of our own say it, by the files that hold it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chassis::topology::{self, TopologySettings};
use events::streams::TOPOLOGY;
use nkeys::KeyPair;
use serde_json::{Value, json};
use stack::Port;
use testkit::deployed::Deployed;
use testkit::{eventually, program};
use tokio::process::Command;
use uuid::Uuid;

/// A user's configuration, and nothing else.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("waybill-home-{}", Uuid::now_v7().simple()));
        fs::create_dir_all(folder.join(".config/nats/context")).unwrap();
        Self(folder)
    }

    fn nats_context(&self, name: &str, context: Value) {
        fs::write(self.0.join(format!(".config/nats/context/{name}.json")), context.to_string()).unwrap();
    }

    /// The exit status, and all that is said.
    async fn waybill(&self, args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut command = Command::new(program("waybill"));
        command.args(args).env_clear().env("HOME", &self.0).envs(variables.iter().copied()).current_dir(&self.0);
        let output = command.stdin(Stdio::null()).output().await.unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code(), said)
    }

    async fn done(&self, args: &[&str], variables: &[(&str, &str)]) -> String {
        let (code, said) = self.waybill(args, variables).await;
        assert_eq!(code, Some(0), "{args:?}: {said}");
        said
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_of_either_kind_says_by_which_key_the_broker_knows_us_and_whom_to_believe() {
    let server = Deployed::start().await;
    let operator = server.broker("operator").await;
    topology::ensure(operator.jetstream(), &TOPOLOGY, &TopologySettings::default()).await.unwrap();
    let url = server.url();
    let file = |name: &str| server.secrets().join(name).display().to_string();
    let (seed, ca) = (file("operator/nkey.seed"), file("ca.pem"));
    let home = Home::new();

    home.nats_context("prod", json!({ "url": url, "nkey": seed, "ca": ca, "creds": "" }));
    home.done(&["dead-letter", "list", "--nats-context", "prod"], &[]).await;
    home.done(&["dead-letter", "list"], &[("NATS_CONTEXT", "prod")]).await;
    home.done(&["context", "add", "by-nats", "--nats-context", "prod"], &[]).await;
    home.done(&["--context", "by-nats", "dead-letter", "list"], &[]).await;

    // As `nk` writes it, and in the folder of its user.
    let around = format!(
        "-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        fs::read_to_string(&seed).unwrap().trim()
    );
    fs::write(home.0.join("me.nk"), around).unwrap();
    home.nats_context("home", json!({ "url": url, "nkey": "~/me.nk", "ca": ca }));
    home.done(&["dead-letter", "list", "--nats-context", "home"], &[]).await;

    // Our own keeps the names of the files.
    let kept = ["context", "add", "own", "--nats-url", &url, "--nats-nkey-seed-file", "me.nk", "--nats-ca", &ca];
    home.done(&kept, &[]).await;
    home.done(&["--context", "own", "dead-letter", "list"], &[]).await;
    let text = fs::read_to_string(home.0.join(".config/waybill/contexts/own.json")).unwrap();
    let seed_text = fs::read_to_string(&seed).unwrap();
    assert!(text.contains(home.0.join("me.nk").to_str().unwrap()) && !text.contains(seed_text.trim()), "{text}");
    let shown = home.done(&["context", "show", "own"], &[]).await;
    assert!(shown.contains("me.nk") && shown.contains("ca.pem") && !shown.contains(seed_text.trim()), "{shown}");

    // Who is said in the environment counts first, and may be nobody to the broker.
    let stranger = KeyPair::new_user().seed().unwrap();
    let (code, said) = home.waybill(&["--context", "own", "dead-letter", "list"], &[("NATS_NKEY_SEED", &stranger)]).await;
    assert!(code == Some(1) && said.contains("does not know us"), "{said}");
    // Nothing of a context goes to another broker.
    let elsewhere = format!("tls://127.0.0.1:{}", Port::FREE.pick().unwrap());
    let (code, said) = home.waybill(&["--context", "own", "dead-letter", "list", "--nats-url", &elsewhere], &[]).await;
    assert!(code == Some(1) && said.contains("does not answer"), "{said}");

    for (args, why) in [
        (["--nats-nkey-seed-file", "nowhere.nk"], "cannot read"),
        (["--nats-nkey-seed-file", &ca], "holds no seed of a user's nkey"),
        (["--nats-creds", "me.nk"], "holds no JWT and seed"),
        (["--nats-ca", "me.nk"], "holds no certificate"),
    ] {
        let (code, said) = home.waybill(&[&["context", "add", "wrong"], &args[..]].concat(), &[]).await;
        assert!(code == Some(1) && said.contains(why) && !said.contains(seed_text.trim()), "{args:?}: {said}");
    }
}

/// What an operator, an account or a user is, signed by who says so.
fn jwt(by: &KeyPair, about: &KeyPair, nats: Value) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let claims = json!({ "jti": Uuid::now_v7(), "iat": 1_700_000_000, "iss": by.public_key(), "sub": about.public_key(), "name": "test", "nats": nats });
    let signed = format!("{head}.{}", part(claims));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(by.sign(signed.as_bytes()).unwrap()))
}

/// A file as `nsc generate creds` writes it.
fn creds(path: &Path, account: &KeyPair, user: &KeyPair) {
    let jwt =
        jwt(account, user, json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {} }));
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    );
    fs::write(path, text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_accounts_are_an_operators_knows_us_by_a_file_of_credentials() {
    let home = Home::new();
    let (operator, system, account) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let limits =
        json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1 });
    let mut with_streams = limits.clone();
    for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
        with_streams[limit] = json!(-1);
    }
    let of_account =
        |key: &KeyPair, limits: &Value| jwt(&operator, key, json!({ "type": "account", "version": 2, "limits": limits }));
    let (of_system, of_account) = (of_account(&system, &limits), of_account(&account, &with_streams));
    let of_operator = jwt(&operator, &operator, json!({ "type": "operator", "version": 2 }));
    let port = Port::FREE.pick().unwrap();
    let conf = format!(
        "listen: \"127.0.0.1:{port}\"\noperator: \"{of_operator}\"\nresolver: MEMORY\n\
         system_account: {}\nresolver_preload: {{ {}: \"{of_system}\", {}: \"{of_account}\" }}\n\
         jetstream {{ store_dir: \"{}\" }}\n",
        system.public_key(),
        system.public_key(),
        account.public_key(),
        home.0.join("store").display()
    );
    fs::write(home.0.join("nats.conf"), conf).unwrap();
    let mut server = Command::new(stack::Options::for_tests().nats_server().await.unwrap());
    let log = home.0.join("nats.log");
    server.arg("-c").arg(home.0.join("nats.conf")).arg("-l").arg(&log).stdin(Stdio::null()).kill_on_drop(true);
    let _server = server.spawn().unwrap();

    let url = format!("nats://127.0.0.1:{port}");
    creds(&home.0.join("me.creds"), &account, &KeyPair::new_user());
    creds(&home.0.join("stranger.creds"), &KeyPair::new_account(), &KeyPair::new_user());
    let me = home.0.join("me.creds").display().to_string();
    eventually(Duration::from_secs(20), || async {
        let (code, said) = home.waybill(&["provision"], &[("NATS_URL", &url), ("NATS_CREDS", &me)]).await;
        if code == Some(0) { Ok(()) } else { Err(format!("{said}{}", fs::read_to_string(&log).unwrap_or_default())) }
    })
    .await;
    home.nats_context("ngs", json!({ "url": url, "creds": "~/me.creds" }));
    home.done(&["dead-letter", "list", "--nats-context", "ngs"], &[]).await;
    home.done(&["context", "add", "ngs", "--nats-url", &url, "--nats-creds", "me.creds"], &[]).await;
    home.done(&["--context", "ngs", "dead-letter", "list"], &[]).await;
    home.nats_context("stranger", json!({ "url": url, "creds": "~/stranger.creds" }));
    let (code, said) = home.waybill(&["dead-letter", "list", "--nats-context", "stranger"], &[]).await;
    assert!(code == Some(1) && said.contains("does not know us"), "{said}");
    let seed = KeyPair::new_user().seed().unwrap();
    let both = [("NATS_URL", url.as_str()), ("NATS_CREDS", &me), ("NATS_NKEY_SEED", &seed)];
    let (code, said) = home.waybill(&["dead-letter", "list"], &both).await;
    assert!(code == Some(1) && said.contains("cannot be used with") && !said.contains(&seed), "{said}");
}
