use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::interval};

use super::{
    Verdict, percent,
    stand::{Kind, Stand, together},
};
use crate::{
    Result,
    engine::model::Model,
    load::{call::End, send, tally::Tally},
    proxy::{Calm, Guard, Proxy},
};

const SECONDS: f64 = 9.0;
const SMALL: Kind = Kind {
    prompt: 1000,
    patience: Duration::from_secs(5),
    ..Kind::SHORT
};
const LONG: Kind = Kind {
    prompt: 85_000,
    output: 8,
    patience: Duration::from_secs(10),
    retries: 0,
};
/// When the long ones come, in seconds. While one is read, for almost a second, all others wait.
const AT: [f64; 2] = [3.0, 6.0];
const INITIAL: usize = 16;
const SMALL_ONES: u32 = 1;
const LONG_ONES: u32 = 2;

struct Seen {
    small: Tally,
    long: Tally,
    /// Of all limits that there were.
    lowest: usize,
}

impl Seen {
    fn refused(&self) -> f64 {
        let refused = |end: &End| matches!(end, End::Refused(_));
        percent(
            self.small.count(|report| refused(&report.end)),
            self.small.reports.len(),
        )
    }
}

pub async fn run(model: Model) -> Result<Verdict> {
    let calm = Calm {
        initial: INITIAL,
        ..Calm::default()
    };
    let gate = under(model, Guard::Gate(calm.clone())).await?;
    let ours = under(model, Guard::Calm(calm)).await?;

    let mut verdict = Verdict::default();
    for (name, seen) in [("the gate alone", &gate), ("ours", &ours)] {
        let first_token = |q| seen.small.first_token(q).unwrap_or(SMALL.patience);
        verdict.note(format!(
            "{name:14} small ones: {:.1} % refused; first token: median {:.0?}, 99 of 100 within {:.0?}; lowest limit {}",
            seen.refused(),
            first_token(0.5),
            first_token(0.99),
            seen.lowest,
        ));
    }
    let complete = ours.long.complete();
    verdict.check(
        complete == AT.len(),
        format!("{complete} of {} long prompts are answered: all", AT.len()),
    );
    verdict.check(
        ours.refused() <= 3.0,
        format!(
            "{:.1} % of the small ones are refused at 0.4 of the load: at most 3 %",
            ours.refused()
        ),
    );
    verdict.check(
        4 * ours.lowest >= 3 * INITIAL && ours.lowest > gate.lowest,
        format!(
            "long prompts are not taken for congestion: the limit is never below {}, which is not far below {INITIAL} and above {}",
            ours.lowest, gate.lowest,
        ),
    );
    Ok(verdict)
}

async fn under(model: Model, guard: Guard) -> Result<Seen> {
    let stand = Stand::new(model, guard).await?;
    let mut small = SMALL.poisson(0.4 * SMALL.capacity(model), SECONDS, 5);
    for (_, ask) in &mut small {
        ask.tenant = SMALL_ONES;
    }
    let long = AT.iter().enumerate().map(|(nth, at)| {
        let mut ask = LONG.ask(nth);
        ask.tenant = LONG_ONES;
        (*at, ask)
    });
    let asks = together([small, long.collect()]);
    let done = Arc::new(Notify::new());
    let lowest = tokio::spawn(lowest_limit(stand.proxy.clone(), Arc::clone(&done)));
    let tally = send(stand.address, asks).await;
    done.notify_one();
    Ok(Seen {
        small: tally.of_tenants(|tenant| tenant == SMALL_ONES),
        long: tally.of_tenants(|tenant| tenant == LONG_ONES),
        lowest: lowest.await?,
    })
}

async fn lowest_limit(proxy: Proxy, done: Arc<Notify>) -> usize {
    let mut lowest = usize::MAX;
    let mut ticks = interval(Duration::from_millis(5));
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let limit = proxy.handle().map_or(0, |handle| handle.limit());
                lowest = lowest.min(limit);
            }
            () = done.notified() => return lowest,
        }
    }
}
