//! How schemas are written, so that whatever reads them understands them.

use schemars::Schema;
use schemars::transform::transform_subschemas;
use serde_json::{Value, json};

/// Writes a choice of words as `enum`, which programs that generate clients read as one type; what each word means goes into the description.
pub fn words(schema: &mut Schema) {
    transform_subschemas(&mut words, schema);
    let Some(choices) =
        schema.get("oneOf").and_then(Value::as_array).map(|choices| choices.iter().map(word).collect::<Option<Vec<_>>>())
    else {
        return;
    };
    let Some(choices) = choices.filter(|choices| !choices.is_empty()) else { return };
    let about = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let lines = choices.iter().flat_map(|choice| choice.iter().map(|(word, about)| format!("- `{word}`: {about}")));
    let about = [about.to_owned()].into_iter().chain(lines).collect::<Vec<_>>().join("\n");
    let words: Vec<&String> = choices.iter().flatten().map(|(word, _)| word).collect();
    let (words, about) = (json!(words), json!(about.trim()));
    schema.remove("oneOf");
    schema.insert("type".to_owned(), "string".into());
    schema.insert("enum".to_owned(), words);
    schema.insert("description".to_owned(), about);
}

/// The words of one choice with what each means; `None`: it is something else.
fn word(choice: &Value) -> Option<Vec<(String, String)>> {
    let about = choice["description"].as_str().unwrap_or("no more is said of it").to_owned();
    if let Some(word) = choice["const"].as_str() {
        return Some(vec![(word.to_owned(), about)]);
    }
    // Those that nothing is said of stand together.
    let words = choice["enum"].as_array().filter(|_| choice["type"] == "string")?;
    words.iter().map(|word| Some((word.as_str()?.to_owned(), about.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_of_words_is_one_type() {
        let mut schema: Schema = json!({
            "description": "Where it stands.",
            "oneOf": [{"const": "a", "type": "string", "description": "Here."}, {"const": "b", "type": "string", "description": "There."}],
        })
        .try_into()
        .unwrap();
        words(&mut schema);
        let plain = json!({"type": "string", "enum": ["a", "b"], "description": "Where it stands.\n- `a`: Here.\n- `b`: There."});
        assert_eq!(schema.to_value(), plain);
        let other = json!({"oneOf": [{"type": "null"}, {"const": "a"}]});
        let mut schema: Schema = other.clone().try_into().unwrap();
        words(&mut schema);
        assert_eq!(schema.to_value(), other);
    }
}
