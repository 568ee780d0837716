//! Passes requests on to the upstream, and its answers back as they come. No task stands in between: when the client leaves, the
//! answer's body is dropped, and with it the upstream's connection.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, Request, StatusCode, Uri, header, request, uri::PathAndQuery};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower_backpressure::llm::{Dialect, RequestId};

/// What concerns one connection alone (RFC 9110, section 7.6.1), and the name of the host, which is another one behind us.
const OF_ONE_CONNECTION: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
];

#[derive(Clone, Debug)]
pub struct Upstream {
    client: Client<HttpConnector, Body>,
    base: Uri,
}

impl Upstream {
    /// `base` is a scheme and an authority, and perhaps a path that comes before all others.
    pub fn new(base: Uri) -> Result<Self, String> {
        match base.scheme_str() {
            Some("http") if base.authority().is_some() => {}
            Some("https") => {
                return Err(format!(
                    "the upstream {base} wants TLS, which this example leaves out; put a proxy that speaks it in between, or a connector that does into forward.rs"
                ));
            }
            _ => {
                return Err(format!(
                    "the upstream {base} is not like http://127.0.0.1:8000"
                ));
            }
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .build(connector);
        Ok(Self { client, base })
    }

    pub async fn pass(self, request: Request<Body>) -> Response {
        let (mut head, body) = request.into_parts();
        let (dialect, id) = (Dialect::of(&head), RequestId::of(&head.headers));
        let failed = |status, message: &str| dialect.error(status, message, &id).map(Body::from);
        let Some(uri) = self.uri(&head) else {
            return failed(StatusCode::BAD_REQUEST, "the path is none");
        };
        strip(&mut head.headers);
        let mut passed = Request::new(body);
        *passed.method_mut() = head.method;
        *passed.uri_mut() = uri;
        *passed.headers_mut() = head.headers;
        match self.client.request(passed).await {
            Ok(mut response) => {
                strip(response.headers_mut());
                id.put(response.headers_mut());
                response.map(Body::new).into_response()
            }
            Err(error) => failed(
                StatusCode::BAD_GATEWAY,
                &format!("the upstream cannot be reached: {error}"),
            ),
        }
    }

    fn uri(&self, head: &request::Parts) -> Option<Uri> {
        let before = self.base.path().trim_end_matches('/');
        let asked = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut parts = self.base.clone().into_parts();
        parts.path_and_query = Some(format!("{before}{asked}").parse().ok()?);
        Uri::from_parts(parts).ok()
    }
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<_> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|names| names.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in OF_ONE_CONNECTION.iter().chain(&named) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_connection_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("host", "a"),
            ("authorization", "b"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        strip(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), [&header::AUTHORIZATION]);
    }

    #[test]
    fn the_path_of_the_upstream_comes_first() {
        let upstream = Upstream::new(Uri::from_static("http://host:1/openai/")).unwrap();
        let (head, ()) = Request::get("/v1/models?limit=1")
            .body(())
            .unwrap()
            .into_parts();
        assert_eq!(
            upstream.uri(&head).unwrap(),
            "http://host:1/openai/v1/models?limit=1"
        );
    }

    #[test]
    fn an_upstream_is_told_with_its_scheme() {
        for wrong in ["localhost:8000", "/v1", "https://api.openai.com"] {
            assert!(Upstream::new(wrong.parse().unwrap()).is_err(), "{wrong}");
        }
    }
}
