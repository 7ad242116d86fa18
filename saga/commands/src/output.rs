//! How things are printed: a table for people, JSON and JSON lines for programs. The one place that writes data to stdout.

use std::io::{self, Write as _};
use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::ValueEnum;
use envelope::hidden;
use serde::Serialize;

use crate::layout;
use crate::page::Page;
use crate::usage::Usage;

/// The value of `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
}

/// Something with columns.
pub trait Tabular: Serialize {
    /// The header of a list of them.
    const HEADER: &'static [&'static str];

    /// One cell for each column.
    fn row(&self) -> Vec<String>;

    /// Everything about one of them: name and value, a line each. The row, unless there is more to say.
    fn details(&self) -> Vec<(String, String)> {
        fields(self)
    }
}

/// The row with the names of its columns.
pub fn fields<T: Tabular + ?Sized>(thing: &T) -> Vec<(String, String)> {
    T::HEADER.iter().map(|name| name.to_lowercase()).zip(thing.row()).collect()
}

/// Prints what commands bring back.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// The format asked for.
    pub format: Format,
}

impl Output {
    /// Prints in this format.
    pub const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Prints one thing.
    pub fn one<T: Tabular>(self, thing: &T) -> io::Result<()> {
        match self.format {
            Format::Table => write_out(&pairs(&thing.details())),
            Format::Json | Format::Jsonl => self.document(thing),
        }
    }

    /// Prints a page of a list. In JSON it is the page as the server gave it, so that a program can go on at its cursor.
    pub fn page<T: Tabular>(self, page: &Page<T>) -> io::Result<()> {
        match self.format {
            Format::Table => {
                write_out(&table(T::HEADER, page.items.iter().map(T::row)))?;
                if let Some(cursor) = &page.next_cursor {
                    tell(&format!("There is more: add --all, or --cursor {cursor}"));
                }
                Ok(())
            }
            Format::Json => self.document(page),
            Format::Jsonl => page.items.iter().try_for_each(|item| self.document(item)),
        }
    }

    /// Prints one JSON document: readable for `json`, on one line for `jsonl`.
    pub fn document(self, thing: &impl Serialize) -> io::Result<()> {
        let text =
            if self.format == Format::Jsonl { serde_json::to_string(thing)? } else { serde_json::to_string_pretty(thing)? };
        write_json(&text)
    }
}

/// Rows under a header, in columns as wide as they need, or as the terminal has.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.into_iter().map(plain).collect()).collect();
    layout::table(header, &rows, width())
}

/// Names and values, a line each.
pub fn pairs(pairs: &[(String, String)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (plain(name.clone()), plain(value.clone()))).collect();
    layout::pairs(pairs.iter().map(|(name, value)| (name, value)))
}

/// A moment, to the second.
pub fn time(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Nobody reads stdout any more: that is no failure of the command (`| head`). A connection that breaks elsewhere is one.
#[derive(Debug, thiserror::Error)]
#[error("stdout is closed")]
struct Closed;

/// Writes to stdout, at once. Unlike `print!` a closed pipe is an error, which [`fail`] makes a quiet end.
pub fn write_bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(error.kind(), Closed),
        _ => error,
    })
}

/// Writes text and a line end to stdout; on a terminal what is wider goes on in the next line.
///
/// Everything for people goes through here, [`write_line`] or [`tell`], so nothing that came from outside can steer the terminal. What it could
/// do with a line end is kept from it by [`plain`], field by field.
pub fn write_out(text: &str) -> io::Result<()> {
    write_line(&match width() {
        Some(columns) => layout::fit(text, columns),
        None => text.to_owned(),
    })
}

/// The same without breaking lines: for what is to be copied.
pub fn write_line(text: &str) -> io::Result<()> {
    write_bytes(format!("{}\n", lines(text)).as_bytes())
}

/// Writes JSON and a line end to stdout. What does not show is written as JSON writes it: `\u202e`.
pub fn write_json(text: &str) -> io::Result<()> {
    write_bytes(format!("{}\n", visible_json(text)).as_bytes())
}

