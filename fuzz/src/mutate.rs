//! Inputs made of others: bytes are changed, and JSON is changed as JSON, so that what lies behind the parser is reached too.

use fastrand::Rng;
use serde_json::{Value, json};

/// The longest input: beyond this only the time grows.
const LONGEST: usize = 64 * 1024;

/// Bytes that mean something to one decoder or another.
const WORDS: [&[u8]; 32] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551616",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"0.1",
    b"\xff",
    b"\xc3\x28",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
    b"\0",
    b"\r\n",
    b"\n",
    b"wait=",
    b"00-",
    b"-",
    b"=",
    b"%",
    b"\x1b[31m",
];

/// Makes inputs.
pub struct Mutator {
    rng: Rng,
    bytes: Vec<Vec<u8>>,
    documents: Vec<Value>,
}

impl Mutator {
    /// Begins with these inputs.
    pub fn new(seed: u64, corpus: &[Vec<u8>]) -> Self {
        let documents = corpus.iter().filter_map(|input| serde_json::from_slice(input).ok()).collect();
        Self { rng: Rng::with_seed(seed), bytes: corpus.to_vec(), documents }
    }

    /// The next input.
    pub fn next(&mut self) -> Vec<u8> {
        let mut input = if self.documents.is_empty() || self.rng.bool() {
            let some = self.rng.usize(..self.bytes.len());
            let mut input = self.bytes[some].clone();
            self.change(&mut input);
            input
        } else {
            let some = self.rng.usize(..self.documents.len());
            let mut document = self.documents[some].clone();
            for _ in 0..=self.rng.usize(..3) {
                self.change_document(&mut document);
            }
            let mut input = document.to_string().into_bytes();
            if self.rng.u8(..8) == 0 {
                self.change(&mut input);
            }
            input
        };
        input.truncate(LONGEST);
        input
    }

    /// Changes bytes here and there.
    fn change(&mut self, input: &mut Vec<u8>) {
        for _ in 0..=self.rng.usize(..4) {
            let at = self.rng.usize(..=input.len());
            let end = (at + self.rng.usize(..16)).min(input.len());
            match self.rng.u8(..8) {
                0 if at < input.len() => input[at] ^= 1 << self.rng.u8(..8),
                1 if at < input.len() => input[at] = self.rng.u8(..),
                2 => drop(input.drain(at..end)),
                3 => {
                    let piece = input[at..end].to_vec();
                    insert(input, at, &piece.repeat(self.rng.usize(1..6)));
                }
                4 => {
                    let other = &self.bytes[self.rng.usize(..self.bytes.len())];
                    let from = self.rng.usize(..=other.len());
                    let to = (from + self.rng.usize(..64)).min(other.len());
                    let piece = other[from..to].to_vec();
                    insert(input, at, &piece);
                }
                5 => input.truncate(at),
                _ => insert(input, at, WORDS[self.rng.usize(..WORDS.len())]),
            }
        }
    }

    /// Changes one place of a document.
    fn change_document(&mut self, document: &mut Value) {
        let mut place = document;
        // Deeper with every second throw.
        loop {
            let inner = match place {
                Value::Object(fields) if !fields.is_empty() => Some(self.rng.usize(..fields.len())),
                Value::Array(items) if !items.is_empty() => Some(self.rng.usize(..items.len())),
                _ => None,
            };
            let Some(inner) = inner.filter(|_| self.rng.u8(..8) > 0) else { break };
            place = match place {
                Value::Object(fields) => fields.values_mut().nth(inner).expect("counted"),
                Value::Array(items) => &mut items[inner],
                _ => unreachable!("it has an inside"),
            };
        }
        match self.rng.u8(..5) {
            0 => *place = self.some_value(),
            1 => *place = Value::Array(vec![place.clone(); self.rng.usize(..5)]),
            2 => *place = self.piece(),
            3 => match place {
                Value::Object(fields) => {
                    let name = fields.keys().nth(self.rng.usize(..fields.len().max(1))).cloned();
                    name.and_then(|name| fields.remove(&name));
                    let (name, value) = (["added", "type", "data", "sequence", "status"][self.rng.usize(..5)], self.some_value());
                    fields.insert(name.to_owned(), value);
                }
                Value::String(text) => *text = self.text(text),
                Value::Number(number) => *place = json!(number.as_i64().unwrap_or(1).wrapping_mul(self.rng.i64(-3..300))),
                _ => *place = Value::Null,
            },
            _ => {
                let text = place.as_str().unwrap_or_default().to_owned();
                *place = Value::String(self.text(&text));
            }
        }
    }

    /// A piece of another document.
    fn piece(&mut self) -> Value {
        let mut piece = &self.documents[self.rng.usize(..self.documents.len())];
        while self.rng.u8(..4) > 0 {
            piece = match piece {
                Value::Object(fields) if !fields.is_empty() => {
                    fields.values().nth(self.rng.usize(..fields.len())).expect("counted")
                }
                Value::Array(items) if !items.is_empty() => &items[self.rng.usize(..items.len())],
                _ => break,
            };
        }
        piece.clone()
    }

    fn some_value(&mut self) -> Value {
        match self.rng.u8(..9) {
            0 => Value::Null,
            1 => json!(self.rng.bool()),
            2 => json!(self.rng.i64(..)),
            3 => json!([0, 1, -1, i64::MAX, i64::MIN][self.rng.usize(..5)]),
            4 => json!(u64::MAX),
            5 => json!(self.rng.f64() * 1e300),
            6 => json!([]),
            7 => json!({}),
            _ => Value::String(self.text("")),
        }
    }

    fn text(&mut self, before: &str) -> String {
        match self.rng.u8(..6) {
            0 => String::new(),
            1 => before.repeat(self.rng.usize(..40)),
            2 => before.chars().rev().collect(),
            3 => (0..self.rng.usize(..300)).map(|_| self.rng.char(..)).collect(),
            4 => format!("{before}{}", self.rng.char(..)),
            _ => before.chars().filter(|_| self.rng.u8(..8) > 0).collect(),
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}
