use super::{
    Verdict,
    stand::{Kind, Stand},
};
use crate::{
    Result,
    engine::model::Model,
    load::{call::End, send, tally::Tally},
    proxy::{Calm, Guard},
};

const BUDGET: u64 = 100;
const AT_ONCE: usize = 5;
const KIND: Kind = Kind {
    prompt: 10,
    output: 30,
    ..Kind::SHORT
};

pub async fn run(model: Model) -> Result<Verdict> {
    let nothing = under(model, Guard::Nothing).await?;
    // One token a minute: what is used while this runs is the budget and nothing more.
    let budget = Some((BUDGET, 1));
    let ours = under(
        model,
        Guard::Calm(Calm {
            budget,
            ..Calm::default()
        }),
    )
    .await?;

    let mut verdict = Verdict::default();
    verdict.note(format!("nothing: {} tokens are used", used(&nothing)));
    verdict.check(
        (1..=BUDGET).contains(&used(&ours)),
        format!(
            "{} tokens are used: some, and not above {BUDGET}",
            used(&ours)
        ),
    );
    let told: Vec<_> = ours
        .reports
        .iter()
        .filter_map(|report| match &report.end {
            End::Refused(refusal) => Some(refusal.status),
            _ => None,
        })
        .collect();
    verdict.check(
        told.len() + ours.complete() == AT_ONCE
            && !told.is_empty()
            && told.iter().all(|status| *status == 429),
        format!(
            "{} are answered, the others are told {told:?}: 429",
            ours.complete()
        ),
    );
    Ok(verdict)
}

/// Prompt and answer, as the answers say.
fn used(tally: &Tally) -> u64 {
    let usage = tally.reports.iter().map(|report| report.usage);
    usage
        .map(|(prompt, answer)| prompt.unwrap_or(0) + answer.unwrap_or(0))
        .sum()
}

async fn under(model: Model, guard: Guard) -> Result<Tally> {
    let stand = Stand::new(model, guard).await?;
    let asks = (0..AT_ONCE).map(|_| {
        // Of one SDK, whose streams say what they used.
        let mut ask = KIND.ask(1);
        ask.max_tokens = Some(KIND.output);
        (0.0, ask)
    });
    Ok(send(stand.address, asks).await)
}
