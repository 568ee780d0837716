use std::time::Duration;

use super::{
    Verdict, percent,
    stand::{Kind, Stand, together},
};
use crate::{
    Result,
    engine::model::Model,
    load::{mix::Ask, send, tally::Tally},
    proxy::{Calm, Guard},
};

const FLOOD: u32 = 1;
const OTHERS: [u32; 3] = [2, 3, 4];
const SECONDS: f64 = 6.0;
const IN_TIME: Duration = Duration::from_millis(500);

pub async fn run(model: Model) -> Result<Verdict> {
    let nothing = under(model, Guard::Nothing).await?;
    let one_limit = under(model, Guard::Calm(Calm::default())).await?;
    // A quarter of the model for any one of them.
    let per_tenant = Some(model.max_num_seqs / 4);
    let ours = under(
        model,
        Guard::Calm(Calm {
            per_tenant,
            ..Calm::default()
        }),
    )
    .await?;

    let served = |tally: &Tally, who: fn(u32) -> bool| {
        let tally = tally.of_tenants(who);
        percent(tally.good(IN_TIME), tally.reports.len())
    };
    let others: fn(u32) -> bool = |tenant| tenant != FLOOD;
    let flood: fn(u32) -> bool = |tenant| tenant == FLOOD;
    let mut verdict = Verdict::default();
    for (name, tally) in [
        ("nothing", &nothing),
        ("one limit for all", &one_limit),
        ("one for each", &ours),
    ] {
        verdict.note(format!(
            "{name:18} served in time: the others {:3.0} %, the one that floods {:3.0} %",
            served(tally, others),
            served(tally, flood),
        ));
    }
    let (ours, best) = (
        served(&ours, others),
        served(&nothing, others).max(served(&one_limit, others)),
    );
    verdict.check(
        ours >= 80.0 && ours > best,
        format!("{ours:.0} % of what the others ask is served in time: at least 80 %, and more than {best:.0} %"),
    );
    Ok(verdict)
}

async fn under(model: Model, guard: Guard) -> Result<Tally> {
    let stand = Stand::new(model, guard).await?;
    let capacity = Kind::SHORT.capacity(model);
    let from = |tenant: u32, load: f64| -> Vec<(f64, Ask)> {
        let mut asks = Kind::SHORT.poisson(load * capacity, SECONDS, u64::from(tenant));
        for (_, ask) in &mut asks {
            ask.tenant = tenant;
        }
        asks
    };
    let others = OTHERS.map(|tenant| from(tenant, 0.1));
    let asks = together(others.into_iter().chain([from(FLOOD, 5.0)]));
    Ok(send(stand.address, asks).await)
}
