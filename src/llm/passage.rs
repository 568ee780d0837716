//! Lets the bytes of a stream pass event by event.

use std::{borrow::Cow, collections::VecDeque, mem};

use bytes::Bytes;

use super::{Dialect, Kind, Meaning, event::text, pattern::Pattern, sse::Reader};

/// How much of an event is held until its end has come. The rest of one that is longer passes as it comes.
const HELD: usize = 64 * 1024;

/// Reads a stream on its way. Bytes go out as they came in, but for an event that is to be hidden; each event goes out when its
/// end has come, so that another could follow it at any time.
#[derive(Debug)]
pub(super) struct Passage {
    dialect: Dialect,
    reader: Reader,
    pattern: Pattern,
    hides_usage: bool,
    /// The beginning of an event.
    held: Vec<Bytes>,
    held_bytes: usize,
    /// Its beginning was let out already.
    torn: bool,
    /// An event ended with CR at the end of a chunk, and whether it was hidden: LF, if it comes next, goes the same way.
    after_cr: Option<bool>,
}

impl Passage {
    pub(super) fn new(dialect: Dialect, hides_usage: bool) -> Self {
        Self {
            dialect,
            reader: Reader::new(),
            pattern: Pattern::default(),
            hides_usage,
            held: Vec::new(),
            held_bytes: 0,
            torn: false,
            after_cr: None,
        }
    }

    /// Reads a chunk: what each event in it means, and what goes out.
    pub(super) fn read(
        &mut self,
        chunk: Bytes,
        out: &mut VecDeque<Bytes>,
        mut meaning: impl FnMut(Meaning),
    ) {
        // Where what goes out begins, where the event begins, and where it is read on.
        let (mut from, mut begins, mut at) = (0, 0, 0);
        if let (Some(hidden), b'\n') = (self.after_cr, chunk.first().copied().unwrap_or_default()) {
            begins = 1;
            from = usize::from(hidden);
        }
        if !chunk.is_empty() {
            self.after_cr = None;
        }
        while at < chunk.len() {
            let Some((used, means)) = self.read_event(&chunk[at..]) else {
                break;
            };
            at += used;
            let hidden = self.hides_usage && !self.torn && means.kind == Kind::UsageOnly;
            meaning(means);
            self.torn = false;
            let held = mem::take(&mut self.held);
            self.held_bytes = 0;
            if hidden {
                if begins > from {
                    out.push_back(chunk.slice(from..begins));
                }
                from = at;
            } else {
                out.extend(held);
            }
            begins = at;
            let ends_with_cr = at == chunk.len() && chunk[at - 1] == b'\r';
            self.after_cr = ends_with_cr.then_some(hidden);
        }
        if begins < chunk.len() {
            if begins > from {
                out.push_back(chunk.slice(from..begins));
            }
            self.hold(chunk.slice(begins..), out);
        } else if from == 0 && begins > 0 {
            out.push_back(chunk);
        } else if begins > from {
            out.push_back(chunk.slice(from..));
        }
    }

    /// Reads to the end of the next event: how far that is, and what it means.
    fn read_event(&mut self, rest: &[u8]) -> Option<(usize, Meaning)> {
        let whole = self.reader.is_at_beginning();
        if whole {
            if let Some((used, glance)) = self.pattern.fits(rest) {
                return Some((used, glance.into()));
            }
        }
        let read = self.reader.read(rest);
        let event = read.event?;
        let data = text(event.data());
        let glance = self.dialect.glance(&data);
        if let (true, Cow::Borrowed(_), Some(glance)) = (whole, &data, &glance) {
            self.pattern.learn(&rest[..read.used], event.data(), glance);
        }
        let means = match glance {
            Some(glance) => glance.into(),
            None => self.dialect.study(&data, event.name()),
        };
        Some((read.used, means))
    }

