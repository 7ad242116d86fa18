//! An issuer of tokens: keys, and the JWKS that tells of them, in a file or behind an address that can go away.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use chassis::identity::{Algorithm, IdentitySettings, SigningKey};
use chrono::Utc;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use uuid::Uuid;

const ISSUER: &str = "https://issuer.test";

const AUDIENCE: &str = "waybill-tests";

/// An issuer. Its file goes when it is dropped.
pub struct Issuer {
    file: PathBuf,
    keys: Mutex<Vec<Arc<SigningKey>>>,
}

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}

impl Issuer {
    /// With one key, for EdDSA.
    pub fn new() -> Self {
        let file = std::env::temp_dir().join(format!("waybill-jwks-{}.json", Uuid::now_v7()));
        let issuer = Self { file, keys: Mutex::default() };
        issuer.rotate(vec![Self::key("ed", Algorithm::EdDSA)]);
        issuer
    }

    /// A new key of this name. An RSA key comes from the `openssl` command: ring makes none.
    pub fn key(name: &str, algorithm: Algorithm) -> Arc<SigningKey> {
        let document = match algorithm {
            Algorithm::RS256 => {
                let mut openssl = std::process::Command::new("openssl");
                openssl.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER", "-quiet"]);
                let made = openssl.output().expect("the `openssl` command, which makes RSA keys");
                assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
                made.stdout
            }
            other => SigningKey::generate(other).expect("a key"),
        };
        Arc::new(SigningKey::new(name, algorithm, &document).expect("a key"))
    }

    /// Has these keys, and no others, from now on. The first signs.
    pub fn rotate(&self, keys: Vec<Arc<SigningKey>>) {
        *self.keys.lock().expect("never poisoned") = keys;
        // Readers find the one file or the other, and never half of one.
        let next = self.file.with_extension("next");
        std::fs::write(&next, self.jwks()).expect("a file");
        std::fs::rename(&next, &self.file).expect("a file");
    }

    /// Where the keys are told of.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn jwks(&self) -> String {
        let keys = self.keys.lock().expect("never poisoned");
        let keys: Vec<Value> =
            keys.iter().map(|key| serde_json::to_value(key.public().expect("a public key")).expect("JSON")).collect();
        json!({ "keys": keys }).to_string()
    }

    /// Has a service believe this issuer.
    pub fn believed(&self, settings: &mut IdentitySettings) {
        settings.auth_jwks = Some(self.file.to_str().expect("a path of text").parse().expect("a path"));
        settings.auth_issuer = Some(ISSUER.to_owned());
        settings.auth_audience = Some(AUDIENCE.to_owned());
    }

    /// The claims of a token that is good for an hour.
    pub fn claims(subject: &str, roles: &[&str]) -> Value {
        json!({ "sub": subject, "iss": ISSUER, "aud": AUDIENCE, "exp": Utc::now().timestamp() + 3600, "roles": roles })
    }

    /// A token of these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let key = self.keys.lock().expect("never poisoned").first().expect("a key").clone();
        key.sign(claims).expect("a token")
    }

    /// A token that is good for an hour.
    pub fn token(&self, subject: impl ToString, roles: &[&str]) -> String {
        self.sign(&Self::claims(&subject.to_string(), roles))
    }

    /// The same keys behind an address.
    pub async fn serve(self: &Arc<Self>) -> IssuerServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/jwks", listener.local_addr().expect("an address"));
        let (asked, down) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let hangs = Arc::new(AtomicBool::new(false));
        let (issuer, counted, is_down, is_hanging) = (self.clone(), asked.clone(), down.clone(), hangs.clone());
        let task = tokio::spawn(async move {
            let mut waiting = Vec::new();
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                counted.fetch_add(1, Ordering::SeqCst);
                if is_down.load(Ordering::SeqCst) {
                    continue;
                }
                if is_hanging.load(Ordering::SeqCst) {
                    waiting.push(stream);
                    continue;
                }
                let body = issuer.jwks();
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        IssuerServer { url, asked, down, hangs, task }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// An issuer's keys behind an address.
pub struct IssuerServer {
    /// Where they are.
    pub url: String,
    asked: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl IssuerServer {
    /// How often somebody has come for them.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Lets everybody wait from now on who comes for them.
    pub fn hang(&self) {
        self.hangs.store(true, Ordering::SeqCst);
    }

    /// Answers nobody any more, or everybody again.
    pub fn down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }
}

impl Drop for IssuerServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
