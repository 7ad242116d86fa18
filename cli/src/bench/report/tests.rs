//! The page is whole, and holds what was measured.

use super::super::drive::Mode;
use super::super::floor::Floor;
use super::super::machine::Machine;
use super::super::meter::{ByPart, Part};
use super::super::tally::{Counts, histogram};
use super::charts::{against_load, nines};
use super::*;

fn run(mode: Mode, slowest_ms: u64) -> Run {
    let mut latency = histogram();
    (1..=slowest_ms).for_each(|ms| latency.record(ms * 1_000).unwrap());
    let errors = [("503".to_owned(), 7)].into();
    let counts = Counts { latency, confirmed: 990, rejected: 10, cancelled: 0, errors };
    let cpu = ByPart::from([(Part::Order, 60.0), (Part::Nats, 50.0), (Part::Postgres, 80.0), (Part::Driver, 40.0)]);
    let mut run = Run::new(mode, 10.0, counts, 1_200, &cpu, &cpu);
    run.stand_on(Floor { messages: 40.0, rows: 60.0, total: 100.0 });
    run
}

fn context() -> Context {
    Context {
        load: "uniform",
        lines_per_order: 2.0,
        products: 100,
        via_gateway: false,
        instances: Some(1),
        sync: Some("120 s".to_owned()),
        warmup_seconds: 3.0,
        audit_clean: Some(true),
        machine: Machine { cpu: "A <fast> processor".to_owned(), cores: 2, memory_gib: 23.4, kernel: "6.1".to_owned() },
        version: "0.1.0",
        commit: None,
        command: "waybill bench --report \"a & b\".html".to_owned(),
        at: "2026-11-22T12:00:00Z".parse().unwrap(),
    }
}

/// Every tag is closed in the order it was opened.
fn well_formed(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    for part in html.split('<').skip(1) {
        let (tag, _) = part.split_once('>').unwrap_or_else(|| panic!("no end: <{part}"));
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "before </{name}>");
        } else if !tag.ends_with('/') && !["!doctype", "meta", "br"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn the_page_is_well_formed_and_brings_everything_along() {
    let closed = vec![Mode::Closed(1), Mode::Closed(256), Mode::Closed(256)];
    for modes in [vec![Mode::Closed(1)], closed, vec![Mode::Open(1e3), Mode::Open(4e3)]] {
        let runs: Vec<Run> = modes.iter().map(|mode| run(*mode, 1_000)).collect();
        let html = page(&runs, &context());
        well_formed(&html);
        for outside in ["http://", "https://", "src=", "<script", "@import", "NaN", "inf "] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.contains("A &lt;fast&gt; processor") && html.contains("&quot;a &amp; b&quot;.html"));
        assert!(html.contains("990") && html.contains("7 503") && html.contains("prefers-color-scheme"));
    }
}

#[test]
fn repeated_runs_are_told_apart() {
    let runs = [Mode::Closed(256), Mode::Closed(1), Mode::Closed(256)].map(|mode| run(mode, 10));
    assert_eq!(labels(&runs), ["256 clients", "1 client", "256 clients #2"]);
}

#[test]
fn charts_against_the_load_need_several_loads() {
    let charts = |modes: &[Mode]| {
        let runs: Vec<Run> = modes.iter().map(|mode| run(*mode, 10)).collect();
        against_load(&runs, &labels(&runs))
    };
    assert!(charts(&[Mode::Closed(256), Mode::Closed(256)]).is_none());
    assert!(charts(&[Mode::Closed(1), Mode::Closed(256)]).unwrap().contains("Latency against throughput"));
    let open = charts(&[Mode::Open(4e3), Mode::Open(1e3)]).unwrap();
    assert!(open.contains("Latency against offered load") && open.contains("Completed against offered"));
}

#[test]
fn a_run_without_orders_has_a_page_too() {
    let html = page(&[run(Mode::Closed(1), 0)], &context());
    well_formed(&html);
    assert!(!html.contains("NaN") && page(&[], &context()).contains("</html>"));
}

#[test]
fn each_nine_lies_as_far_as_the_one_before() {
    assert!(nines(0.0).abs() < 1e-9 && (nines(0.9) - 1.0).abs() < 1e-9 && (nines(0.999) - 3.0).abs() < 1e-9);
}
