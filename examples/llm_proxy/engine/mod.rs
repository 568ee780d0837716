//! An inference engine without a model: it takes as long as a real one, shared by all who ask, and says nothing of interest.
//!
//! [`batch`] is the arithmetic, [`Engine`] drives it in real time, [`server`] speaks HTTP in OpenAI's and Anthropic's words.

mod ask;
pub mod batch;
pub mod faults;
pub mod model;
pub mod server;
mod wire;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::sleep_until,
};

use self::{
    batch::{Batch, Id, Totals},
    model::Model,
};
use crate::clock::now;

/// A busy machine makes the driver late. So much it makes good; more is lost, as it would be for a card that stood still.
const CATCH_UP: Duration = Duration::from_millis(50);

/// Cheap to clone; all clones share one card.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    model: Model,
    state: Mutex<State>,
    /// There is work again.
    work: Notify,
}

struct State {
    batch: Batch,
    /// How many tokens each answer has. A number, however long nobody looks at it.
    answers: HashMap<Id, watch::Sender<u32>>,
}

/// What the card does now, and has done.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub running: usize,
    pub waiting: usize,
    pub totals: Totals,
}

impl Engine {
    /// The card runs until the runtime ends.
    pub fn start(model: Model) -> Self {
        let engine = Self {
            shared: Arc::new(Shared {
                model,
                state: Mutex::new(State {
                    batch: Batch::new(model),
                    answers: HashMap::new(),
                }),
                work: Notify::new(),
            }),
        };
        tokio::spawn(engine.clone().drive());
        engine
    }

    pub fn model(&self) -> Model {
        self.shared.model
    }

    pub fn load(&self) -> Load {
        let state = self.state();
        Load {
            running: state.batch.running(),
            waiting: state.batch.waiting(),
            totals: state.batch.totals(),
        }
    }

    /// An answer of `output` tokens to `prompt` tokens. Dropped before its end it is given up.
    pub fn submit(&self, prompt: u32, output: u32) -> Answer {
        let (sender, tokens) = watch::channel(0);
        let mut state = self.state();
        let id = state.batch.submit(prompt, output);
        state.answers.insert(id, sender);
        drop(state);
        self.shared.work.notify_one();
        Answer {
            engine: self.clone(),
            id,
            tokens,
            wanted: true,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("nothing panics under it")
    }

    async fn drive(self) {
        let mut due = now();
        loop {
            let step = self.state().batch.begin();
            let Some(step) = step else {
                self.shared.work.notified().await;
                due = now();
                continue;
            };
            due = (due + step).max(now() - CATCH_UP);
            sleep_until(due).await;
            self.end_step();
        }
    }

    fn end_step(&self) {
        let mut state = self.state();
        for token in state.batch.end() {
            if let Some(answer) = state.answers.get(&token.id) {
                answer.send_modify(|tokens| *tokens += 1);
            }
            if token.last {
                state.answers.remove(&token.id);
            }
        }
    }
}

/// One answer in the making.
pub struct Answer {
    engine: Engine,
    id: Id,
    tokens: watch::Receiver<u32>,
    wanted: bool,
}

impl Answer {
    /// How many tokens there are, once there are more than `seen`.
    pub async fn beyond(&mut self, seen: u32) -> u32 {
        // Where the answer has ended, what it came to is still there.
        let _ = self.tokens.wait_for(|tokens| *tokens > seen).await;
        *self.tokens.borrow()
    }

    /// Goes on to its end even if nobody waits for it.
    pub fn detach(&mut self) {
        self.wanted = false;
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.wanted {
            let mut state = self.engine.state();
            state.batch.cancel(self.id);
            state.answers.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{model::TINY, *};

    #[tokio::test(start_paused = true)]
    async fn an_answer_takes_as_long_as_its_steps() {
        let engine = Engine::start(TINY);
        let began = now();
        let mut answer = engine.submit(1000, 10);
        let mut tokens = 0;
        while tokens < 10 {
            tokens = answer.beyond(tokens).await;
        }
        let expected = TINY.step(1000, 1) + 9 * TINY.step(0, 1);
        let took = began.elapsed();
        // The timer is good to a millisecond.
        assert!(
            took >= expected && took < expected + Duration::from_millis(2),
            "{took:?}"
        );
        assert_eq!(engine.load().totals.finished, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_answer_is_given_up() {
        let engine = Engine::start(TINY);
        let mut answer = engine.submit(1, 1000);
        answer.beyond(0).await;
        drop(answer);
        let load = engine.load();
        assert_eq!((load.running, load.totals.cancelled), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_detached_answer_is_produced_for_nobody() {
        let engine = Engine::start(TINY);
        let mut answer = engine.submit(1, 100);
        answer.detach();
        drop(answer);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(engine.load().totals.tokens, 100);
    }
}
