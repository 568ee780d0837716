use super::{Kind, Meaning, Reported, Usage, text::tokens_of};

/// What one answer has used until now: as the provider reports it, and estimated where it does not, so that a client that
/// leaves in the middle is charged for what was streamed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    estimated_prompt: u64,
    reported: Option<Reported>,
    events: u64,
    bytes: u64,
    /// Of the estimate, what the last report has counted in.
    counted: u64,
}

impl Tally {
    /// An answer to a prompt of about so many tokens.
    pub fn new(estimated_prompt: u64) -> Self {
        Self {
            estimated_prompt,
            ..Self::default()
        }
    }

    /// Counts an event in.
    pub fn add(&mut self, meaning: &Meaning) {
        if let Kind::Content { bytes } = meaning.kind {
            self.events += 1;
            self.bytes = self.bytes.saturating_add(bytes);
        }
        if let Some(reported) = meaning.reported {
            self.report(reported);
        }
    }

    /// Counts in what a whole answer reports.
    pub fn report(&mut self, reported: Reported) {
        if reported.output.is_some() {
            self.counted = self.estimated();
        }
        self.reported = Some(self.reported.unwrap_or_default().and(reported));
    }

    /// Whether the provider has said what the answer used. It may have used more since.
    pub fn is_reported(&self) -> bool {
        self.reported
            .is_some_and(|reported| reported.output.is_some())
    }

    /// What was used until now: what was last reported, and what was streamed since, estimated as a token for each event or for each
    /// four bytes, whichever is more.
    pub fn usage(&self) -> Usage {
        let reported = self.reported.unwrap_or_default();
        let since = self.estimated() - self.counted;
        Usage {
            prompt: reported.prompt.unwrap_or(self.estimated_prompt),
            cached: reported.cached.unwrap_or(0),
            output: reported.output.unwrap_or(0).saturating_add(since),
        }
    }

    fn estimated(&self) -> u64 {
        self.events.max(tokens_of(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(bytes: u64) -> Meaning {
        Meaning::of(Kind::Content { bytes })
    }

    fn reports(prompt: Option<u64>, output: Option<u64>) -> Meaning {
        Meaning {
            reported: Some(Reported {
                prompt,
                output,
                ..Reported::default()
            }),
            ..Meaning::default()
        }
    }

    fn used(meanings: &[Meaning]) -> (u64, u64) {
        let mut tally = Tally::new(10);
        for meaning in meanings {
            tally.add(meaning);
        }
        (tally.usage().prompt, tally.usage().output)
    }

    #[test]
    fn without_a_report_each_event_or_four_bytes_is_a_token() {
        assert_eq!(used(&[]), (10, 0));
        assert_eq!(used(&[Meaning::default()]), (10, 0));
        assert_eq!(used(&[content(1), content(2), content(1)]), (10, 3));
        assert_eq!(used(&[content(400), content(3)]), (10, 101));
    }

    #[test]
    fn a_report_takes_the_place_of_the_estimate() {
        assert_eq!(used(&[content(400), reports(Some(12), Some(90))]), (12, 90));
        assert_eq!(used(&[content(400), reports(Some(12), None)]), (12, 100));
    }

    #[test]
    fn what_came_after_the_last_report_is_added_to_it() {
        let start = reports(Some(25), Some(1));
        assert_eq!(used(&[start.clone(), content(4), content(4)]), (25, 3));
        assert_eq!(
            used(&[start.clone(), content(4), reports(None, Some(9))]),
            (25, 9)
        );
        let twice = [start, content(4), reports(Some(0), Some(9)), content(8)];
        assert_eq!(used(&twice), (25, 11));
    }

    #[test]
    fn no_number_is_too_large() {
        let most = [
            content(u64::MAX),
            content(9),
            reports(Some(u64::MAX), Some(u64::MAX)),
            content(9),
        ];
        assert_eq!(used(&most), (u64::MAX, u64::MAX));
    }

    #[test]
    fn it_is_reported_once_the_output_is() {
        let mut tally = Tally::new(10);
        tally.add(&reports(Some(1), None));
        assert!(!tally.is_reported());
        tally.add(&reports(None, Some(1)));
        assert!(tally.is_reported());
    }
}
