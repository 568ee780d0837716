use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

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
/// When the long ones come, in seconds.
const AT: [f64; 2] = [3.0, 6.0];
const SMALL_ONES: u32 = 1;
const LONG_ONES: u32 = 2;

pub async fn run(model: Model) -> Result<Verdict> {
    let (tally, lowest) = under(model).await?;
    let small = tally.of_tenants(|tenant| tenant == SMALL_ONES);
    let long = tally.of_tenants(|tenant| tenant == LONG_ONES);
    let mut verdict = Verdict::default();
    verdict.check(
        long.complete() == AT.len(),
        format!(
            "{} of {} long prompts are answered",
            long.complete(),
            AT.len()
        ),
    );
    let refused = percent(
        small.count(|report| matches!(report.end, End::Refused(_))),
        small.reports.len(),
    );
    verdict.check(
        refused <= 5.0,
        format!(
            "{refused:.1} % of {} small ones are refused, at half load: at most 5 %",
            small.reports.len()
        ),
    );
    verdict.check(
        lowest >= model.max_num_seqs,
        format!(
            "the limit is never below {lowest}: not below the {} that the model has places for",
            model.max_num_seqs
        ),
    );
    let p50 = small.first_token(0.5).unwrap_or(SMALL.patience);
    verdict.note(format!(
        "first token of the small ones: median {p50:.0?}, 99 of 100 within {:.0?}",
        small.first_token(0.99).unwrap_or(SMALL.patience)
    ));
    Ok(verdict)
}

async fn under(model: Model) -> Result<(Tally, usize)> {
    // As one would begin who knows nothing of the model: well above what it has places for.
    let calm = Calm {
        initial: 4 * model.max_num_seqs,
        ..Calm::default()
    };
    let stand = Stand::new(model, Guard::Calm(calm)).await?;
    let mut small = SMALL.poisson(0.5 * SMALL.capacity(model), SECONDS, 5);
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
    let watch = tokio::spawn(lowest_limit(stand.proxy.clone(), Arc::clone(&done)));
    let tally = send(stand.address, asks).await;
    done.notify_one();
    Ok((tally, watch.await?))
}

async fn lowest_limit(proxy: Proxy, done: Arc<Notify>) -> usize {
    let mut lowest = usize::MAX;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    loop {
        tokio::select! {
            _ = ticks.tick() => lowest = lowest.min(proxy.handle().map_or(0, |handle| handle.limit())),
            () = done.notified() => return lowest,
        }
    }
}
