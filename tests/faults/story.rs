//! One story, played behind every strategy and in both protocols: callers of every kind meet at a gate of one or two slots
//! while its limit moves; in half of the stories it is drained at last.

use std::{future::poll_fn, pin::pin, sync::Once, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Method, Request, Response, request, response};
use http_body::Body;
use tower::{Layer, Service};
use tower_backpressure::{
    BackpressureLayer, Error, Handle, RateHeaders, Reason, Rejected, limit::Outcome,
};

use crate::{
    points::{self, Plan, catch, point},
    rates::{Far, Metered},
    stage::{Fate, Play, Stage, pause},
    tellers::Teller,
    work::{Broken, Cargo, DEAD, Film, Inner, Job, Swing},
};

/// Long enough for everything to have happened.
const TICKS: u32 = 120;
/// Ticks at which something happens to the gate.
const RAISED: u32 = 6;
const LOWERED: u32 = 12;
const ALONE_NO_MORE: u32 = 24;
const DRAINED: u32 = 9;

#[derive(Clone, Copy, Debug)]
pub struct Setup {
    strategy: &'static str,
    http: bool,
    exempt: bool,
    pub drains: bool,
}

pub fn setups() -> Vec<Setup> {
    let mut setups = Vec::new();
    for strategy in [
        "block",
        "block, max_wait",
        "drop_newest",
        "drop_newest, waiting",
        "drop_oldest",
        "drop_oldest, max_wait",
        "adaptive",
        "adaptive, waiting",
        "shadow",
        "rate",
        "rate, paced",
        "drop_oldest and a rate",
        "block and a shared rate",
    ] {
        for nth in 0..8 {
            setups.push(Setup {
                strategy,
                http: nth & 1 > 0,
                exempt: nth & 2 > 0,
                drains: nth & 4 > 0,
            });
        }
    }
    setups
}

impl Setup {
    fn layer(&self) -> BackpressureLayer {
        let max_wait = Duration::from_millis(4);
        match self.strategy {
            "block" => BackpressureLayer::block(1),
            "block, max_wait" => BackpressureLayer::block(1).max_wait(max_wait),
            "drop_newest" => BackpressureLayer::drop_newest(1),
            "drop_newest, waiting" => BackpressureLayer::drop_newest(1).max_waiting(3),
            "drop_oldest" => BackpressureLayer::drop_oldest(1, 2),
            "drop_oldest, max_wait" => BackpressureLayer::drop_oldest(1, 2).max_wait(max_wait),
            "adaptive" => BackpressureLayer::adaptive(Swing(1)),
            "adaptive, waiting" => BackpressureLayer::adaptive(Swing(1)).max_waiting(3),
            "shadow" => BackpressureLayer::drop_newest(1).shadow(),
            "rate" => BackpressureLayer::rate(Metered::new()),
            "rate, paced" => BackpressureLayer::rate(Metered::new()).max_waiting(9),
            "drop_oldest and a rate" => {
                BackpressureLayer::drop_oldest(1, 2).and_rate(Metered::new())
            }
            "block and a shared rate" => BackpressureLayer::block(1).and_shared_rate(Far),
            other => panic!("no such strategy: {other}"),
        }
    }
}

/// How a caller fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Served(u32),
    Failed(u32),
    Rejected(Reason),
    /// It was one that leaves by itself.
    Nothing,
}

/// What a run passed.
#[derive(Default)]
pub struct Passed {
    pub points: Vec<&'static str>,
    pub moments: usize,
    /// What others noticed of what went wrong.
    pub noticed: Vec<String>,
}

impl Passed {
    fn notice(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.noticed.push(what());
        }
    }
}

/// Plays the story with whatever is planned to go wrong.
pub fn play(setup: &Setup, plan: Plan) -> Passed {
    let _recorder = metrics::set_default_local_recorder(&Teller);
    // For all threads: a subscriber that comes or goes changes what the events of others cost.
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| tracing::subscriber::set_global_default(Teller).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(play_paused(setup, plan))
}

