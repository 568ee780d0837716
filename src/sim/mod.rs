//! Overload, in virtual time: what a limit does to a service, in milliseconds and without a service.
//!
//! A limit cannot be judged by its unit tests. What it is worth shows when callers keep coming, leave, and come back,
//! and when the service behind it gets slower or loses half of its machines; and there it has to be compared with what
//! would have been possible. In real time that takes hours and gives other numbers each time.
//!
//! This simulator runs the crate's own admission code and any [`Limit`](crate::limit::Limit) against callers and
//! backends that are drawn from a seed: the same seed gives the same numbers, always.
//!
//! ```
//! use std::time::Duration;
//! use tower_backpressure::{
//!     limit::{Aimd, Fixed},
//!     sim::{Backend, Callers, Scenario, Work},
//! };
//!
//! // 20 workers, 20 ms each; a minute at twice what they can do. Callers leave after 200 ms.
//! let backend = Backend::workers(20, Duration::from_millis(20)).work(Work::Exponential);
//! let scenario = Scenario::new("twice the load", backend)
//!     .callers(Callers::patient(Duration::from_millis(200)))
//!     .seconds(60, 2.0);
//!
//! let found = scenario.run(Box::new(Aimd::default()), 1);
//! let unlimited = scenario.run(Box::new(Fixed::new(1_000_000)), 1);
//! assert!(found.phases[0].served > 50 * unlimited.phases[0].served);
//! ```
//!
//! [`table`] has the scenarios by which the limits of this crate were made, [`invented`] those by which they were
//! judged, and [`stories`] single events that are worth a look each.

mod dist;
pub mod invented;
mod report;
mod run;
mod scenario;
mod server;
pub mod stories;
pub mod table;

pub use self::{
    dist::{Arrivals, Work},
    report::{Histogram, Point, Report, Tally},
    scenario::{Backend, Callers, Phase, Scenario},
};
