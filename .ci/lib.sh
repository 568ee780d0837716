# What .ci/run and .ci/full share; to be sourced. Leaves the shell in the repository's root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Kept between runs: what was installed, and what was compiled.
tools=${BACKPRESSURE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tower-backpressure}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$tools/target}
export PATH=$tools/bin:$PATH

step() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }

# tool NAME VERSION: a cargo tool, compiled once.
tool() {
    CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --locked --debug --root "$tools" \
        --target-dir "$tools/tools-target" --version "$2" "$1"
}

# debian COMMAND PACKAGE...: installs the packages if the command is missing. Fails where they cannot be had, which is for
# the caller to forgive: `debian redis-server redis-server && export BACKPRESSURE_REQUIRE_REDIS=1`.
debian() {
    local command=$1
    shift
    command -v "$command" >/dev/null && return
    command -v apt-get >/dev/null || return
    apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# What was made on the way goes with the shell.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The library alone, as its users get it: what tests and benches need would show in its features and its dependencies.
alone() {
    local copy=$scratch/alone
    mkdir -p "$copy"
    cp -r src README.md Cargo.lock deny.toml "$copy"
    sed -e '/^\[dev-dependencies\]/,/^\[lints/{/^\[lints/!d}' -e '/^members/d' -e '/^default-members/d' Cargo.toml >"$copy/Cargo.toml"
    echo "$copy"
}
