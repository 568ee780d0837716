//! The layer over plain services and over bodies, without a server.

mod adaptive;
mod block;
mod body;
mod contract;
mod drain;
mod drop;
mod refusal;
mod shadow;
mod support;