/// Within the runtime, whose clock stands still: so does the gate's from the beginning.
async fn play_paused(setup: &Setup, plan: Plan) -> Passed {
    let layer = setup.layer();
    let handle = layer.handle();
    let story = Story { setup, plan };
    if !setup.http {
        let layer = layer.plain().classify(|answer: &Answer| {
            point("classify");
            match answer {
                Ok(_) => Outcome::Success,
                Err(_) => Outcome::Ignore,
            }
        });
        if setup.exempt {
            let layer = layer.exempt(|request: &Request<Cargo>| is_exempt(request.uri().path()));
            return story
                .play(layer.layer(Inner::default()), handle, plain)
                .await;
        }
        return story
            .play(layer.layer(Inner::default()), handle, plain)
            .await;
    }
    let layer = layer
        .rate_headers(RateHeaders::RateLimit)
        .classify(|_: &response::Parts| {
            point("classify");
            Outcome::Success
        })
        .respond(|_: &request::Parts, _| {
            point("respond");
            Response::new(Bytes::from("later"))
        });
    let layer = match setup.exempt {
        true => layer.exempt(|head| is_exempt(head.uri.path())).cost(|_| {
            point("cost");
            1
        }),
        false => layer,
    };
    story
        .play(layer.layer(Inner::default()), handle, http)
        .await
}

type Answer = Result<Response<Film>, Broken>;

/// Gives the body to be read, or what was seen instead.
type Read<B, E> = fn(Result<Response<B>, E>) -> Result<B, Seen>;

fn is_exempt(path: &str) -> bool {
    point("exempt");
    path == "/exempt"
}

fn plain<B>(answer: Result<Response<B>, Error<Broken>>) -> Result<B, Seen> {
    answer
        .map(Response::into_body)
        .map_err(|error| match error {
            Error::Rejected(rejected) => Seen::Rejected(rejected.reason()),
            Error::Inner(Broken(id)) => Seen::Failed(id),
        })
}

fn http<B>(answer: Result<Response<B>, Broken>) -> Result<B, Seen> {
    let response = answer.map_err(|Broken(id)| Seen::Failed(id))?;
    match response.extensions().get::<Rejected>() {
        Some(rejected) => Err(Seen::Rejected(rejected.reason())),
        None => Ok(response.into_body()),
    }
}

struct Story<'a> {
    setup: &'a Setup,
    plan: Plan,
}

impl Story<'_> {
    async fn play<S, B>(self, service: S, handle: Handle, read: Read<B, S::Error>) -> Passed
    where
        S: Service<Request<Cargo>, Response = Response<B>> + Clone + 'static,
        B: Body<Data = Bytes, Error = Broken> + 'static,
    {
        let mut stage = Stage::new(self.plan.leave_at);
        let mut alone = Vec::new();
        points::begin(self.plan);
        for job in jobs() {
            // What goes wrong while an instance is cloned is its caller's misfortune.
            stage.enter(match catch(|| service.clone()) {
                Ok(service) => caller(service, job, read),
                Err(_) => nobody(),
            });
            if job.id == 2 {
                stage.tick().await;
                for _ in 0..2 {
                    alone.push(stage.fates().len());
                    stage.enter(match catch(|| service.clone()) {
                        Ok(service) => left_alone(service),
                        Err(_) => nobody(),
                    });
                }
            }
        }
        for tick in 0..TICKS {
            // Whatever goes wrong in these, it has happened.
            let _ = catch(|| match tick {
                RAISED => handle.set_limit(2),
                LOWERED => handle.set_limit(1),
                DRAINED if self.setup.drains => drop(handle.drain()),
                _ => drop(handle.snapshot()),
            });
            if tick == ALONE_NO_MORE {
                alone.iter().for_each(|nth| stage.exit(*nth, Fate::Left));
            }
            stage.tick().await;
        }
        let fates = stage.fates();
        let mut passed = Passed {
            moments: stage.moments,
            ..Passed::default()
        };
        stage.exit_all();
        passed.points = points::end();

        for (nth, fate) in fates.iter().enumerate() {
            passed.notice(self.is_right(nth as u32, *fate), || {
                format!("caller {nth} is {fate:?}")
            });
        }
        let metrics = handle.snapshot();
        let held = (handle.in_flight(), handle.waiting());
        passed.notice(held == (0, 0), || format!("{held:?} are left"));
        // In the shadow a request that is refused is let in all the same.
        let refused = match self.setup.strategy {
            "shadow" => 0,
            _ => metrics.dropped_count,
        };
        let came = metrics.consumed_count + refused..=fates.len() as u64;
        passed.notice(came.contains(&metrics.produced_count), || {
            format!("{metrics:?} do not add up")
        });
        let afterwards = self.afterwards(service, &handle, read).await;
        let served = [0, 1].map(|id| Fate::Done(Seen::Served(id)));
        let refused = [Fate::Done(Seen::Rejected(Reason::Draining)); 2];
        let drained = self.setup.drains && self.setup.strategy != "shadow";
        let expected = if drained { refused } else { served };
        passed.notice(afterwards == expected, || {
            format!("afterwards {afterwards:?}")
        });
        let drained = handle.drain().now_or_never();
        passed.notice(drained.is_some(), || "the drain does not end".into());
        passed
    }

    /// Whether this is a way for this caller to fare, whatever went wrong for others.
    fn is_right(&self, nth: u32, fate: Fate<Seen>) -> bool {
        match fate {
            Fate::Playing => false,
            Fate::Done(Seen::Served(id)) => id == nth,
            Fate::Done(Seen::Failed(id)) => {
                id == nth && (id == DEAD || job(id).is_some_and(|job| job.fails))
            }
            Fate::Done(Seen::Rejected(Reason::Draining)) => self.setup.drains,
            Fate::Done(Seen::Rejected(_)) => !matches!(self.setup.strategy, "block" | "shadow"),
            // Itself, it went wrong or left.
            Fate::Done(Seen::Nothing) | Fate::Victim(_) | Fate::Left => true,
        }
    }

    /// How two more fare once all that is over.
    async fn afterwards<S, B>(
        &self,
        service: S,
        handle: &Handle,
        read: Read<B, S::Error>,
    ) -> Vec<Fate<Seen>>
    where
        S: Service<Request<Cargo>, Response = Response<B>> + Clone + 'static,
        B: Body<Data = Bytes, Error = Broken> + 'static,
    {
        let mut stage = Stage::new(None);
        handle.set_limit(2);
        for id in 0..2 {
            let job = Job {
                id,
                frames: 1,
                ..Job::default()
            };
            stage.enter(caller(service.clone(), job, read));
        }
        for _ in 0..10 {
            stage.tick().await;
        }
        stage.fates()
    }
}

