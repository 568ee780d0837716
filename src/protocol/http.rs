mod policy;

use std::{fmt, num::NonZero, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_LENGTH, request};
use http_body::Body;

use self::policy::Policy;
use super::{
    Protocol, Seen, Sees,
    body::{Hold, ResponseBody},
    content::Content,
    grpc, head, hint, refusal,
    sealed::Sealed,
};
use crate::{
    Charge, Demand, Rejected,
    gate::{Gate, Holder, Permit, Report},
    limit::Outcome,
};

/// HTTP and gRPC: a refusal is a response, the permit rides on the response's body.
///
/// A request whose content type is gRPC's or gRPC-Web's (`application/grpc`, `application/grpc+proto`,
/// `application/grpc-web-text`, ...) is refused with gRPC's status `UNAVAILABLE` and `grpc-retry-pushback-ms`, any other
/// with `503 Service Unavailable`, `Retry-After` (whole seconds, at least 1) and `retry-after-ms`. Over a rate these are
/// `RESOURCE_EXHAUSTED` and `429 Too Many Requests`; where it is no use to come back, or not within a minute,
/// `x-should-retry: false` says so. The rest of a refused request's body is left to the server: hyper closes an HTTP/1
/// connection on which more of it is to come, and keeps one on which there is none.
#[derive(Clone, Default)]
pub struct Http {
    pub(crate) release_at: ReleaseAt,
    pub(crate) sample_at: SampleAt,
    /// Apart, so that a layer without closures costs nothing to clone.
    policy: Option<Arc<Policy>>,
}

/// When the slot comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseAt {
    /// When the response's body has ended or was dropped: a stream holds its slot for as long as it lasts. The default.
    #[default]
    BodyEnd,
    /// With the first frame of the body.
    FirstFrame,
    /// With the response's head, as tower's own limits do.
    Head,
}

/// When the latency is measured from which an adaptive limit learns. Where a response carries a [`Report`], that says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SampleAt {
    /// At the first frame for streams (`text/event-stream`, the JSON lines types, `multipart/x-mixed-replace`, gRPC), where
    /// the head comes before the work is done; at the head for everything else. The default.
    #[default]
    Auto,
    /// At the response's head.
    Head,
    /// At the first frame of the body that has data.
    FirstFrame,
    /// At the end of the body. Then a slow reader looks like a slow service.
    BodyEnd,
}

/// What was asked for, as far as it tells whether the answer has a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Never a body.
    Head,
    /// No body if it succeeds.
    Connect,
    /// Perhaps a body.
    Other,
}

impl Http {
    /// Whether the gate is none of a request's business.
    pub(crate) fn exempts(&self, head: &request::Parts) -> bool {
        let exempt = self.policy.as_ref().and_then(|it| it.exempt.as_ref());
        exempt.is_some_and(|exempt| exempt(head))
    }

    /// The answer to a request that `gate` refused.
    pub(crate) fn refusal(
        &self,
        head: &request::Parts,
        rejected: Rejected,
        gate: &Gate,
    ) -> Response<Bytes> {
        let respond = self.policy.as_ref().and_then(|p| p.respond.as_ref());
        let mut response = if grpc::speaks(&head.headers) {
            grpc::refusal(&head.headers, &rejected).map(|()| Bytes::new())
        } else if let Some(respond) = respond {
            respond(head, &rejected)
        } else {
            refusal::refusal(head, &rejected)
        };
        if let Some(policy) = &self.policy {
            policy.tell_rates(gate, response.headers_mut());
        }
        response.extensions_mut().insert(rejected);
        if head.method == Method::HEAD {
            // HTTP/1 leaves the body away by itself, HTTP/2 does not.
            let length = HeaderValue::from(response.body().len());
            response
                .headers_mut()
                .entry(CONTENT_LENGTH)
                .or_insert(length);
            *response.body_mut() = Bytes::new();
        }
        response
    }

    fn when_to_sample(&self, content: Content) -> SampleAt {
        match (self.sample_at, content) {
            (SampleAt::Auto, Content::Whole) => SampleAt::Head,
            (SampleAt::Auto, _) => SampleAt::FirstFrame,
            (chosen, _) => chosen,
        }
    }

    /// What the head of a response tells, and what is told in it. Gives what the body has to hold on to, if it needs anything. The
    /// response stays where it is, since it is large to move.
    fn read<B: Body>(
        &self,
        asked: Asked,
        response: &mut Response<B>,
        permit: Permit,
    ) -> Option<Hold> {
        let mut told = None;
        if let Some(policy) = &self.policy {
            policy.tell_rates(permit.gate(), response.headers_mut());
            if let Some(classify) = &policy.classify {
                told = Some(head::of_response(response, |head| classify(head)));
            }
        }
        self.hold(asked, response, told, permit)
    }

