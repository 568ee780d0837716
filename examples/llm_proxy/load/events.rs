//! What a client makes of a stream of events, as an SDK would. Apart from what the proxy uses, so that neither hides a mistake of
//! the other.

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many more tokens. This engine sends one with each event.
    Token,
    /// Prompt and answer, in tokens; Anthropic says the one first and the other last.
    Usage(Option<u64>, Option<u64>),
    Error,
    /// The answer is complete.
    End,
    Other,
}

/// Splits what comes into events, wherever it was cut.
#[derive(Debug, Default)]
pub struct Events {
    buffer: Vec<u8>,
}

impl Events {
    pub fn push(&mut self, piece: &[u8]) -> Vec<Event> {
        self.buffer.extend_from_slice(piece);
        let mut events = Vec::new();
        let mut rest = 0;
        while let Some(length) = self.buffer[rest..]
            .windows(2)
            .position(|two| two == b"\n\n")
        {
            event(&self.buffer[rest..rest + length], &mut events);
            rest += length + 2;
        }
        self.buffer.drain(..rest);
        events
    }
}

fn event(text: &[u8], events: &mut Vec<Event>) {
    for line in text.split(|byte| *byte == b'\n') {
        let Some(data) = line.strip_prefix(b"data:") else {
            continue;
        };
        if data.trim_ascii() == b"[DONE]" {
            events.push(Event::End);
        } else if let Ok(data) = serde_json::from_slice::<Value>(data) {
            read(&data, events);
        }
    }
}

fn read(data: &Value, events: &mut Vec<Event>) {
    let before = events.len();
    if !data["error"].is_null() {
        events.push(Event::Error);
    }
    let text = data["choices"][0]["delta"]["content"]
        .as_str()
        .or(data["delta"]["text"].as_str());
    if text.is_some_and(|text| !text.is_empty()) {
        events.push(Event::Token);
    }
    for usage in [&data["usage"], &data["message"]["usage"]] {
        let prompt = usage["prompt_tokens"]
            .as_u64()
            .or(usage["input_tokens"].as_u64());
        let answer = usage["completion_tokens"]
            .as_u64()
            .or(usage["output_tokens"].as_u64());
        if prompt.or(answer).is_some() {
            events.push(Event::Usage(prompt, answer));
        }
    }
    if data["type"] == "message_stop" {
        events.push(Event::End);
    }
    if events.len() == before {
        events.push(Event::Other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_wherever_the_stream_is_cut() {
        let stream = concat!(
            ": waiting\n\n",
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"calm\"}}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n",
            "data: [DONE]\n\n",
        );
        let expected = [
            Event::Other,
            Event::Token,
            Event::Usage(Some(3), Some(1)),
            Event::End,
        ];
        for cut in 0..stream.len() {
            let mut events = Events::default();
            let mut all = events.push(&stream.as_bytes()[..cut]);
            all.extend(events.push(&stream.as_bytes()[cut..]));
            assert_eq!(all, expected, "cut at {cut}");
        }
    }

    #[test]
    fn anthropics_events_are_known_too() {
        let stream = concat!(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3}}}\n\n",
            "event: ping\ndata: {\"type\":\"ping\"}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"calm\"}}\n\n",
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        );
        let events = Events::default().push(stream.as_bytes());
        let expected = [
            Event::Usage(Some(3), None),
            Event::Other,
            Event::Token,
            Event::Error,
            Event::End,
        ];
        assert_eq!(events, expected);
    }
}
