//! What became of all requests.

use std::time::Duration;

use super::call::{End, Report};

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub reports: Vec<Report>,
}

impl Tally {
    pub fn count(&self, of: impl Fn(&Report) -> bool) -> usize {
        self.reports.iter().filter(|report| of(report)).count()
    }

    pub fn complete(&self) -> usize {
        self.count(|report| report.end == End::Complete)
    }

    /// Complete, and the first token came in time.
    pub fn good(&self, within: Duration) -> usize {
        self.count(|report| {
            report.end == End::Complete && report.first_token.is_some_and(|first| first <= within)
        })
    }

    /// Of the times to the first token.
    pub fn first_token(&self, q: f64) -> Option<Duration> {
        let mut times: Vec<_> = self
            .reports
            .iter()
            .filter_map(|report| report.first_token)
            .collect();
        times.sort_unstable();
        times
            .get(((times.len() as f64 * q) as usize).min(times.len().saturating_sub(1)))
            .copied()
    }

    pub fn of_tenants(&self, of: impl Fn(u32) -> bool) -> Self {
        let reports = self
            .reports
            .iter()
            .filter(|report| of(report.tenant))
            .cloned();
        Self {
            reports: reports.collect(),
        }
    }
}
