//! The JSON Schemas of values that are checked by hand; those of everything else are derived beside the types. Limits are the constants that the
//! checks themselves use.

use std::borrow::Cow;

use envelope::Line;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::order::Waybill;
use crate::{Description, Email, Name, Quantity, Reference, StockLevel, Tag, Tags};

macro_rules! schemas {
    ($($type:ident: $schema:expr;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let schema: fn(&mut SchemaGenerator) -> Schema = $schema;
                schema(generator)
            }
        }
    )*};
}

schemas! {
    Quantity: |_| json_schema!({ "type": "integer", "description": "Pieces of one line", "minimum": 1, "maximum": Quantity::MAX });
    StockLevel: |_| json_schema!({ "type": "integer", "description": "Pieces of one product", "minimum": 0, "maximum": StockLevel::MAX });
    Name: |generator| Line::json_schema(generator);
    Reference: |generator| Line::json_schema(generator);
    Tags: |_| json_schema!({
        "type": "object",
        "description": "Words that an order is found by, each key once",
        "maxProperties": Tags::MAX,
        "propertyNames": { "type": "string", "pattern": format!("^[a-z0-9_.-]{{1,{}}}$", Tag::KEY_MAX) },
        "additionalProperties": { "type": "string", "minLength": 1, "maxLength": Tag::VALUE_MAX, "pattern": "^[^,]*$" },
    });
    Description: |_| text("Text, trimmed; it may have lines, and no other characters that do not show", 0, Description::MAX);
    Email: |_| text("An e-mail address: one `@` between two parts without spaces. Two in any case of letters are the same", 3, Email::MAX);
    Waybill: |_| json_schema!({
        "type": "array",
        "description": "The whole history of an order, oldest entry first, as GET /orders/{id}/history serves it",
        "items": {
            "type": "object",
            "required": ["sequence", "time"],
            "properties": {
                "sequence": { "type": "integer", "minimum": 1 },
                "time": { "type": "string", "format": "date-time" },
                "message": { "description": "What came" },
                "decision": { "description": "What was decided" },
                "sent": { "type": "array", "description": "What was sent", "items": {} },
                "attempts": { "type": "object", "description": "How often a command was repeated without an entry", "additionalProperties": { "type": "integer" } },
                "state": { "type": "object", "description": "Where the saga stood afterwards" },
            },
        },
    });
}

fn text(description: &str, min: usize, max: usize) -> Schema {
    json_schema!({ "type": "string", "description": description, "minLength": min, "maxLength": max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_the_limits_of_its_type() {
        let name = schemars::schema_for!(Name);
        assert_eq!((name.get("minLength"), name.get("maxLength")), (Some(&1.into()), Some(&200.into())));
        assert!(Name::new(&"x".repeat(Name::MAX)).is_ok() && Name::new(&"x".repeat(Name::MAX + 1)).is_err());
        assert!(
            Description::new(&"x".repeat(Description::MAX)).is_ok()
                && Description::new(&"x".repeat(Description::MAX + 1)).is_err()
        );
    }
}