    /// The stream has ended: what its last event means, if that had no end, and what was held goes out.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Bytes>, mut meaning: impl FnMut(Meaning)) {
        if let Some(event) = self.reader.finish() {
            let means = self.dialect.read(&event);
            let hidden = self.hides_usage && !self.torn && means.kind == Kind::UsageOnly;
            meaning(means);
            if hidden {
                self.held.clear();
            }
        }
        out.extend(self.held.drain(..));
        self.held_bytes = 0;
    }

    /// Nothing more is read: what was held is forgotten. Whether half of an event is out.
    pub(super) fn stop(&mut self) -> bool {
        self.held.clear();
        self.torn
    }

    fn hold(&mut self, bytes: Bytes, out: &mut VecDeque<Bytes>) {
        self.held_bytes += bytes.len();
        self.held.push(bytes);
        if self.torn || self.held_bytes > HELD {
            self.torn = true;
            out.extend(self.held.drain(..));
            self.held_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECES: [&str; 24] = [
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n",
        "data: [DONE]\r\n\r\n",
        ": alive\n\n",
        "\n",
        "\r",
        "data: {\"cho",
        "event: odd\n",
        "\u{feff}",
        "what is this",
        "data:\n\n",
        "\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"umbrella\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"\\n\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"é\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"data:;base64,x\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\r\r",
        "data: {\"choices\":[{\"delta\":{\"content\":\"c\"}}]}\ndata: 1\n\n",
        "id: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
        "event: error\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"role\":\"a\",\"content\":\"b\"}}]}\n\n",
        "data:{\"choices\":[{\"delta\":{\"content\":\"a\"},\"x\":0}]}\n\n",
    ];

    const OF_ANTHROPIC: [&str; 5] = [
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"a\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"umbrella\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"signature\":\"a\"}}\n\n",
        "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":7}}\n\n",
    ];

    /// Whatever comes, in chunks that end anywhere.
    fn pass(passage: &mut Passage, random: &mut fastrand::Rng, text: &[u8]) -> Vec<u8> {
        let (mut out, mut rest) = (VecDeque::new(), text);
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(random.usize(1..=rest.len().min(40)));
            passage.read(Bytes::copy_from_slice(chunk), &mut out, |_| ());
            rest = after;
        }
        passage.finish(&mut out, |_| ());
        out.into_iter().flatten().collect()
    }

    #[test]
    fn not_a_byte_is_lost_or_out_of_order_whatever_comes() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..5000 {
            let pieces = (0..random.usize(..30)).map(|_| PIECES[random.usize(..PIECES.len())]);
            let text: String = pieces.collect();
            let mut passage = Passage::new(Dialect::OpenAi, false);
            let passed = pass(&mut passage, &mut random, text.as_bytes());
            assert_eq!(String::from_utf8_lossy(&passed), text);
            assert_eq!(passage.held_bytes, 0);
        }
    }

    #[test]
    fn an_event_that_is_like_the_last_one_means_what_it_would_by_itself() {
        let dialects = [
            (Dialect::OpenAi, &PIECES[..], [0, 12]),
            (Dialect::Anthropic, &OF_ANTHROPIC[..], [0, 1]),
        ];
        for (dialect, all, ordinary) in dialects {
            let mut random = fastrand::Rng::with_seed(9);
            let (mut events, mut alike) = (0, 0);
            for _ in 0..10_000 {
                let pieces: Vec<_> = (0..random.usize(..30))
                    .map(|_| match random.u8(..3) {
                        0 => all[random.usize(..all.len())],
                        _ => all[ordinary[random.usize(..2)]],
                    })
                    .collect();
                let mut text = pieces.concat().into_bytes();
                if random.bool() && !text.is_empty() {
                    let at = random.usize(..text.len());
                    text[at] = random.u8(..);
                }
                let mut passage = Passage::new(dialect, false);
                let mut reader = Reader::new();
                let (mut one, mut other) = (Vec::new(), Vec::new());
                let mut rest = &text[..];
                while !rest.is_empty() {
                    let (chunk, after) = rest.split_at(random.usize(1..=rest.len().min(400)));
                    let known = Bytes::copy_from_slice(chunk);
                    passage.read(known, &mut VecDeque::new(), |meaning| one.push(meaning));
                    let mut at = 0;
                    while at < chunk.len() {
                        let read = reader.read(&chunk[at..]);
                        at += read.used;
                        other.extend(read.event.map(|event| dialect.read(&event)));
                    }
                    alike += usize::from(passage.pattern.fits(after).is_some());
                    rest = after;
                }
                assert_eq!(one, other, "{}", String::from_utf8_lossy(&text));
                events += one.len();
            }
            assert!(
                events > 50_000 && alike > 250,
                "{dialect:?}: {events}, {alike}"
            );
        }
    }

    #[test]
    fn what_is_hidden_is_whole_events_and_always_the_same_wherever_chunks_end() {
        let mut random = fastrand::Rng::with_seed(8);
        for _ in 0..2000 {
            let pieces = (0..random.usize(..30)).map(|_| PIECES[random.usize(..4)]);
            let text: String = pieces.collect();
            let mut passage = Passage::new(Dialect::OpenAi, true);
            let passed = pass(&mut passage, &mut random, text.as_bytes());
            let expected = text.replace(PIECES[1], "");
            assert_eq!(String::from_utf8_lossy(&passed), expected);
        }
    }

    #[test]
    fn no_more_is_held_than_an_event_may_have() {
        let mut passage = Passage::new(Dialect::OpenAi, true);
        let chunk = Bytes::from(vec![b'x'; 1000]);
        let (mut out, mut passed) = (VecDeque::new(), 0);
        for read in 1..=10_000 {
            passage.read(chunk.clone(), &mut out, |_| ());
            passed += out.drain(..).map(|bytes| bytes.len()).sum::<usize>();
            assert!(read * 1000 - passed <= HELD);
        }
        assert!(passage.stop(), "half of it is out");
    }
}