/// In the order in which they come. After the first three some come that are then left alone.
fn jobs() -> Vec<Job> {
    let ids = [0, 1, 2, 5, 6, 7, 8, 9, 10];
    ids.into_iter().map(|id| job(id).unwrap()).collect()
}

fn job(id: u32) -> Option<Job> {
    let job = Job {
        id,
        ..Job::default()
    };
    Some(match id {
        0 => Job {
            ticks: 3,
            frames: 2,
            ..job
        },
        1 => Job { fails: true, ..job },
        2 => Job {
            frames: 2,
            exact: true,
            ..job
        },
        5 => Job {
            frames: 1,
            grpc: true,
            ..job
        },
        6 => Job { ticks: 2, ..job },
        7 => Job {
            ticks: 1,
            exact: true,
            ..job
        },
        8 => Job {
            frames: 1,
            exact: true,
            grpc: true,
            ..job
        },
        9..=10 => Job { frames: 1, ..job },
        _ => return None,
    })
}

/// Asks, hesitates, calls, hesitates, reads.
fn caller<S, B>(mut service: S, job: Job, read: Read<B, S::Error>) -> Play<Seen>
where
    S: Service<Request<Cargo>, Response = Response<B>> + 'static,
    B: Body<Data = Bytes, Error = Broken> + 'static,
{
    Box::pin(async move {
        let ready = poll_fn(|cx| service.poll_ready(cx)).await;
        if let Err(error) = ready {
            return read(Err(error)).map_or_else(|seen| seen, |_| Seen::Nothing);
        }
        pause().await;
        let answer = service.call(request(job));
        pause().await;
        let answer = answer.await;
        pause().await;
        let body = match read(answer) {
            Ok(body) => body,
            Err(seen) => return seen,
        };
        let mut body = pin!(body);
        loop {
            // As a server does it.
            let _ = body.size_hint();
            if body.is_end_stream() {
                return Seen::Served(job.id);
            }
            match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        assert_eq!(**data, job.id.to_be_bytes(), "somebody else's answer");
                    }
                }
                Some(Err(Broken(id))) => return Seen::Failed(id),
                None => return Seen::Served(job.id),
            }
            pause().await;
        }
    })
}

fn nobody() -> Play<Seen> {
    Box::pin(async { Seen::Nothing })
}

/// Asks once, and is never heard of again until it is dropped.
fn left_alone<S: Service<Request<Cargo>> + 'static>(mut service: S) -> Play<Seen> {
    Box::pin(async move {
        poll_fn(|cx| {
            let _ = service.poll_ready(cx);
            Poll::Ready(())
        })
        .await;
        std::future::pending().await
    })
}

fn request(job: Job) -> Request<Cargo> {
    let mut request = Request::new(Cargo(job));
    match job.id {
        6 => *request.uri_mut() = "/exempt".parse().unwrap(),
        9 => *request.method_mut() = Method::HEAD,
        _ => {}
    }
    if job.grpc {
        let grpc = http::HeaderValue::from_static("application/grpc");
        request.headers_mut().insert("content-type", grpc);
    }
    request
}
