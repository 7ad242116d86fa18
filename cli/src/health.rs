//! `waybill health`: whether a service is ready, for probes and for people.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use chassis::settings::hidden;
use reqwest::{Client, Url};
use saga_commands::output::{Format, Output, pairs, write_out};
use saga_commands::problem::root_cause;
use saga_commands::system::{http_url, shown};
use serde::{Deserialize, Serialize};

/// Examples for `--help`.
pub const EXAMPLES: &str = "Examples:
  waybill health
  waybill health http://127.0.0.1:8083
  waybill health http://127.0.0.1:8083 -o json | jq .checks";

/// A probe that takes longer has its answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The flags of `waybill health`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service [default: the gateway].
    #[arg(value_name = "URL", value_parser = hidden(http_url))]
    service: Option<Url>,
}

/// What `/readyz` answers, with 200 or 503.
#[derive(Deserialize, Serialize)]
struct Readiness {
    ready: bool,
    checks: BTreeMap<String, String>,
    /// Informational; does not affect readiness.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    notes: BTreeMap<String, String>,
}

impl Args {
    /// Exit status 0: ready. 1: not ready, or nobody answers.
    pub async fn run(self, gateway: impl Fn() -> anyhow::Result<Url>, out: Output) -> anyhow::Result<ExitCode> {
        let url = self.service.map_or_else(gateway, Ok)?.join("/readyz")?;
        // No proxy: what is asked about is a neighbour.
        let client = Client::builder().timeout(PATIENCE).no_proxy().build()?;
        let asked = shown(url.as_str());
        let response = client.get(url).send().await.map_err(|error| anyhow!("cannot ask {asked}: {}", root_cause(&error)))?;
        let status = response.status();
        let answer: Readiness =
            response.json().await.with_context(|| format!("{asked} answers {status}; is it one of our services?"))?;
        match out.format {
            Format::Table => {
                let mut lines = vec![("ready".to_owned(), if answer.ready { "yes" } else { "no" }.to_owned())];
                lines.extend(answer.checks.clone());
                lines.extend(answer.notes.iter().map(|(name, note)| (format!("{name} (note)"), note.clone())));
                write_out(&pairs(&lines))?;
            }
            Format::Json | Format::Jsonl => out.document(&answer)?,
        }
        ensure!(answer.ready, "{asked} is not ready");
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chassis::causes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// What the probe says of a service that answers like this.
    async fn probe(status: &str, body: &str) -> Result<ExitCode, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let read = stream.read(&mut [0; 4096]).await.unwrap();
            assert!(read > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let run = Args { service: Some(service) }.run(|| unreachable!(), Output::new(Format::Json)).await;
        run.map_err(|error| causes(&error))
    }

    #[tokio::test]
    async fn only_a_ready_service_of_ours_is_healthy() {
        assert!(probe("200 OK", r#"{"ready":true,"checks":{"broker":"ok"}}"#).await.is_ok());
        let error = probe("503 Service Unavailable", r#"{"ready":false,"checks":{"broker":"not connected"}}"#).await.unwrap_err();
        assert!(error.ends_with("is not ready"), "{error}");
        let error = probe("404 Not Found", "what?").await.unwrap_err();
        assert!(error.contains("is it one of our services?"), "{error}");
    }
}
