//! Text that came from outside, and characters that do not show.
//!
//! Joiners (U+200C, U+200D) and variation selectors (U+FE0E, U+FE0F) are letters to some scripts and parts of many emoji, so they may follow a
//! visible character that is not ASCII.

use std::borrow::Cow;

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use thiserror::Error;

/// Why a text was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// Shorter or longer than allowed, counted in characters.
    #[error("must be {min} to {max} characters long")]
    Length {
        /// The least number of characters.
        min: usize,
        /// The most.
        max: usize,
    },
    /// Holds a character that could forge a log line or a terminal sequence, or that makes two texts look the same.
    #[error("must not hold control characters, nor others that do not show")]
    Control,
    /// Not of the form `name@host`.
    #[error("is not an e-mail address")]
    Email,
}

/// A text trimmed, of so many characters, in which nothing hides; lines and tabs may be.
///
/// # Errors
/// Why it is refused.
pub fn checked(text: &str, min: usize, max: usize) -> Result<String, TextError> {
    let text = text.trim();
    if !(min..=max).contains(&text.chars().count()) {
        return Err(TextError::Length { min, max });
    }
    if hidden(text).any(|(_, c)| c != '\n' && c != '\t') {
        return Err(TextError::Control);
    }
    Ok(text.to_owned())
}

/// The most characters of a line.
pub const LINE_MAX: usize = 200;

/// The same in one line, of 1 to 200 characters: a name, a reason.
///
/// # Errors
/// Why it is refused.
pub fn line(text: &str) -> Result<String, TextError> {
    let text = checked(text, 1, LINE_MAX)?;
    if text.contains(['\n', '\t']) { Err(TextError::Control) } else { Ok(text) }
}

/// The schema of what [`line()`] takes. What does not show no regular expression says in a length that anybody would read, so words do.
#[derive(Debug)]
pub enum Line {}

impl JsonSchema for Line {
    fn schema_name() -> Cow<'static, str> {
        "Line".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "One line of text, trimmed, without characters that do not show",
            "minLength": 1,
            "maxLength": LINE_MAX,
        })
    }
}

/// The characters of a text that do not show, or that change how others show, with where they are: control, format (directions, joiners where
/// they join nothing), line and paragraph separators, fillers, and what Unicode leaves to private agreement. Lines and tabs are among them.
pub fn hidden(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut before = None;
    text.char_indices().filter(move |(at, c)| {
        let joins = matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}') && before.is_some_and(|c: char| !c.is_ascii());
        // The selector of a keycap follows a digit: 1, U+FE0F, U+20E3.
        let keycap = *c == '\u{fe0f}' && text[at + c.len_utf8()..].starts_with('\u{20e3}');
        let hides = is_hidden(*c) && !joins && !keycap;
        // A selector may be followed by a joiner, in many an emoji.
        before = (!hides).then_some(*c);
        hides
    })
}

/// Characters of categories that show, which are blank all the same: the empty Braille pattern, the place of an object that is not here, a note
/// without a head.
const BLANK: [char; 3] = ['\u{2800}', '\u{fffc}', '\u{1d159}'];

/// Whether a character does not show by itself.
pub fn is_hidden(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, Surrogate};
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    let noncharacter = matches!(u32::from(c), 0xfdd0..=0xfdef) || u32::from(c) & 0xfffe == 0xfffe;
    matches!(category, Control | Format | LineSeparator | ParagraphSeparator | PrivateUse | Surrogate)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || noncharacter
        || BLANK.contains(&c)
}
