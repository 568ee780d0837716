//! Whether a client would rather read text than JSON (RFC 9110, section 12.5.1, as far as that question goes).

use http::{HeaderValue, header::GetAll};

/// How much of `Accept` is read, in bytes over all its lines. Browsers send some 150; beyond this a client only makes its
/// refusal costly.
const READ: usize = 1024;

/// JSON unless the `Accept` header prefers `text/plain` or `text/html`, as a browser's does. On equal terms the one
/// named first wins; what cannot be read, or stands beyond the first kilobyte, is passed over.
pub(super) fn prefers_text(accept: GetAll<'_, HeaderValue>) -> bool {
    let mut best = (0.0, false);
    let mut left = READ;
    for value in accept {
        let line = beginning(value.as_bytes(), left);
        for (text, quality) in line.split(|byte| *byte == b',').filter_map(preference) {
            if quality > best.0 {
                best = (quality, text);
            }
        }
        // A line costs something even if it is empty.
        left = left.saturating_sub(value.len() + 1);
        if left == 0 {
            break;
        }
    }
    best.1
}

/// As many whole ranges as `left` bytes have room for: one that is cut might say what was not meant.
fn beginning(line: &[u8], left: usize) -> &[u8] {
    if line.len() <= left {
        return line;
    }
    let whole = line[..left].iter().rposition(|byte| *byte == b',');
    &line[..whole.unwrap_or(0)]
}

/// Whether a media range means text rather than JSON, and how much it is wanted, from 0 to 1. `None` where it means
/// neither.
fn preference(range: &[u8]) -> Option<(bool, f32)> {
    let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let kind = parts.next()?;
    let is = |name: &&str| kind.eq_ignore_ascii_case(name.as_bytes());
    let text = if ["text/plain", "text/html", "text/*"].iter().any(is) {
        true
    } else if ["application/json", "application/*", "*/*"].iter().any(is) || is_json(kind) {
        false
    } else {
        return None;
    };
    let quality = parts
        .find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")))
        .map_or(Some(1.0), |q| std::str::from_utf8(q).ok()?.parse().ok())?;
    (0.0..=1.0).contains(&quality).then_some((text, quality))
}

/// Whether it is a dialect of JSON, such as `application/problem+json`.
fn is_json(kind: &[u8]) -> bool {
    kind.len()
        .checked_sub(5)
        .is_some_and(|at| kind[at..].eq_ignore_ascii_case(b"+json"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header::ACCEPT};

    use super::*;

    fn text(accept: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        prefers_text(headers.get_all(ACCEPT))
    }

    #[test]
    fn json_unless_text_is_preferred() {
        assert!(!text(&[]));
        assert!(!text(&["*/*"]));
        assert!(!text(&["application/json, text/plain"]));
        assert!(!text(&["text/plain;q=0.5, application/problem+json"]));
        assert!(text(&[
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
        ]));
        assert!(text(&["application/json;q=0.2", "TEXT/PLAIN; q=0.7"]));
    }

    #[test]
    fn nonsense_is_passed_over() {
        assert!(!text(&["text/plain;q=much"]));
        assert!(!text(&["text/plain;q=0", ";;;,,,", "q=1"]));
        assert!(!text(&["text/plain;q=NaN"]));
        assert!(text(&[";;;", "text/plain"]));
    }
}
