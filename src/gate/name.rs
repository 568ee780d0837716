use std::{fmt, sync::OnceLock};

/// The name of a gate. One that was not given is found when the gate is put to use, so that gates that are made for keys by the
/// thousand do not use numbers up.
#[derive(Clone)]
pub(crate) struct Name {
    kind: &'static str,
    name: OnceLock<String>,
}

impl Name {
    /// `kind`, and a number if there is one of that name already.
    pub(crate) fn of(kind: &'static str) -> Self {
        let name = OnceLock::new();
        Self { kind, name }
    }

    pub(crate) fn given(name: String) -> Self {
        Self {
            kind: "",
            name: OnceLock::from(name),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.name.get_or_init(|| unique(self.kind))
    }

    /// From now on it has its number.
    pub(crate) fn settle(&self) {
        self.as_str();
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// `name` for the first gate that asks for it, `name-2` for the second: gauges of two gates under one name would
/// overwrite each other.
fn unique(name: &'static str) -> String {
    use std::{
        collections::BTreeMap,
        sync::{Mutex, PoisonError},
    };

    static GIVEN: Mutex<BTreeMap<&str, usize>> = Mutex::new(BTreeMap::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let nth = given.entry(name).or_default();
    *nth += 1;
    match *nth {
        1 => name.to_owned(),
        nth => format!("{name}-{nth}"),
    }
}
