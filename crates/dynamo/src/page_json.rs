//! Reading the JSON of a scan's page, item by item, as the SDK would.
//!
//! "As the SDK would" is meant to the letter, for what decides about money is read here: the same bytes give
//! the same items in both, or an error in both. A property test holds one against the other. Pages of plain
//! items, which all of ours are, are read by hand (`plain_item`); what is anything else is judged here, by
//! serde_json.

use std::fmt;

use lockstep_core::{Error, Kind, Naming, serde_words};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::attribute_json::{OneValue, Text};
use super::page_end::{Consumed, PageEnd};
use super::page_item::PageItem;
use super::plain_item::read_plain;
use super::raw_scan::ScanBody;

impl ScanBody {
    /// Hands each item to `each`, in their order; it lives for that call only.
    ///
    /// # Errors
    /// When the bytes are not a page, [`Kind::Unknown`]: something else than DynamoDB may have answered. Some
    /// items may have been handed over by then.
    pub fn read(&self, mut each: impl FnMut(&PageItem<'_>)) -> lockstep_core::Result<PageEnd> {
        let (text, mut handed_over) = (self.text()?, 0);
        if let Some(end) = read_plain(text, self.naming, &mut handed_over, &mut each) {
            return self.of_a_scan(end, handed_over);
        }
        let (mut passed_over, mut all) = (handed_over, 0);
        let rest = |item: &PageItem<'_>| {
            all += 1;
            if passed_over > 0 { passed_over -= 1 } else { each(item) }
        };
        let end = read_any(text, self.naming, Some(rest)).map_err(|e| self.no_page(&e))?;
        self.of_a_scan(end, all)
    }

    /// Refuses what has no list of items at all, which each page of a scan has: 1. A proxy answers with
    /// 200 and an empty body. 2. Taken for the last page, what follows in the segment is never read. 3.
    /// Items without a row among it are found by no comparison.
    fn of_a_scan(&self, end: PageEnd, items: usize) -> lockstep_core::Result<PageEnd> {
        if items == 0 && !self.text()?.contains("\"Items\"") {
            let reason = "the answer is not a page of items: it has no list of them";
            return Err(Error::target(Kind::Unknown, format!("scanning {}", self.table), reason));
        }
        Ok(end)
    }

    /// Reads what the page says beside its items, which are passed over: for a caller that asks for the next
    /// page before it reads this one.
    ///
    /// # Errors
    /// As [`read`](ScanBody::read). A fault of an item need not show.
    pub fn end(&self) -> lockstep_core::Result<PageEnd> {
        read_any(self.text()?, self.naming, None::<fn(&PageItem<'_>)>).map_err(|e| self.no_page(&e))
    }

    fn text(&self) -> lockstep_core::Result<&str> {
        let text = std::str::from_utf8(self.body.bytes().unwrap_or_default());
        text.map_err(|e| Error::target(Kind::Unknown, format!("scanning {}", self.table), e.to_string()))
    }

    fn no_page(&self, reason: &serde_json::Error) -> Error {
        let reason = serde_words::of_json(reason);
        let reason = format!("the answer is not a page of items: {reason}");
        Error::target(Kind::Unknown, format!("scanning {}", self.table), reason)
    }
}

/// Reads a page of any kind.
pub(super) fn read_any(
    text: &str,
    naming: Naming,
    each: Option<impl FnMut(&PageItem<'_>)>,
) -> serde_json::Result<PageEnd> {
    if text.is_empty() {
        // To the SDK, an empty body is an empty object.
        return Ok(PageEnd::default());
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let end = json.deserialize_map(PageVisitor { each, item: PageItem::of(naming) })?;
    json.end()?;
    Ok(end)
}

/// The whole answer. It has one item at a time; without a caller to hand it to, none.
struct PageVisitor<'de, F> {
    each: Option<F>,
    item: PageItem<'de>,
}

impl<'de, F: FnMut(&PageItem<'_>)> Visitor<'de> for PageVisitor<'de, F> {
    type Value = PageEnd;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page of a scan")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<PageEnd, A::Error> {
        let (mut end, mut has_items) = (PageEnd::default(), false);
        while let Some(name) = map.next_key_seed(Text)? {
            match name.as_ref() {
                // The SDK would forget the first ones; here they have been handed over.
                "Items" if self.each.is_none() => drop(map.next_value::<IgnoredAny>()?),
                "Items" if has_items => return Err(A::Error::duplicate_field("Items")),
                "Items" => has_items = map.next_value_seed(Items(&mut self))?,
                "LastEvaluatedKey" => {
                    let is_there = map.next_value_seed(OneItem(&mut self.item))?;
                    end.next = is_there.then(|| self.item.to_attributes()).filter(|key| !key.is_empty());
                }
                "ConsumedCapacity" => {
                    let consumed: Option<Consumed> = map.next_value()?;
                    end.capacity_units = consumed.and_then(|consumed| consumed.units).unwrap_or_default();
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(end)
    }
}

/// The list of items. Says whether there is one.
struct Items<'a, 'de, F>(&'a mut PageVisitor<'de, F>);

impl<'de, F: FnMut(&PageItem<'_>)> DeserializeSeed<'de> for Items<'_, 'de, F> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, F: FnMut(&PageItem<'_>)> Visitor<'de> for Items<'_, 'de, F> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        let PageVisitor { each, item } = self.0;
        while let Some(is_there) = items.next_element_seed(OneItem(item))? {
            if !is_there {
                return Err(A::Error::custom("an item is null"));
            }
            if let Some(each) = each {
                each(item);
            }
        }
        Ok(true)
    }
}

/// One item, or a key. Says whether there is one.
struct OneItem<'a, 'de>(&'a mut PageItem<'de>);

impl<'de> DeserializeSeed<'de> for OneItem<'_, 'de> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneItem<'_, 'de> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        self.0.clear();
        while let Some(name) = map.next_key_seed(Text)? {
            let value = map.next_value_seed(OneValue)?;
            self.0.put(name, value);
        }
        self.0.end();
        Ok(true)
    }
}
