//! Text that fits a terminal, measured in columns as they are shown: a wide letter takes two, a combining mark none.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// What stands between two columns.
const GAP: usize = 2;

/// A word up to this wide is never cut for the sake of a column: an id, a moment. Longer ones are.
const LONGEST_WORD: usize = 36;

/// How many columns a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Breaks each line that is wider than so many columns, between words where it can. What follows is indented: to the value after a name, else
/// by two more than the line itself.
pub fn fit(text: &str, columns: usize) -> String {
    let lines = text.split('\n').flat_map(|line| wrap(line, columns, hanging(line, columns)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Where a line goes on.
fn hanging(line: &str, columns: usize) -> usize {
    let start = line.len() - line.trim_start_matches(' ').len();
    let value = line[start..].find("  ").map(|gap| {
        let rest = &line[start + gap..];
        width(&line[..start + gap]) + (rest.len() - rest.trim_start_matches(' ').len())
    });
    value.filter(|value| *value <= columns / 3).unwrap_or(start + GAP).min(columns / 2)
}

/// One line as several, none wider than so many columns, all but the first indented.
fn wrap(line: &str, columns: usize, indent: usize) -> Vec<String> {
    if width(line) <= columns {
        return vec![line.to_owned()];
    }
    let mut lines = Vec::new();
    let mut current = String::new();
    let mut empty = true;
    for word in line.split(' ') {
        let space = usize::from(!empty);
        // A word that no line can hold begins where the line is.
        if width(&current) + space + width(word) > columns && width(word) <= columns - indent && !current.trim().is_empty() {
            lines.push(std::mem::replace(&mut current, " ".repeat(indent)));
        } else if space == 1 {
            current.push(' ');
        }
        current.push_str(word);
        empty = false;
        while width(&current) > columns {
            let rest = current.split_off(cut(&current, columns));
            lines.push(std::mem::replace(&mut current, " ".repeat(indent) + &rest));
        }
    }
    lines.push(current);
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

/// How many bytes of the text fit: never between a letter and its marks, nor inside what joiners make one.
fn cut(text: &str, columns: usize) -> usize {
    let (mut taken, mut end, mut joined) = (0, 0, false);
    for (at, c) in text.char_indices() {
        let wide = c.width().unwrap_or_default();
        if wide > 0 && !joined {
            end = at;
        }
        taken += wide;
        if taken > columns {
            break;
        }
        joined = c == '\u{200d}';
    }
    // At least one letter, so that it always goes on.
    if end > 0 { end } else { text.chars().next().map_or(0, char::len_utf8) }
}

/// Cells side by side, each padded to its column. With `cut` a cell wider than its column goes on below; the last has no end else.
pub fn row(cells: &[String], widths: &[usize], cut: bool) -> String {
    let cells: Vec<Vec<String>> = cells
        .iter()
        .zip(widths)
        .map(|(cell, columns)| if cut { wrap(cell, (*columns).max(1), 0) } else { vec![cell.clone()] })
        .collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or_default();
    let line = |number: usize| {
        let mut line = String::new();
        for (cell, columns) in cells.iter().zip(widths) {
            let text = cell.get(number).map_or("", String::as_str);
            line.push_str(text);
            line.push_str(&" ".repeat(columns.saturating_sub(width(text)) + GAP));
        }
        line.trim_end().to_owned()
    };
    (0..height).map(line).collect::<Vec<_>>().join("\n")
}

/// Rows under a header. On a terminal columns of words become narrower; where that is not enough, each row is a record, a name and a value on
/// each line.
pub fn table(header: &[&str], rows: &[Vec<String>], columns: Option<usize>) -> String {
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let natural = widths(&header, rows, width);
    let wide = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
    let Some(columns) = columns.filter(|columns| wide(&natural) > *columns) else { return lay(&header, rows, &natural, false) };
    let word = |cell: &str| cell.split(' ').map(width).max().unwrap_or_default().min(LONGEST_WORD);
    let least = widths(&header, rows, word);
    if wide(&least) > columns {
        return records(&header, rows);
    }
    let mut narrowed = natural;
    while wide(&narrowed) > columns {
        let widest = (0..narrowed.len()).filter(|&at| narrowed[at] > least[at]).max_by_key(|&at| narrowed[at]);
        let Some(widest) = widest else { break };
        narrowed[widest] -= 1;
    }
    lay(&header, rows, &narrowed, true)
}

fn widths(header: &[String], rows: &[Vec<String>], of: impl Fn(&str) -> usize) -> Vec<usize> {
    let column = |at: usize| rows.iter().filter_map(|row| row.get(at)).chain([&header[at]]).map(|cell| of(cell)).max();
    (0..header.len()).map(|at| column(at).unwrap_or_default()).collect()
}

fn lay(header: &[String], rows: &[Vec<String>], widths: &[usize], cut: bool) -> String {
    [header].into_iter().chain(rows.iter().map(Vec::as_slice)).map(|cells| row(cells, widths, cut)).collect::<Vec<_>>().join("\n")
}

fn records(header: &[String], rows: &[Vec<String>]) -> String {
    let record = |row: &Vec<String>| pairs(header.iter().zip(row).filter(|(_, value)| !value.is_empty()));
    rows.iter().map(record).collect::<Vec<_>>().join("\n\n")
}

/// Names and values, a line each.
pub fn pairs<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let pairs: Vec<_> = pairs.collect();
    let names = pairs.iter().map(|(name, _)| width(name)).max().unwrap_or_default();
    let lines = pairs.iter().map(|(name, value)| row(&[(*name).clone(), (*value).clone()], &[names, 0], false));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 6] = [
        "reason  the quick brown fox jumps over the lazy dog and never comes back",
        "  before   {\"plan\":1,\"phase\":\"running\",\"steps\":{\"validate_user\":{\"asked\":1}}}",
        "漢字仮名交じり文は幅が二倍になるので折り返しの位置が変わる",
        "e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}",
        "\u{1f469}\u{200d}\u{1f680}\u{1f469}\u{200d}\u{1f680} \u{1f469}\u{200d}\u{1f680}\u{1f469}\u{200d}\u{1f680}\u{1f469}\u{200d}\u{1f680}\u{1f469}\u{200d}\u{1f680}\u{1f469}\u{200d}\u{1f680}\u{1f469}\u{200d}\u{1f680}",
        "                                                            far",
    ];

    #[test]
    fn no_line_is_wider_than_asked_and_no_letter_is_lost() {
        for text in TEXTS {
            for columns in 20..100 {
                let fitted = fit(text, columns);
                assert!(fitted.lines().all(|line| width(line) <= columns), "{columns}: {fitted}");
                let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
                assert_eq!(letters(&fitted), letters(text));
            }
        }
    }

    #[test]
    fn a_line_goes_on_under_its_value() {
        assert_eq!(fit("reason  too little of this product is left", 30), "reason  too little of this\n        product is left");
        assert_eq!(fit("      operator ann: retry again", 24), "      operator ann:\n        retry again");
        assert_eq!(fit("fits", 20), "fits");
    }

    #[test]
    fn marks_stay_with_their_letter_and_joined_emoji_together() {
        assert!(fit(TEXTS[3], 20).lines().all(|line| line.trim_start().starts_with('e')));
        assert!(fit(TEXTS[4], 20).lines().all(|line| line.trim_start().starts_with('\u{1f469}') && !line.ends_with('\u{200d}')));
    }

    #[test]
    fn a_table_narrows_its_words_and_then_becomes_records() {
        let rows = [vec!["01920000-0000-7000-8000-000000000002".to_owned(), "a kettle of red enamel".to_owned(), "7".to_owned()]];
        let header = ["ID", "NAME", "STOCK"];
        assert_eq!(table(&header, &rows, None).lines().count(), 2);
        assert_eq!(table(&header, &rows, Some(80)), table(&header, &rows, None));
        let narrow = table(&header, &rows, Some(56));
        assert!(
            narrow.contains("01920000-0000-7000-8000-000000000002  a kettle of") && narrow.lines().all(|line| width(line) <= 56)
        );
        let records = table(&header, &rows, Some(40));
        assert_eq!(records.lines().next(), Some("ID     01920000-0000-7000-8000-000000000002"));
        assert!(fit(&records, 40).lines().all(|line| width(line) <= 40));
    }

    #[test]
    fn columns_are_padded_as_they_are_shown() {
        let cells = |name: &str| vec![name.to_owned(), "x".to_owned()];
        assert_eq!(table(&["NAME", "X"], &[cells("茶"), cells("tea")], None), "NAME  X\n茶    x\ntea   x");
    }
}
