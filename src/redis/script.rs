//! The script that decides, and how it is called. One call is one round trip, unless the store has forgotten the script.

use std::{future::Future, pin::Pin, sync::Arc};

use redis::{ErrorKind, RedisError, RedisResult, Script, aio::ConnectionLike};

use super::budget::Budget;

/// More than any burst can be, and still exact as one of Lua's numbers.
const MOST: u64 = 1 << 53;

/// What the script is asked for.
pub(super) enum Call<'a> {
    /// To spend the costs, all or none. Where more than the cost is wanted, up to that much.
    Spend { costs: &'a [u64], wants: &'a [u64] },
    /// To correct what was spent.
    Settle(&'a [Change]),
    /// To write something to a key that is of no limit.
    Probe,
}

/// One limit's part of a correction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Owe(u64),
    GiveBack {
        cost: u64,
        /// When it was spent, by the store's time in microseconds.
        spent: u64,
    },
}

impl Change {
    /// From what was spent at `spent` to what should have been.
    pub(super) fn between(was: u64, is: u64, spent: u64) -> Self {
        match is.checked_sub(was) {
            Some(more) => Self::Owe(more),
            None => Self::GiveBack {
                cost: was - is,
                spent,
            },
        }
    }

    /// All that was spent at `spent`.
    pub(super) fn give_back(costs: &[u64], spent: u64) -> Vec<Self> {
        (costs.iter())
            .map(|cost| Self::between(*cost, 0, spent))
            .collect()
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Owe(0) | Self::GiveBack { cost: 0, .. })
    }

    pub(super) fn is_debt(&self) -> bool {
        matches!(self, Self::Owe(1..))
    }
}

/// What the script answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// The store's time, in microseconds.
    pub(super) now: u64,
    pub(super) verdict: Verdict,
    /// One for each limit; none if it came too late.
    pub(super) standings: Vec<Standing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    Short,
    /// It reached the store when whoever asked had given up already. Nothing was changed.
    Late,
}

/// How one limit stands after the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) spent: u64,
    pub(super) remaining: u64,
    /// How much too early it is, in microseconds.
    pub(super) wait: u64,
    /// Until all is back, in microseconds.
    pub(super) reset_after: u64,
}

/// The store behind a connection of whatever kind.
pub(super) trait Store: Send + Sync {
    /// Runs the script. What would reach the store after `deadline` (its time in microseconds; 0: never) changes nothing.
    fn run(
        &self,
        keys: Arc<[String]>,
        budgets: &[Budget],
        deadline: u64,
        call: Call<'_>,
    ) -> Running;
}

pub(super) type Running = Pin<Box<dyn Future<Output = RedisResult<Reply>> + Send>>;

pub(super) struct Connected<C> {
    connection: C,
    script: Arc<Script>,
}

