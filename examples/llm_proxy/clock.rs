use tokio::time::Instant;

#[allow(clippy::disallowed_methods, reason = "an example in real time")]
pub fn now() -> Instant {
    Instant::now()
}
