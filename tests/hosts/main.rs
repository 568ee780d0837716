//! The layer under axum and tonic, over real connections on loopback.
#![cfg(feature = "http")]

mod axum;
mod support;
mod tonic;
