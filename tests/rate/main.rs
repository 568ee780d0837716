//! Rates through the layer, on a paused clock.

mod charge;
mod paced;
mod refused;
mod support;
mod together;
