//! An engine, a proxy before it, and requests of one kind.

use std::{net::SocketAddr, time::Duration};

use crate::{
    Result,
    engine::{Engine, batch, faults::Faults, model::Model, server::Server},
    load::{
        mix::{Ask, Dialect, Fate},
        sdk::Sdk,
    },
    proxy::{Guard, Proxy, Upstream},
};

pub struct Stand {
    pub server: Server,
    pub proxy: Proxy,
    pub address: SocketAddr,
}

impl Stand {
    pub async fn new(model: Model, guard: Guard) -> Result<Self> {
        let server = Server::new(Engine::start(model), 1);
        let upstream = server.clone().serve().await?;
        let upstream = Upstream::new(format!("http://{upstream}").parse()?)?;
        let proxy = Proxy::new(upstream, guard);
        let address = proxy.serve().await?;
        Ok(Self {
            server,
            proxy,
            address,
        })
    }

    pub fn faults(self, faults: Faults) -> Self {
        self.server.set_faults(faults);
        self
    }

    /// Resolves when the engine has nothing left to do, or after two seconds.
    pub async fn quiet(&self) {
        for _ in 0..200 {
            let load = self.server.engine.load();
            if load.running + load.waiting == 0 && self.proxy.live().open() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Requests of one size, which differ in nothing but their SDK.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub prompt: u32,
    pub output: u32,
    pub patience: Duration,
    pub retries: u32,
}

impl Kind {
    pub const SHORT: Self = Self {
        prompt: 100,
        output: 24,
        patience: Duration::from_secs(2),
        retries: 0,
    };

    pub fn capacity(&self, model: Model) -> f64 {
        batch::capacity(model, || (self.prompt, self.output))
    }

    pub fn ask(&self, nth: usize) -> Ask {
        let sdk = Sdk::ALL[nth % Sdk::ALL.len()];
        let dialect = match sdk {
            Sdk::AnthropicPython => Dialect::Anthropic,
            Sdk::OpenAiPython | Sdk::OpenAiNode => Dialect::OpenAi,
        };
        Ask {
            dialect,
            tenant: 1,
            prompt: self.prompt,
            output: self.output,
            max_tokens: Some(self.output.max(1024)),
            stream: true,
            fate: Fate::Stays,
            sdk,
            retries: self.retries,
            patience: self.patience,
        }
    }

    /// One after the other at random, `rate` per second.
    pub fn poisson(&self, rate: f64, seconds: f64, seed: u64) -> Vec<(f64, Ask)> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut asks = Vec::new();
        let mut at = 0.0;
        loop {
            at -= (1.0 - rng.f64()).ln() / rate;
            if at >= seconds {
                return asks;
            }
            asks.push((at, self.ask(asks.len())));
        }
    }
}

/// In the order of their times.
pub fn together(streams: impl IntoIterator<Item = Vec<(f64, Ask)>>) -> Vec<(f64, Ask)> {
    let mut all: Vec<_> = streams.into_iter().flatten().collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    all
}
