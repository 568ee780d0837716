mod policy;

use std::{fmt, sync::Arc};

use super::{Protocol, Seen, Sees, sealed::Sealed};
use crate::{
    Charge, Demand, Error, Rejected,
    gate::{Gate, Holder, Permit},
    keyed::Keyed,
};

pub use self::policy::{Classify, Cost, Exempt, PerKey, Policy, Settle};

/// Any service: a refusal is an [`Error::Rejected`], the permit comes back with the answer.
///
/// `P` is what `.exempt(f)`, `.cost(f)`, `.per_key(f, g)`, `.settle(f)` and `.classify(f)` have said.
#[derive(Clone, Copy, Default)]
pub struct Plain<P = ()> {
    policy: P,
}

impl<P> Plain<P> {
    pub(crate) fn exempt<F>(self, exempt: F) -> Plain<Exempt<P, F>> {
        Plain {
            policy: Exempt::over(self.policy, exempt),
        }
    }

    pub(crate) fn classify<F>(self, classify: F) -> Plain<Classify<P, F>> {
        Plain {
            policy: Classify::over(self.policy, classify),
        }
    }

    pub(crate) fn cost<F>(self, cost: F) -> Plain<Cost<P, F>> {
        Plain {
            policy: Cost::over(self.policy, cost),
        }
    }

    pub(crate) fn per_key<F, K>(self, key: F, gates: Arc<Keyed<K>>) -> Plain<PerKey<P, F, K>> {
        Plain {
            policy: PerKey::over(self.policy, key, gates),
        }
    }

    pub(crate) fn settle<F>(self, settle: F) -> Plain<Settle<P, F>> {
        Plain {
            policy: Settle::over(self.policy, settle),
        }
    }
}

impl<P> Sealed for Plain<P> {}

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
    fn look(&self, request: &mut Req, gate: &Holder) -> Seen {
        if self.policy.exempts(request) {
            return Seen {
                exempt: true,
                ..Seen::default()
            };
        }
        Seen {
            exempt: false,
            demand: self.policy.cost(request).map(Demand::of),
            gate: self.policy.gate(request, gate),
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
