//! What a recorder sees.

use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use crate::bench::*;

#[tokio::test(start_paused = true)]
async fn tokens_first_tokens_retries_and_timeouts_are_shown_by_gate() {
    let recorder = DebuggingRecorder::new();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let bench = Bench::over(
        |gate| gate.named("chat"),
        |layer| layer.token_timeout(SECOND),
    );
    let script = Script::default().wait(250 * MILLI).then(TOKEN);
    bench.answers(script.then(USAGE).streamed());
    let mut request = asks_for_stream();
    let retry = "1".parse().unwrap();
    request
        .headers_mut()
        .insert("x-stainless-retry-count", retry);
    text(bench.ask(request).await).await;
    text(bench.stream(Script::new(&[TOKEN]).hangs()).await).await;

    let mut seen = vec![];
    for (key, _, description, value) in recorder.snapshotter().snapshot().into_vec() {
        let key = key.key();
        if !key.name().starts_with("backpressure_llm_") {
            continue;
        }
        assert!(description.is_some(), "{key}");
        let mut labels: Vec<_> = key.labels().map(|it| it.value().to_owned()).collect();
        assert_eq!(labels.remove(0), "chat");
        let value = match value {
            DebugValue::Counter(count) => count.to_string(),
            DebugValue::Histogram(all) => {
                format!("{:?}", all.iter().map(|it| it.0).collect::<Vec<_>>())
            }
            DebugValue::Gauge(_) => panic!("{key}"),
        };
        let name = key.name().trim_start_matches("backpressure_llm_");
        seen.push(format!("{name} {} {value}", labels.join(" ")));
    }
    seen.sort();
    let prompt = bench.seen()[1].charge().reserved() - 40;
    let tokens = format!("tokens_total prompt {}", 7 + prompt);
    let expected = [
        "requests_total 1 1",
        "requests_total unknown 1",
        "time_to_first_token_seconds  [0.25, 0.0]",
        "timeouts_total between_tokens 1",
        "tokens_total cached 0",
        "tokens_total output 4",
        &tokens,
    ];
    assert_eq!(seen, expected);
}