impl<C> Connected<C> {
    pub(super) fn new(connection: C) -> Self {
        Self {
            connection,
            script: Arc::new(Script::new(include_str!("gcra.lua"))),
        }
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Store for Connected<C> {
    fn run(
        &self,
        keys: Arc<[String]>,
        budgets: &[Budget],
        deadline: u64,
        call: Call<'_>,
    ) -> Running {
        let (op, numbers) = call.numbers(budgets);
        let mut connection = self.connection.clone();
        let script = Arc::clone(&self.script);
        Box::pin(async move {
            let mut invocation = script.prepare_invoke();
            invocation.key(&*keys).arg("").arg(deadline).arg(op);
            invocation.arg(&numbers);
            let answer: Vec<i64> = invocation.invoke_async(&mut connection).await?;
            Reply::read(&answer).ok_or_else(|| {
                RedisError::from((
                    ErrorKind::UnexpectedReturnType,
                    "the script answered with other numbers than it should",
                ))
            })
        })
    }
}

impl Call<'_> {
    fn numbers(&self, budgets: &[Budget]) -> (&'static str, Vec<i64>) {
        let op = match self {
            Call::Spend { .. } => "spend",
            Call::Settle(_) => "settle",
            Call::Probe => return ("probe", Vec::new()),
        };
        let mut numbers = Vec::with_capacity(budgets.len() * 5);
        for (i, budget) in budgets.iter().enumerate() {
            numbers.extend([budget.count, budget.period, budget.burst].map(number));
            numbers.extend(match *self {
                Call::Spend { costs, wants } => [number(costs[i]), number(wants[i])],
                Call::Settle(changes) => match changes[i] {
                    Change::Owe(cost) => [number(cost), 0],
                    Change::GiveBack { cost, spent } => [-number(cost), number(spent)],
                },
                Call::Probe => [0; 2],
            });
        }
        (op, numbers)
    }
}

impl Reply {
    fn read(answer: &[i64]) -> Option<Self> {
        let (&[verdict, now], limits) = answer.split_at_checked(2)? else {
            return None;
        };
        let verdict = match verdict {
            1 => Verdict::Done,
            0 => Verdict::Short,
            -1 => Verdict::Late,
            _ => return None,
        };
        let now = u64::try_from(now).ok()?;
        let standings = limits
            .chunks(4)
            .map(Standing::read)
            .collect::<Option<_>>()?;
        Some(Self {
            now,
            verdict,
            standings,
        })
    }
}

impl Standing {
    fn read(numbers: &[i64]) -> Option<Self> {
        let &[spent, remaining, wait, reset_after] = numbers else {
            return None;
        };
        let unsigned = |number: i64| u64::try_from(number).ok();
        Some(Self {
            spent: unsigned(spent)?,
            remaining: unsigned(remaining)?,
            wait: unsigned(wait)?,
            reset_after: unsigned(reset_after)?,
        })
    }
}

/// Whether the error is about what the keys of one call hold, and says nothing of other keys.
pub(super) fn is_of_one_key(error: &RedisError) -> bool {
    error.kind() == ErrorKind::UnexpectedReturnType
        || matches!(error.code(), Some("WRONGTYPE" | "NOTARATE"))
}

/// As the script takes it: more than this is more than it counts.
fn number(number: u64) -> i64 {
    number.min(MOST) as i64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::pretend::error, *};

    #[test]
    fn a_reply_that_is_cut_off_is_none() {
        assert_eq!(Reply::read(&[]), None);
        assert_eq!(Reply::read(&[1]), None);
        assert_eq!(Reply::read(&[2, 5]), None);
        assert_eq!(Reply::read(&[1, 5, 1, 2, 3]), None);
        assert_eq!(Reply::read(&[1, 5, -1, 2, 3, 4]), None);
    }

    #[test]
    fn a_reply_is_read() {
        let reply = Reply::read(&[0, 5, 0, 2, 3, 4]).unwrap();
        assert_eq!((reply.now, reply.verdict), (5, Verdict::Short));
        let standing = Standing {
            spent: 0,
            remaining: 2,
            wait: 3,
            reset_after: 4,
        };
        assert_eq!(reply.standings, [standing]);
    }

    #[test]
    fn errors_of_one_key_are_told_from_those_of_the_store() {
        for line in ["WRONGTYPE a list", "NOTARATE the key holds something else"] {
            assert!(is_of_one_key(&error(line)), "{line}");
        }
        for line in [
            "OOM command not allowed",
            "READONLY a replica",
            "MISCONF errors writing to disk",
            "LOADING the dataset",
            "CLUSTERDOWN the cluster is down",
            "NOPERM this user has no permissions",
            "ERR unknown command",
        ] {
            assert!(!is_of_one_key(&error(line)), "{line}");
        }
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(!is_of_one_key(&broken.into()));
    }

    #[test]
    fn what_is_given_back_is_negative() {
        let budget = Budget::per(2, Duration::from_micros(3)).burst(9);
        let changes = [
            Change::GiveBack { cost: 4, spent: 5 },
            Change::Owe(u64::MAX),
        ];
        let (op, numbers) = Call::Settle(&changes).numbers(&[budget, budget]);
        assert_eq!(op, "settle");
        assert_eq!(numbers, [2, 3, 9, -4, 5, 2, 3, 9, 1 << 53, 0]);
    }
}
