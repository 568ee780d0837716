use std::{
    env,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::sleep};

use super::{Verdict, stand::Kind};
use crate::{
    Result,
    engine::model::Model,
    load::{
        call::{End, Report},
        send,
    },
};

const SECONDS: f64 = 3.0;
/// When the signal comes, in seconds.
const SIGNAL: f64 = 2.0;
/// Long enough for some to be under way, and for some to come afterwards.
const KIND: Kind = Kind {
    output: 200,
    ..Kind::SHORT
};

/// A process of its own: nothing less would be a signal.
pub async fn run(model: Model) -> Result<Verdict> {
    let mut child = Command::new(env::current_exe()?)
        .args([
            "--listen",
            "127.0.0.1:0",
            "--preset",
            model.name,
            "--drain",
            "10",
        ])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(child.stdout.take().ok_or("it has no output")?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    let address = line
        .trim()
        .strip_prefix("http://")
        .ok_or("it does not say where it is")?
        .parse()?;

    let id = child.id().to_string();
    let terminate = tokio::spawn(async move {
        sleep(Duration::from_secs_f64(SIGNAL)).await;
        Command::new("kill").args(["-TERM", &id]).status()
    });
    let asks = KIND.poisson(1.5 * KIND.capacity(model), SECONDS, 7);
    let tally = send(address, asks).await;
    terminate.await??;
    let status = spawn_blocking(move || child.wait()).await??;
    let mut rest = String::new();
    said.read_to_string(&mut rest)?;

    let begun = |report: &Report| matches!(report.end, End::Complete | End::Broken);
    let refused = tally.reports.iter().filter_map(|report| match &report.end {
        End::Refused(refusal) if refusal.body.contains("shutting down") => Some(refusal),
        _ => None,
    });
    let refused: Vec<_> = refused.collect();
    let mut verdict = Verdict::default();
    let (complete, all) = (tally.complete(), tally.count(begun));
    verdict.check(
        complete == all && complete > 0,
        format!("{complete} of {all} answers that were begun are complete: all"),
    );
    verdict.check(
        !refused.is_empty()
            && refused
                .iter()
                .all(|refusal| refusal.headers.contains_key("retry-after")),
        format!(
            "{} that came after the signal are refused, each with a hint",
            refused.len()
        ),
    );
    verdict.check(
        status.success() && rest.contains("drained: 0 of"),
        format!("it says: {}", rest.trim().replace('\n', "; ")),
    );
    Ok(verdict)
}
