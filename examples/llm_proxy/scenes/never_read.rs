use std::time::Duration;

use tokio::time::sleep;

use super::{
    Verdict,
    stand::{Kind, Stand},
};
use crate::{
    Result,
    engine::model::Model,
    load::{mix::Fate, send},
    proxy::{Calm, Guard},
};

const CLIENTS: usize = 64;
/// A proxy that kept what nobody reads would have to keep all of it.
const KIND: Kind = Kind {
    output: 16_000,
    patience: Duration::from_secs(20),
    ..Kind::SHORT
};
/// What one token takes on the wire, about.
const BYTES_PER_TOKEN: u64 = 190;

pub async fn run(model: Model) -> Result<Verdict> {
    // Places for all of them, and quick: what piles up is to be seen.
    let model = Model {
        max_num_seqs: CLIENTS,
        base_itl: Duration::from_micros(500),
        crowding: 1.0,
        ..model
    };
    let stand = Stand::new(
        model,
        Guard::Calm(Calm {
            initial: 2 * CLIENTS,
            ..Calm::default()
        }),
    )
    .await?;
    let asks: Vec<_> = (0..CLIENTS)
        .map(|nth| {
            let mut ask = KIND.ask(nth);
            ask.fate = Fate::NeverReads;
            ask.max_tokens = Some(KIND.output);
            (0.0, ask)
        })
        .collect();
    let clients = tokio::spawn(send(stand.address, asks));
    // Connections, and what each of them has to keep.
    sleep(Duration::from_secs(2)).await;
    let before = (resident()?, stand.server.engine.load().totals.tokens);
    sleep(Duration::from_secs(6)).await;
    let after = (resident()?, stand.server.engine.load().totals.tokens);
    let in_flight = stand.proxy.handle().map_or(0, |handle| handle.in_flight());
    clients.abort();
    stand.quiet().await;

    let produced = (after.1 - before.1) * BYTES_PER_TOKEN;
    let grown = after.0.saturating_sub(before.0);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut verdict = Verdict::default();
    verdict.check(
        in_flight == CLIENTS,
        format!("{in_flight} of {CLIENTS} clients hold a permit"),
    );
    verdict.check(
        produced >= 40 << 20,
        format!(
            "{:.0} MiB were produced for them meanwhile: at least 40 MiB, so that it would be seen",
            mib(produced)
        ),
    );
    verdict.check(
        grown <= produced / 8,
        format!(
            "the process grew by {:.1} MiB: at most an eighth of that",
            mib(grown)
        ),
    );
    Ok(verdict)
}

/// Bytes of memory that this process has, with clients, proxy and engine.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("there is no VmRSS")?.trim().parse::<u64>()? * 1024)
}
