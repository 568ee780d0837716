use std::fmt;

use super::{Protocol, Seen, Sees, sealed::Sealed};
use crate::{
    Charge, Demand, Error, Rejected,
    gate::{Gate, Holder, Permit},
    limit::Outcome,
};

/// Any service: a refusal is an [`Error::Rejected`], the permit comes back with the answer.
///
/// `P` is what `.exempt(f)`, `.cost(f)`, `.settle(f)` and `.classify(f)` have said.
#[derive(Clone, Copy, Default)]
pub struct Plain<P = ()> {
    policy: P,
}

impl<P> Plain<P> {
    pub(crate) fn exempt<F>(self, exempt: F) -> Plain<Exempt<P, F>> {
        let policy = Exempt {
            rest: self.policy,
            exempt,
        };
        Plain { policy }
    }

    pub(crate) fn classify<F>(self, classify: F) -> Plain<Classify<P, F>> {
        let policy = Classify {
            rest: self.policy,
            classify,
        };
        Plain { policy }
    }

    pub(crate) fn cost<F>(self, cost: F) -> Plain<Cost<P, F>> {
        let policy = Cost {
            rest: self.policy,
            cost,
        };
        Plain { policy }
    }

    pub(crate) fn settle<F>(self, settle: F) -> Plain<Settle<P, F>> {
        let policy = Settle {
            rest: self.policy,
            settle,
        };
        Plain { policy }
    }
}

impl<P> Sealed for Plain<P> {}
impl Sealed for () {}
impl<P, F> Sealed for Exempt<P, F> {}
impl<P, F> Sealed for Classify<P, F> {}
impl<P, F> Sealed for Cost<P, F> {}
impl<P, F> Sealed for Settle<P, F> {}

impl<P: Sees> Sees for Plain<P> {
    fn sees_requests(&self) -> bool {
        self.policy.sees_requests()
    }
}

impl<P, Req, Res, E> Protocol<Req, Res, E> for Plain<P>
where
    P: Policy<Req, Res, E> + Clone,
{
    type Response = Res;
    type Error = Error<E>;
    type Asked = ();

    #[inline]
    fn look(&self, request: &mut Req, _: &Holder) -> Seen {
        Seen {
            exempt: self.policy.exempts(request),
            demand: self.policy.cost(request).map(Demand::of),
            gate: None,
        }
    }

    /// There is no place for it in a request of any kind; `.settle(f)` reads the answer instead.
    fn hand(&self, _: &mut Req, _: &Charge) {}

    fn asked(&self, _: &Req) {}

    fn refuse(&self, _: Req, rejected: Rejected, _: &Gate) -> Result<Res, Error<E>> {
        Err(Error::Rejected(rejected))
    }

    #[inline]
    fn answer(
        &self,
        (): (),
        answer: Result<Res, E>,
        permit: Option<Permit>,
    ) -> Result<Res, Error<E>> {
        if let Some(mut permit) = permit {
            permit.sample(self.policy.outcome(&answer));
            if let Some(cost) = self.policy.actual(&answer) {
                permit.charge(cost);
            }
        }
        answer.map_err(Error::Inner)
    }

    fn error(&self, error: E) -> Error<E> {
        Error::Inner(error)
    }
}

impl<P> fmt::Debug for Plain<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}

/// Who is exempt, and how an answer is read. `()` exempts nobody and takes `Err` as overload, `Ok` as success.
pub trait Policy<Req, Res, E>: Sees {
    /// Whether the gate is none of this request's business.
    fn exempts(&self, request: &Req) -> bool;
    /// How it went.
    fn outcome(&self, answer: &Result<Res, E>) -> Outcome;
    /// What the request asks for, where that is not what all do.
    fn cost(&self, request: &Req) -> Option<u64>;
    /// What it turned out to cost, where the answer tells.
    fn actual(&self, answer: &Result<Res, E>) -> Option<u64>;
}

impl Sees for () {
    fn sees_requests(&self) -> bool {
        false
    }
}

impl<Req, Res, E> Policy<Req, Res, E> for () {
    fn exempts(&self, _: &Req) -> bool {
        false
    }

    #[inline]
    fn outcome(&self, answer: &Result<Res, E>) -> Outcome {
        match answer {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Overload,
        }
    }

    fn cost(&self, _: &Req) -> Option<u64> {
        None
    }

