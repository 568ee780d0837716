//! Lets the bytes of a stream pass event by event.

use std::{collections::VecDeque, mem};

use bytes::Bytes;

use super::{Dialect, Kind, Meaning, sse::Reader};

/// How much of an event is held until its end has come. The rest of one that is longer passes as it comes.
const HELD: usize = 64 * 1024;

/// Reads a stream on its way. Bytes go out as they came in, but for an event that is to be hidden; each event goes out when its end has
/// come, so that another could follow it at any time.
#[derive(Debug)]
pub(super) struct Passage {
    dialect: Dialect,
    reader: Reader,
    hides_usage: bool,
    /// The beginning of an event.
    held: Vec<Bytes>,
    held_bytes: usize,
    /// Its beginning was let out already.
    torn: bool,
}

impl Passage {
    pub(super) fn new(dialect: Dialect, hides_usage: bool) -> Self {
        Self {
            dialect,
            reader: Reader::new(),
            hides_usage,
            held: Vec::new(),
            held_bytes: 0,
            torn: false,
        }
    }

    /// Reads a chunk: what each event in it means, and what goes out.
    pub(super) fn read(
        &mut self,
        chunk: &Bytes,
        out: &mut VecDeque<Bytes>,
        mut meaning: impl FnMut(Meaning),
    ) {
        // Where what goes out begins, where the event begins, and where it is read on.
        let (mut from, mut begins, mut at) = (0, 0, 0);
        while at < chunk.len() {
            let read = self.reader.read(&chunk[at..]);
            at += read.used;
            let Some(event) = read.event else {
                break;
            };
            let means = self.dialect.read(&event);
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
        }
        if begins > from {
            out.push_back(chunk.slice(from..begins));
        }
        if begins < chunk.len() {
            self.hold(chunk.slice(begins..), out);
        }
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
