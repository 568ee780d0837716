//! The heads of messages, as closures are shown them. The message stays where it is, since it is large to move.

use std::mem::swap;

use http::{Request, Response, request, response};

/// Shows the head of a request as it is when it has been taken apart.
pub(super) fn of_request<B, R>(
    request: &mut Request<B>,
    f: impl FnOnce(&request::Parts) -> R,
) -> R {
    let (mut head, ()) = Request::new(()).into_parts();
    head.version = request.version();
    let exchange = |head: &mut request::Parts, request: &mut Request<B>| {
        swap(&mut head.method, request.method_mut());
        swap(&mut head.uri, request.uri_mut());
        swap(&mut head.headers, request.headers_mut());
        swap(&mut head.extensions, request.extensions_mut());
    };
    exchange(&mut head, request);
    let result = f(&head);
    exchange(&mut head, request);
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
    let exchange = |head: &mut response::Parts, response: &mut Response<B>| {
        swap(&mut head.headers, response.headers_mut());
        swap(&mut head.extensions, response.extensions_mut());
    };
    exchange(&mut head, response);
    let result = f(&head);
    exchange(&mut head, response);
    result
}
