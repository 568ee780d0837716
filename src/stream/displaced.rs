use std::{iter::Chain, option, vec};

/// What a send pushed out of the stream: nothing, as a rule.
///
/// Under `DropOldest` it is the item that had waited longest, or several where one heavy item takes the place of many
/// light ones; under `DropNewest` the item that was to be sent. They have been counted as dropped.
///
/// ```
/// use tower_backpressure::{BackpressureController, BackpressureStrategy};
///
/// let controller = BackpressureController::new(2, BackpressureStrategy::DropOldest);
/// let stream = controller.create_stream();
/// let sender = stream.sender();
/// assert!(sender.try_send("a")?.is_empty());
/// assert!(sender.try_send("b")?.is_empty());
/// for old in sender.try_send("c")? {
///     assert_eq!(old, "a");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displaced<T>(Inner<T>);

/// The usual cases allocate nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Inner<T> {
    None,
    One(T),
    Many(Vec<T>),
}

impl<T> Displaced<T> {
    /// Whether nothing was pushed out.
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Inner::None)
    }

    /// How many items were pushed out.
    pub fn len(&self) -> usize {
        match &self.0 {
            Inner::None => 0,
            Inner::One(_) => 1,
            Inner::Many(items) => items.len(),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, item: T) {
        match &mut self.0 {
            Inner::None => self.0 = Inner::One(item),
            Inner::Many(items) => items.push(item),
            Inner::One(_) => {
                if let Inner::One(first) = std::mem::replace(&mut self.0, Inner::None) {
                    self.0 = Inner::Many(vec![first, item]);
                }
            }
        }
    }
}

/// Nothing.
impl<T> Default for Displaced<T> {
    fn default() -> Self {
        Self(Inner::None)
    }
}

impl<T> From<Option<T>> for Displaced<T> {
    #[inline]
    fn from(item: Option<T>) -> Self {
        Self(item.map_or(Inner::None, Inner::One))
    }
}

/// Oldest first.
impl<T> IntoIterator for Displaced<T> {
    type Item = T;
    type IntoIter = Chain<option::IntoIter<T>, vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self.0 {
            Inner::None => (None, Vec::new()),
            Inner::One(item) => (Some(item), Vec::new()),
            Inner::Many(items) => (None, items),
        };
        one.into_iter().chain(many)
    }
}
