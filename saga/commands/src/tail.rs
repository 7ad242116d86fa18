//! Events as they come: a line each for people, a CloudEvent each for programs.

use std::process::ExitCode;

use chrono::SecondsFormat;
use serde_json::{Value, json};

use crate::broker::Stored;
use crate::follow::Follow;
use crate::output::{Format, Output, plain, write_out};
use crate::signal::stop_signal;

/// Shows events until interrupted, or so many. `line`: an event for people, after its time.
pub async fn show(
    mut events: Follow,
    limit: Option<u64>,
    out: Output,
    line: impl Fn(&Stored) -> String,
) -> anyhow::Result<ExitCode> {
    let shown = async {
        for _ in 0..limit.unwrap_or(u64::MAX) {
            let stored = events.next().await?;
            match out.format {
                Format::Table => {
                    let time = stored.time.to_rfc3339_opts(SecondsFormat::Millis, true);
                    write_out(plain(format!("{time}  {}", line(&stored))).trim_end())?;
                }
                Format::Json | Format::Jsonl => out.document(&cloud_event(&stored))?,
            }
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = shown => ended?,
        stopped = stop_signal() => stopped?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The event in the JSON format: what the headers say of it (binary mode), and its data.
fn cloud_event(stored: &Stored) -> Value {
    let mut event = json!({});
    for (name, values) in stored.headers.iter() {
        let name: &str = name.as_ref();
        if let (Some(attribute), Some(value)) = (name.strip_prefix("ce-"), values.first()) {
            event[attribute] = percent_decoded(value.as_str()).into();
        }
    }
    event["data"] = serde_json::from_slice(&stored.payload).unwrap_or_default();
    event
}

/// Undoes what a header needed (CloudEvents NATS binding, section 3.1.3.2).
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok()).and_then(|two| u8::from_str_radix(two, 16).ok());
        match hex.filter(|_| *first == b'%') {
            Some(byte) => (bytes.push(byte), rest = &tail[2..]).0,
            None => (bytes.push(*first), rest = tail).0,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;

    #[test]
    fn an_event_is_a_cloud_event() {
        let mut headers = HeaderMap::new();
        headers.insert("ce-id", "a%20b%");
        headers.insert("ce-type", "waybill.order.rejected.v1");
        headers.insert("Content-Type", "application/json");
        let time = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let subject = "events.order.rejected.17".to_owned();
        let event = cloud_event(&Stored { subject, sequence: 1, time, headers, payload: json!({"a": 1}).to_string().into() });
        assert_eq!(event, json!({"id": "a b%", "type": "waybill.order.rejected.v1", "data": {"a": 1}}));
    }
}
