//! What is wrong with a JSON body whose shape is wrong: which field, and what it must be, in the words of JSON.
//!
//! serde says it in Rust's ("invalid type: string, expected i64"). So a body that it refused is read once more, as a tree of values that knows
//! what each of them is asked for, and says that.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};
use serde_json::Number;
use serde_path_to_error::{Path, Segment};

use crate::http::{FieldError, Problem};

/// Below it and above it a number is kept as a float, whole or not.
const WHOLE_AS_FLOAT: f64 = 9_223_372_036_854_775_808.0;

/// What is wrong with a body that could not be read as this.
pub(super) fn explain<T: DeserializeOwned>(body: &[u8]) -> Problem {
    let tree: Node = match serde_json::from_slice(body) {
        Ok(tree) => tree,
        Err(error) => return Problem::malformed(format!("the body is not JSON: {error}")),
    };
    match serde_path_to_error::deserialize::<_, T>(&tree) {
        Ok(_) => Problem::malformed("the body cannot be read"),
        Err(error) => {
            let mut pointer = pointer(error.path());
            let Wrong { field, detail } = error.into_inner();
            if let Some(field) = field {
                pointer.push_str(&step(field));
            }
            Problem::invalid(vec![FieldError { pointer, detail }])
        }
    }
}

fn pointer(path: &Path) -> String {
    let steps = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(format!("/{index}")),
        Segment::Map { key } => Some(step(key)),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    steps.collect()
}

