use std::{error, fmt};

use crate::Rejected;

/// The error of the plain layer: the gate's refusal, or the error of the service behind it.
///
/// It converts into a boxed error, in which a refusal is found by downcasting to [`Rejected`] and an inner error by
/// downcasting to its own type, as if there were no layer in between:
///
/// ```
/// use tower_backpressure::{Error, Rejected};
///
/// fn is_refusal(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
///     error.is::<Rejected>()
/// }
///
/// let inner: Error<std::io::Error> = Error::Inner(std::io::Error::other("reset"));
/// let boxed: Box<dyn std::error::Error + Send + Sync> = inner.into();
/// assert!(!is_refusal(&*boxed) && boxed.is::<std::io::Error>());
/// ```
///
/// For that conversion it is not itself a [`std::error::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The gate refused the request; the service never saw it.
    Rejected(Rejected),
    /// The service failed.
    Inner(E),
}

impl<E> Error<E> {
    /// The refusal, if it is one.
    pub fn rejected(&self) -> Option<&Rejected> {
        match self {
            Error::Rejected(rejected) => Some(rejected),
            Error::Inner(_) => None,
        }
    }

    /// The service's own error, if it is one.
    pub fn into_inner(self) -> Option<E> {
        match self {
            Error::Rejected(_) => None,
            Error::Inner(error) => Some(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Rejected(rejected) => rejected.fmt(f),
            Error::Inner(error) => error.fmt(f),
        }
    }
}

impl<E> From<Error<E>> for Box<dyn error::Error + Send + Sync>
where
    E: Into<Box<dyn error::Error + Send + Sync>>,
{
    fn from(error: Error<E>) -> Self {
        match error {
            Error::Rejected(rejected) => Box::new(rejected),
            Error::Inner(error) => error.into(),
        }
    }
}
