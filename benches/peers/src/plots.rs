//! The main stories over time, as CSV and as pictures.

use std::{fmt::Write as _, fs, io, path::Path, time::Duration};

use plotters::{coord::Shift, prelude::*};
use tower_backpressure::{
    limit::{Aimd, Fixed, Limit, MAX_LIMIT},
    sim::{Backend, Callers, Point, Report, Scenario, Work, stories},
};

/// What a plot tells.
struct Story {
    file: &'static str,
    title: &'static str,
    scenario: Scenario,
}

fn all() -> Vec<Story> {
    let backend = Backend::workers(50, Duration::from_millis(50)).work(Work::Exponential);
    let overload = Scenario::new("overload", backend)
        .callers(Callers::patient(backend.mean() * 10))
        .seconds(15, 0.5)
        .seconds(30, 2.0)
        .seconds(15, 0.5);
    vec![
        Story {
            file: "overload",
            title: "50 workers, half the load, twice the load from 15 s to 45 s",
            scenario: overload,
        },
        Story {
            file: "capacity",
            title: "50 workers, a quarter of them from 30 s to 60 s, load 0.9",
            scenario: stories::three_quarters_lost(backend),
        },
        Story {
            file: "retries",
            title: "50 workers, three times the load from 20 s to 30 s, three retries",
            scenario: stories::retry_storm(backend),
        },
        Story {
            file: "cold-start",
            title: "600 workers, 1.5 times the load from the first second",
            scenario: stories::cold_start(),
        },
    ]
}

/// Writes `<story>.csv` into `data` and `<story>.svg` into `pictures`.
///
/// # Errors
///
/// Those of the file system.
pub fn write(data: &Path, pictures: &Path) -> io::Result<()> {
    fs::create_dir_all(data)?;
    fs::create_dir_all(pictures)?;
    for story in all() {
        let scenario = story.scenario.tick(Duration::from_millis(250));
        let play = |limit: Box<dyn Limit>| scenario.run(limit, 7);
        let found = play(Box::<Aimd>::default());
        let unlimited = play(Box::new(Fixed::new(MAX_LIMIT)));
        fs::write(data.join(format!("{}.csv", story.file)), csv(&found))?;
        let mut svg = String::new();
        let drawn = draw(&mut svg, story.title, &found, &unlimited);
        drawn.map_err(|error| io::Error::other(error.to_string()))?;
        fs::write(pictures.join(format!("{}.svg", story.file)), svg)?;
    }
    Ok(())
}

fn csv(report: &Report) -> String {
    let mut csv = "seconds,limit,in_flight,inside,attempts,served,rejected,latency_ms\n".to_owned();
    for point in &report.series {
        let _ = writeln!(
            csv,
            "{:.2},{},{},{},{},{},{},{:.1}",
            point.at.as_secs_f64(),
            point.limit,
            point.in_flight,
            point.inside,
            point.attempts,
            point.served,
            point.rejected,
            point.latency.as_secs_f64() * 1000.0,
        );
    }
    csv
}

type Line = Vec<(f64, f64)>;

fn line(report: &Report, value: impl Fn(&Point) -> f64) -> Line {
    let points = report.series.iter();
    points.map(|p| (p.at.as_secs_f64(), value(p))).collect()
}

fn draw(
    svg: &mut String,
    title: &str,
    found: &Report,
    unlimited: &Report,
) -> Result<(), Box<dyn std::error::Error>> {
    let per_second = |point: &Point| f64::from(point.served) * 4.0;
    let millis = |point: &Point| point.latency.as_secs_f64() * 1000.0;
    let (ours, idle) = (RGBColor(0, 90, 160), RGBColor(170, 170, 170));
    let accent = RGBColor(220, 120, 0);
    let root = SVGBackend::with_string(svg, (760, 640)).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(title, ("sans-serif", 18))?;
    let panels = root.split_evenly((3, 1));
    panel(
        &panels[0],
        "limit, in flight",
        &[
            ("in flight", accent, line(found, |p| p.in_flight as f64)),
            ("limit", ours, line(found, |p| p.limit as f64)),
        ],
    )?;
    panel(
        &panels[1],
        "served in time, per second",
        &[
            ("without a limit", idle, line(unlimited, per_second)),
            ("Aimd", ours, line(found, per_second)),
        ],
    )?;
    panel(
        &panels[2],
        "mean latency of those served, ms",
        &[
            ("without a limit", idle, line(unlimited, millis)),
            ("Aimd", ours, line(found, millis)),
        ],
    )?;
    root.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    caption: &str,
    lines: &[(&str, RGBColor, Line)],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|(_, _, line)| line);
    let right = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let top = points().map(|(_, y)| *y).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 13))
        .margin(6)
        .x_label_area_size(20)
        .y_label_area_size(46)
        .build_cartesian_2d(0.0..right, 0.0..1.08 * top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(10)
        .y_labels(5)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (name, color, line) in lines {
        let color = *color;
        chart
            .draw_series(LineSeries::new(line.iter().copied(), color.stroke_width(1)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}
