//! What goes wrong with requests, and when.

use std::time::Duration;

use super::call::{Call, Target};

/// An answer that is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// S3's code; empty for the error page of something on the way that knows nothing of S3.
    pub code: &'static str,
}

#[expect(missing_docs, reason = "they are called as in S3's own documentation")]
impl Refusal {
    pub const ACCESS_DENIED: Self = Self { status: 403, code: "AccessDenied" };
    pub const BAD_GATEWAY: Self = Self { status: 502, code: "" };
    pub const CONFLICT: Self = Self { status: 409, code: "ConditionalRequestConflict" };
    pub const EXPIRED_TOKEN: Self = Self { status: 400, code: "ExpiredToken" };
    pub const INTERNAL_ERROR: Self = Self { status: 500, code: "InternalError" };
    pub const INVALID_ACCESS_KEY: Self = Self { status: 403, code: "InvalidAccessKeyId" };
    pub const INVALID_ARGUMENT: Self = Self { status: 400, code: "InvalidArgument" };
    pub const NO_SUCH_BUCKET: Self = Self { status: 404, code: "NoSuchBucket" };
    pub const NOT_IMPLEMENTED: Self = Self { status: 501, code: "NotImplemented" };
    pub const QUOTA_EXCEEDED: Self = Self { status: 403, code: "QuotaExceeded" };
    pub const REQUEST_TIMEOUT: Self = Self { status: 400, code: "RequestTimeout" };
    pub const SERVICE_UNAVAILABLE: Self = Self { status: 503, code: "ServiceUnavailable" };
    pub const SLOW_DOWN: Self = Self { status: 503, code: "SlowDown" };
    pub const TOO_MANY_REQUESTS: Self = Self { status: 429, code: "TooManyRequests" };
    pub const TOO_SKEWED: Self = Self { status: 403, code: "RequestTimeTooSkewed" };
    pub const WRONG_REGION: Self = Self { status: 400, code: "AuthorizationHeaderMalformed" };

    /// What is worth another try.
    pub const TEMPORARY: [Self; 6] = [
        Self::INTERNAL_ERROR,
        Self::SLOW_DOWN,
        Self::SERVICE_UNAVAILABLE,
        Self::TOO_MANY_REQUESTS,
        Self::REQUEST_TIMEOUT,
        Self::BAD_GATEWAY,
    ];
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// It is answered with an error instead of being carried out.
    Refuse(Refusal),
    /// As [`Effect::Refuse`], before its body was read, and then the connection is closed.
    RefuseEarly(Refusal),
    /// It is carried out and answered with an error all the same.
    RefuseAfterwards(Refusal),
    /// It is carried out, the status is 200, and the body says that it failed (`CompleteMultipartUpload` can do so).
    RefuseInside(Refusal),
    /// A byte of the request's body is another than was sent.
    DamageRequest,
    /// The connection is closed when so many bytes of the request's body were read. It is not carried out.
    CutRequest(usize),
    /// It is carried out, and the connection is closed instead of the answer.
    LoseAnswer,
    /// It is carried out, and the connection is closed after so many bytes of the answer's body.
    CutAnswer(usize),
    /// It is carried out, and after so many bytes of the answer's body nothing comes any more, the connection stays.
    StallAnswer(usize),
    /// It is carried out, and the answer never comes.
    Hang,
    /// The answer comes so much later.
    Delay(Duration),
    /// The answer is success, and what was written is gone.
    LoseObject,
    /// Conditions are taken as if they were not there.
    IgnoreConditions,
    /// A request with a condition is refused, as by a store that does not know them.
    RefuseConditions(Refusal),
    /// A listing ends after so many names, and says that this is all.
    EndListing(usize),
    /// A byte of the answer's body is another than it was.
    FlipByte(usize),
}

impl Effect {
    fn applies_to(&self, call: Call, has_condition: bool) -> bool {
        match self {
            Self::LoseObject => matches!(call, Call::PutObject | Call::UploadPart | Call::CompleteMultipartUpload),
            Self::IgnoreConditions | Self::RefuseConditions(_) => has_condition,
            Self::EndListing(_) => call == Call::ListObjects,
            _ => true,
        }
    }
}

/// An effect, and the requests it meets: unless narrowed, the first to which it can apply.
#[derive(Clone, Debug)]
pub struct Fault {
    effect: Effect,
    call: Option<Call>,
    key_part: String,
    skip: usize,
    times: usize,
}

impl Fault {
    /// A fault that meets the first request to which `effect` can apply, once.
    pub fn new(effect: Effect) -> Self {
        Self { effect, call: None, key_part: String::new(), skip: 0, times: 1 }
    }

    /// Only requests of this kind.
    #[must_use]
    pub fn on(self, call: Call) -> Self {
        Self { call: Some(call), ..self }
    }

    /// Only objects, or prefixes of a listing, whose name contains `part`.
    #[must_use]
    pub fn key_containing(self, part: &str) -> Self {
        Self { key_part: part.to_owned(), ..self }
    }

    /// Lets the first `count` requests pass that it would meet.
    #[must_use]
    pub fn skipping(self, count: usize) -> Self {
        Self { skip: count, ..self }
    }

    /// Meets so many requests, not only one.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Meets every such request from then on.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    fn matches(&self, target: &Target, has_condition: bool) -> bool {
        self.times > 0
            && self.call.is_none_or(|wanted| wanted == target.call)
            && self.effect.applies_to(target.call, has_condition)
            && target.key.contains(&self.key_part)
    }
}

/// The faults to come, and how many came.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) faults: Vec<Fault>,
    pub(crate) fired: usize,
}

impl Script {
    /// The effect of the first fault that meets this request. Faults that are still to skip some count it.
    pub(crate) fn next_effect(&mut self, target: &Target, has_condition: bool) -> Option<Effect> {
        let mut effect = None;
        for fault in self.faults.iter_mut().filter(|fault| fault.matches(target, has_condition)) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if effect.is_none() {
                fault.times -= 1;
                effect = Some(fault.effect.clone());
            }
        }
        self.fired += usize::from(effect.is_some());
        effect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(call: Call, key: &str) -> Target {
        Target { call, bucket: "bucket".into(), key: key.into() }
    }

    #[test]
    fn a_fault_meets_the_requests_it_was_written_for() {
        let mut script = Script::default();
        let effect = Effect::Refuse(Refusal::SLOW_DOWN);
        script.faults.push(Fault::new(effect.clone()).on(Call::PutObject).key_containing("pack").skipping(1).times(2));
        assert_eq!(script.next_effect(&target(Call::GetObject, "pack"), false), None);
        assert_eq!(script.next_effect(&target(Call::PutObject, "key"), false), None);
        assert_eq!(script.next_effect(&target(Call::PutObject, "pack/1"), false), None);
        for _ in 0..2 {
            assert_eq!(script.next_effect(&target(Call::PutObject, "pack/2"), false), Some(effect.clone()));
        }
        assert_eq!(script.next_effect(&target(Call::PutObject, "pack/3"), false), None);
        assert_eq!(script.fired, 2);
    }

    #[test]
    fn a_condition_is_ignored_where_there_is_one() {
        let mut script = Script::default();
        script.faults.push(Fault::new(Effect::IgnoreConditions));
        assert_eq!(script.next_effect(&target(Call::PutObject, "a"), false), None);
        assert_eq!(script.next_effect(&target(Call::PutObject, "a"), true), Some(Effect::IgnoreConditions));
    }
}
