//! A vocabulary: the closed set of messages one context understands, each with its versioned CloudEvents type.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::DecodeError;

/// One of a closed set of messages, told apart by its CloudEvents `type`.
pub trait Message: Sized + Serialize {
    /// Every type of the set.
    const KINDS: &'static [&'static str];

    /// The CloudEvents type, with its version: `waybill.user.validate.v1`.
    fn kind(&self) -> &'static str;

    /// Reads the data of an event of this type. Added fields are tolerated; an unknown type is an error.
    fn decode(kind: &str, data: &RawValue) -> Result<Self, DecodeError>;

    /// Writes the data alone, without the type.
    ///
    /// # Errors
    /// Those of the serializer.
    fn serialize_data<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

/// A message's data alone, without the type, as something to be written.
pub struct Data<'a, M>(pub &'a M);

impl<M: Message> Serialize for Data<'_, M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_data(serializer)
    }
}

/// Declares an enum of messages, its [`Message`] implementation and its JSON form `{"type": ..., "data": {...}}`. The crate that uses it has
/// `serde` (with `derive`) and `serde_json` (with `raw_value`) among its dependencies.
///
/// ```
/// #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
/// pub struct Book {
///     trip_id: u64,
/// }
///
/// envelope::vocabulary! {
///     /// What a trip asks of the hotel.
///     pub enum Command {
///         /// Hold a room.
///         "trip.hotel.book.v1" => Book(Book),
///     }
/// }
/// ```
#[macro_export]
macro_rules! vocabulary {
    ($(#[$doc:meta])* pub enum $name:ident {
        $($(#[$variant_doc:meta])* $kind:literal => $variant:ident($data:ty),)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "type", content = "data")]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $kind)] $variant($data),)*
        }

        impl $crate::Message for $name {
            const KINDS: &'static [&'static str] = &[$($kind),*];

            fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind,)* }
            }

            fn decode(kind: &str, data: &serde_json::value::RawValue) -> Result<Self, $crate::DecodeError> {
                match kind {
                    $($kind => Ok(Self::$variant(serde_json::from_str(data.get())?)),)*
                    _ => Err($crate::DecodeError::Unknown(kind.to_owned())),
                }
            }

            fn serialize_data<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$variant(data) => serde::Serialize::serialize(data, serializer),)* }
            }
        }

        $(impl From<$data> for $name {
            fn from(data: $data) -> Self {
                Self::$variant(data)
            }
        })*
    };
}
