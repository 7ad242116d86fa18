//! Why a message was not published, and what may become of it: one table for everything the broker and its client say.

use std::error::Error as _;
use std::fmt;

use async_nats::SubjectError;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{self, ErrorCode};

/// A message that was not acknowledged. It may be stored all the same: only an acknowledgement counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpublished {
    /// What may become of it.
    pub cause: Cause,
    /// The broker's own words, or its client's.
    pub reason: String,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The broker's: it is away, or does not answer. The message waits for as long as it takes.
    Outage,
    /// The broker answers, and no stream takes the subject (yet).
    Unheard,
    /// This message was refused, and may be taken later.
    Refused,
    /// This message will never be taken.
    Never,
}

impl Cause {
    /// As metrics call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Outage => "outage",
            Self::Unheard => "unheard",
            Self::Refused => "refused",
            Self::Never => "never",
        }
    }
}

impl Unpublished {
    /// The message cannot be sent at all.
    pub fn never(reason: impl Into<String>) -> Self {
        Self { cause: Cause::Never, reason: reason.into() }
    }

    /// The broker, or the way to it, is in trouble.
    pub fn outage(reason: impl Into<String>) -> Self {
        Self { cause: Cause::Outage, reason: reason.into() }
    }
}

impl fmt::Display for Unpublished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Unpublished {}

impl From<PublishError> for Unpublished {
    fn from(error: PublishError) -> Self {
        let source = error.source();
        let cause = match (error.kind(), source.and_then(|source| source.downcast_ref::<jetstream::Error>())) {
            (PublishErrorKind::MaxPayloadExceeded, _) => Cause::Never,
            (PublishErrorKind::StreamNotFound, _) => Cause::Unheard,
            (PublishErrorKind::Other, Some(refusal)) => refused(refusal),
            _ if source.is_some_and(|source| source.is::<SubjectError>()) => Cause::Never,
            _ => Cause::Outage,
        };
        Self { cause, reason: error.to_string() }
    }
}

/// What an answer of JetStream means. Its codes are those of HTTP: 4xx is the message's fault, 5xx the server's.
fn refused(refusal: &jetstream::Error) -> Cause {
    match refusal.error_code() {
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => Cause::Never,
        // The same message is being stored at this moment; JetStream is off, or has no account here: all of them pass.
        ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT
        | ErrorCode::STREAM_NOT_FOUND
        | ErrorCode::NO_ACCOUNT
        | ErrorCode::JETSTREAM_NOT_ENABLED
        | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => Cause::Outage,
        _ if (400..500).contains(&refusal.code()) && refusal.code() != 408 && refusal.code() != 429 => Cause::Refused,
        _ => Cause::Outage,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answered(code: usize, error: ErrorCode) -> Cause {
        let refusal: jetstream::Error =
            serde_json::from_value(json!({"code": code, "err_code": error.0, "description": "the server's own words"})).unwrap();
        let unpublished = Unpublished::from(PublishError::with_source(PublishErrorKind::Other, refusal));
        assert!(unpublished.reason.contains("the server's own words"), "{unpublished}");
        unpublished.cause
    }

    #[test]
    fn an_outage_is_no_fault_of_the_message() {
        for kind in
            [PublishErrorKind::TimedOut, PublishErrorKind::BrokenPipe, PublishErrorKind::MaxAckPending, PublishErrorKind::Other]
        {
            assert_eq!(Unpublished::from(PublishError::new(kind)).cause, Cause::Outage, "{kind}");
        }
        assert_eq!(Unpublished::from(PublishError::new(PublishErrorKind::StreamNotFound)).cause, Cause::Unheard);
        for (code, error) in [
            (503, ErrorCode::STREAM_STORE_FAILED),
            (503, ErrorCode::INSUFFICIENT_RESOURCES),
            (503, ErrorCode::CLUSTER_NOT_AVAILABLE),
            (500, ErrorCode::RAFT_GENERAL),
            (404, ErrorCode::STREAM_NOT_FOUND),
            (409, ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT),
            (429, ErrorCode::STREAM_TOO_MANY_REQUESTS),
            (503, ErrorCode::JETSTREAM_NOT_ENABLED),
        ] {
            assert_eq!(answered(code, error), Cause::Outage, "{error:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_never_taken_and_other_refusals_may_pass() {
        assert_eq!(Unpublished::from(PublishError::new(PublishErrorKind::MaxPayloadExceeded)).cause, Cause::Never);
        assert_eq!(answered(400, ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM), Cause::Never);
        assert_eq!(answered(400, ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM), Cause::Never);
        assert_eq!(answered(400, ErrorCode::STREAM_SEALED), Cause::Refused);
        assert_eq!(answered(400, ErrorCode::MESSAGE_TTL_DISABLED), Cause::Refused);
    }
}
