//! Types whose attributes are others than those of their columns' usual types: what a declaration says by
//! `held_as`, said by a type, and to the byte the same.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use rust_decimal::Decimal;
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use super::text::{decimal, document, float};
use super::{Column, Element, Json, Unholdable, number, string, wrong_attribute};
use crate::attribute::Attribute;
use crate::difference::Difference;

/// A `uuid` that is held as its 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UuidBytes(pub Uuid);

/// A `numeric` without a scale that is held as a number: zeros at its end mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub Decimal);

/// A `real` or a `double precision` that is held as text, so that NaN and infinities are held as well.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct FloatText<T>(pub T);

/// A `jsonb` that is held as what it is: a map, a list or a scalar. Equality is of the meaning, as its text
/// is not kept.
#[derive(Clone, Debug)]
pub struct Document(pub Json);

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.0.same(&other.0)
    }
}

/// Items in which a column does as the type does that it wraps.
macro_rules! as_within {
    ($within:ty) => {
        fn accepts(sql_type: &str) -> bool {
            <$within as Column>::accepts(sql_type)
        }

        fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
            <$within as Column>::from_field(field).map(Self)
        }

        fn bind(&self, arguments: &mut PgArguments) {
            self.0.bind(arguments);
        }

        fn bind_null(arguments: &mut PgArguments) {
            <$within as Column>::bind_null(arguments);
        }

        fn fitted(self, sql_type: &str) -> Result<Self, Unholdable> {
            self.0.fitted(sql_type).map(Self)
        }
    };
}

impl Column for UuidBytes {
    const SQL_TYPE: &'static str = Uuid::SQL_TYPE;
    const HELD_AS: Option<&'static str> = Some("binary");

    as_within!(Uuid);

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        Ok(Some(AttributeValue::B(Blob::new(self.0.as_bytes()))))
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        let bytes = match attribute {
            Some(Attribute::Other(AttributeValue::B(blob))) => Uuid::from_slice(blob.as_ref()).ok(),
            _ => None,
        };
        bytes.map(Self).ok_or_else(|| wrong_attribute("16 bytes", attribute))
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Column for Number {
    const SQL_TYPE: &'static str = Decimal::SQL_TYPE;
    const HELD_AS: Option<&'static str> = Some("number");

    as_within!(Decimal);

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        decimal::number(&self.0.to_string()).map(|digits| Some(AttributeValue::N(digits)))
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        let digits = decimal::number(number(attribute)?)?;
        Decimal::from_str_exact(&digits)
            .map(Self)
            .map_err(|_| Unholdable::because("does not read as a decimal of 28 digits"))
    }

    fn same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

macro_rules! float_text {
    ($type:ty, $single:literal) => {
        impl Column for FloatText<$type> {
            const SQL_TYPE: &'static str = <$type as Column>::SQL_TYPE;
            const HELD_AS: Option<&'static str> = Some("text");

            as_within!($type);

            fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
                float::spelled(&format!("{:e}", self.0), $single).map(|text| Some(AttributeValue::S(text)))
            }

            fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
                let text = float::spelled(string(attribute)?, $single)?;
                let wrong = |_| Unholdable::because("does not read as a floating-point number");
                text.parse().map(Self).map_err(wrong)
            }

            fn same(&self, other: &Self) -> bool {
                self.0.same(&other.0)
            }
        }
    };
}

float_text!(f32, true);
float_text!(f64, false);

impl Column for Document {
    const SQL_TYPE: &'static str = Json::SQL_TYPE;
    const HELD_AS: Option<&'static str> = Some("document");

    as_within!(Json);

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        document::attribute(self.0.as_str()).map(Some)
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        let found = match attribute {
            None => return Err(wrong_attribute("a document", None)),
            Some(Attribute::S(text)) => AttributeValue::S(text.to_owned()),
            Some(Attribute::N(digits)) => AttributeValue::N(digits.to_owned()),
            Some(Attribute::Bool(is)) => AttributeValue::Bool(is),
            Some(Attribute::Other(value)) => value.clone(),
        };
        let text = document::printed(&document::canonical(&found)?);
        Json::parse(&text).map(Self).map_err(|_| Unholdable::because("is not valid JSON"))
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn difference(&self, other: &Self) -> Option<Difference> {
        self.0.difference(&other.0)
    }
}

/// Elements of sets. Sealed: its methods are for this file.
#[doc(hidden)]
pub trait Member: Element + Ord {
    fn set(members: Vec<String>) -> AttributeValue;

    fn members<'a>(attribute: &Attribute<'a>) -> Option<&'a [String]>;
}

macro_rules! member {
    ($variant:ident, $($type:ty),+) => {$(
        impl Member for $type {
            fn set(members: Vec<String>) -> AttributeValue {
                AttributeValue::$variant(members)
            }

            fn members<'a>(attribute: &Attribute<'a>) -> Option<&'a [String]> {
                match attribute {
                    Attribute::Other(AttributeValue::$variant(members)) => Some(members),
                    _ => None,
                }
            }
        }
    )+};
}

member!(Ss, String);
member!(Ns, i16, i32, i64);

fn distinct<T: Member>(elements: Vec<T>) -> Result<BTreeSet<T>, Unholdable> {
    let count = elements.len();
    let set: BTreeSet<T> = elements.into_iter().collect();
    if set.len() < count {
        return Err(Unholdable::because("has an element twice, of which a set of DynamoDB holds one"));
    }
    Ok(set)
}

