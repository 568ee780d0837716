use std::{collections::BTreeMap, time::Duration};

use super::{
    Verdict, percent,
    stand::{Kind, Stand},
};
use crate::{
    Result,
    engine::{faults::Faults, model::Model},
    load::{call::End, mix::Dialect, send, tally::Tally},
    proxy::{Calm, Guard},
};

const SECONDS: f64 = 6.0;
/// The model fails until then.
const FAILS_FOR: f64 = 3.0;
const KIND: Kind = Kind {
    patience: Duration::from_secs(20),
    retries: 2,
    ..Kind::SHORT
};
const FAULTS: Faults = Faults {
    error_event: 0.5,
    refuse: 0.0,
    refuse_status: 0,
    refuse_hint: 0.0,
    stall: 0.0,
    reset: 0.0,
    no_usage: 0.0,
    ignore_disconnect: false,
};

pub async fn run(model: Model) -> Result<Verdict> {
    let nothing = under(model, Guard::Nothing).await?;
    let ours = under(model, Guard::Calm(Calm::default())).await?;

    let broken = |tally: &Tally| tally.count(|report| report.end == End::Broken);
    let answered = |tally: &Tally| percent(tally.complete(), tally.reports.len());
    let mut verdict = Verdict::default();
    verdict.note(format!(
        "nothing: {} streams broke, {:.0} % were answered",
        broken(&nothing),
        answered(&nothing)
    ));
    verdict.check(
        broken(&nothing) > 10,
        format!(
            "{} streams break with nothing in front: some do",
            broken(&nothing)
        ),
    );
    verdict.check(
        broken(&ours) == 0,
        format!("{} with ours: none", broken(&ours)),
    );
    verdict.check(
        answered(&ours) >= 90.0 && answered(&ours) > answered(&nothing),
        format!(
            "{:.0} % are answered in the end: at least 90 %, and more than {:.0} %",
            answered(&ours),
            answered(&nothing)
        ),
    );
    let statuses = failures_as_told(model).await?;
    verdict.check(
        statuses == BTreeMap::from([("anthropic", 529), ("openai", 503)]),
        format!("clients see {statuses:?}: 529 and 503"),
    );
    Ok(verdict)
}

async fn under(model: Model, guard: Guard) -> Result<Tally> {
    let stand = Stand::new(model, guard).await?.faults(FAULTS);
    let server = stand.server.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs_f64(FAILS_FOR)).await;
        server.set_faults(Faults::default());
    });
    let asks = KIND.poisson(0.5 * KIND.capacity(model), SECONDS, 6);
    Ok(send(stand.address, asks).await)
}

/// What one who does not try again is told, in each dialect.
async fn failures_as_told(model: Model) -> Result<BTreeMap<&'static str, u16>> {
    let always = Faults {
        error_event: 1.0,
        ..FAULTS
    };
    let stand = Stand::new(model, Guard::Calm(Calm::default()))
        .await?
        .faults(always);
    let kind = Kind { retries: 0, ..KIND };
    let mut statuses = BTreeMap::new();
    for nth in 0..3 {
        let ask = kind.ask(nth);
        let name = match ask.dialect {
            Dialect::OpenAi => "openai",
            Dialect::Anthropic => "anthropic",
        };
        for report in send(stand.address, [(0.0, ask)]).await.reports {
            if let End::Refused(refusal) = report.end {
                statuses.insert(name, refusal.status);
            }
        }
    }
    Ok(statuses)
}
