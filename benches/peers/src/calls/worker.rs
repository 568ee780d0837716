//! A process that makes calls when it is told to, so that what is global (a recorder, an allocator) can differ between
//! calls of the same round.

#![allow(clippy::disallowed_methods, reason = "wall time is what is measured")]

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Write},
    path::Path as File,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::{Loop, Path, Shared, Tally, stacks};

/// Calls to be made through one limit.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Which of [`stacks`].
    pub stack: usize,
    /// How many threads share the limit.
    pub threads: usize,
    /// How many calls each makes.
    pub calls: u64,
}

/// How the calls went, of all threads together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// From the first thread's first call to the last one's last.
    pub nanos: u64,
    /// Let in or not.
    pub tally: Tally,
}

/// The other process.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    orders: ChildStdin,
    done: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts `program`, which is to [`serve`].
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(program: &File, args: &[&str]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(orders), Some(done)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a worker was started without its pipes"));
        };
        Ok(Self {
            child,
            orders,
            done: BufReader::new(done),
        })
    }

    /// Has it make calls.
    ///
    /// # Errors
    ///
    /// If it has ended, or answers what it should not.
    pub fn make(&mut self, order: Order) -> io::Result<Done> {
        let Order {
            stack,
            threads,
            calls,
        } = order;
        writeln!(self.orders, "{stack} {threads} {calls}")?;
        let mut line = String::new();
        self.done.read_line(&mut line)?;
        let [nanos, admitted, pending] = numbers(&line)?;
        Ok(Done {
            nanos,
            tally: Tally { admitted, pending },
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the calls that are ordered on stdin, with `metrics-exporter-prometheus` installed or without any recorder.
///
/// # Errors
///
/// If an order cannot be read.
pub fn serve(recorder: bool) -> io::Result<()> {
    let recorder = recorder.then(install);
    let stacks = stacks();
    let mut limits: HashMap<(usize, usize), (Shared, Vec<Loop>)> = HashMap::new();
    for line in io::stdin().lines() {
        let [stack, threads, calls] = numbers(&line?)?;
        let (stack, threads) = (stack as usize, threads as usize);
        let (_, loops) = limits.entry((stack, threads)).or_insert_with(|| {
            let shared = stacks[stack].make();
            let loops = (0..threads).map(|_| shared()).collect();
            (shared, loops)
        });
        let done = match stacks[stack].path {
            Path::Paced => run_paced(&mut loops[0], calls),
            _ => run(loops, calls),
        };
        if let Some(recorder) = &recorder {
            // A server does so every five seconds.
            recorder.run_upkeep();
        }
        println!(
            "{} {} {}",
            done.nanos, done.tally.admitted, done.tally.pending
        );
    }
    Ok(())
}

/// Installs the recorder that services are likely to have.
///
/// # Panics
///
/// If there is one.
pub fn install() -> PrometheusHandle {
    RECORDED.store(true, Ordering::Relaxed);
    PrometheusBuilder::new()
        .install_recorder()
        .expect("there is no recorder yet")
}

static RECORDED: AtomicBool = AtomicBool::new(false);

/// Whether this process has a recorder.
pub(super) fn is_recorded() -> bool {
    RECORDED.load(Ordering::Relaxed)
}

/// How many calls are made at a stretch, each millisecond: 90 000 a second.
const STRETCH: u64 = 90;

/// Stretches before those that count: meanwhile it was the turn of others, and a layer that adapts has to see what the pace is.
const RUN_UP: u64 = 2;

/// Counts the time of the calls, and not of the pauses.
fn run_paced(one: &mut Loop, calls: u64) -> Done {
    let mut done = Done::default();
    let mut left = calls;
    let mut run_up = RUN_UP;
    while left > 0 {
        let stretch = left.min(STRETCH);
        let begin = Instant::now();
        let tally = one(stretch);
        if run_up > 0 {
            run_up -= 1;
        } else {
            left -= stretch;
            done.nanos += begin.elapsed().as_nanos() as u64;
            done.tally.admitted += tally.admitted;
            done.tally.pending += tally.pending;
        }
        // Awake, so that the next stretch finds the caches as it left them.
        while begin.elapsed() < Duration::from_millis(1) {
            std::hint::spin_loop();
        }
    }
    done
}

fn run(loops: &mut [Loop], calls: u64) -> Done {
    if let [one] = loops {
        let begin = Instant::now();
        let tally = one(calls);
        let nanos = begin.elapsed().as_nanos() as u64;
        return Done { nanos, tally };
    }
    let threads = loops.len();
    let awake = Barrier::new(threads);
    // Threads leave a barrier tens of microseconds apart; those who spin do not.
    let ready = AtomicUsize::new(0);
    let one = |run: &mut Loop| {
        awake.wait();
        ready.fetch_add(1, Ordering::SeqCst);
        while ready.load(Ordering::SeqCst) < threads {
            std::hint::spin_loop();
        }
        let begin = Instant::now();
        let tally = run(calls);
        (begin, Instant::now(), tally)
    };
    let ran: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = loops
            .iter_mut()
            .map(|run| scope.spawn(|| one(run)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("calls do not panic"))
            .collect()
    });
    let mut done = Done::default();
    let mut begin = ran[0].0;
    let mut end = ran[0].1;
    for (began, ended, tally) in ran {
        begin = begin.min(began);
        end = end.max(ended);
        done.tally.admitted += tally.admitted;
        done.tally.pending += tally.pending;
    }
    done.nanos = (end - begin).as_nanos() as u64;
    done
}

fn numbers<const N: usize>(line: &str) -> io::Result<[u64; N]> {
    let numbers: Option<Vec<u64>> = line
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| io::Error::other(format!("{N} numbers were expected, not {line:?}")))
}
