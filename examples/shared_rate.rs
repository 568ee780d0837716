//! Two processes and one budget.
//!
//! ```text
//! cargo run --release --features redis --example shared_rate -- [redis://HOST:PORT/] [--check] [--lease SHARE]
//! ```
//!
//! Two processes, each with a connection of its own, ask for ten seconds as fast as they can. Together they get what one alone
//! would have got: 1000 per second and a burst of 500. Without an address a `redis-server` is started for the time being.
//!
//! With `--check` it fails if that is off by more than one percent. With `--lease 0.02` each process takes a slice of that share
//! of the burst at a time: it asks the store less often, and each may be off by one slice.

use std::{
    env, error,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use redis::{Client, aio::ConnectionManagerConfig};
use tokio::time::{Instant, sleep};
use tower_backpressure::{
    Demand,
    rate::{Decision, OnUnavailable, RemoteRate},
    redis::{Budget, SharedRate},
};

type Result<T> = std::result::Result<T, Box<dyn error::Error + Send + Sync>>;

const PER_SECOND: u64 = 1000;
/// As much as comes in half a second, so that nothing is lost where the machine is too busy for either process to ask for a while.
const BURST: u64 = 500;
const SECONDS: u64 = 10;
/// Requests that each process has under way at a time.
const AT_ONCE: usize = 4;
/// Time for both processes to come up before they begin together.
const COME_UP: Duration = Duration::from_secs(1);

/// In the environment of a process that was started by this one: when to begin, in milliseconds of the Unix time.
const BEGIN: &str = "SHARED_RATE_BEGIN";

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::read(env::args().skip(1))?;
    if let Ok(begin) = env::var(BEGIN) {
        let url = options
            .url
            .ok_or("a process of the example is told the url")?;
        let begin = begin.parse()?;
        let rate = rate(&url, options.lease).await?;
        sleep(until(begin)).await;
        // One that came up late ends with the other all the same.
        let let_in = hammer(&rate, until(begin + 1000 * SECONDS)).await;
        rate.give_back().await;
        println!("{let_in}");
        return Ok(ExitCode::SUCCESS);
    }

    let mut server = None;
    let url = match options.url {
        Some(url) => url,
        None => server.insert(Server::start().await?).url.clone(),
    };
    let got = together(&url, options.lease)?;
    let [first, second] = got;
    let budget = BURST + PER_SECOND * SECONDS;
    let total = first + second;
    let off = (total as f64 / budget as f64 - 1.0) * 100.0;
    println!("first process   {first:6}");
    println!("second process  {second:6}");
    println!("together        {total:6}");
    println!("budget          {budget:6}   off by {off:+.2} %");
    if options.check && off.abs() > 1.0 {
        eprintln!("that is more than one percent");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// What both processes share.
async fn rate(url: &str, lease: Option<f64>) -> Result<SharedRate> {
    // A manager connects again; it should not take long to try.
    let config = ConnectionManagerConfig::new().set_max_delay(Duration::from_millis(500));
    let connection = Client::open(url)?
        .get_connection_manager_with_config(config)
        .await?;
    let budget = Budget::per_second(PER_SECOND).burst(BURST);
    // What a policy lets in would come on top of the budget, and that is what is to be shown. So nothing, and it is patient.
    let rate = SharedRate::new(connection, "example", budget, OnUnavailable::Reject)
        .timeout(Duration::from_millis(500));
    Ok(match lease {
        Some(share) => rate.try_lease(share)?,
        None => rate,
    })
}

/// Asks as fast as it can, for so long. Returns how many were let in.
async fn hammer(rate: &SharedRate, time: Duration) -> u64 {
    let end = now() + time;
    let let_in = Arc::new(AtomicU64::new(0));
    let askers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (rate, let_in) = (rate.clone(), Arc::clone(&let_in));
            tokio::spawn(async move {
                while now() < end {
                    if let Decision::Admitted { .. } = rate.spend(&Demand::default()).await {
                        let_in.fetch_add(1, Ordering::Relaxed);
                    }
                    // A decision by the lease never waits, and others want to run too.
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for asker in askers {
        let _ = asker.await;
    }
    let_in.load(Ordering::Relaxed)
}

/// Runs this program twice.
fn together(url: &str, lease: Option<f64>) -> Result<[u64; 2]> {
    let begin = (UNIX_EPOCH.elapsed()? + COME_UP).as_millis();
    let start = || {
        let mut process = Command::new(env::current_exe()?);
        process.arg(url).env(BEGIN, begin.to_string());
        if let Some(share) = lease {
            process.args(["--lease", &share.to_string()]);
        }
        process.stdout(Stdio::piped()).spawn()
    };
    let processes = [start()?, start()?];
    let mut got = [0; 2];
    for (got, mut process) in got.iter_mut().zip(processes) {
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        if !process.wait()?.success() {
            return Err("a process failed".into());
        }
        *got = line.trim().parse()?;
    }
    Ok(got)
}

/// From now to a moment in Unix time.
fn until(millis: u64) -> Duration {
    let now = UNIX_EPOCH.elapsed().unwrap_or_default();
    Duration::from_millis(millis).saturating_sub(now)
}

#[allow(clippy::disallowed_methods, reason = "an example in real time")]
fn now() -> Instant {
    Instant::now()
}

#[derive(Debug, Default, PartialEq)]
struct Options {
    url: Option<String>,
    check: bool,
    lease: Option<f64>,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--check" => options.check = true,
                "--lease" => {
                    let share = arguments.next().ok_or("--lease needs a share, as 0.02")?;
                    options.lease = Some(share.parse()?);
                }
                url if !url.starts_with('-') => options.url = Some(argument),
                other => return Err(format!("{other} is not known").into()),
            }
        }
        Ok(options)
    }
}

/// A store for as long as the example runs.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    async fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .args(["--dir".into(), env::temp_dir()])
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| {
                format!("give the address of a Redis, or install redis-server: {error}")
            })?;
        let url = format!("redis://127.0.0.1:{port}/");
        let server = Self { process, url };
        for _ in 0..100 {
            if rate(&server.url, None).await.is_ok() {
                return Ok(server);
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err("the redis-server that was started does not answer".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write as _};

    use super::*;

    fn read(arguments: &[&str]) -> Result<Options> {
        Options::read(arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn options_are_read_in_any_order() {
        let expected = Options {
            url: Some("redis://a/".to_owned()),
            check: true,
            lease: Some(0.05),
        };
        let options = read(&["--lease", "0.05", "redis://a/", "--check"]).unwrap();
        assert_eq!(options, expected);
        assert_eq!(read(&[]).unwrap(), Options::default());
        read(&["--lease"]).unwrap_err();
        read(&["--chekc"]).unwrap_err();
    }

    #[tokio::test]
    async fn one_process_alone_gets_the_budget() {
        let required = env::var("BACKPRESSURE_REQUIRE_REDIS").is_ok_and(|value| value == "1");
        let server = match Server::start().await {
            Ok(server) => server,
            Err(error) if !required => {
                // What the print macros write is shown for a failed test only.
                let _ = writeln!(
                    io::stderr(),
                    "\n*** SKIPPED, NOTHING WAS TESTED: {error} ***\n"
                );
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let begin = now();
        let rate = rate(&server.url, None).await.unwrap();
        let let_in = hammer(&rate, Duration::from_millis(300)).await as f64;
        let most = BURST as f64 + PER_SECOND as f64 * begin.elapsed().as_secs_f64();
        assert!(let_in >= BURST as f64 && let_in <= most, "{let_in}");
    }
}
