//! The comparisons live in a workspace member of their own, since they need the peers, which nobody who builds or tests
//! this crate should have to compile. This only runs them there.

use std::{
    env,
    path::Path,
    process::{Command, exit},
};

pub fn run(bench: &str) {
    // `cargo test --all-targets` runs benches as well, without this.
    if !env::args().any(|arg| arg == "--bench") {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !root.join("benches/peers").exists() {
        eprintln!(
            "the comparisons need the peers, which are in the repository and not in the package"
        );
        return;
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["bench", "--package", "backpressure-peers"])
        .args(["--bench", bench, "--"])
        .args(env::args().skip(1).filter(|arg| arg != "--bench"))
        .current_dir(root)
        .status();
    exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
}
