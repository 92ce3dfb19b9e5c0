//! Strings are what serde_json says they are, or are left to it.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Option<String> {
    let mut cursor = Cursor::new(text);
    let string = cursor.string()?;
    cursor.is_at_end().then(|| string.into_owned())
}

#[track_caller]
fn check(text: &str) {
    assert_eq!(read(text), serde_json::from_str(text).ok(), "{text}");
}

#[test]
fn strings_are_what_serde_json_says_they_are() {
    check(r#" "plain" "#);
    check(r#""""#);
    check(r#""\"\\\/\b\f\n\r\t""#);
    check(r#""\u0000\u00e9\uFFFF""#);
    check(r#""\ud83d\ude00 😀 \uD83D\uDE00""#);
    check("\"a\tb\"");
    check("\"eight by\u{1f}te\"");
    check("\"\u{7f}\u{80}\u{2028}\"");
    for broken in [
        r#""\ud83d""#,
        r#""\ud83d\n""#,
        r#""\ud83d\u0041""#,
        r#""\ud83d\ud83d""#,
        r#""\ude00""#,
        r#""\ude00\ud83d""#,
        r#""\u00g0""#,
        r#""\u00+1""#,
        r#""\u12"#,
        r#""\x""#,
        r#""\"#,
        r#""open"#,
        "\"",
        "",
        "x",
    ] {
        assert_eq!(read(broken), None, "{broken}");
        check(broken);
    }
}

#[test]
fn every_byte_ends_a_run_at_every_place_or_does_not() {
    for byte in 0..0x80_u8 {
        for at in 0..24 {
            let mut bytes = [b'~'; 24];
            bytes[at] = byte;
            let ends = byte < 0x20 || byte == b'"' || byte == b'\\';
            assert_eq!(end_of_run(&bytes, 0), if ends { at } else { 24 }, "{byte} at {at}");
        }
    }
}

#[test]
fn a_value_of_any_kind_is_passed_over() {
    let mut cursor = Cursor::new(r#" {"a":[1e5,{}]} ,null"#);
    assert_eq!(cursor.any(), Some(r#"{"a":[1e5,{}]}"#));
    assert!(cursor.passes(b','));
    assert_eq!((cursor.any(), cursor.is_at_end()), (Some("null"), true));
    assert_eq!(cursor.any(), None);
}

proptest! {
    #[test]
    fn no_string_is_judged_differently(
        parts in vec(prop_oneof![
            "\\PC{0,12}",
            any::<char>().prop_map(String::from),
            "\\\\[\"\\\\/bfnrtux]",
            "\\\\u[0-9a-fA-FdD]{3,5}",
            "\\\\u[dD][89abcdef][0-9a-f]{2}",
        ], 0..6),
    ) {
        let text = format!("\"{}\"", parts.concat());
        prop_assert_eq!(read(&text), serde_json::from_str::<String>(&text).ok(), "{}", text);
    }
}
