//! Nine scenes, each with what has to come out. What depends on the machine is compared with something else in the same run.

mod aborts;
mod budget;
mod drain;
mod failing;
mod flood;
mod long_prompt;
mod never_read;
mod overload;
mod retries;
pub mod stand;

use std::{future::Future, pin::Pin};

use tokio::time::Instant;

use crate::{Result, clock::now, engine::model::Model};

/// What came out of a scene.
#[derive(Debug, Default)]
pub struct Verdict {
    checks: Vec<Check>,
}

#[derive(Debug)]
struct Check {
    what: String,
    passed: bool,
}

impl Verdict {
    /// `what` says what was measured and what was wanted.
    pub fn check(&mut self, passed: bool, what: impl Into<String>) {
        let what = what.into();
        self.checks.push(Check { what, passed });
    }

    /// A figure that nothing is asked of.
    pub fn note(&mut self, what: impl Into<String>) {
        self.check(true, what);
    }

    fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

type Run = fn(Model) -> Pin<Box<dyn Future<Output = Result<Verdict>>>>;

struct Scene {
    letter: char,
    name: &'static str,
    about: &'static str,
    run: Run,
}

const SCENES: [Scene; 9] = [
    Scene {
        letter: 'a',
        name: "overload",
        about: "five times what the model can do",
        run: |model| Box::pin(overload::run(model)),
    },
    Scene {
        letter: 'b',
        name: "aborts",
        about: "every tenth client leaves in the middle",
        run: |model| Box::pin(aborts::run(model)),
    },
    Scene {
        letter: 'c',
        name: "retries",
        about: "a crowd of SDKs that try again",
        run: |model| Box::pin(retries::run(model)),
    },
    Scene {
        letter: 'd',
        name: "flood",
        about: "one tenant sends five times what the model can do",
        run: |model| Box::pin(flood::run(model)),
    },
    Scene {
        letter: 'e',
        name: "long-prompt",
        about: "prompts of 85 000 tokens among those of 1000",
        run: |model| Box::pin(long_prompt::run(model)),
    },
    Scene {
        letter: 'f',
        name: "failing",
        about: "the model says 200 and then that it is overloaded",
        run: |model| Box::pin(failing::run(model)),
    },
    Scene {
        letter: 'g',
        name: "never-read",
        about: "clients that keep their connection and read nothing",
        run: |model| Box::pin(never_read::run(model)),
    },
    Scene {
        letter: 'h',
        name: "drain",
        about: "SIGTERM under load",
        run: |model| Box::pin(drain::run(model)),
    },
    Scene {
        letter: 'i',
        name: "budget",
        about: "five requests at once against a budget of 100 tokens",
        run: |model| Box::pin(budget::run(model)),
    },
];

/// Plays the scene of that name or letter, or all of them. Says whether all went as they should.
pub async fn play(name: &str, model: Model) -> Result<bool> {
    let played: Vec<_> = SCENES
        .iter()
        .filter(|scene| name == "all" || name == scene.name || name.chars().eq([scene.letter]))
        .collect();
    if played.is_empty() {
        let names: Vec<_> = SCENES.iter().map(|scene| scene.name).collect();
        return Err(format!(
            "there is no scene {name}; there are all, {}",
            names.join(", ")
        )
        .into());
    }
    let began = now();
    let mut failed = Vec::new();
    for scene in played {
        let began = now();
        let verdict = (scene.run)(model).await?;
        print(scene, &verdict, began);
        if !verdict.passed() {
            failed.push(scene.name);
        }
    }
    let took = began.elapsed().as_secs_f64();
    match failed.is_empty() {
        true => println!("all passed in {took:.0} s"),
        false => println!("failed in {took:.0} s: {}", failed.join(", ")),
    }
    Ok(failed.is_empty())
}

fn print(scene: &Scene, verdict: &Verdict, began: Instant) {
    let Scene {
        letter,
        name,
        about,
        ..
    } = scene;
    let took = began.elapsed().as_secs_f64();
    println!("({letter}) {name}: {about} ({took:.1} s)");
    for check in &verdict.checks {
        println!(
            "    {} {}",
            if check.passed { "ok  " } else { "FAIL" },
            check.what
        );
    }
}

/// As a share of something, in percent.
fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}
