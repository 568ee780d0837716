//! The heads of messages, as closures are shown them. The message stays where it is, since it is large to move.

use std::mem;

use http::{Request, Response, request, response};

/// Shows the head of a request as it is when it has been taken apart.
pub(super) fn of_request<B, R>(
    request: &mut Request<B>,
    f: impl FnOnce(&request::Parts) -> R,
) -> R {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = mem::take(request.method_mut());
    head.uri = mem::take(request.uri_mut());
    head.version = request.version();
    head.headers = mem::take(request.headers_mut());
    head.extensions = mem::take(request.extensions_mut());
    let result = f(&head);
    *request.method_mut() = head.method;
    *request.uri_mut() = head.uri;
    *request.headers_mut() = head.headers;
    *request.extensions_mut() = head.extensions;
    result
}

/// Likewise of a response.
pub(super) fn of_response<B, R>(
    response: &mut Response<B>,
    f: impl FnOnce(&response::Parts) -> R,
) -> R {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = response.status();
    head.version = response.version();
    head.headers = mem::take(response.headers_mut());
    head.extensions = mem::take(response.extensions_mut());
    let result = f(&head);
    *response.headers_mut() = head.headers;
    *response.extensions_mut() = head.extensions;
    result
}
