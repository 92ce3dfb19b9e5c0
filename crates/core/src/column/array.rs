//! Arrays of one dimension, of texts and of whole numbers, in the text that PostgreSQL prints of them.

use std::borrow::Cow;

use aws_sdk_dynamodb::types::AttributeValue;
use sqlx::postgres::PgArguments;

use super::text::array;
use super::{Column, Unholdable, bind_value, fit, present, string};
use crate::attribute::Attribute;

/// Elements of arrays. Sealed: its methods are for this file.
#[doc(hidden)]
pub trait Element: Clone + PartialEq + Send + Sync + std::fmt::Debug + 'static {
    const ARRAY_TYPE: &'static str;

    fn accepts_array(sql_type: &str) -> bool {
        sql_type == Self::ARRAY_TYPE
    }

    fn of_field(field: Option<&[u8]>) -> Result<Self, Unholdable>;

    fn of_text(text: Option<String>) -> Result<Self, Unholdable>;

    fn text(&self) -> Option<Cow<'_, str>>;

    fn fitted(self, _sql_type: &str) -> Result<Self, Unholdable> {
        Ok(self)
    }

    fn bind_all(elements: &[Self], arguments: &mut PgArguments);

    fn bind_none(arguments: &mut PgArguments);
}

fn no_null() -> Unholdable {
    Unholdable::because("has an element that is NULL, which only a Vec of Option can hold")
}

macro_rules! element {
    ($type:ty, $array:literal, $read:expr, $shown:expr) => {
        impl Element for $type {
            const ARRAY_TYPE: &'static str = $array;

            fn of_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
                <$type as Column>::from_field(Some(field.ok_or_else(no_null)?))
            }

            fn of_text(text: Option<String>) -> Result<Self, Unholdable> {
                $read(text.ok_or_else(no_null)?)
            }

            fn text(&self) -> Option<Cow<'_, str>> {
                Some($shown(self))
            }

            fn accepts_array(sql_type: &str) -> bool {
                sql_type.strip_suffix("[]").is_some_and(<$type as Column>::accepts)
            }

            fn fitted(self, sql_type: &str) -> Result<Self, Unholdable> {
                <$type as Column>::fitted(self, sql_type)
            }

            fn bind_all(elements: &[Self], arguments: &mut PgArguments) {
                bind_value(arguments, elements);
            }

            fn bind_none(arguments: &mut PgArguments) {
                bind_value(arguments, None::<&[Self]>);
            }
        }

        impl Element for Option<$type> {
            const ARRAY_TYPE: &'static str = $array;

            fn accepts_array(sql_type: &str) -> bool {
                <$type>::accepts_array(sql_type)
            }

            fn of_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
                field.map(|field| <$type>::of_field(Some(field))).transpose()
            }

            fn of_text(text: Option<String>) -> Result<Self, Unholdable> {
                text.map(|text| <$type>::of_text(Some(text))).transpose()
            }

            fn text(&self) -> Option<Cow<'_, str>> {
                self.as_ref().and_then(Element::text)
            }

            fn fitted(self, sql_type: &str) -> Result<Self, Unholdable> {
                self.map(|element| Element::fitted(element, sql_type)).transpose()
            }

            fn bind_all(elements: &[Self], arguments: &mut PgArguments) {
                bind_value(arguments, elements);
            }

            fn bind_none(arguments: &mut PgArguments) {
                bind_value(arguments, None::<&[$type]>);
            }
        }
    };
}

fn whole<N: std::str::FromStr>(text: String) -> Result<N, Unholdable> {
    text.parse().map_err(|_| Unholdable::because("has an element that does not fit its type"))
}

fn itself(text: String) -> Result<String, Unholdable> {
    Ok(text)
}

fn borrowed(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}

fn digits<N: ToString>(number: &N) -> Cow<'_, str> {
    Cow::Owned(number.to_string())
}

element!(String, "text[]", itself, borrowed);
element!(i16, "smallint[]", whole, digits);
element!(i32, "integer[]", whole, digits);
element!(i64, "bigint[]", whole, digits);

