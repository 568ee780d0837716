//! Bars on a terminal, a line for each second elsewhere.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tower_backpressure::{BackpressureController, BackpressureMetrics};

use crate::work::Work;

const WIDTH: usize = 20;

pub struct Show {
    capacity: usize,
    /// What fills the bars of rates, in items per second.
    full_rate: f64,
    paced: bool,
    total: f64,
    bars: Option<Bars>,
}

/// One below the other.
struct Bars {
    /// Draws the others, as long as it lives.
    _all: MultiProgress,
    time: ProgressBar,
    depth: ProgressBar,
    rate: ProgressBar,
    dropped: ProgressBar,
    throughput: ProgressBar,
}

impl Show {
    pub fn new(controller: &BackpressureController, work: &Work, fast: bool) -> Self {
        let total = work.time.as_secs_f64();
        let rates = (0..1000).map(|n| total * f64::from(n) / 1000.0);
        let full_rate = rates.map(|t| (work.produce)(t).max((work.consume)(t)));
        Self {
            capacity: controller.capacity(),
            full_rate: full_rate.fold(1.0, f64::max),
            paced: controller.metrics().current_rate_limit.is_finite(),
            total,
            bars: (!fast && std::io::stderr().is_terminal()).then(Bars::new),
        }
    }

    /// How it stands after `t` seconds.
    pub fn update(&self, t: f64, metrics: &BackpressureMetrics) {
        let depth = metrics.current_depth as f64 / self.capacity as f64;
        let rate = metrics.current_rate_limit / self.full_rate;
        let dropped = metrics.dropped_count as f64 / metrics.produced_count.max(1) as f64;
        let throughput = metrics.throughput_rate / self.full_rate;
        let limit = match self.paced {
            true => format!("{:.0}/s", metrics.current_rate_limit),
            false => "none".to_owned(),
        };
        let depth_text = format!("{}/{}", metrics.current_depth, self.capacity);
        let dropped_text = format!("{} of {}", metrics.dropped_count, metrics.produced_count);
        let throughput_text = format!("{:.0}/s", metrics.throughput_rate);
        match &self.bars {
            Some(bars) => {
                set(
                    &bars.time,
                    t / self.total,
                    format!("{t:.0} of {:.0} s", self.total),
                );
                set(&bars.depth, depth, depth_text);
                set(&bars.rate, if self.paced { rate } else { 0.0 }, limit);
                set(&bars.dropped, dropped, dropped_text);
                set(&bars.throughput, throughput, throughput_text);
            }
            // A tenth is as near as `t` comes to a whole second.
            None if (t + 0.05) % 1.0 < 0.1 => println!(
                "{t:3.0} s  Queue Depth: {} {depth_text:8} Rate Limit: {limit:6} Dropped: {:6} Throughput: {throughput_text}",
                bar(depth),
                metrics.dropped_count,
            ),
            None => {}
        }
    }

    /// Leaves the bars as they are last.
    pub fn finish(&self) {
        if let Some(bars) = &self.bars {
            bars.finish();
        }
    }
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let template = format!("{{prefix:>14}} [{{bar:{WIDTH}}}] {{msg}}");
        let style = ProgressStyle::with_template(&template)
            .expect("a valid template")
            .progress_chars("█░");
        let bar = |name: &'static str| {
            let bar = ProgressBar::new(1000).with_style(style.clone());
            all.add(bar.with_prefix(name))
        };
        Self {
            time: bar("Time:"),
            depth: bar("Queue Depth:"),
            rate: bar("Rate Limit:"),
            dropped: bar("Dropped:"),
            throughput: bar("Throughput:"),
            _all: all,
        }
    }

    fn finish(&self) {
        for bar in [
            &self.time,
            &self.depth,
            &self.rate,
            &self.dropped,
            &self.throughput,
        ] {
            bar.abandon();
        }
        eprintln!();
    }
}

fn set(bar: &ProgressBar, share: f64, text: String) {
    bar.set_position((1000.0 * share.clamp(0.0, 1.0)) as u64);
    bar.set_message(text);
}

fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * WIDTH as f64).round() as usize;
    format!("[{}{}]", "█".repeat(full), "░".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_of_a_hundred_are_twelve_of_twenty() {
        assert_eq!(bar(0.6), "[████████████░░░░░░░░]");
        assert_eq!(bar(7.0), "[████████████████████]");
    }
}
