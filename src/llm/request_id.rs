use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

const NAMES: [HeaderName; 2] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("request-id"),
];
const LONGEST: usize = 128;

/// The name of one request, by which a client and an operator speak of the same thing. OpenAI's SDKs read it in `x-request-id`,
/// Anthropic's in `request-id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The one the request came with, in either header, if it is up to 128 letters, digits and `-_.:`; else a new one at random,
    /// such as `req_5c0de7f1a2b3c4d5e6f70819`.
    pub fn of(headers: &HeaderMap) -> Self {
        let sane = NAMES
            .iter()
            .filter_map(|name| headers.get(name))
            .find(|id| is_sane(id));
        sane.map_or_else(Self::random, |id| Self(id.clone()))
    }

    /// Puts it into both headers, unless one is there.
    pub fn put(&self, headers: &mut HeaderMap) {
        for name in NAMES {
            headers.entry(name).or_insert_with(|| self.0.clone());
        }
    }

    /// As text, which needs no escaping in JSON.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    fn random() -> Self {
        let id = format!("req_{:016x}{:08x}", fastrand::u64(..), fastrand::u32(..));
        Self(HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("req_")))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_sane(id: &HeaderValue) -> bool {
    let id = id.as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    (1..=LONGEST).contains(&id.len()) && id.iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(headers: &[(&'static str, &[u8])]) -> RequestId {
        let headers = headers.iter().map(|(name, value)| {
            let value = HeaderValue::from_bytes(value).unwrap();
            (HeaderName::from_static(name), value)
        });
        RequestId::of(&headers.collect())
    }

    #[test]
    fn a_sane_id_is_taken_over() {
        let long = [b'a'; 128];
        for sane in [
            &b"req_011CSHoEeqs5C35K2UUqR7Fy"[..],
            b"a",
            b"1-2:3.4_5",
            &long,
        ] {
            assert_eq!(id(&[("x-request-id", sane)]).as_str().as_bytes(), sane);
            assert_eq!(id(&[("request-id", sane)]).as_str().as_bytes(), sane);
        }
        assert_eq!(
            id(&[("x-request-id", b"\"evil"), ("request-id", b"fine")]).as_str(),
            "fine"
        );
    }

    #[test]
    fn for_any_other_a_new_one_is_made() {
        let long = [b'a'; 129];
        for other in [&b""[..], b" ", b"a b", b"\"", b"<script>", b"\xff", &long] {
            let made = id(&[("x-request-id", other)]);
            let made = made.as_str();
            assert!(made.starts_with("req_") && made.len() == 28, "{made}");
        }
        assert_ne!(id(&[]), id(&[]));
    }

    #[test]
    fn it_is_put_into_both_headers_unless_one_is_there() {
        let mut headers = HeaderMap::new();
        headers.insert("request-id", HeaderValue::from_static("upstream"));
        id(&[("x-request-id", b"mine")]).put(&mut headers);
        assert_eq!(headers["x-request-id"], "mine");
        assert_eq!(headers["request-id"], "upstream");
    }
}
