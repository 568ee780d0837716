use std::time::Duration;

use super::{
    Verdict, percent,
    stand::{Kind, Stand, together},
};
use crate::{
    Result,
    engine::model::Model,
    load::{call::Report, sdk::Sdk, send, tally::Tally},
    proxy::{Calm, Guard},
};

/// They come within this time, in seconds.
const CROWD: f64 = 0.2;
/// And are as many as the model answers in this time, in seconds.
const WORTH: f64 = 3.0;
const KIND: Kind = Kind {
    patience: Duration::from_secs(30),
    retries: 2,
    ..Kind::SHORT
};

pub async fn run(model: Model) -> Result<Verdict> {
    let constant = under(model, Some(Duration::from_secs(1))).await?;
    let ours = under(model, None).await?;

    let mut verdict = Verdict::default();
    let answered = |tally: &Tally| percent(tally.complete(), tally.reports.len());
    let per_answer = |tally: &Tally| {
        let attempts: u32 = tally
            .reports
            .iter()
            .map(|report: &Report| report.attempts)
            .sum();
        f64::from(attempts) / tally.complete().max(1) as f64
    };
    for (nth, sdk) in Sdk::ALL.into_iter().enumerate() {
        let (constant, ours) = (of_sdk(&constant, nth), of_sdk(&ours, nth));
        verdict.check(
            per_answer(&ours) <= 1.1 * per_answer(&constant) && answered(&ours) >= answered(&constant) - 5.0,
            format!(
                "{:16} attempts for each answer: {:.2} with a constant hint, {:.2} with ours; answered {:.0} % and {:.0} %",
                sdk.name(),
                per_answer(&constant),
                per_answer(&ours),
                answered(&constant),
                answered(&ours),
            ),
        );
    }
    verdict.check(
        per_answer(&ours) < per_answer(&constant),
        format!(
            "all: {:.2} attempts for each answer: less than {:.2}",
            per_answer(&ours),
            per_answer(&constant)
        ),
    );
    Ok(verdict)
}

/// Tenants stand for SDKs here.
fn of_sdk(tally: &Tally, nth: usize) -> Tally {
    tally.of_tenants(|tenant| tenant as usize == nth)
}

async fn under(model: Model, constant_hint: Option<Duration>) -> Result<Tally> {
    let calm = Calm {
        constant_hint,
        ..Calm::default()
    };
    let stand = Stand::new(model, Guard::Calm(calm)).await?;
    let capacity = KIND.capacity(model);
    let usual = KIND.poisson(0.3 * capacity, 6.0, 3);
    let mut crowd = KIND.poisson(WORTH / CROWD * capacity, CROWD, 4);
    for (at, _) in &mut crowd {
        *at += 1.0;
    }
    let mut asks = together([usual, crowd]);
    for (_, ask) in &mut asks {
        ask.tenant = Sdk::ALL.iter().position(|sdk| *sdk == ask.sdk).unwrap_or(0) as u32;
    }
    Ok(send(stand.address, asks).await)
}
