//! Reads `tests/data/gcra.txt`, which says what a token bucket answers.
//!
//! The file is for more than one test, none of which has to look at everything in it.

#![allow(dead_code)]

use std::time::Duration;

/// A bucket and what is done to it.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub rate: Pace,
    pub burst: u64,
    pub steps: Vec<Step>,
}

/// `tokens` in each `period`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    pub tokens: u64,
    pub period: Duration,
}

#[derive(Debug)]
pub struct Step {
    /// Where in the file it stands.
    pub line: usize,
    pub at: Duration,
    pub op: Op,
    pub answer: Answer,
    /// Afterwards.
    pub left: u64,
    pub reset: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    Spend(u64),
    Peek(u64),
    Owe(u64),
    Refund { cost: u64, spent: Duration },
    Set(Pace),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    Yes,
    Wait(Duration),
    Never,
    /// The operation has none.
    Nothing,
}

impl Answer {
    /// Whether it is the same, times to within `grain`.
    pub fn agrees(self, other: Self, grain: Duration) -> bool {
        match (self, other) {
            (Self::Wait(one), Self::Wait(other)) => one.abs_diff(other) <= grain,
            _ => self == other,
        }
    }
}

impl Pace {
    pub fn per_second(self) -> f64 {
        self.tokens as f64 / self.period.as_secs_f64()
    }
}

/// All of the file.
pub fn cases() -> Vec<Case> {
    parse(include_str!("../data/gcra.txt"))
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut name = None;
    for (n, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["case", ..] => name = Some(words[1..].join(" ")),
            ["rate", tokens, "per", period, "burst", burst] => cases.push(Case {
                name: name.take().expect("a rate follows a case"),
                rate: pace(tokens, period),
                burst: number(burst),
                steps: Vec::new(),
            }),
            _ => {
                let case = cases.last_mut().expect("a step belongs to a case");
                case.steps.push(step(n + 1, &words));
            }
        }
    }
    cases
}

fn step(line: usize, words: &[&str]) -> Step {
    let (op, rest) = match words[1..] {
        ["spend", cost, ref rest @ ..] => (Op::Spend(number(cost)), rest),
        ["peek", cost, ref rest @ ..] => (Op::Peek(number(cost)), rest),
        ["owe", cost, ref rest @ ..] => (Op::Owe(number(cost)), rest),
        ["refund", cost, "from", spent, ref rest @ ..] => {
            let (cost, spent) = (number(cost), seconds(spent));
            (Op::Refund { cost, spent }, rest)
        }
        ["set", tokens, "per", period, ref rest @ ..] => (Op::Set(pace(tokens, period)), rest),
        _ => panic!("line {line} has no operation: {words:?}"),
    };
    let &[answer, left, reset] = rest else {
        panic!("line {line} has no answer, left and reset: {words:?}");
    };
    Step {
        line,
        at: seconds(words[0]),
        op,
        answer: match answer {
            "yes" => Answer::Yes,
            "never" => Answer::Never,
            "-" => Answer::Nothing,
            wait => Answer::Wait(seconds(wait)),
        },
        left: number(left),
        reset: seconds(reset),
    }
}

fn pace(tokens: &str, period: &str) -> Pace {
    Pace {
        tokens: number(tokens),
        period: seconds(period),
    }
}

fn number(word: &str) -> u64 {
    word.parse()
        .unwrap_or_else(|_| panic!("{word} is not a whole number"))
}

/// To the nanosecond; by way of a float it would not be.
fn seconds(word: &str) -> Duration {
    let (whole, fraction) = word.split_once('.').unwrap_or((word, ""));
    assert!(fraction.len() <= 9, "{word} is finer than a nanosecond");
    let nanos = format!("{fraction:0<9}");
    Duration::new(number(whole), number(&nanos) as u32)
}