/// JSON in which what does not show is written as JSON writes it.
pub fn visible_json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = 0;
    for (at, c) in hidden(text).filter(|(_, c)| *c != '\n') {
        safe += &text[rest..at];
        for unit in c.encode_utf16(&mut [0; 2]) {
            safe += &format!("\\u{unit:04x}");
        }
        rest = at + c.len_utf8();
    }
    safe + &text[rest..]
}

/// Writes a line to stderr. Unlike `eprintln!` it does not panic when nobody reads.
pub fn tell(text: &str) {
    let text = lines(text);
    let _ =
        writeln!(io::stderr().lock(), "{}", columns(io::stderr()).map_or(text.clone(), |columns| layout::fit(&text, columns)));
}

/// Asks on stderr, and waits on the same line.
pub fn prompt(question: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{} ", lines(question)).and_then(|()| stderr.flush());
}

/// Tells why the command failed, and its exit status: 2 for wrong usage, else 1. A reader of stdout that has seen enough
/// (`| head`) is no failure.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    let closed = |cause: &io::Error| cause.get_ref().is_some_and(|inner| inner.is::<Closed>());
    if error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(closed) {
        return ExitCode::SUCCESS;
    }
    let causes = chassis::each_once(error);
    // A problem has lines of its own, which would run into what is said around it.
    let text = causes.join(if causes.iter().any(|cause| cause.contains('\n')) { "\n" } else { ": " });
    tell(&format!("error: {text}"));
    if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Whether a text is one line of what shows.
pub fn is_plain(text: &str) -> bool {
    hidden(text).next().is_none()
}

/// One line of what shows: what a customer typed must not move the cursor of whoever lists it, nor forge a line.
pub fn plain(text: String) -> String {
    without(text, |_| true)
}

/// The same of several lines.
fn lines(text: &str) -> String {
    without(text.to_owned(), |c| c != '\n')
}

fn without(text: String, taken: impl Fn(char) -> bool) -> String {
    let mut found = hidden(&text).filter(|(_, c)| taken(*c)).peekable();
    if found.peek().is_none() {
        return text.clone();
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = 0;
    for (at, c) in found {
        shown += &text[rest..at];
        shown.push(' ');
        rest = at + c.len_utf8();
    }
    shown + &text[rest..]
}

/// How many columns the terminal has; `None` where stdout is none, and nothing is cut or wrapped.
pub fn width() -> Option<usize> {
    columns(io::stdout())
}

/// The same of any output. Below twenty columns nothing can be arranged any more.
fn columns(output: impl io::IsTerminal + std::os::fd::AsFd) -> Option<usize> {
    let columns = rustix::termios::tcgetwinsize(&output).ok()?.ws_col;
    (output.is_terminal() && columns >= 20).then_some(columns.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_under_their_header() {
        let rows = [["1", "Kettle"], ["22", "Tea"]].map(|row| row.map(str::to_owned).to_vec());
        let text = table(&["ID", "NAME"], rows);
        assert_eq!(text.lines().collect::<Vec<_>>(), ["ID  NAME", "1   Kettle", "22  Tea"]);
    }

    #[test]
    fn a_value_without_a_name_stands_under_the_one_before() {
        let text = pairs(&[("reason", "short"), ("", "Kettle")].map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(text, "reason  short\n        Kettle");
    }

    #[test]
    fn an_empty_list_is_its_header() {
        assert_eq!(table(&["ID", "NAME"], []), "ID  NAME");
    }

    #[test]
    fn what_does_not_show_reaches_no_terminal_and_json_stays_json() {
        assert_eq!(plain("a\u{9b}b\u{202e}c\u{2028}d\ne\u{200b}".to_owned()), "a b c d e ");
        assert_eq!(lines("a\u{1b}[2J\nb\r\u{feff}c"), "a [2J\nb  c");
        assert_eq!(plain("\u{1f469}\u{200d}\u{1f680} Größe".to_owned()), "\u{1f469}\u{200d}\u{1f680} Größe");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let text = table(&["NAME"], [vec!["a\u{1b}[2Jb\nc".to_owned()]]);
        assert_eq!(text, "NAME\na [2Jb c");
    }
}
