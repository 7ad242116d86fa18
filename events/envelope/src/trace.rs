//! The W3C trace context of an order, carried from the request that placed it through every message about it.

use serde::{Deserialize, Serialize};

use crate::TraceState;

/// The trace something belongs to, and what the systems that it came through keep in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// `traceparent`
    pub parent: TraceParent,
    /// `tracestate`, where there is one.
    pub state: Option<TraceState>,
}

impl TraceContext {
    /// Both as they came; `None` without a valid `traceparent`, whatever the other is. An invalid `tracestate` is dropped.
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        Some(Self { parent: TraceParent::parse(parent)?, state: state.and_then(TraceState::parse) })
    }
}

impl From<TraceParent> for TraceContext {
    fn from(parent: TraceParent) -> Self {
        Self { parent, state: None }
    }
}

/// A valid `traceparent` (W3C Trace Context, version 00).
///
/// Waybill passes it on as it came: a system that records spans joins them to the caller's trace, one that does not still sees one
/// trace id on every message of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent(String);

impl TraceParent {
    /// Checks a header's value; `None` where it is not a valid `traceparent`, which the specification says to ignore.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex =
            |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let set = |part: &str| part.bytes().any(|b| b != b'0');
        let valid = version == "00"
            && hex(trace, 32)
            && set(trace)
            && hex(parent, 16)
            && set(parent)
            && hex(flags, 2)
            && parts.next().is_none();
        valid.then(|| Self(text.to_owned()))
    }

    /// A new trace, not sampled, from 16 random bytes of the caller's.
    pub fn from_random(random: u128) -> Self {
        let trace = random | 1; // an all-zero id is invalid
        let parent = (random >> 64) as u64 | 1;
        Self(format!("00-{trace:032x}-{parent:016x}-00"))
    }

    /// The id of the trace.
    pub fn trace_id(&self) -> u128 {
        u128::from_str_radix(&self.0[3..35], 16).unwrap_or_default()
    }

    /// The id of the caller's span; nothing where the trace began with [`Self::from_random`], and there is no such span.
    pub fn caller(&self) -> Option<u64> {
        let parent = self.span_id();
        (parent != (self.trace_id() >> 64) as u64 | 1).then_some(parent)
    }

    /// The id of the span it came from; of none where the trace began with [`Self::from_random`].
    pub fn span_id(&self) -> u64 {
        u64::from_str_radix(&self.0[36..52], 16).unwrap_or_default()
    }

    /// Whether the caller records its part of the trace.
    pub fn is_sampled(&self) -> bool {
        u8::from_str_radix(&self.0[53..], 16).is_ok_and(|flags| flags & 1 == 1)
    }

    /// The header's value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TraceParent {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a valid traceparent")
    }
}

impl From<TraceParent> for String {
    fn from(trace: TraceParent) -> String {
        trace.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_headers_are_taken() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceParent::parse(good).unwrap().as_str(), good);
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_new_one_is_valid() {
        for random in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let trace = TraceParent::from_random(random);
            assert_eq!(trace.caller(), None, "nobody's span");
            assert_eq!(TraceParent::parse(trace.as_str()), Some(trace));
        }
        let trace = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert!(trace.is_sampled());
        assert!(!TraceParent::from_random(7).is_sampled());
        assert_eq!((trace.trace_id(), trace.caller()), (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, Some(0x00f0_67aa_0ba9_02b7)));
    }
}
