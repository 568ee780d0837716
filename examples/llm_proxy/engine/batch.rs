//! What an inference engine does at heart: answers share its steps. Arithmetic only; whoever drives it keeps the time.

use std::{collections::VecDeque, time::Duration};

use super::model::Model;

/// One answer in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(u64);

/// The waiting line and the answers that have a place.
///
/// A step reads prompts, first come first served, until its prefill budget is spent, and then every answer whose prompt has
/// been read gets its next token. A prompt longer than the budget takes several steps, during which all others get a token per
/// step and wait longer for each.
#[derive(Debug)]
pub struct Batch {
    model: Model,
    line: VecDeque<Sequence>,
    running: Vec<Sequence>,
    next: u64,
    totals: Totals,
}

#[derive(Debug)]
struct Sequence {
    id: Id,
    /// Prompt tokens not read yet.
    unread: u32,
    /// Tokens not produced yet.
    left: u32,
}

/// What a step gave one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: Id,
    pub last: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub prompt_tokens: u64,
    pub tokens: u64,
    pub finished: u64,
    pub cancelled: u64,
}

impl Batch {
    pub fn new(model: Model) -> Self {
        Self {
            model,
            line: VecDeque::new(),
            running: Vec::new(),
            next: 0,
            totals: Totals::default(),
        }
    }

    /// Joins the line. A prompt and an answer have at least one token.
    pub fn submit(&mut self, prompt: u32, output: u32) -> Id {
        let id = Id(self.next);
        self.next += 1;
        self.line.push_back(Sequence {
            id,
            unread: prompt.max(1),
            left: output.max(1),
        });
        id
    }

    /// Gives up the answer, and its place at once. Says whether there was one.
    pub fn cancel(&mut self, id: Id) -> bool {
        let before = self.running.len() + self.line.len();
        self.running.retain(|sequence| sequence.id != id);
        self.line.retain(|sequence| sequence.id != id);
        let cancelled = before > self.running.len() + self.line.len();
        self.totals.cancelled += u64::from(cancelled);
        cancelled
    }

    /// Begins a step and says how long it takes; `None` where there is nothing to do.
    pub fn begin(&mut self) -> Option<Duration> {
        let mut budget = self.model.prefill_budget;
        for sequence in &mut self.running {
            sequence.read(&mut budget);
        }
        while budget > 0 && self.running.len() < self.model.max_num_seqs {
            let Some(mut sequence) = self.line.pop_front() else {
                break;
            };
            sequence.read(&mut budget);
            self.running.push(sequence);
        }
        if self.running.is_empty() {
            return None;
        }
        let prefill = self.model.prefill_budget - budget;
        self.totals.prompt_tokens += u64::from(prefill);
        Some(self.model.step(prefill, self.running.len()))
    }