/// One step of a JSON pointer (RFC 6901).
fn step(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// What is wrong, in the object that is read or in one field of it.
#[derive(Debug)]
struct Wrong {
    field: Option<&'static str>,
    detail: String,
}

impl Wrong {
    fn here(detail: impl Into<String>) -> Self {
        Self { field: None, detail: detail.into() }
    }

    fn at(field: &'static str, detail: &str) -> Self {
        Self { field: Some(field), detail: detail.to_owned() }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Wrong {}

impl serde::de::Error for Wrong {
    /// What a type of ours says of its own value.
    fn custom<T: fmt::Display>(said: T) -> Self {
        Self::here(said.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        Self::here("is not of the kind that is taken here")
    }

    fn invalid_value(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        Self::here("is not a value that is taken here")
    }

    fn invalid_length(_: usize, _: &dyn Expected) -> Self {
        Self::here("does not have as many items as are taken here")
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::here(format!("must be one of {}", expected.join(", ")))
    }

    /// The path leads to the field.
    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::here(format!("is not known here: the fields are {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::at(field, "is missing")
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::at(field, "is given twice")
    }
}

/// A JSON value as it came: an object may have a name twice.
enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Number(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Number(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Number::from_f64(value).map_or(Node::Null, Node::Number))
            }

            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
                let mut object = Vec::new();
                while let Some(field) = fields.next_entry()? {
                    object.push(field);
                }
                Ok(Node::Object(object))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

impl<'de> IntoDeserializer<'de, Wrong> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The methods by which a type says what it takes: of any other kind a value is refused.
macro_rules! takes {
    ($($method:ident($($ignored:ty),*): $kind:pat, $must:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $ignored,)* visitor: V) -> Result<V::Value, Wrong> {
            match self {
                $kind => self.deserialize_any(visitor),
                _ => Err(Wrong::here($must)),
            }
        }
    )*};
}

macro_rules! takes_whole {
    ($($method:ident: $number:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            self.whole(<$number>::MIN.into(), <$number>::MAX.into())?;
            self.deserialize_any(visitor)
        }
    )*};
}

impl Node {
    /// Refuses what is no whole number between these.
    fn whole(&self, least: i128, most: i128) -> Result<(), Wrong> {
        let Self::Number(number) = self else { return Err(Wrong::here("must be a whole number")) };
        let whole = match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(whole), ..) => whole.into(),
            (_, Some(whole), _) => whole.into(),
            (.., Some(float)) if float.fract() == 0.0 && float.abs() >= WHOLE_AS_FLOAT => float as i128,
            _ => return Err(Wrong::here("must be a whole number, written without a point or an exponent")),
        };
        match whole {
            whole if whole < least => Err(Wrong::here(format!("must be at least {least}"))),
            whole if whole > most => Err(Wrong::here(format!("must be at most {most}"))),
            _ => Ok(()),
        }
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), ..) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (.., value) => visitor.visit_f64(value.unwrap_or_default()),
            },
            Node::Text(text) => visitor.visit_borrowed_str(text),
            Node::List(items) => visitor.visit_seq(SeqDeserializer::new(items.iter())),
            Node::Object(fields) => {
                visitor.visit_map(MapDeserializer::new(fields.iter().map(|(name, value)| (name.as_str(), value))))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self {
            Node::Text(variant) => visitor.visit_enum(variant.as_str().into_deserializer()),
            _ => Err(Wrong::here(format!("must be one of {}", variants.join(", ")))),
        }
    }

    takes! {
        deserialize_bool(): Node::Bool(_), "must be true or false";
        deserialize_str(): Node::Text(_), "must be a string";
        deserialize_string(): Node::Text(_), "must be a string";
        deserialize_char(): Node::Text(_), "must be a string";
        deserialize_f32(): Node::Number(_), "must be a number";
        deserialize_f64(): Node::Number(_), "must be a number";
        deserialize_unit(): Node::Null, "must be null";
        deserialize_unit_struct(&'static str): Node::Null, "must be null";
        deserialize_seq(): Node::List(_), "must be an array";
        deserialize_tuple(usize): Node::List(_), "must be an array";
        deserialize_tuple_struct(&'static str, usize): Node::List(_), "must be an array";
        deserialize_map(): Node::Object(_), "must be an object";
        deserialize_struct(&'static str, &'static [&'static str]): Node::Object(_), "must be an object";
    }

    takes_whole! {
        deserialize_i8: i8;
        deserialize_i16: i16;
        deserialize_i32: i32;
        deserialize_i64: i64;
        deserialize_u8: u8;
        deserialize_u16: u16;
        deserialize_u32: u32;
        deserialize_u64: u64;
    }

    forward_to_deserialize_any! { i128 u128 bytes byte_buf identifier ignored_any }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::http::Object;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Outer {
        name: String,
        open: Option<bool>,
        items: Vec<Object<Inner>>,
        tags: Option<BTreeMap<String, String>>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Inner {
        pieces: i64,
        size: Option<u8>,
        kind: Option<Kind>,
        share: Option<f64>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Small,
        VeryLarge,
    }

    #[test]
    fn each_wrong_value_is_named_by_its_place_and_by_what_it_must_be() {
        for (body, pointer, detail) in [
            (r#"[]"#, "", "must be an object"),
            (r#"7"#, "", "must be an object"),
            (r#"{"items":[]}"#, "/name", "is missing"),
            (r#"{"name":null,"items":[]}"#, "/name", "must be a string"),
            (r#"{"name":"a","name":"b","items":[]}"#, "/name", "is given twice"),
            (r#"{"name":"a","items":[],"a/~b":1}"#, "/a~1~0b", "is not known here: the fields are name, open, items, tags"),
            (r#"{"name":"a","items":[],"open":"yes"}"#, "/open", "must be true or false"),
            (r#"{"name":"a","items":{}}"#, "/items", "must be an array"),
            (r#"{"name":"a","items":[[1]]}"#, "/items/0", "must be an object"),
            (r#"{"name":"a","items":[{"pieces":1},{}]}"#, "/items/1/pieces", "is missing"),
            (r#"{"name":"a","items":[{"pieces":"1"}]}"#, "/items/0/pieces", "must be a whole number"),
            (
                r#"{"name":"a","items":[{"pieces":1.0}]}"#,
                "/items/0/pieces",
                "must be a whole number, written without a point or an exponent",
            ),
            (
                r#"{"name":"a","items":[{"pieces":9223372036854775808}]}"#,
                "/items/0/pieces",
                "must be at most 9223372036854775807",
            ),
            (r#"{"name":"a","items":[{"pieces":-1e300}]}"#, "/items/0/pieces", "must be at least -9223372036854775808"),
            (r#"{"name":"a","items":[{"pieces":1,"size":256}]}"#, "/items/0/size", "must be at most 255"),
            (r#"{"name":"a","items":[{"pieces":1,"size":-1}]}"#, "/items/0/size", "must be at least 0"),
            (r#"{"name":"a","items":[{"pieces":1,"kind":"x"}]}"#, "/items/0/kind", "must be one of small, very_large"),
            (r#"{"name":"a","items":[{"pieces":1,"kind":1}]}"#, "/items/0/kind", "must be one of small, very_large"),
            (r#"{"name":"a","items":[{"pieces":1,"share":"x"}]}"#, "/items/0/share", "must be a number"),
            (r#"{"name":"a","items":[],"tags":{"a":1}}"#, "/tags/a", "must be a string"),
            (r#"{"name":"a","items":[],"tags":[]}"#, "/tags", "must be an object"),
        ] {
            let problem = explain::<Object<Outer>>(body.as_bytes());
            assert_eq!(problem.status, 422, "{body}");
            let [error] = problem.errors.as_slice() else { panic!("{problem:?}") };
            assert_eq!((error.pointer.as_str(), error.detail.as_str()), (pointer, detail), "{body}");
        }
    }

    #[test]
    fn what_is_no_json_is_that_before_anything_else() {
        assert_eq!(explain::<Object<Outer>>(br#"{"name":7,"#).status, 400);
    }

    /// A body that is refused without a reason would be one that is read otherwise here.
    #[test]
    fn what_is_right_is_read_here_too() {
        let body = r#"{"name":"a","open":null,"items":[{"pieces":-1,"size":7,"kind":"small","share":1}],"tags":{"a":"b"}}"#;
        assert!(serde_json::from_str::<Object<Outer>>(body).is_ok());
        assert_eq!(explain::<Object<Outer>>(body.as_bytes()).detail, "the body cannot be read");
    }
}
