//! Whether a client would rather read text than JSON (RFC 9110, section 12.5.1, as far as that question goes).

use http::{HeaderValue, header::GetAll};

/// JSON unless the `Accept` header prefers `text/plain` or `text/html`, as a browser's does. On equal terms the one
/// named first wins; what cannot be read is passed over.
pub(super) fn prefers_text(accept: GetAll<'_, HeaderValue>) -> bool {
    let mut best = (0.0, false);
    for value in accept {
        let ranges = value.to_str().unwrap_or_default().split(',');
        for (text, quality) in ranges.filter_map(preference) {
            if quality > best.0 {
                best = (quality, text);
            }
        }
    }
    best.1
}

/// Whether a media range means text rather than JSON, and how much it is wanted. `None` where it means neither.
fn preference(range: &str) -> Option<(bool, f32)> {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next()?.to_ascii_lowercase();
    let text = match kind.as_str() {
        "text/plain" | "text/html" | "text/*" => true,
        "application/json" | "application/*" | "*/*" => false,
        other if other.ends_with("+json") => false,
        _ => return None,
    };
    let quality = parts
        .find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")))
        .map_or(Some(1.0), |q| q.trim().parse().ok())?;
    Some((text, quality))
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
