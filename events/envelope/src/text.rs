//! Characters that do not show.
//!
//! Joiners (U+200C, U+200D) and variation selectors (U+FE0E, U+FE0F) are letters to some scripts and parts of many emoji, so they may follow a
//! visible character that is not ASCII.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

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
