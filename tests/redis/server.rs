//! A Redis of a test's own.

use std::{
    env, fs,
    io::{self, Write as _},
    net,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use redis::{
    Client,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Ends with the value.
pub struct Server {
    child: Child,
    port: u16,
    directory: PathBuf,
    options: Vec<String>,
}

impl Server {
    /// `None`, loudly, where there is no `redis-server`; with `BACKPRESSURE_REQUIRE_REDIS=1` that is a failure.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    pub fn start_with(options: &[&str]) -> Option<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let directory =
            env::temp_dir().join(format!("backpressure-redis-{}-{number}", process::id()));
        fs::create_dir_all(&directory).expect("a directory for the server");
        let port = free_port();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let child = match launch(port, &directory, &options) {
            Ok(child) => child,
            Err(error) => {
                let required =
                    env::var("BACKPRESSURE_REQUIRE_REDIS").is_ok_and(|value| value == "1");
                assert!(!required, "redis-server cannot be started: {error}");
                // What the print macros write is shown for a failed test only.
                let _ = writeln!(
                    io::stderr(),
                    "\n*** SKIPPED, NOTHING WAS TESTED: redis-server cannot be started: {error} ***\n"
                );
                return None;
            }
        };
        let server = Self {
            child,
            port,
            directory,
            options,
        };
        server.wait_until_it_answers();
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub fn client(&self) -> Client {
        Client::open(self.url()).expect("a url of ours")
    }

    pub async fn connection(&self) -> MultiplexedConnection {
        self.client()
            .get_multiplexed_async_connection()
            .await
            .expect("the server answers")
    }

    /// One whose calls take so long to get there.
    pub async fn far_connection(&self, away: Duration) -> MultiplexedConnection {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let url = format!("redis://{}/", listener.local_addr().expect("it is bound"));
        let port = self.port;
        tokio::spawn(async move {
            let (near, _) = listener.accept().await.expect("a client");
            let far = TcpStream::connect(("127.0.0.1", port)).await;
            let (mut calls, mut answers) = near.into_split();
            let (mut back, mut there) = far.expect("the server listens").into_split();
            tokio::spawn(async move { tokio::io::copy(&mut back, &mut answers).await });
            let mut bytes = vec![0; 65_536];
            while let Ok(length @ 1..) = calls.read(&mut bytes).await {
                tokio::time::sleep(away).await;
                if there.write_all(&bytes[..length]).await.is_err() {
                    return;
                }
            }
        });
        let client = Client::open(url).expect("a url of ours");
        let connection = client.get_multiplexed_async_connection().await;
        connection.expect("the server answers")
    }

    /// One that connects again.
    pub async fn manager(&self) -> ConnectionManager {
        self.patient_manager(Duration::from_millis(500)).await
    }

    /// One that waits so long for an answer, and does not hear those that come later.
    pub async fn patient_manager(&self, patience: Duration) -> ConnectionManager {
        let config = ConnectionManagerConfig::new()
            .set_max_delay(Duration::from_millis(200))
            .set_response_timeout(Some(patience));
        self.client()
            .get_connection_manager_with_config(config)
            .await
            .expect("the server answers")
    }

    /// It hangs: connections stay, answers do not come.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// It is gone, with all it remembered.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    pub fn restart(&mut self) {
        self.child = launch(self.port, &self.directory, &self.options).expect("it started before");
        self.wait_until_it_answers();
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.expect("kill is there").success());
    }

    fn wait_until_it_answers(&self) {
        let client = self.client();
        for _ in 0..500 {
            let answered = client
                .get_connection()
                .and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection));
            if answered.is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server on port {} does not answer", self.port);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn launch(port: u16, directory: &Path, options: &[String]) -> io::Result<Child> {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(directory)
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Below 55,536, so that a cluster's bus has room above.
fn free_port() -> u16 {
    loop {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        if port < 55_536 {
            return port;
        }
    }
}
