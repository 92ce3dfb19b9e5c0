//! Names: how the ledger writes down what is to be found again.
//!
//! They are JSON and are read back by serde_json (`suspect`). One is made for each row and each item of a
//! table, so they are written by hand.

/// A place as it is written: type and text of each part.
pub(crate) type Borrowed<'a> = ((char, &'a str), Option<(char, &'a str)>);

/// Returns the name of a subject by its key and its place, as far as it has them.
pub(crate) fn written(key: Option<&[String]>, place: Option<Borrowed<'_>>) -> Vec<u8> {
    let parts = place.map(|(partition, sort)| [Some(partition), sort]);
    let text_bytes = key.into_iter().flatten().map(String::len).sum::<usize>()
        + parts.into_iter().flatten().flatten().map(|(_, text)| text.len()).sum::<usize>();
    // The 48 bytes stand around three texts of a key and two of a place.
    let mut out = Vec::with_capacity(text_bytes + 48);
    out.extend_from_slice(br#"{"k":"#);
    match key {
        Some(key) => list(&mut out, key.iter(), |out, text| string(out, text)),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","p":"#);
    match parts {
        Some(parts) => list(&mut out, parts.into_iter(), |out, part| match part {
            Some((kind, text)) => {
                let mut utf8 = [0; 4];
                list(out, [&*kind.encode_utf8(&mut utf8), text].into_iter(), string);
            }
            None => out.extend_from_slice(b"null"),
        }),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    out
}

fn list<T>(out: &mut Vec<u8>, parts: impl Iterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (number, part) in parts.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        write(out, part);
    }
    out.push(b']');
}

fn string(out: &mut Vec<u8>, text: &str) {
    // All of them are looked at, without a way out in between, so that many are looked at in one step.
    let has_escapes =
        text.bytes().fold(false, |has, byte| has | (byte < 0x20) | (byte == b'"') | (byte == b'\\'));
    if has_escapes {
        return serde_json::to_writer(out, text).expect("strings are JSON");
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use serde::Serialize;

    use super::*;

    /// A name as serde_json writes it.
    #[derive(Serialize)]
    struct Derived<'a> {
        #[serde(rename = "k")]
        key: Option<&'a [String]>,
        #[serde(rename = "p")]
        place: Option<Borrowed<'a>>,
    }

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z#0-9]{0,12}", "\\PC{0,8}", vec(any::<char>(), 0..6).prop_map(String::from_iter)]
    }

    fn any_part() -> impl Strategy<Value = (char, String)> {
        (prop::sample::select(vec!['S', 'N', '?']), any_text())
    }

    proptest! {
        #[test]
        fn a_name_is_what_serde_json_would_write(
            key in option::of(vec(any_text(), 0..4)), place in option::of((any_part(), option::of(any_part()))),
        ) {
            fn part((kind, text): &(char, String)) -> (char, &str) {
                (*kind, text)
            }
            let place = place.as_ref().map(|(partition, sort)| (part(partition), sort.as_ref().map(part)));
            let derived = serde_json::to_vec(&Derived { key: key.as_deref(), place }).expect("strings are JSON");
            prop_assert_eq!(String::from_utf8(written(key.as_deref(), place)), String::from_utf8(derived));
        }
    }
}
