//! What is in front of the upstream.

use std::time::Duration;

use axum::{Router, response::Response};
use http::{HeaderMap, header};
use tower::util::MapResponseLayer;
use tower_backpressure::{
    BackpressureLayer, Handle, Rejected, limit::Aimd, llm::LlmLayer, rate::TokenBucket,
};

/// For how many tenants a gate is held.
const MOST_TENANTS: usize = 10_000;

/// How long a tenant that has as many in flight as it may waits for one of them to end.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

#[derive(Clone, Debug)]
pub enum Guard {
    Nothing,
    /// tower's own limit, shared by all connections, told how many.
    Tower(usize),
    /// Our gate alone, which knows heads and frames and nothing of what is in them.
    Gate(Calm),
    Calm(Calm),
}

/// Our layer's settings.
#[derive(Clone, Debug)]
pub struct Calm {
    /// Where the limit begins.
    pub initial: usize,
    /// How many of one tenant may be in flight; twice as many wait shortly.
    pub per_tenant: Option<usize>,
    /// How many tokens a tenant may use at once, and how many more per minute.
    pub budget: Option<(u64, u64)>,
    /// How long the first token may take; 300 s if not said.
    pub first_token: Option<Duration>,
    /// Says the same to everybody, as most proxies do.
    pub constant_hint: Option<Duration>,
}

impl Default for Calm {
    fn default() -> Self {
        Self {
            initial: 16,
            per_tenant: None,
            budget: None,
            first_token: None,
            constant_hint: None,
        }
    }
}

/// What is guarded, and what looks at the gate and ends it.
pub struct Guarded {
    pub app: Router,
    pub handle: Option<Handle>,
    pub layer: Option<LlmLayer>,
}

impl Guarded {
    fn by_others(app: Router) -> Self {
        Self {
            app,
            handle: None,
            layer: None,
        }
    }
}

impl Guard {
    pub fn around(self, inner: Router) -> Guarded {
        match self {
            Self::Nothing => Guarded::by_others(inner),
            Self::Tower(limit) => {
                let layer = tower::limit::GlobalConcurrencyLimitLayer::new(limit);
                Guarded::by_others(inner.layer(layer))
            }
            Self::Gate(calm) => {
                let layer = calm.gate();
                Guarded {
                    handle: Some(layer.handle()),
                    app: inner.layer(layer),
                    layer: None,
                }
            }
            Self::Calm(calm) => {
                let mut layer = LlmLayer::new(calm.gate());
                if calm.first_token.is_some() {
                    layer = layer.first_token_timeout(calm.first_token);
                }
                let guarded = inner.layer(layer.clone());
                let guarded = match calm.constant_hint {
                    None => guarded,
                    Some(hint) => guarded.layer(MapResponseLayer::new(move |response| {
                        constant(response, hint)
                    })),
                };
                Guarded {
                    app: guarded,
                    handle: Some(layer.handle()),
                    layer: Some(layer),
                }
            }
        }
    }
}

impl Calm {
    /// A limit that finds itself, and under it one for each tenant, where that is asked for.
    fn gate(&self) -> BackpressureLayer {
        let gate = BackpressureLayer::adaptive(Aimd::default().initial(self.initial)).named("llm");
        let (per_tenant, budget) = (self.per_tenant, self.budget);
        if per_tenant.is_none() && budget.is_none() {
            return gate;
        }
        gate.max_keys(MOST_TENANTS).per_key(
            |head| tenant(&head.headers),
            move |_tenant| {
                let gate = match per_tenant {
                    // A tenant's own bursts wait in its own line, where they are in nobody's way.
                    Some(limit) => BackpressureLayer::block(limit)
                        .max_waiting(2 * limit)
                        .max_wait(LONGEST_WAIT),
                    None => BackpressureLayer::drop_newest(usize::MAX),
                };
                match budget {
                    None => gate,
                    Some((burst, per_minute)) => {
                        gate.and_rate(TokenBucket::per_minute(per_minute).burst(burst))
                    }
                }
            },
        )
    }
}

/// Who asks: the key that it sends, which the upstream checks. One that is made up has a gate of its own and no more of the
/// upstream's capacity than the others leave.
fn tenant(headers: &HeaderMap) -> Box<[u8]> {
    let key = headers
        .get("x-api-key")
        .or_else(|| headers.get(header::AUTHORIZATION));
    key.map_or_else(Box::default, |key| key.as_bytes().into())
}

fn constant(mut response: Response, hint: Duration) -> Response {
    if response.extensions().get::<Rejected>().is_some() {
        let headers = response.headers_mut();
        headers.remove("retry-after-ms");
        headers.insert(header::RETRY_AFTER, hint.as_secs().into());
    }
    response
}
