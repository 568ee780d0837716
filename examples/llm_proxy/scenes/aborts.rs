use std::time::Duration;

use super::{
    Verdict,
    stand::{Kind, Stand},
};
use crate::{
    Result,
    engine::{faults::Faults, model::Model},
    load::{call::End, mix::Fate, send},
    proxy::{Calm, Guard},
};

const SECONDS: f64 = 6.0;
const KIND: Kind = Kind {
    output: 96,
    ..Kind::SHORT
};

struct Seen {
    left: usize,
    permits: usize,
    /// Answers that the engine still works on.
    orphans: usize,
    /// Tokens that the engine produced and nobody got.
    wasted: i64,
}

pub async fn run(model: Model) -> Result<Verdict> {
    let ours = under(model, Faults::default()).await?;
    // What it would be if the upstream did not hear of it.
    let deaf = under(
        model,
        Faults {
            ignore_disconnect: true,
            ..Faults::default()
        },
    )
    .await?;

    let each = |seen: &Seen| seen.wasted as f64 / seen.left.max(1) as f64;
    let mut verdict = Verdict::default();
    verdict.check(
        ours.left >= 5,
        format!("{} clients left in the middle of their answer", ours.left),
    );
    verdict.check(
        ours.permits == 0,
        format!("{} permits were not given back: none may", ours.permits),
    );
    verdict.check(
        ours.orphans == 0,
        format!("the model still works on {} answers: on none", ours.orphans),
    );
    // A step takes 2 to 6 ms; what is under way when the client leaves is lost, and the machine may be busy.
    verdict.check(
        each(&ours) <= 6.0 && each(&ours) <= 0.25 * each(&deaf),
        format!(
            "{:.1} tokens wasted for each who left: at most 6, and a quarter of the {:.1} of a model that does not hear of it",
            each(&ours),
            each(&deaf),
        ),
    );
    Ok(verdict)
}

async fn under(model: Model, faults: Faults) -> Result<Seen> {
    let stand = Stand::new(model, Guard::Calm(Calm::default()))
        .await?
        .faults(faults);
    let rate = 1.5 * KIND.capacity(model);
    let mut asks = KIND.poisson(rate, SECONDS, 2);
    for (nth, (_, ask)) in asks.iter_mut().enumerate() {
        if nth % 10 == 0 {
            // Always with most of the answer to come.
            ask.fate = Fate::Aborts(1 + (nth as u32 / 10) % (KIND.output / 4));
        }
    }
    let tally = send(stand.address, asks).await;
    stand.quiet().await;
    // A permit goes with the body, which goes when the server hears that the client has left.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let load = stand.server.engine.load();
    let received: i64 = tally
        .reports
        .iter()
        .map(|report| i64::from(report.tokens))
        .sum();
    Ok(Seen {
        left: tally.count(|report| report.end == End::Left),
        permits: stand.proxy.handle().map_or(0, |handle| handle.in_flight()),
        orphans: load.running + load.waiting,
        wasted: load.totals.tokens as i64 - received,
    })
}