    /// Ends the step that was begun: what it produced, in the order in which the answers came.
    pub fn end(&mut self) -> Vec<Token> {
        let mut tokens = Vec::with_capacity(self.running.len());
        for sequence in &mut self.running {
            if sequence.unread == 0 {
                sequence.left -= 1;
                tokens.push(Token {
                    id: sequence.id,
                    last: sequence.left == 0,
                });
            }
        }
        self.running.retain(|sequence| sequence.left > 0);
        self.totals.tokens += tokens.len() as u64;
        self.totals.finished += tokens.iter().filter(|token| token.last).count() as u64;
        tokens
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    pub fn waiting(&self) -> usize {
        self.line.len()
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }
}

impl Sequence {
    fn read(&mut self, budget: &mut u32) {
        let part = self.unread.min(*budget);
        self.unread -= part;
        *budget -= part;
    }
}

/// Requests per second that a model finishes when there is always work: `work` says how long prompt and answer are.
pub fn capacity(model: Model, mut work: impl FnMut() -> (u32, u32)) -> f64 {
    let mut batch = Batch::new(model);
    let mut time = Duration::ZERO;
    let mut finish = |batch: &mut Batch, until: u64| {
        while batch.totals().finished < until {
            while batch.waiting() < model.max_num_seqs {
                let (prompt, output) = work();
                batch.submit(prompt, output);
            }
            time += batch.begin().expect("there is always work");
            batch.end();
        }
        time
    };
    // Those that began together end together; some generations later they no longer do.
    let warm = 10 * model.max_num_seqs as u64;
    let began = finish(&mut batch, warm);
    let before = batch.totals().finished;
    let ended = finish(&mut batch, before + 2 * warm);
    (batch.totals().finished - before) as f64 / (ended - began).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::{H100_8B, TINY};

    fn run(batch: &mut Batch) -> (Duration, Vec<Token>) {
        let time = batch.begin().expect("there is work");
        (time, batch.end())
    }

    #[test]
    fn finishes_as_many_requests_as_the_real_one() {
        let per_second = capacity(H100_8B, || (512, 64));
        assert!((29.0..=34.0).contains(&per_second), "{per_second}");
    }

    #[test]
    fn idle_takes_no_steps() {
        assert_eq!(Batch::new(TINY).begin(), None);
    }

    #[test]
    fn an_answer_gets_its_first_token_with_the_step_that_reads_its_prompt() {
        let mut batch = Batch::new(TINY);
        let id = batch.submit(100, 2);
        let (time, tokens) = run(&mut batch);
        assert_eq!(time, TINY.step(100, 1));
        assert_eq!(tokens, [Token { id, last: false }]);
        let (time, tokens) = run(&mut batch);
        assert_eq!(time, TINY.step(0, 1));
        assert_eq!(tokens, [Token { id, last: true }]);
        assert_eq!(batch.begin(), None);
    }

    #[test]
    fn a_long_prompt_is_read_in_parts_and_slows_the_others() {
        let mut batch = Batch::new(TINY);
        let short = batch.submit(10, 100);
        run(&mut batch);
        let long = batch.submit(85_000, 1);
        let mut steps = 0;
        loop {
            let (time, tokens) = run(&mut batch);
            steps += 1;
            assert!(tokens.iter().any(|token| token.id == short));
            if tokens.iter().any(|token| token.id == long) {
                break;
            }
            assert!(time > Duration::from_millis(80), "{time:?}");
        }
        assert_eq!(steps, 85_000_u32.div_ceil(TINY.prefill_budget));
    }

    #[test]
    fn prompts_are_read_in_the_order_in_which_they_came() {
        let mut batch = Batch::new(TINY);
        let first = batch.submit(TINY.prefill_budget, 1);
        let second = batch.submit(1, 1);
        assert_eq!(
            run(&mut batch).1,
            [Token {
                id: first,
                last: true
            }]
        );
        assert_eq!(
            run(&mut batch).1,
            [Token {
                id: second,
                last: true
            }]
        );
    }

    #[test]
    fn at_most_so_many_have_a_place() {
        let mut batch = Batch::new(TINY);
        for _ in 0..20 {
            batch.submit(1, 5);
        }
        run(&mut batch);
        assert_eq!((batch.running(), batch.waiting()), (8, 12));
    }

    #[test]
    fn one_that_is_given_up_frees_its_place_at_once() {
        let mut batch = Batch::new(TINY);
        let given_up = batch.submit(1, 1000);
        let in_line: Vec<_> = (0..8).map(|_| batch.submit(1, 1000)).collect();
        run(&mut batch);
        assert_eq!((batch.running(), batch.waiting()), (8, 1));
        assert!(batch.cancel(given_up));
        assert!(!batch.cancel(given_up));
        let (_, tokens) = run(&mut batch);
        assert_eq!(tokens.last().map(|token| token.id), in_line.last().copied());
        assert_eq!(batch.waiting(), 0);
    }

    #[test]
    fn every_token_is_accounted_for() {
        let mut batch = Batch::new(TINY);
        let work: Vec<_> = (1..100).map(|n| (n * 7, n % 13 + 1)).collect();
        for (prompt, output) in &work {
            batch.submit(*prompt, *output);
        }
        while batch.begin().is_some() {
            batch.end();
        }
        let totals = batch.totals();
        let sum = |f: fn(&(u32, u32)) -> u32| work.iter().map(f).map(u64::from).sum::<u64>();
        assert_eq!(totals.prompt_tokens, sum(|work| work.0));
        assert_eq!(totals.tokens, sum(|work| work.1));
        assert_eq!((totals.finished, totals.cancelled), (99, 0));
    }
}
