//! One page with everything about a measurement, in one file: no script, nothing from elsewhere, light or dark as the reader has it.

mod bars;
mod charts;
mod html;
mod plot;

use std::fmt::Write as _;

use self::html::{escape, section};
use self::plot::plain;
use super::meter::{Part, round};
use super::result::{Context, Run};

const LATENCY: &str =
    "From submission (in the open loop from the moment the order was due) to the final state. To the right the slowest few.";
const CPU: &str = "What the processes of the servers used in the measured seconds, divided by the orders that became final in them. \
                   Without the driver.";

/// The page.
pub fn page(runs: &[Run], context: &Context) -> String {
    let labels = labels(runs);
    let mut html = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    html.push_str(r#"<meta name="viewport" content="width=device-width, initial-scale=1"><title>waybill bench</title><style>"#);
    html.push_str(include_str!("report/style.css"));
    html.push_str("</style></head><body><main>");
    let at = context.at.format("%Y-%m-%d %H:%M UTC");
    let _ = write!(html, "<h1>waybill bench</h1><p>{at}<br><code>{}</code></p>", escape(&context.command));
    html.push_str(&tiles(runs, context));
    section(&mut html, "Latency by percentile", LATENCY, &charts::distribution(runs, &labels));
    html.push_str(&charts::against_load(runs, &labels).unwrap_or_default());
    section(&mut html, "CPU by process", CPU, &bars::bars(runs, &labels));
    section(&mut html, "Runs", "", &(latency(runs, &labels) + &cost(runs, &labels)));
    section(&mut html, "Measured on", "", &machine(context));
    html.push_str("</main></body></html>\n");
    html
}

/// What each run is called; repetitions are numbered.
fn labels(runs: &[Run]) -> Vec<String> {
    let name = |(index, run): (usize, &Run)| {
        let same = |other: &&Run| other.load() == run.load();
        match runs[..index].iter().filter(same).count() {
            0 => run.load(),
            before => format!("{} #{}", run.load(), before + 1),
        }
    };
    runs.iter().enumerate().map(name).collect()
}

fn tiles(runs: &[Run], context: &Context) -> String {
    let Some(best) = runs.iter().max_by(|a, b| a.orders_per_s.total_cmp(&b.orders_per_s)) else { return String::new() };
    let mut tiles = vec![
        (plain(best.orders_per_s.round()), format!("orders/s at {}", best.load())),
        (format!("{} ms", short(best.p50_ms)), "p50 then".to_owned()),
        (format!("{} ms", short(best.p99_ms)), "p99 then".to_owned()),
        (format!("{} µs", plain(best.cpu_us_per_order.total.round())), "CPU an order".to_owned()),
    ];
    tiles.extend(best.floor_ratio.map(|ratio| (format!("{ratio} ×"), "the floor".to_owned())));
    let audit = match context.audit_clean {
        Some(true) => "clean",
        Some(false) => "not clean",
        None => "not made",
    };
    tiles.push((audit.to_owned(), "audit".to_owned()));
    let tile = |(number, name): &(String, String)| {
        format!(r#"<div class="tile"><b>{}</b><span>{}</span></div>"#, escape(number), escape(name))
    };
    format!(r#"<div class="tiles">{}</div>"#, tiles.iter().map(tile).collect::<String>())
}

/// With no more digits than one can say.
fn short(ms: f64) -> String {
    plain(round(
        ms,
        if ms < 10.0 {
            2
        } else if ms < 100.0 {
            1
        } else {
            0
        },
    ))
}

fn latency(runs: &[Run], labels: &[String]) -> String {
    let head = ["load", "orders/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "confirmed", "rejected", "errors"];
    let rows = runs.iter().zip(labels).map(|(run, label)| {
        let mut row = vec![label.clone(), plain(run.orders_per_s.round())];
        row.extend([run.p50_ms, run.p90_ms, run.p99_ms, run.p999_ms, run.max_ms].map(|ms| format!("{ms:.1}")));
        row.extend([run.confirmed, run.rejected].map(|count| plain(count as f64)));
        row.push(if run.errors == 0 { "0".to_owned() } else { run.kinds() });
        row
    });
    table(&head.map(str::to_owned), rows)
}

/// CPU of each part, the driver's, and the multiple of the floor; then the most memory of each.
fn cost(runs: &[Run], labels: &[String]) -> String {
    let measured = |part: &Part| runs.iter().any(|run| run.peak_rss_mib.of(*part).is_some());
    let parts: Vec<Part> = Part::ALL.into_iter().filter(measured).collect();
    let or_none = |number: Option<f64>, digits| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.digits$}"));
    let head = |first: &str, last: &[&str]| {
        let names = parts.iter().map(|part| part.name());
        ["load", first].into_iter().chain(names).chain(last.iter().copied()).map(str::to_owned).collect::<Vec<_>>()
    };
    let cpu = runs.iter().zip(labels).map(|(run, label)| {
        let mut row = vec![label.clone(), or_none(Some(run.cpu_us_per_order.total), 1)];
        row.extend(parts.iter().map(|&part| or_none(run.cpu_us_per_order.parts.of(part), 1)));
        row.extend([or_none(Some(run.driver_cpu_us_per_order), 1), or_none(run.floor_ratio, 2)]);
        row
    });
    let memory = runs.iter().zip(labels).map(|(run, label)| {
        let all: f64 = parts.iter().filter_map(|&part| run.peak_rss_mib.of(part)).sum();
        let mut row = vec![label.clone(), or_none(Some(all), 0)];
        row.extend(parts.iter().map(|&part| or_none(run.peak_rss_mib.of(part), 0)));
        row
    });
    table(&head("CPU µs an order", &["(driver)", "× floor"]), cpu) + &table(&head("peak MiB", &[]), memory)
}

fn table(head: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: String = rows.map(|row| format!("<tr>{}</tr>", cells("td", &row))).collect();
    let head = cells("th", head);
    format!(r#"<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"#)
}

fn cells(tag: &str, cells: &[String]) -> String {
    cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
}

fn machine(context: &Context) -> String {
    let machine = &context.machine;
    let version = context.version.to_owned();
    let load =
        format!("{}: {} lines an order over {} products", context.load, context.lines_per_order, plain(context.products as f64));
    let mut pairs = vec![
        ("processor", format!("{}, {} cores", machine.cpu, machine.cores)),
        ("memory", format!("{} GiB", machine.memory_gib)),
        ("kernel", machine.kernel.clone()),
        ("waybill", context.commit.map_or_else(|| version.clone(), |commit| format!("{version} ({commit})"))),
        ("load", load),
        ("orders go to", if context.via_gateway { "the gateway".to_owned() } else { "the order service".to_owned() }),
    ];
    pairs.extend(context.instances.map(|instances| ("instances", format!("{instances} of each service"))));
    pairs.extend(context.sync.as_ref().map(|sync| ("broker to disk", sync.clone())));
    let pair = |(name, value): &(&str, String)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    format!("<dl>{}</dl>", pairs.iter().map(pair).collect::<String>())
}

#[cfg(test)]
mod tests;
