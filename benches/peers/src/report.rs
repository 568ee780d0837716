//! What a bench was asked for, and what becomes of what it finds.
//!
//! It is printed. With `--save 2026-01-31` it is also kept in `benches/results`, with the machine and the command, and with
//! `--readme` as well a part of it goes where the README compares.

use std::{
    env,
    fmt::{self, Write},
    fs, io,
    path::Path,
    process::Command,
};

/// What stands on the command line.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// A glance, whose numbers are worth little.
    pub quick: bool,
    /// With metrics-exporter-prometheus installed.
    pub recorder: bool,
    /// What is none of the options.
    pub words: Vec<String>,
    /// The day, if it is to be kept.
    save: Option<String>,
    readme: bool,
    command: String,
}

impl Asked {
    /// `None` where this is not to be run as a bench: `cargo test --all-targets` runs benches as well.
    ///
    /// # Errors
    ///
    /// If an option is unknown, or lacks what belongs to it.
    pub fn of(bench: &str) -> io::Result<Option<Self>> {
        let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
        if args.len() == env::args().skip(1).len() {
            return Ok(None);
        }
        let mut asked = Self {
            command: format!("cargo bench --bench {bench}"),
            ..Self::default()
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => asked.quick = true,
                "--recorder" => asked.recorder = true,
                "--readme" => asked.readme = true,
                "--save" => asked.save = Some(args.next().ok_or_else(no_day)?),
                option if option.starts_with('-') => {
                    let text = format!("{option} is none of --quick, --recorder, --save, --readme");
                    return Err(io::Error::other(text));
                }
                _ => asked.words.push(arg),
            }
        }
        if asked.readme && asked.save.is_none() {
            return Err(no_day());
        }
        if asked.readme && (asked.quick || !asked.words.is_empty()) {
            return Err(io::Error::other("the README gets what a whole run found"));
        }
        let shown = asked.recorder.then_some("--recorder").into_iter();
        let shown = asked.quick.then_some("--quick").into_iter().chain(shown);
        let shown: Vec<&str> = shown
            .chain(asked.words.iter().map(String::as_str))
            .collect();
        if !shown.is_empty() {
            asked.command += &format!(" -- {}", shown.join(" "));
        }
        Ok(Some(asked))
    }
}

fn no_day() -> io::Error {
    io::Error::other("--save needs the day, as 2026-01-31, and --readme needs --save")
}

/// What is written to it is printed, and kept.
#[derive(Debug)]
pub struct Report {
    bench: &'static str,
    asked: Asked,
    text: String,
}

impl Report {
    /// An empty one.
    pub fn new(bench: &'static str, asked: Asked) -> Self {
        Self {
            bench,
            asked,
            text: String::new(),
        }
    }

    /// Keeps what was printed, if that was asked for, and puts `summary` into the README, if that was.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or the README has no place for it.
    pub fn finish(self, summary: Option<&str>) -> io::Result<()> {
        let Some(day) = &self.asked.save else {
            return Ok(());
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let made = format!("{day}; {}; `{}`", machine()?, self.asked.command);
        let results = root.join("benches/results");
        fs::create_dir_all(&results)?;
        let file = results.join(format!("{day}-{}.txt", self.bench));
        fs::write(
            file,
            format!("{made}\n\n{}", self.text.trim_start_matches('\n')),
        )?;
        if self.asked.readme {
            let summary = summary.ok_or_else(|| {
                io::Error::other(format!("{} has no part in the README", self.bench))
            })?;
            let path = root.join("README.md");
            let readme = fs::read_to_string(&path)?;
            let part = format!("{}\n\n({made})", summary.trim());
            fs::write(path, replaced(&readme, self.bench, &part)?)?;
        }
        Ok(())
    }
}

impl Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        print!("{text}");
        self.text.push_str(text);
        Ok(())
    }
}

/// Puts `part` between the two marks of `bench`.
fn replaced(text: &str, bench: &str, part: &str) -> io::Result<String> {
    let begin = format!("<!-- bench {bench} -->");
    let end = format!("<!-- /bench {bench} -->");
    let place = text.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = place
        .ok_or_else(|| io::Error::other(format!("the README lacks the marks {begin} and {end}")))?;
    Ok(format!("{before}{begin}\n{part}\n{end}{after}"))
}

/// Processor, cores and compiler.
fn machine() -> io::Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism()?;
    let rustc = Command::new("rustc").arg("--version").output()?;
    let rustc = String::from_utf8_lossy(&rustc.stdout);
    let rustc: Vec<&str> = rustc.split(' ').take(2).collect();
    Ok(format!("{model}, {cores} cores; {}", rustc.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_between_the_marks_is_replaced_and_nothing_else() {
        let text =
            "a\n<!-- bench x -->\nold\n<!-- /bench x -->\nb\n<!-- bench y -->\n<!-- /bench y -->\n";
        let new = replaced(text, "x", "new").expect("it has the marks");
        let expected =
            "a\n<!-- bench x -->\nnew\n<!-- /bench x -->\nb\n<!-- bench y -->\n<!-- /bench y -->\n";
        assert_eq!(new, expected);
        assert!(replaced(text, "z", "new").is_err());
    }
}
