//! Looks at single members of a JSON document where they stand, without making a tree of it: each level that is looked into is
//! read once more, nothing is kept, and what is not looked into may be nested as deep as it likes.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Shows the members of an object in order, those that come twice as well. Whether it is one, and whole.
pub(super) fn members<'a>(json: &'a str, each: impl FnMut(&str, &'a str)) -> bool {
    members_if(json, |_| true, each)
}

/// As [`members`], of those with one of these names. The others cost much less.
pub(super) fn members_of<'a>(
    json: &'a str,
    names: &[&str],
    each: impl FnMut(&str, &'a str),
) -> bool {
    members_if(json, |name| names.contains(&name), each)
}

fn members_if<'a>(
    json: &'a str,
    wanted: impl Fn(&str) -> bool,
    each: impl FnMut(&str, &'a str),
) -> bool {
    // An error is dear to make, and `null` in place of an object no rarity.
    if !json.trim_start().starts_with('{') {
        return false;
    }
    let mut json = serde_json::Deserializer::from_str(json);
    json.deserialize_map(Members { wanted, each }).is_ok() && json.end().is_ok()
}

/// Shows the elements of an array in order. Whether it is one, and whole.
pub(super) fn elements<'a>(json: &'a str, each: impl FnMut(&'a str)) -> bool {
    let mut json = serde_json::Deserializer::from_str(json);
    json.deserialize_seq(Elements(each)).is_ok() && json.end().is_ok()
}

/// A string, if it is one of no more than `longest` bytes.
pub(super) fn string(json: &str, longest: usize) -> Option<Cow<'_, str>> {
    // A letter takes six bytes if it is escaped.
    if json.len() > longest.saturating_mul(6).saturating_add(2) {
        return None;
    }
    let text: Text = serde_json::from_str(json).ok()?;
    (text.0.len() <= longest).then_some(text.0)
}

/// A number of things, if it is one. What is too large becomes the most there is.
pub(super) fn count(json: &str) -> Option<u64> {
    if let Ok(count) = json.parse() {
        return Some(count);
    }
    let number: f64 = serde_json::from_str(json).ok()?;
    (number >= 0.0).then_some(number as u64)
}

/// `text` as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

struct Members<W, F> {
    wanted: W,
    each: F,
}

impl<'de, W, F> Visitor<'de> for Members<W, F>
where
    W: Fn(&str) -> bool,
    F: FnMut(&str, &'de str),
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            if (self.wanted)(&name) {
                let value: &RawValue = map.next_value()?;
                (self.each)(&name, value.get());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Elements<F>(F);

impl<'de, F: FnMut(&'de str)> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<&RawValue>()? {
            (self.0)(value.get());
        }
        Ok(())
    }
}

/// Borrowed unless something in it is escaped.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> (Vec<(String, String)>, bool) {
        let mut shown = Vec::new();
        let whole = members(json, |name, value| {
            shown.push((name.to_owned(), value.to_owned()));
        });
        (shown, whole)
    }

    #[test]
    fn members_are_shown_as_they_stand_and_as_often_as_they_come() {
        let (shown, whole) = shown(r#" {"a" : 1.50 ,"\u0062":{ "c":[]},"a":null} "#);
        let expected = [("a", "1.50"), ("b", r#"{ "c":[]}"#), ("a", "null")];
        assert!(whole);
        assert_eq!(shown, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn members_may_be_chosen_by_name() {
        let mut shown = Vec::new();
        let json = r#"{"a":[1,{"b":0}],"b":2,"c":"x","b":3}"#;
        assert!(members_of(json, &["b", "d"], |_, value| shown.push(value)));
        assert_eq!(shown, ["2", "3"]);
        assert!(!members_of(r#"{"a":tru}"#, &["b"], |_, _| {}));
    }

    #[test]
    fn what_stands_before_a_fault_is_shown() {
        for broken in [r#"{"a":1,"b""#, r#"{"a":1} x"#, r#"{"a":1,"b":tru}"#] {
            let (shown, whole) = shown(broken);
            assert!(!whole, "{broken}");
            assert_eq!(shown.len(), 1, "{broken}");
        }
        for other in ["", "[1]", "\"a\"", "null", "nul"] {
            assert_eq!(shown(other), (vec![], false), "{other}");
        }
    }

    #[test]
    fn what_is_not_looked_into_may_be_nested_without_end() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        let json = format!(r#"{{"deep":{deep},"after":1}}"#);
        let (shown, whole) = shown(&json);
        assert!(whole);
        assert_eq!(shown[1], ("after".to_owned(), "1".to_owned()));
    }

    #[test]
    fn counts_are_whole_and_have_an_end() {
        let table = [
            ("7", Some(7)),
            ("7.9", Some(7)),
            ("1e3", Some(1000)),
            ("18446744073709551616", Some(u64::MAX)),
            ("1e400", None),
            ("-1", None),
            ("\"7\"", None),
            ("null", None),
        ];
        for (json, expected) in table {
            assert_eq!(count(json), expected, "{json}");
        }
    }

    #[test]
    fn a_string_is_read_up_to_its_longest() {
        assert_eq!(string(r#""gpt""#, 3).as_deref(), Some("gpt"));
        assert_eq!(string(r#""\u00e9""#, 2).as_deref(), Some("é"));
        assert_eq!(string(r#""gpt4""#, 3), None);
        assert_eq!(string(r#""\ud800""#, 9), None);
        assert_eq!(string("3", 9), None);
    }
}
