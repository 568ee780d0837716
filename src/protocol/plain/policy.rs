//! What users have said of requests and answers of any kind: each closure is a type around what was said before.

use std::{fmt, hash::Hash, sync::Arc};

use crate::{
    gate::Holder,
    keyed::Keyed,
    limit::Outcome,
    protocol::{Sees, sealed::Sealed},
};

/// Who is exempt, what a request asks for and of which gate, and how an answer is read. `()` exempts nobody, has one gate for
/// all, and takes `Err` as overload, `Ok` as success.
pub trait Policy<Req, Res, E>: Sees {
    /// Whether the gate is none of this request's business.
    fn exempts(&self, request: &Req) -> bool;
    /// How it went.
    fn outcome(&self, answer: &Result<Res, E>) -> Outcome;
    /// What the request asks for, where that is not what all do.
    fn cost(&self, request: &Req) -> Option<u64>;
    /// The gate of its key under the one `above`, where there are keys.
    fn gate(&self, request: &Req, above: &Holder) -> Option<Holder>;
    /// What it turned out to cost, where the answer tells.
    fn actual(&self, answer: &Result<Res, E>) -> Option<u64>;
}

impl Sealed for () {}

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

    fn gate(&self, _: &Req, _: &Holder) -> Option<Holder> {
        None
    }

    fn actual(&self, _: &Result<Res, E>) -> Option<u64> {
        None
    }
}

/// A closure around what was said before it.
macro_rules! around {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name<P, F> {
            rest: P,
            f: F,
        }

        impl<P, F> $name<P, F> {
            pub(super) fn over(rest: P, f: F) -> Self {
                Self { rest, f }
            }
        }

        impl<P, F> Sealed for $name<P, F> {}

        impl<P, F> fmt::Debug for $name<P, F> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

/// What a closure has no say in stays as it was.
macro_rules! as_before {
    ($($method:ident)*) => { $(as_before!(@ $method);)* };
    (@ exempts) => {
        fn exempts(&self, request: &Req) -> bool {
            self.rest.exempts(request)
        }
    };
    (@ outcome) => {
        #[inline]
        fn outcome(&self, answer: &Result<Res, E>) -> Outcome {
            self.rest.outcome(answer)
        }
    };
    (@ cost) => {
        fn cost(&self, request: &Req) -> Option<u64> {
            self.rest.cost(request)
        }
    };
    (@ gate) => {
        fn gate(&self, request: &Req, above: &Holder) -> Option<Holder> {
            self.rest.gate(request, above)
        }
    };
    (@ actual) => {
        fn actual(&self, answer: &Result<Res, E>) -> Option<u64> {
            self.rest.actual(answer)
        }
    };
}

around! {
    /// What `.exempt(f)` adds.
    Exempt
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
        (self.f)(request) || self.rest.exempts(request)
    }

    as_before!(outcome cost gate actual);
}

around! {
    /// What `.classify(f)` adds.
    Classify
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
    fn outcome(&self, answer: &Result<Res, E>) -> Outcome {
        (self.f)(answer)
    }

    as_before!(exempts cost gate actual);
}

around! {
    /// What `.cost(f)` adds.
    Cost
}

impl<P, F> Sees for Cost<P, F> {
    fn sees_requests(&self) -> bool {
        true
    }
}

impl<P, F, Req, Res, E> Policy<Req, Res, E> for Cost<P, F>
where
    P: Policy<Req, Res, E>,
    F: Fn(&Req) -> u64,
{
    fn cost(&self, request: &Req) -> Option<u64> {
        Some((self.f)(request))
    }

    as_before!(exempts outcome gate actual);
}

around! {
    /// What `.settle(f)` adds.
    Settle
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
    fn actual(&self, answer: &Result<Res, E>) -> Option<u64> {
        (self.f)(answer)
    }

    as_before!(exempts outcome cost gate);
}

/// What `.per_key(f, g)` adds.
pub struct PerKey<P, F, K> {
    rest: P,
    key: F,
    gates: Arc<Keyed<K>>,
}

impl<P, F, K> PerKey<P, F, K> {
    pub(super) fn over(rest: P, key: F, gates: Arc<Keyed<K>>) -> Self {
        Self { rest, key, gates }
    }
}

impl<P: Clone, F: Clone, K> Clone for PerKey<P, F, K> {
    fn clone(&self) -> Self {
        Self {
            rest: self.rest.clone(),
            key: self.key.clone(),
            gates: Arc::clone(&self.gates),
        }
    }
}

impl<P, F, K> Sealed for PerKey<P, F, K> {}

impl<P, F, K> fmt::Debug for PerKey<P, F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerKey")
            .field("gates", &self.gates)
            .finish_non_exhaustive()
    }
}

impl<P, F, K> Sees for PerKey<P, F, K> {
    fn sees_requests(&self) -> bool {
        true
    }
}

impl<P, F, K, Req, Res, E> Policy<Req, Res, E> for PerKey<P, F, K>
where
    P: Policy<Req, Res, E>,
    F: Fn(&Req) -> K,
    K: Hash + Eq,
{
    fn gate(&self, request: &Req, above: &Holder) -> Option<Holder> {
        Some(self.gates.gate((self.key)(request), above))
    }

    as_before!(exempts outcome cost actual);
}
