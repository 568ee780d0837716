use super::{Kind, Meaning, Reported, Usage, text::tokens_of};

/// What one answer has used until now: as the provider reports it, and estimated where it does not, so that a client that leaves in
/// the middle is charged for what was streamed.
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
