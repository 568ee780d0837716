use std::{error, fmt};

/// A setting that cannot work: which one, the value it was given, and what would be right.
///
/// ```
/// use tower_backpressure::BackpressureLayer;
///
/// let error = BackpressureLayer::try_block(0).unwrap_err();
/// assert_eq!(error.to_string(), "limit is 0, but must be at least 1");
/// assert_eq!(error.field(), "limit");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    field: &'static str,
    value: String,
    expected: String,
}

impl ConfigError {
    /// `field` has `value`, but must be `expected`. For [`Limit::validate`](crate::limit::Limit::validate).
    pub fn new(field: &'static str, value: impl fmt::Display, expected: impl fmt::Display) -> Self {
        Self {
            field,
            value: value.to_string(),
            expected: expected.to_string(),
        }
    }

    /// The name of the setting.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The value that was refused.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            value,
            expected,
        } = self;
        write!(f, "{field} is {value}, but must be {expected}")
    }
}

impl error::Error for ConfigError {}

pub(crate) fn at_least_one<N>(field: &'static str, value: N) -> Result<N, ConfigError>
where
    N: From<u8> + PartialEq + fmt::Display,
{
    if value == N::from(0) {
        return Err(ConfigError::new(field, 0, "at least 1"));
    }
    Ok(value)
}

/// What a constructor gives when the settings are right; when they are not, it panics at its caller.
#[track_caller]
pub(crate) fn built<T>(result: Result<T, ConfigError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