    /// What the body has to hold on to.
    fn hold<B: Body>(
        &self,
        asked: Asked,
        response: &Response<B>,
        told: Option<Outcome>,
        mut permit: Permit,
    ) -> Option<Hold> {
        let (status, headers, body) = (response.status(), response.headers(), response.body());
        // How it comes matters to whoever measures how long it took, or counts how it went; to read it takes as long as all the
        // rest. Calls that are under way when a recorder comes are counted by their status alone.
        let content = match permit.is_timed() {
            true => Content::of(headers),
            false => Content::Whole,
        };
        let (outcome, trailers_tell) = match (told, content) {
            (Some(outcome), _) => (outcome, false),
            (None, Content::Grpc) => match grpc::outcome(headers) {
                Some(outcome) => (outcome, false),
                None => (outcome_of(status), true),
            },
            (None, _) => (outcome_of(status), false),
        };
        let length = body.size_hint().exact();
        let whole = has_no_body(asked, status) || body.is_end_stream();
        let report = match outcome {
            Outcome::Success => response.extensions().get::<Report>(),
            _ => None,
        };
        let outcome = match report {
            Some(report) => report.tell(&mut permit).unwrap_or(outcome),
            None => outcome,
        };
        if (whole || outcome == Outcome::Overload) && permit.wants_hint() {
            permit.sample_hinted(outcome, hint::retry_after(headers));
        }
        if whole {
            // The server will not ask for a body that cannot come.
            permit.sample(outcome);
            return None;
        }
        let sample_at = self.when_to_sample(content);
        if sample_at == SampleAt::Head && report.is_none() {
            permit.sample(outcome);
        }
        if self.release_at == ReleaseAt::Head {
            permit.release(outcome);
        }
        permit.running(false);
        Some(Hold {
            permit,
            outcome,
            read_trailers: trailers_tell,
            sample_at: match report {
                // How it goes on is for the service to say.
                Some(_) => SampleAt::BodyEnd,
                None => sample_at,
            },
            release_at: self.release_at,
            report: report.cloned(),
            left: length.and_then(NonZero::new),
            // Over HTTP/1 such a body is dropped without being asked; it may be asked for trailers.
            whole: length == Some(0) && !trailers_tell,
        })
    }
}

impl Sealed for Http {}

impl Sees for Http {
    fn sees_requests(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.looks())
    }
}

impl<Q, B, E> Protocol<Request<Q>, Response<B>, E> for Http
where
    B: Body,
    B::Data: From<Bytes>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = E;
    type Asked = Asked;

    fn look(&self, request: &mut Request<Q>, own: &Holder) -> Seen {
        let told = request.extensions().get::<Demand>().copied();
        let Some(policy) = self.policy.as_ref().filter(|policy| policy.looks()) else {
            return Seen {
                exempt: false,
                demand: told,
                gate: None,
            };
        };
        head::of_request(request, |head| {
            let exempt = self.exempts(head);
            let gate = match &policy.keyed {
                Some(keyed) if !exempt => Some(keyed(head, own)),
                _ => None,
            };
            let here = gate.as_ref().unwrap_or(own);
            let known = || policy.demands.as_ref().and_then(|known| known(head, here));
            let cost = || policy.cost.as_ref().map(|cost| Demand::of(cost(head)));
            let demand = match exempt {
                true => None,
                false => told.or_else(known).or_else(cost),
            };
            Seen {
                exempt,
                demand,
                gate,
            }
        })
    }

    /// Without closures that have done their work: all calls share the count of those who hold them.
    #[inline]
    fn to_answer(&self) -> Self {
        let policy = self.policy.as_ref().filter(|policy| policy.answers());
        Self {
            policy: policy.cloned(),
            ..*self
        }
    }

    fn hand(&self, request: &mut Request<Q>, charge: &Charge) {
        request.extensions_mut().insert(charge.clone());
    }

    fn asked(&self, request: &Request<Q>) -> Asked {
        match *request.method() {
            Method::HEAD => Asked::Head,
            Method::CONNECT => Asked::Connect,
            _ => Asked::Other,
        }
    }

    fn refuse(
        &self,
        request: Request<Q>,
        rejected: Rejected,
        gate: &Gate,
    ) -> Result<Self::Response, E> {
        let (head, _) = request.into_parts();
        let response = self.refusal(&head, rejected, gate);
        Ok(response.map(ResponseBody::refusal))
    }

    #[inline]
    fn answer(
        &self,
        asked: Asked,
        mut answer: Result<Response<B>, E>,
        permit: Option<Permit>,
    ) -> Result<Self::Response, E> {
        let hold = match (&mut answer, permit) {
            (Ok(response), Some(permit)) => self.read(asked, response, permit),
            (Err(_), Some(mut permit)) => {
                permit.sample(Outcome::Overload);
                None
            }
            (_, None) => None,
        };
        answer.map(|response| response.map(|body| ResponseBody::new(body, hold)))
    }

    fn error(&self, error: E) -> E {
        error
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.policy.as_deref();
        f.debug_struct("Http")
            .field("release_at", &self.release_at)
            .field("sample_at", &self.sample_at)
            .field("exempt", &policy.is_some_and(|p| p.exempt.is_some()))
            .field("classify", &policy.is_some_and(|p| p.classify.is_some()))
            .field("respond", &policy.is_some_and(|p| p.respond.is_some()))
            .finish()
    }
}

/// What a status says about load. Failures for other reasons say nothing.
pub(crate) fn outcome_of(status: StatusCode) -> Outcome {
    match status.as_u16() {
        // 529 is what Anthropic's API says when it is overloaded.
        429 | 503 | 504 | 529 => Outcome::Overload,
        100..=399 => Outcome::Success,
        _ => Outcome::Ignore,
    }
}

/// Whether there is no body, whatever the response says (RFC 9110, section 6.4.1).
fn has_no_body(asked: Asked, status: StatusCode) -> bool {
    match asked {
        Asked::Head => true,
        Asked::Connect if status.is_success() => true,
        _ => matches!(status.as_u16(), 100..=199 | 204 | 304),
    }
}
