//! Why a caller is not believed.

/// Why a caller is not believed: a class, so that an honest client can mend its mistake and a dishonest one learns nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no token.
    Missing,
    /// It cannot be read, or is not an access token.
    Malformed,
    /// It is signed otherwise than with EdDSA, ES256 or RS256.
    Algorithm,
    /// None of the issuer's keys has the name it gives.
    UnknownKey,
    /// The issuer's keys cannot be read.
    NoKeys,
    /// It is not what was signed, or not by the issuer.
    Signature,
    /// It has expired.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It is another issuer's.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// It lacks one of `sub`, `exp`, `iss`, `aud`, or one is of the wrong form.
    Claims,
    /// Its subject is not 1 to 200 characters in a line.
    Subject,
}

impl Refusal {
    /// What the caller is told.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Missing => "a bearer token is required: Authorization: Bearer ...",
            Self::Malformed => "the bearer token cannot be read as an access token",
            Self::Algorithm => "the token is not signed with EdDSA, ES256 or RS256",
            Self::UnknownKey => "the token names a key that its issuer does not have",
            Self::NoKeys => "the keys of the issuer of tokens cannot be read; try again shortly",
            Self::Signature => "the signature of the token is not right",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::Issuer => "the token is of another issuer",
            Self::Audience => "the token is for another audience",
            Self::Claims => "the token lacks one of sub, exp, iss and aud, or one is of the wrong form",
            Self::Subject => "the subject of the token is not 1 to 200 characters in one line",
        }
    }
}
