//! `cargo bench --bench adaptive`: how far each limit gets in simulated overload, ours and those of other crates.
//!
//! The comparison lives in a workspace member of its own, since it needs the peers, which nobody who builds or tests
//! this crate should have to compile. This only runs it there.

use std::{
    env,
    process::{Command, exit},
};

fn main() {
    // `cargo test --all-targets` runs benches as well, without this.
    if !env::args().any(|arg| arg == "--bench") {
        return;
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "bench",
            "--package",
            "backpressure-peers",
            "--bench",
            "adaptive",
            "--",
        ])
        .args(env::args().skip(1).filter(|arg| arg != "--bench"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
}
