//! What users have said of requests and answers.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, request, response};

use super::Http;
use crate::{
    Demand, RateHeaders, Rejected,
    gate::{Gate, Holder},
    limit::Outcome,
    protocol::quota,
};

type Exempt = dyn Fn(&request::Parts) -> bool + Send + Sync;
type Demands = dyn Fn(&request::Parts, &Gate) -> Option<Demand> + Send + Sync;
type Cost = dyn Fn(&request::Parts) -> u64 + Send + Sync;
type Keyed = dyn Fn(&request::Parts, &Holder) -> Holder + Send + Sync;
type Classify = dyn Fn(&response::Parts) -> Outcome + Send + Sync;
type Respond = dyn Fn(&request::Parts, &Rejected) -> Response<Bytes> + Send + Sync;

#[derive(Clone, Default)]
pub(super) struct Policy {
    pub(super) exempt: Option<Arc<Exempt>>,
    pub(super) classify: Option<Arc<Classify>>,
    pub(super) respond: Option<Arc<Respond>>,
    pub(super) cost: Option<Arc<Cost>>,
    pub(super) keyed: Option<Arc<Keyed>>,
    /// What a request asks for at a gate, as an outer layer knows it.
    pub(super) demands: Option<Arc<Demands>>,
    pub(super) rate_headers: Vec<RateHeaders>,
}

impl Policy {
    pub(super) fn looks(&self) -> bool {
        self.demands.is_some()
            || self.exempt.is_some()
            || self.cost.is_some()
            || self.keyed.is_some()
    }

    /// Whether it has a say once a request was looked at.
    pub(super) fn answers(&self) -> bool {
        self.classify.is_some() || self.respond.is_some() || !self.rate_headers.is_empty()
    }

    pub(super) fn tell_rates(&self, gate: &Gate, headers: &mut HeaderMap) {
        if self.rate_headers.is_empty() || !gate.has_rates() {
            return;
        }
        let quotas = gate.quotas();
        for kind in &self.rate_headers {
            quota::tell(*kind, quotas.iter().copied(), headers);
        }
    }
}

impl Http {
    /// Closures, or headers, which only HTTP has.
    pub(crate) fn has_closures(&self) -> bool {
        self.policy.is_some()
    }

    pub(crate) fn exempt<F>(&mut self, exempt: F)
    where
        F: Fn(&request::Parts) -> bool + Send + Sync + 'static,
    {
        let policy = self.policy_mut();
        policy.exempt = Some(match policy.exempt.take() {
            None => Arc::new(exempt),
            Some(others) => Arc::new(move |head: &request::Parts| others(head) || exempt(head)),
        });
    }

    pub(crate) fn cost<F>(&mut self, cost: F)
    where
        F: Fn(&request::Parts) -> u64 + Send + Sync + 'static,
    {
        self.policy_mut().cost = Some(Arc::new(cost));
    }

    /// What requests ask for that come without a [`Demand`], before `cost` has a say.
    #[cfg(feature = "llm")]
    pub(crate) fn demands<F>(&mut self, demands: F)
    where
        F: Fn(&request::Parts, &Gate) -> Option<Demand> + Send + Sync + 'static,
    {
        self.policy_mut().demands = Some(Arc::new(demands));
    }

    /// Which gate is that of a request's key.
    pub(crate) fn keyed<F>(&mut self, keyed: F)
    where
        F: Fn(&request::Parts, &Holder) -> Holder + Send + Sync + 'static,
    {
        self.policy_mut().keyed = Some(Arc::new(keyed));
    }

    pub(crate) fn classify<F>(&mut self, classify: F)
    where
        F: Fn(&response::Parts) -> Outcome + Send + Sync + 'static,
    {
        self.policy_mut().classify = Some(Arc::new(classify));
    }

    pub(crate) fn respond<F>(&mut self, respond: F)
    where
        F: Fn(&request::Parts, &Rejected) -> Response<Bytes> + Send + Sync + 'static,
    {
        self.policy_mut().respond = Some(Arc::new(respond));
    }

    pub(crate) fn rate_headers(&mut self, kind: RateHeaders) {
        let policy = self.policy_mut();
        if !policy.rate_headers.contains(&kind) {
            policy.rate_headers.push(kind);
        }
    }

    fn policy_mut(&mut self) -> &mut Policy {
        Arc::make_mut(self.policy.get_or_insert_default())
    }
}
