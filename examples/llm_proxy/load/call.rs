//! One request over HTTP, as a client makes it: with its retries, its patience and its manners.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rand::{SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    events::{Event, Events},
    mix::{Ask, Dialect, Fate},
};

/// What a slow reader does between two pieces.
const SLOW: Duration = Duration::from_millis(250);
/// How long one who never reads keeps the connection.
const NEVER: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub struct Report {
    pub tenant: u32,
    pub attempts: u32,
    /// From the first attempt to the first token.
    pub first_token: Option<Duration>,
    pub tokens: u32,
    /// Prompt and answer, as the answer says.
    pub usage: (Option<u64>, Option<u64>),
    pub end: End,
}

#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Complete,
    /// On purpose, in the middle of the answer.
    Left,
    /// There was no first token in time.
    GaveUp,
    /// No more retries.
    Refused(Refusal),
    /// An error event in a stream, or a stream without an end.
    Broken,
    /// No answer at all.
    Unreachable,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

#[derive(Clone)]
pub struct Caller {
    http: Client<HttpConnector, Full<Bytes>>,
    base: String,
}

impl Caller {
    pub fn new(target: SocketAddr) -> Self {
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(5))
            .build_http();
        Self {
            http,
            base: format!("http://{target}"),
        }
    }

    /// `came` is when it should have come, so that a generator that falls behind hides nothing.
    pub async fn call(&self, ask: Ask, came: Instant, seed: u64) -> Report {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut report = Report {
            tenant: ask.tenant,
            attempts: 0,
            first_token: None,
            tokens: 0,
            usage: (None, None),
            end: End::GaveUp,
        };
        let patience = came + ask.patience;
        loop {
            let request = ask.request(&self.base, report.attempts);
            report.attempts += 1;
            let response = match timeout_at(patience, self.http.request(request)).await {
                Ok(Ok(response)) => response,
                Ok(Err(_)) => {
                    report.end = End::Unreachable;
                    return report;
                }
                Err(_) => return report,
            };
            if response.status() == StatusCode::OK {
                report.end = read(&ask, response, came, &mut report).await;
                return report;
            }
            let refusal = Refusal::of(response).await;
            let retries = report.attempts - 1;
            let wait = ask
                .sdk
                .retry(refusal.status, &refusal.headers, retries, &mut rng);
            let Some(wait) = wait.filter(|_| retries < ask.retries) else {
                report.end = End::Refused(refusal);
                return report;
            };
            // One that will have given up by then does not come back.
            if timeout_at(patience, sleep(wait)).await.is_err() {
                return report;
            }
        }
    }
}

async fn read(ask: &Ask, response: Response<Incoming>, came: Instant, report: &mut Report) -> End {
    let mut body = response.into_body();
    if ask.fate == Fate::NeverReads {
        sleep(NEVER).await;
        return End::Left;
    }
    if !ask.stream {
        return match timeout_at(came + ask.patience + NEVER, body.collect()).await {
            Ok(Ok(whole)) => whole_answer(&whole.to_bytes(), came, report),
            Ok(Err(_)) => End::Broken,
            Err(_) => End::GaveUp,
        };
    }
    let mut events = Events::default();
    let mut ended = false;
    loop {
        let frame = match report.first_token {
            None => match timeout_at(came + ask.patience, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => return End::GaveUp,
            },
            Some(_) => body.frame().await,
        };
        let piece = match frame {
            None if ended => return End::Complete,
            None | Some(Err(_)) => return End::Broken,
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        for event in events.push(&piece) {
            match event {
                Event::Token => {
                    report.first_token.get_or_insert_with(|| came.elapsed());
                    report.tokens += 1;
                }
                Event::Usage(prompt, answer) => {
                    report.usage = (prompt.or(report.usage.0), answer.or(report.usage.1));
                }
                Event::Error => return End::Broken,
                Event::End => ended = true,
                Event::Other => {}
            }
        }
        match ask.fate {
            Fate::Aborts(tokens) if report.tokens >= tokens => return End::Left,
            Fate::Slow => sleep(SLOW).await,
            _ => {}
        }
    }
}

fn whole_answer(body: &[u8], came: Instant, report: &mut Report) -> End {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return End::Broken;
    };
    let usage = &answer["usage"];
    let prompt = usage["prompt_tokens"]
        .as_u64()
        .or(usage["input_tokens"].as_u64());
    let tokens = usage["completion_tokens"]
        .as_u64()
        .or(usage["output_tokens"].as_u64());
    report.usage = (prompt, tokens);
    report.tokens = tokens.unwrap_or_default() as u32;
    report.first_token = Some(came.elapsed());
    End::Complete
}

impl Refusal {
    async fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        Self {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }
}

impl Ask {
    pub fn key(tenant: u32) -> String {
        format!("sk-tenant-{tenant}")
    }

    fn request(&self, base: &str, retries: u32) -> Request<Full<Bytes>> {
        let prompt = "calm ".repeat(self.prompt as usize * 4 / 5 + 1);
        let mut body = json!({
            "model": "any",
            "messages": [{"role": "user", "content": &prompt[..self.prompt as usize * 4]}],
            "stream": self.stream,
            // How long the answer will be is the engine's to know.
            "min_tokens": self.output,
        });
        if let Some(max_tokens) = self.max_tokens {
            body["max_tokens"] = max_tokens.into();
        }
        let key = Self::key(self.tenant);
        let (path, name, value) = match self.dialect {
            Dialect::OpenAi => (
                "/v1/chat/completions",
                "authorization",
                format!("Bearer {key}"),
            ),
            Dialect::Anthropic => ("/v1/messages", "x-api-key", key),
        };
        Request::post(format!("{base}{path}"))
            .header("content-type", "application/json")
            .header(name, value)
            .header("x-stainless-retry-count", retries)
            .header(
                "x-stainless-read-timeout",
                self.patience.as_secs_f64().to_string(),
            )
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a valid request")
    }
}
