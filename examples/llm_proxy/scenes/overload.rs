use std::time::Duration;

use super::{
    Verdict,
    stand::{Kind, Stand},
};
use crate::{
    Result,
    engine::model::Model,
    load::{send, tally::Tally},
    proxy::{Calm, Guard},
};

const LOAD: f64 = 5.0;
const SECONDS: f64 = 8.0;
/// Later than that a first token does not count.
const IN_TIME: Duration = Duration::from_millis(500);

pub async fn run(model: Model) -> Result<Verdict> {
    let nothing = under(model, Guard::Nothing).await?;
    let tower = under(model, Guard::Tower(model.max_num_seqs)).await?;
    let ours = under(model, Guard::Calm(Calm::default())).await?;

    let capacity = Kind::SHORT.capacity(model);
    let good = |tally: &Tally| tally.good(IN_TIME) as f64 / SECONDS / capacity * 100.0;
    let p99 = |tally: &Tally| tally.first_token(0.99).unwrap_or(Kind::SHORT.patience);
    let mut verdict = Verdict::default();
    for (name, tally) in [
        ("nothing", &nothing),
        ("tower's limit", &tower),
        ("ours", &ours),
    ] {
        verdict.note(format!(
            "{name:14} answered in time: {:3.0} % of capacity; first token, 99 of 100 within {:.0?}",
            good(tally),
            p99(tally),
        ));
    }
    let best = good(&nothing).max(good(&tower));
    verdict.check(
        good(&ours) >= 50.0 && good(&ours) >= 2.0 * best,
        format!(
            "ours answers {:.0} % in time: at least 50 %, and twice the {best:.0} % of the others",
            good(&ours)
        ),
    );
    let quickest = p99(&nothing).min(p99(&tower));
    verdict.check(
        2 * p99(&ours) <= quickest,
        format!(
            "99 of 100 first tokens within {:.0?}: at most half of {quickest:.0?}",
            p99(&ours)
        ),
    );
    Ok(verdict)
}

async fn under(model: Model, guard: Guard) -> Result<Tally> {
    let stand = Stand::new(model, guard).await?;
    let rate = LOAD * Kind::SHORT.capacity(model);
    let tally = send(stand.address, Kind::SHORT.poisson(rate, SECONDS, 1)).await;
    stand.quiet().await;
    Ok(tally)
}