    fn actual(&self, _: &Result<Res, E>) -> Option<u64> {
        None
    }
}

/// What `.exempt(f)` adds.
#[derive(Clone, Copy)]
pub struct Exempt<P, F> {
    rest: P,
    exempt: F,
}

impl<P, F> fmt::Debug for Exempt<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exempt").finish_non_exhaustive()
    }
}

impl<P, F> Sees for Exempt<P, F> {
    fn sees_requests(&self) -> bool {
        true
    }
}

impl<P, F, Req, Res, E> Policy<Req, Res, E> for Exempt<P, F>
where
    P: Policy<Req, Res, E>,
    F: Fn(&Req) -> bool,
{
    fn exempts(&self, request: &Req) -> bool {
        (self.exempt)(request) || self.rest.exempts(request)
    }

    fn outcome(&self, answer: &Result<Res, E>) -> Outcome {
        self.rest.outcome(answer)
    }

    fn cost(&self, request: &Req) -> Option<u64> {
        self.rest.cost(request)
    }

    fn actual(&self, answer: &Result<Res, E>) -> Option<u64> {
        self.rest.actual(answer)
    }
}

/// What `.classify(f)` adds.
#[derive(Clone, Copy)]
pub struct Classify<P, F> {
    rest: P,
    classify: F,
}

impl<P, F> fmt::Debug for Classify<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classify").finish_non_exhaustive()
    }
}

impl<P: Sees, F> Sees for Classify<P, F> {
    fn sees_requests(&self) -> bool {
        self.rest.sees_requests()
    }
}

impl<P, F, Req, Res, E> Policy<Req, Res, E> for Classify<P, F>
where
    P: Policy<Req, Res, E>,
    F: Fn(&Result<Res, E>) -> Outcome,
{
    fn exempts(&self, request: &Req) -> bool {
        self.rest.exempts(request)
    }

    fn outcome(&self, answer: &Result<Res, E>) -> Outcome {
        (self.classify)(answer)
    }

    fn cost(&self, request: &Req) -> Option<u64> {
        self.rest.cost(request)
    }

    fn actual(&self, answer: &Result<Res, E>) -> Option<u64> {
        self.rest.actual(answer)
    }
}

/// What `.cost(f)` adds.
#[derive(Clone, Copy)]
pub struct Cost<P, F> {
    rest: P,
    cost: F,
}

impl<P, F> fmt::Debug for Cost<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cost").finish_non_exhaustive()
    }
}

impl<P: Sees, F> Sees for Cost<P, F> {
    fn sees_requests(&self) -> bool {
        true
    }
}

impl<P, F, Req, Res, E> Policy<Req, Res, E> for Cost<P, F>
where
    P: Policy<Req, Res, E>,
    F: Fn(&Req) -> u64,
{
    fn exempts(&self, request: &Req) -> bool {
        self.rest.exempts(request)
    }

    fn outcome(&self, answer: &Result<Res, E>) -> Outcome {
        self.rest.outcome(answer)
    }

    fn cost(&self, request: &Req) -> Option<u64> {
        Some((self.cost)(request))
    }

    fn actual(&self, answer: &Result<Res, E>) -> Option<u64> {
        self.rest.actual(answer)
    }
}

/// What `.settle(f)` adds.
#[derive(Clone, Copy)]
pub struct Settle<P, F> {
    rest: P,
    settle: F,
}

impl<P, F> fmt::Debug for Settle<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settle").finish_non_exhaustive()
    }
}

impl<P: Sees, F> Sees for Settle<P, F> {
    fn sees_requests(&self) -> bool {
        self.rest.sees_requests()
    }
}

impl<P, F, Req, Res, E> Policy<Req, Res, E> for Settle<P, F>
where
    P: Policy<Req, Res, E>,
    F: Fn(&Result<Res, E>) -> Option<u64>,
{
    fn exempts(&self, request: &Req) -> bool {
        self.rest.exempts(request)
    }

    fn outcome(&self, answer: &Result<Res, E>) -> Outcome {
        self.rest.outcome(answer)
    }

    fn cost(&self, request: &Req) -> Option<u64> {
        self.rest.cost(request)
    }

    fn actual(&self, answer: &Result<Res, E>) -> Option<u64> {
        (self.settle)(answer)
    }
}