/// An array whose order means nothing: SS or NS.
impl<T: Member> Column for BTreeSet<T>
where
    Vec<T>: Column,
{
    const SQL_TYPE: &'static str = T::ARRAY_TYPE;
    const HELD_AS: Option<&'static str> = Some("unordered_set");

    fn accepts(sql_type: &str) -> bool {
        T::accepts_array(sql_type)
    }

    fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
        Vec::<T>::from_field(field).and_then(distinct)
    }

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        if self.is_empty() {
            return Err(Unholdable::because("is empty, which no set of DynamoDB is"));
        }
        let members = self.iter().filter_map(Element::text).map(std::borrow::Cow::into_owned);
        Ok(Some(T::set(members.collect())))
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        let members = attribute.as_ref().and_then(T::members);
        let members = members.ok_or_else(|| wrong_attribute("a set", attribute))?;
        // Numbers are as DynamoDB writes them: 1E+2.
        let of_number = |digits: &String| {
            decimal::number(digits).map_err(|_| Unholdable::because("has an element that is no number"))
        };
        let is_of_numbers = matches!(T::set(Vec::new()), AttributeValue::Ns(_));
        let one = |text: &String| {
            let text = if is_of_numbers { of_number(text)? } else { text.clone() };
            T::of_text(Some(text))
        };
        distinct(members.iter().map(one).collect::<Result<Vec<T>, _>>()?)
    }

    fn bind(&self, arguments: &mut PgArguments) {
        let elements: Vec<T> = self.iter().cloned().collect();
        elements.bind(arguments);
    }

    fn bind_null(arguments: &mut PgArguments) {
        Vec::<T>::bind_null(arguments);
    }

    fn fitted(self, sql_type: &str) -> Result<Self, Unholdable> {
        let elements: Vec<T> = self.into_iter().collect();
        elements.fitted(sql_type).and_then(distinct)
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;

    fn reads_back<C: Column + Debug>(value: &C) -> AttributeValue {
        let attribute = value.to_attribute().expect("it can be held").expect("it is there");
        let read = C::from_attribute(Some(Attribute::from(&attribute))).expect("it reads back");
        assert!(read.same(value) && value.difference(&read).is_none(), "{value:?} and {read:?}");
        assert_eq!(Some(read).to_attribute(), Ok(Some(attribute.clone())));
        assert!(C::HELD_AS.is_some() && Option::<C>::HELD_AS == C::HELD_AS);
        attribute
    }

    proptest! {
        #[test]
        fn what_is_held_otherwise_reads_back(
            id in any::<u128>(),
            digits in any::<i64>(),
            scale in 0_u32..=28,
            double in any::<f64>(),
            real in any::<f32>(),
            numbers in proptest::collection::btree_set(any::<i64>(), 1..6),
            texts in proptest::collection::btree_set("[a\"\\\\{}, ]{0,3}", 1..6),
        ) {
            reads_back(&UuidBytes(Uuid::from_u128(id)));
            reads_back(&Number(Decimal::from_i128_with_scale(digits.into(), scale)));
            reads_back(&FloatText(double));
            reads_back(&FloatText(real));
            reads_back(&numbers);
            reads_back(&texts);
            let document = serde_json::json!({ "a": [digits, id.to_string()], "b": { "c": texts } });
            reads_back(&Document(Json::of(&document).expect("JSON")));
        }
    }

    #[test]
    fn attributes_are_those_of_a_declared_table() {
        let number = Number(Decimal::from_i128_with_scale(1500, 3));
        assert_eq!(reads_back(&number), AttributeValue::N("1.5".to_owned()));
        assert_eq!(reads_back(&FloatText(f64::NAN)), AttributeValue::S("NaN".to_owned()));
        assert_eq!(reads_back(&FloatText(f32::INFINITY)), AttributeValue::S("Infinity".to_owned()));
        let set = AttributeValue::Ns(vec!["-3".to_owned(), "10".to_owned()]);
        assert_eq!(reads_back(&BTreeSet::from([10_i16, -3])), set);
        let found = AttributeValue::Ns(vec!["1E+1".to_owned(), "-3.0".to_owned()]);
        let read = BTreeSet::<i64>::from_attribute(Some(Attribute::from(&found)));
        assert_eq!(read, Ok(BTreeSet::from([10, -3])));
    }

    #[test]
    fn what_they_cannot_hold_is_told() {
        let empty = BTreeSet::<String>::new().to_attribute().expect_err("no set is empty");
        assert!(empty.reason.contains("empty"));
        let of =
            |attribute: AttributeValue| BTreeSet::<i32>::from_attribute(Some(Attribute::from(&attribute)));
        let ns = |members: &[&str]| AttributeValue::Ns(members.iter().map(|m| (*m).to_owned()).collect());
        assert!(of(ns(&["1", "1.0"])).expect_err("one number").reason.contains("twice"));
        assert!(of(ns(&["1.5"])).is_err() && of(ns(&["9999999999"])).is_err());
        assert!(of(AttributeValue::Ss(vec!["1".to_owned()])).expect_err("texts").reason.contains("a set"));
        let bytes = AttributeValue::B(Blob::new([0; 15]));
        assert!(UuidBytes::from_attribute(Some(Attribute::from(&bytes))).is_err());
        assert!(Number::from_attribute(Some(Attribute::S("1"))).is_err());
        assert!(Document::from_attribute(None).is_err());
        let twice = Document(Json::parse("{\"a\":1,\"a\":2}").expect("JSON"));
        assert!(twice.to_attribute().expect_err("one is lost").reason.contains("twice"));
    }
}
