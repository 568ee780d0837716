//! What the command line says.

use std::{error, net::SocketAddr, time::Duration};

use http::Uri;
use lexopt::{Arg, Parser, ValueExt};

use crate::{
    engine::model::{H100_8B, Model},
    load::mix::{TRACES, Trace},
    proxy::Calm,
};

pub const HELP: &str = "\
An LLM proxy that stays calm, before an embedded engine or a real server.

cargo run --release --example llm_proxy -- [OPTIONS]

  --listen ADDRESS     where the page and the API are        [127.0.0.1:8080]
  --upstream URL       a server to put it before, such as http://127.0.0.1:8000, instead of the embedded engine
  --preset NAME        of the embedded engine: 8b-h100, tiny [8b-h100]
  --load 5x            traffic, as a multiple of what the engine can do, up to 20x; the page's slider changes it, up to 10x
  --trace NAME         what the traffic is like: conversation, code, mooncake, reasoning [conversation]
  --seed N             of traffic and engine                 [1]
  --initial N          where the limit begins                [16]
  --per-tenant N       requests that each API key may have in flight
  --budget N           tokens that each API key may use per minute
  --first-token SECONDS  how long a first token may take   [300]
  --drain SECONDS      how long answers may go on after Ctrl-C or SIGTERM [30]
  --scene NAME|all     plays a scene, or all of them, and says whether it went as it should
  --help               this
";

#[derive(Debug)]
pub struct Args {
    pub listen: SocketAddr,
    pub upstream: Option<Uri>,
    pub model: Model,
    pub load: f64,
    pub trace: Trace,
    pub seed: u64,
    pub calm: Calm,
    pub drain: Duration,
    pub scene: Option<String>,
    pub help: bool,
}

impl Args {
    pub fn read(
        args: impl IntoIterator<Item = std::ffi::OsString>,
    ) -> Result<Self, Box<dyn error::Error>> {
        let mut read = Self {
            listen: ([127, 0, 0, 1], 8080).into(),
            upstream: None,
            model: H100_8B,
            load: 0.0,
            trace: TRACES[0],
            seed: 1,
            calm: Calm::default(),
            drain: Duration::from_secs(30),
            scene: None,
            help: false,
        };
        let mut parser = Parser::from_iter(args);
        while let Some(arg) = parser.next()? {
            let Arg::Long(name) = arg else {
                return Err(arg.unexpected().into());
            };
            let name = name.to_owned();
            match name.as_str() {
                "help" => read.help = true,
                "listen" => read.listen = parser.value()?.parse()?,
                "upstream" => read.upstream = Some(parser.value()?.parse()?),
                "preset" => {
                    let preset = parser.value()?.string()?;
                    read.model = Model::named(&preset).ok_or_else(|| {
                        format!("the preset {preset} is none of 8b-h100 and tiny")
                    })?;
                }
                "load" => {
                    let load = parser.value()?.string()?;
                    read.load = multiple(&load).ok_or_else(|| {
                        format!("the load {load} is not like 5x, and at most 20x")
                    })?;
                }
                "trace" => {
                    let trace = parser.value()?.string()?;
                    let names = TRACES.map(|trace| trace.name).join(", ");
                    read.trace = Trace::named(&trace)
                        .ok_or_else(|| format!("the trace {trace} is none of {names}"))?;
                }
                "seed" => read.seed = parser.value()?.parse()?,
                "initial" => read.calm.initial = positive("initial", parser.value()?.parse()?)?,
                "per-tenant" => {
                    read.calm.per_tenant = Some(positive("per-tenant", parser.value()?.parse()?)?);
                }
                "budget" => {
                    let budget = positive("budget", parser.value()?.parse()?)? as u64;
                    read.calm.budget = Some((budget, budget));
                }
                "first-token" => {
                    let seconds = parser.value()?.parse()?;
                    read.calm.first_token = Some(Duration::try_from_secs_f64(seconds)?);
                }
                "drain" => read.drain = Duration::try_from_secs_f64(parser.value()?.parse()?)?,
                "scene" => read.scene = Some(parser.value()?.string()?),
                _ => return Err(format!("there is no option --{name}; see --help").into()),
            }
        }
        if read.upstream.is_some() && (read.load > 0.0 || read.scene.is_some()) {
            return Err(
                "traffic and scenes are for the embedded engine, and not for --upstream".into(),
            );
        }
        Ok(read)
    }
}

fn multiple(text: &str) -> Option<f64> {
    let load = text.strip_suffix('x').unwrap_or(text).parse().ok()?;
    (0.0..=20.0).contains(&load).then_some(load)
}

fn positive(name: &str, value: usize) -> Result<usize, String> {
    match value {
        0 => Err(format!("--{name} is 0; it has to be at least 1")),
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &str) -> Result<Args, String> {
        let args = args.split_whitespace().map(Into::into);
        Args::read(std::iter::once("llm_proxy".into()).chain(args))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read() {
        let args =
            read("--load 5x --preset tiny --budget 100 --listen 0.0.0.0:1 --drain 0.5").unwrap();
        assert_eq!((args.load, args.model.name), (5.0, "tiny"));
        assert_eq!(args.calm.budget, Some((100, 100)));
        assert_eq!(args.drain, Duration::from_millis(500));
    }

    #[test]
    fn what_cannot_be_is_said() {
        for wrong in [
            "--load fast",
            "--load 100x",
            "--preset huge",
            "--trace none",
            "--initial 0",
            "--drain -1",
            "--colour",
            "5x",
            "--upstream http://a --load 5x",
        ] {
            let said = read(wrong).unwrap_err();
            assert!(!said.is_empty(), "{wrong}");
        }
    }
}
