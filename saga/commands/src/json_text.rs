//! JSON as text: its lines broken, or none, and every number, name and string in it as it was written. Parsed and printed again, a number of many
//! digits would be another.

/// Its lines broken, as people read it. `json`: what a parser takes.
pub fn spread(json: &str) -> String {
    let mut laid = Laid { text: String::with_capacity(2 * json.len()), depth: 0 };
    let mut before = None;
    for piece in Pieces(json) {
        match (before, piece) {
            (Some("{" | "["), "}" | "]") => laid.depth -= 1,
            (_, "}" | "]") => laid.line(-1),
            (Some("{" | "["), _) => laid.line(0),
            _ => {}
        }
        laid.text += piece;
        match piece {
            "{" | "[" => laid.depth += 1,
            "," => laid.line(0),
            ":" => laid.text.push(' '),
            _ => {}
        }
        before = Some(piece);
    }
    laid.text
}

/// Without what stands between its parts. `json`: what a parser takes.
pub fn compact(json: &str) -> String {
    Pieces(json).collect()
}

struct Laid {
    text: String,
    depth: isize,
}

impl Laid {
    fn line(&mut self, by: isize) {
        self.depth += by;
        self.text.push('\n');
        (0..self.depth).for_each(|_| self.text += "  ");
    }
}

/// Its parts: brackets, commas, colons, and each string, number and word whole.
struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start_matches([' ', '\n', '\r', '\t']);
        let end = match rest.chars().next()? {
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            '"' => string(rest),
            _ => rest.find([' ', '\n', '\r', '\t', '{', '}', '[', ']', ',', ':', '"']).unwrap_or(rest.len()),
        };
        let (piece, rest) = rest.split_at(end);
        self.0 = rest;
        Some(piece)
    }
}

/// Where the string ends that a text begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = " {\"b\":100000000000000000001,\"a\":[1.10, -2e+05 ,{},[ ],\"x, {\\\"y\\\\\"],\"\":{\"é\":null}}\n";

    #[test]
    fn every_number_stays_and_the_lines_are_those_of_a_printer() {
        let lines = "{\n  \"b\": 100000000000000000001,\n  \"a\": [\n    1.10,\n    -2e+05,\n    {},\n    [],\n    \"x, {\\\"y\\\\\"\n  ],\n  \"\": {\n    \"é\": null\n  }\n}";
        assert_eq!(spread(JSON), lines);
        assert_eq!(spread(lines), lines);
        assert_eq!(compact(lines), compact(JSON));
        assert!(compact(JSON).starts_with("{\"b\":100000000000000000001,\"a\":[1.10,-2e+05,{},[],"));
        let value = serde_json::json!({ "a": [1, {}, [], { "b": ["c", null] }], "d": "e: f" });
        let (pretty, plain) = (serde_json::to_string_pretty(&value).unwrap(), value.to_string());
        assert_eq!((spread(&plain), compact(&pretty)), (pretty, plain));
    }
}