/// Returns the elements of PostgreSQL's binary array: dimensions, whether one is NULL, type; length and first
/// index of each dimension; elements, each with its length (`array_send` in PostgreSQL's `arrayfuncs.c`).
fn fields(bytes: &[u8]) -> Result<Vec<Option<&[u8]>>, Unholdable> {
    let malformed = || Unholdable::because("malformed array from PostgreSQL");
    let mut rest = bytes;
    let number = |rest: &mut &[u8]| -> Result<i32, Unholdable> {
        let (number, after) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
        *rest = after;
        Ok(i32::from_be_bytes(*number))
    };
    let (dimensions, _, _) = (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
    match dimensions {
        0 => return Ok(Vec::new()),
        1 => {}
        _ => return Err(Unholdable::because("is an array of several dimensions, and a Vec has one")),
    }
    let (length, first) = (number(&mut rest)?, number(&mut rest)?);
    if first != 1 {
        return Err(Unholdable::because("is an array that does not begin at 1, which a Vec does"));
    }
    let length = usize::try_from(length).map_err(|_| malformed())?;
    let mut found = Vec::with_capacity(length.min(bytes.len() / 4));
    for _ in 0..length {
        let Ok(bytes) = usize::try_from(number(&mut rest)?) else {
            found.push(None);
            continue;
        };
        let (field, after) = rest.split_at_checked(bytes).ok_or_else(malformed)?;
        rest = after;
        found.push(Some(field));
    }
    Ok(found)
}

impl<T: Element> Column for Vec<T> {
    const SQL_TYPE: &'static str = T::ARRAY_TYPE;

    fn accepts(sql_type: &str) -> bool {
        T::accepts_array(sql_type)
    }

    fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
        fields(present(field)?)?.into_iter().map(T::of_field).collect()
    }

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        Ok(Some(AttributeValue::S(array::printed(self.iter().map(T::text)))))
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        array::elements(string(attribute)?)?.into_iter().map(T::of_text).collect()
    }

    fn bind(&self, arguments: &mut PgArguments) {
        T::bind_all(self, arguments);
    }

    fn bind_null(arguments: &mut PgArguments) {
        T::bind_none(arguments);
    }

    fn fitted(self, sql_type: &str) -> Result<Self, Unholdable> {
        let of_element = sql_type.trim_end_matches(fit::NOT_NULL).trim_end_matches("[]");
        self.into_iter().map(|element| element.fitted(of_element)).collect()
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(dimensions: &[(i32, i32)], elements: &[Option<&[u8]>]) -> Vec<u8> {
        let count = i32::try_from(dimensions.len()).expect("few");
        let mut bytes: Vec<u8> = [count, 1, 25].iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend(
            dimensions.iter().flat_map(|(length, first)| [*length, *first]).flat_map(i32::to_be_bytes),
        );
        for element in elements {
            let length = element.map_or(-1, |element| i32::try_from(element.len()).expect("short"));
            bytes.extend(length.to_be_bytes());
            bytes.extend(element.unwrap_or_default());
        }
        bytes
    }

    #[test]
    fn an_array_is_read_as_postgresql_sends_it() {
        let bytes = sent(&[(3, 1)], &[Some(b"a,b"), None, Some(b"")]);
        let read = Vec::<Option<String>>::from_field(Some(&bytes)).expect("an array");
        assert_eq!(read, [Some("a,b".to_owned()), None, Some(String::new())]);
        let attribute = read.to_attribute().expect("a text");
        assert_eq!(attribute, Some(AttributeValue::S("{\"a,b\",NULL,\"\"}".to_owned())));
        assert_eq!(Vec::<i64>::from_field(Some(&sent(&[], &[]))), Ok(Vec::new()));
        for (bytes, why) in [
            (sent(&[(1, 1), (1, 1)], &[Some(b"a")]), "several dimensions"),
            (sent(&[(1, 2)], &[Some(b"a")]), "does not begin at 1"),
            (sent(&[(1, 1)], &[None]), "NULL"),
            (sent(&[(2, 1)], &[Some(b"a")]), "malformed"),
        ] {
            let told = Vec::<String>::from_field(Some(&bytes)).expect_err(why);
            assert!(told.reason.contains(why), "{told}");
        }
    }

    #[test]
    fn an_array_fits_where_each_element_does() {
        let of = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
        assert!(of(&["abc"]).fitted("character varying(3)[] not null").is_ok());
        assert!(of(&["abcd"]).fitted("character varying(3)[]").is_err());
        assert!(of(&["a\0"]).fitted("text[]").is_err());
        assert!(Vec::<String>::accepts("text[]") && Vec::<String>::accepts("character varying(3)[]"));
        assert!(!Vec::<String>::accepts("text") && !Vec::<i64>::accepts("integer[]"));
    }
}
