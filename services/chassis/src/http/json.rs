//! Strict JSON: the content type, the syntax, the shape and the values are each checked, and each refused by name.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::http::explain::explain;
use crate::http::{BODY_MAX, FieldError, Problem};

/// A JSON body. Malformed 400, of the wrong shape 422, of another content type 415. Its length was looked at when it was received.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::unsupported_media_type());
        }
        let body = axum::body::to_bytes(request.into_body(), BODY_MAX).await;
        parse(&body.map_err(|error| Problem::malformed(error.to_string()))?).map(Self)
    }
}

/// An object. serde by itself also takes an array of the fields' values in the order they are declared in.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

/// Whether the content type says that the body is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next().unwrap_or_default();
    // JSON is UTF-8 (RFC 8259 section 8.1). Whoever says otherwise has sent something else.
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim() == "charset" => matches!(value.trim().trim_matches('"'), "utf-8" | "utf8"),
        _ => true,
    });
    utf8 && (essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // To keep track of where an error is, and of what it is, costs more, so what cannot be read is read once more.
    serde_json::from_slice::<Object<T>>(body).map(|object| object.0).map_err(|_| explain::<Object<T>>(body))
}

/// Gathers everything that is wrong with an input, so that a client can mend it in one go.
#[derive(Default)]
pub struct Checks(Vec<FieldError>);

impl Checks {
    /// Takes a checked value, or notes what is wrong with it.
    pub fn take<T, E: ToString>(&mut self, pointer: impl fmt::Display, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.refuse(pointer, error.to_string())).ok()
    }

    /// Notes what is wrong at a place.
    pub fn refuse(&mut self, pointer: impl fmt::Display, detail: impl Into<String>) {
        self.0.push(FieldError { pointer: pointer.to_string(), detail: detail.into() });
    }

    /// The value, if nothing was wrong anywhere.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Problem> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Problem::invalid(self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code)]
        items: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code)]
        quantity: i64,
    }

    #[test]
    fn syntax_is_malformed_and_shape_is_invalid() {
        assert_eq!(parse::<Outer>(b"{").unwrap_err().status, 400);
        assert_eq!(parse::<Outer>(br#"{"items":[]} x"#).unwrap_err().status, 400);
        assert_eq!(parse::<Outer>(b"[[]]").unwrap_err().detail, "must be an object");
        let problem = parse::<Outer>(br#"{"items":[{"quantity":1},{"quantity":"x"}]}"#).unwrap_err();
        assert_eq!((problem.status, problem.errors[0].pointer.as_str()), (422, "/items/1/quantity"));
        let problem = parse::<Outer>(br#"{"items":[],"more":1}"#).unwrap_err();
        assert_eq!((problem.status, problem.errors[0].pointer.as_str()), (422, "/more"));
    }
}
