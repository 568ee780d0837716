//! How an upstream fails. Each share is of the requests, from 0 to 1; a request has one fault at most.

use rand::Rng;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// A 200, and then an event that says the model is overloaded.
    pub error_event: f64,
    /// Refused at once with `refuse_status`.
    pub refuse: f64,
    /// 429, 503 or 529; 0 stands for what is usual: 503 for OpenAI, 529 for Anthropic.
    pub refuse_status: u16,
    /// When to come back, in seconds; 0 for no hint.
    pub refuse_hint: f64,
    /// A head, and then nothing, for as long as the client waits.
    pub stall: f64,
    /// The connection breaks after some tokens.
    pub reset: f64,
    /// The answer does not say how many tokens it took.
    pub no_usage: f64,
    /// Answers are produced to their end though the client has gone.
    pub ignore_disconnect: bool,
}

/// What is wrong with one answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    ErrorEvent,
    Refused {
        status: Option<u16>,
        hint: Option<f64>,
    },
    Stall,
    Reset,
    NoUsage,
}

impl Faults {
    pub fn check(&self) -> Result<(), String> {
        let shares = [
            ("error_event", self.error_event),
            ("refuse", self.refuse),
            ("stall", self.stall),
            ("reset", self.reset),
            ("no_usage", self.no_usage),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{name} is {share}, which is not from 0 to 1"));
            }
        }
        if shares.iter().map(|(_, share)| share).sum::<f64>() > 1.0 + f64::EPSILON {
            return Err("the shares of all faults are more than 1 together".to_owned());
        }
        if !matches!(self.refuse_status, 0 | 429 | 503 | 529) {
            let status = self.refuse_status;
            return Err(format!(
                "refuse_status is {status}, which is none of 0, 429, 503 and 529"
            ));
        }
        if !(0.0..=3600.0).contains(&self.refuse_hint) {
            let hint = self.refuse_hint;
            return Err(format!(
                "refuse_hint is {hint}, which is not from 0 to 3600 seconds"
            ));
        }
        Ok(())
    }

    pub fn draw(&self, rng: &mut impl Rng) -> Option<Fault> {
        let refused = Fault::Refused {
            status: Some(self.refuse_status).filter(|status| *status != 0),
            hint: Some(self.refuse_hint).filter(|hint| *hint > 0.0),
        };
        let mut at = rng.random::<f64>();
        for (share, fault) in [
            (self.error_event, Fault::ErrorEvent),
            (self.refuse, refused),
            (self.stall, Fault::Stall),
            (self.reset, Fault::Reset),
            (self.no_usage, Fault::NoUsage),
        ] {
            if at < share {
                return Some(fault);
            }
            at -= share;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn each_fault_comes_as_often_as_it_was_asked_for() {
        let faults = Faults {
            error_event: 0.2,
            stall: 0.1,
            ..Faults::default()
        };
        let mut rng = SmallRng::seed_from_u64(1);
        let drawn: Vec<_> = (0..10_000).map(|_| faults.draw(&mut rng)).collect();
        let share = |fault| drawn.iter().filter(|drawn| **drawn == fault).count() as f64 / 1e4;
        assert!((0.19..0.21).contains(&share(Some(Fault::ErrorEvent))));
        assert!((0.09..0.11).contains(&share(Some(Fault::Stall))));
        assert!((0.69..0.71).contains(&share(None)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let wrong = [
            Faults {
                stall: 1.5,
                ..Faults::default()
            },
            Faults {
                stall: f64::NAN,
                ..Faults::default()
            },
            Faults {
                stall: 0.6,
                reset: 0.6,
                ..Faults::default()
            },
            Faults {
                refuse_status: 200,
                ..Faults::default()
            },
            Faults {
                refuse_hint: -1.0,
                ..Faults::default()
            },
        ];
        for faults in wrong {
            assert!(faults.check().is_err(), "{faults:?}");
        }
        assert_eq!(Faults::default().check(), Ok(()));
    }
}
