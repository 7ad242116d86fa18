//! A vocabulary: the closed set of messages one context understands, each with its versioned CloudEvents type.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::DecodeError;

/// One of a closed set of messages, told apart by its CloudEvents `type`.
pub trait Message: Sized + Serialize {
    /// Every type of the set.
    fn kinds() -> Vec<&'static str>;

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
            fn kinds() -> Vec<&'static str> {
                vec![$($kind),*]
            }

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

/// Declares an enum of several vocabularies: what may come from several sides. It reads and writes as they do, each event by its type.
///
/// ```
/// # mod said {
/// #     #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
/// #     pub struct Booked {}
/// #     pub mod flight { envelope::vocabulary! { pub enum Reply { "trip.flight.booked.v1" => Booked(super::Booked), } } }
/// #     pub mod hotel { envelope::vocabulary! { pub enum Reply { "trip.hotel.booked.v1" => Booked(super::Booked), } } }
/// # }
/// # use said::{flight, hotel};
/// envelope::vocabularies! {
///     /// What the participants reply.
///     pub enum Reply {
///         /// By the airline.
///         Flight(flight::Reply),
///         /// By the hotel.
///         Hotel(hotel::Reply),
///     }
/// }
/// ```
#[macro_export]
macro_rules! vocabularies {
    ($(#[$doc:meta])* pub enum $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident($set:ty),)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[serde(untagged)]
        pub enum $name {
            $($(#[$variant_doc])* $variant($set),)*
        }

        impl $crate::Message for $name {
            fn kinds() -> Vec<&'static str> {
                [$(<$set as $crate::Message>::kinds()),*].concat()
            }

            fn kind(&self) -> &'static str {
                match self { $(Self::$variant(message) => $crate::Message::kind(message),)* }
            }

            fn decode(kind: &str, data: &serde_json::value::RawValue) -> Result<Self, $crate::DecodeError> {
                $(match <$set as $crate::Message>::decode(kind, data) {
                    Err($crate::DecodeError::Unknown(_)) => {}
                    read => return read.map(Self::$variant),
                })*
                Err($crate::DecodeError::Unknown(kind.to_owned()))
            }

            fn serialize_data<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$variant(message) => $crate::Message::serialize_data(message, serializer),)* }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            // By its type, where `untagged` would try one set after the other, and could not name a type that none knows. A raw value can
            // be read from JSON and from a `Value`, but not through a flattened or untagged type around it.
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::Typed::deserialize(deserializer)?.read().map_err(serde::de::Error::custom)
            }
        }

        $(impl From<$set> for $name {
            fn from(message: $set) -> Self {
                Self::$variant(message)
            }
        })*
    };
}

/// A message as it is written outside of an envelope: `{"type": ..., "data": {...}}`.
#[derive(serde::Deserialize)]
pub struct Typed {
    r#type: String,
    data: Box<RawValue>,
}

impl Typed {
    /// Reads it as one of a set.
    ///
    /// # Errors
    /// Where it is none of the set, or not of the shape its type promises.
    pub fn read<M: Message>(&self) -> Result<M, DecodeError> {
        M::decode(&self.r#type, &self.data)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Booked {
        trip: u32,
    }

    mod flight {
        crate::vocabulary! {
            /// By the airline.
            pub enum Reply {
                /// A seat is held.
                "trip.flight.booked.v1" => Booked(super::Booked),
            }
        }
    }

    mod hotel {
        crate::vocabulary! {
            /// By the hotel.
            pub enum Reply {
                /// A room is held.
                "trip.hotel.booked.v1" => Booked(super::Booked),
            }
        }
    }

    crate::vocabularies! {
        /// By either.
        pub enum Reply {
            /// By the airline.
            Flight(flight::Reply),
            /// By the hotel.
            Hotel(hotel::Reply),
        }
    }

    #[test]
    fn a_message_of_several_sets_is_read_by_its_type() {
        assert_eq!(Reply::kinds(), ["trip.flight.booked.v1", "trip.hotel.booked.v1"]);
        for reply in [Reply::from(flight::Reply::Booked(Booked { trip: 7 })), hotel::Reply::Booked(Booked { trip: 7 }).into()] {
            let json = serde_json::to_string(&reply).unwrap();
            assert_eq!(json, format!(r#"{{"type":"{}","data":{{"trip":7}}}}"#, reply.kind()));
            assert_eq!(serde_json::from_str::<Reply>(&json).unwrap(), reply);
            assert_eq!(serde_json::from_value::<Reply>(serde_json::from_str(&json).unwrap()).unwrap(), reply);
        }
        let unknown = serde_json::from_str::<Reply>(r#"{"type":"trip.car.booked.v1","data":{}}"#).unwrap_err().to_string();
        assert!(unknown.contains("`trip.car.booked.v1` is not known here"), "{unknown}");
        let malformed = serde_json::from_str::<Reply>(r#"{"type":"trip.hotel.booked.v1","data":{}}"#).unwrap_err().to_string();
        assert!(malformed.contains("missing field `trip`"), "{malformed}");
    }
}
