//! Scan pages made in advance: the items that the rows of a table should be, as DynamoDB would answer them.
//!
//! Each page says where the next one begins by a made-up key that carries its number, so the answering server
//! needs only find that number in a request, and no item is looked at twice.

use std::fmt::Write as _;

use anyhow::Context;
use bytes::Bytes;
use lockstep_core::{AttributeValue, Fields, Item, Version};
use lockstep_postgres::{RangeRead, Source, TableBinding};
use memchr::memmem;
use serde_json::{Value, json};

use crate::bench::null_target::answers;
use crate::bench::subject::Subject;

/// Items of a page: what the validator asks for at most.
const PAGE_ITEMS: usize = 1_000;
/// Text in front of the number of a page.
const MARK: &str = "page-";
/// Text in front of the number of a segment, in a request.
const SEGMENT: &[u8] = br#""Segment":"#;

/// The pages of one table, cut into segments.
#[derive(Debug)]
pub struct Pages {
    answers: Vec<Bytes>,
    /// Number of the first page of each segment.
    first: Vec<usize>,
    empty: Bytes,
    /// Items in all of them.
    pub items: u64,
}

impl Pages {
    /// Makes the pages of every row there is, in the given number of segments. The first `spoiled` items get
    /// another value.
    ///
    /// # Errors
    /// The source's; a row that cannot be held.
    pub async fn prepare(
        source: &Source,
        binding: &TableBinding,
        segments: usize,
        spoiled: u64,
    ) -> anyhow::Result<Self> {
        let mut texts: Vec<(String, usize)> = Vec::new();
        let (mut items, mut after) = (0_u64, None);
        loop {
            let range = RangeRead { after, rows_max: PAGE_ITEMS, ..RangeRead::default() };
            let chunk = source.read_chunk(binding, &range).await?;
            let (mut text, mut count, mut last) = (String::new(), 0_usize, None);
            for tuple in chunk.tuples() {
                let item = binding.table.encode(&mut Fields::of_copy(tuple))?.at(Version::INITIAL_LOAD);
                let mut written = json_of(&item);
                if items < spoiled {
                    written["user_id"] = json!({ "S": "spoiled" });
                }
                let separator = if count > 0 { "," } else { "" };
                write!(text, "{separator}{written}")?;
                (items, count, last) = (items + 1, count + 1, Some(tuple));
            }
            let Some(last) = last else { break };
            texts.push((text, count));
            after = Some(binding.bound_of(last)?);
        }
        let per_segment = texts.len().div_ceil(segments.max(1)).max(1);
        let pages = texts.len();
        let answers = texts.into_iter().enumerate().map(|(number, (text, count))| {
            let next = number + 1;
            let is_last = next == pages || next % per_segment == 0;
            let more = match is_last {
                true => String::new(),
                false => format!(r#","LastEvaluatedKey":{{"PK":{{"S":"{MARK}{next}"}},"SK":{{"S":"-"}}}}"#),
            };
            let units = text.len() as f64 / 8_192.0;
            answers::ok(&format!(
                r#"{{"Items":[{text}],"Count":{count},"ScannedCount":{count},"ConsumedCapacity":{{"TableName":"t","CapacityUnits":{units:.1}}}{more}}}"#
            ))
        });
        let first = (0..segments.max(1)).map(|segment| segment * per_segment).collect();
        let empty = answers::ok(r#"{"Items":[],"Count":0,"ScannedCount":0}"#);
        Ok(Self { answers: answers.collect(), first, empty, items })
    }

    /// The page that a request asks for.
    pub(in crate::bench) fn answer(&self, body: &[u8]) -> Bytes {
        let number = |needle: &[u8]| {
            let rest = memmem::find(body, needle).map(|at| &body[at + needle.len()..])?;
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            std::str::from_utf8(&rest[..digits]).ok()?.parse::<usize>().ok()
        };
        let page = number(MARK.as_bytes()).or_else(|| self.first.get(number(SEGMENT).unwrap_or(0)).copied());
        page.and_then(|page| self.answers.get(page)).unwrap_or(&self.empty).clone()
    }

    /// Returns one whole request for each page, head and body, for a replay.
    pub fn requests(&self) -> Vec<Bytes> {
        let request = |number| {
            let body = format!(
                r#"{{"TableName":"t","ExclusiveStartKey":{{"PK":{{"S":"{MARK}{number}"}},"SK":{{"S":"-"}}}}}}"#
            );
            let length = body.len();
            let head =
                "POST / HTTP/1.1\r\nhost: null\r\nx-amz-target: DynamoDB_20120810.Scan\r\ncontent-length:";
            Bytes::from(format!("{head} {length}\r\n\r\n{body}"))
        };
        (0..self.answers.len()).map(request).collect()
    }

    /// Items of a page, on average.
    ///
    /// # Errors
    /// When there is none.
    pub fn items_per_page(&self) -> anyhow::Result<f64> {
        anyhow::ensure!(!self.answers.is_empty(), "there are no pages");
        Ok(self.items as f64 / self.answers.len() as f64)
    }
}

/// An item as DynamoDB writes it.
fn json_of(item: &Item) -> Value {
    let value = |value: &AttributeValue| match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(digits) => json!({ "N": digits }),
        AttributeValue::Bool(is) => json!({ "BOOL": is }),
        other => unreachable!("no column of the table is of this type: {other:?}"),
    };
    item.iter()
        .map(|(name, attribute)| ((*name).to_owned(), value(attribute)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Segments of a scan, as the measured process asks for them.
pub(super) fn segments() -> usize {
    lockstep_validator::ValidateSettings::default().scan_segments
}

/// Pages and the source they are made of.
///
/// # Errors
/// The source's.
pub(super) async fn of_source(url: &str, subject: Subject, spoiled: u64) -> anyhow::Result<Pages> {
    let source = crate::bench::worker::connect(url).await?;
    let binding = subject.binding(&source).await?;
    Pages::prepare(&source, &binding, segments(), spoiled).await.context("preparing pages")
}
