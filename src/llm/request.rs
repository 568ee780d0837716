use bytes::Bytes;

use super::Dialect;

/// What a request asks of the model, as far as its body tells. Whatever cannot be read is left out: it is the model's service that
/// has to complain of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    model: Box<str>,
    stream: bool,
    max_output: Option<u64>,
    prompt: u64,
    include_usage: bool,
    edit: Option<()>,
}

impl Asked {
    /// How much of the model's name is kept, in bytes.
    pub const MODEL: usize = 128;

    /// Reads a body. Costs linear time in its length, and no memory but for the model's name; its length is yours to bound.
    pub fn read(dialect: Dialect, body: &[u8]) -> Self {
        let _ = (dialect, body);
        Self {
            model: "".into(),
            stream: false,
            max_output: None,
            prompt: 0,
            include_usage: false,
            edit: None,
        }
    }

    /// The name of the model; empty where there is none. Forgeable: no label for a metric.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Whether the answer is to be streamed.
    pub fn is_stream(&self) -> bool {
        self.stream
    }

    /// The most tokens that all choices of the answer together may have; `None` where the request does not say.
    pub fn max_output(&self) -> Option<u64> {
        self.max_output
    }

    /// About how many tokens the prompt has.
    pub fn prompt(&self) -> u64 {
        self.prompt
    }

    /// Whether the stream's last chunk reports usage because the client asked for it.
    pub fn includes_usage(&self) -> bool {
        self.include_usage
    }

    /// The body with `stream_options.include_usage` set, and every other byte as it was; `None` where there is nothing to set: the
    /// answer is not streamed, reports usage anyway, or the body cannot be read. Where it is set here,
    /// [`Kind::UsageOnly`](super::Kind::UsageOnly) is to be kept from the client.
    pub fn including_usage(&self, body: &[u8]) -> Option<Bytes> {
        let _ = (body, self.edit);
        None
    }
}
