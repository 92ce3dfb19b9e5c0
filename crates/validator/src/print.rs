//! Prints: what a row and an item come down to, so that a million of each are compared as numbers.
//!
//! A row is printed as the item that it should be, an item as it is, attribute for attribute, without its
//! version. So two equal prints mean equal attributes, index and expiry attributes included, and with them
//! equal rows (R4). The reverse does not hold: a document may be written in two ways. Such a pair is a
//! suspect like any other, and the recheck compares it by meaning. Numbers are the exception that pays:
//! DynamoDB gives `10.50` back as `10.5`, so they are printed by value.
//!
//! The hash is XXH3 with 128 bits under a seed of this run: for n rows it takes one pair to collide for a
//! difference to be overlooked, which n²/2¹²⁹ bounds: at a billion rows, one in 10²⁰.

use lockstep_core::{Attribute, AttributeValue, PK, SK, is_bookkeeping};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The print of a row or an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Print {
    /// Hash of the key of the item.
    pub(crate) place: u128,
    /// Hash of all attributes.
    pub(crate) state: u128,
}

/// Makes prints that are comparable with each other. Keep one a thread: it has a buffer.
#[derive(Debug)]
pub(crate) struct Printer {
    seed: u64,
    buffer: Vec<u8>,
}

impl Printer {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, buffer: Vec::with_capacity(1_024) }
    }

    /// Prints attributes in any order.
    pub(crate) fn print<'a>(&mut self, attributes: impl Iterator<Item = (&'a str, Attribute<'a>)>) -> Print {
        // A sum takes its terms in any order, so nothing has to be sorted. Names are distinct, so no term
        // comes twice.
        let (mut place, mut state) = (0_u128, 0_u128);
        for (name, value) in attributes {
            if is_bookkeeping(name) {
                continue;
            }
            self.buffer.clear();
            text(&mut self.buffer, name);
            canonical(&mut self.buffer, value);
            let term = xxh3_128_with_seed(&self.buffer, self.seed);
            state = state.wrapping_add(term);
            if name == PK || name == SK {
                place = place.wrapping_add(term);
            }
        }
        // Hashed once more: the ledger adds up states, and sums of sums would not tell which attribute
        // belongs to which row.
        let whole = |sum: u128| xxh3_128_with_seed(&sum.to_le_bytes(), self.seed);
        Print { place: whole(place), state: whole(state) }
    }
}

/// Appends a value in the one form that all equal values have.
fn canonical(out: &mut Vec<u8>, value: Attribute<'_>) {
    match value {
        Attribute::S(string) => tagged(out, b'S', |out| text(out, string)),
        Attribute::N(digits) => tagged(out, b'N', |out| number(out, digits)),
        Attribute::Bool(is) => tagged(out, b'?', |out| out.push(u8::from(is))),
        Attribute::Other(value) => other(out, value),
    }
}

fn other(out: &mut Vec<u8>, value: &AttributeValue) {
    match value {
        AttributeValue::Null(_) => out.push(b'0'),
        AttributeValue::B(blob) => tagged(out, b'B', |out| bytes(out, blob.as_ref())),
        AttributeValue::L(list) => tagged(out, b'L', |out| each(out, list.iter().map(of))),
        AttributeValue::M(map) => {
            tagged(out, b'M', |out| set(out, map.iter().map(|(name, value)| entry(name, value))))
        }
        AttributeValue::Ss(strings) => {
            tagged(out, b's', |out| set(out, strings.iter().map(|s| s.as_bytes().to_vec())))
        }
        AttributeValue::Ns(numbers) => {
            tagged(out, b'n', |out| set(out, numbers.iter().map(|digits| number_of(digits))))
        }
        AttributeValue::Bs(blobs) => {
            tagged(out, b'b', |out| set(out, blobs.iter().map(|blob| blob.as_ref().to_vec())))
        }
        // A type that the SDK does not know is in no item of ours; that it is there is already a difference.
        _ => out.push(b'!'),
    }
}

fn tagged(out: &mut Vec<u8>, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    write(out);
}

fn text(out: &mut Vec<u8>, text: &str) {
    bytes(out, text.as_bytes());
}

/// With the length in front, so that no two sequences of values look alike.
fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn each(out: &mut Vec<u8>, parts: impl ExactSizeIterator<Item = Vec<u8>>) {
    out.extend_from_slice(&(parts.len() as u64).to_le_bytes());
    for part in parts {
        bytes(out, &part);
    }
}

fn set(out: &mut Vec<u8>, parts: impl Iterator<Item = Vec<u8>>) {
    let mut parts: Vec<Vec<u8>> = parts.collect();
    parts.sort_unstable();
    each(out, parts.into_iter());
}

fn of(value: &AttributeValue) -> Vec<u8> {
    let mut out = Vec::new();
    canonical(&mut out, value.into());
    out
}

fn entry(name: &str, value: &AttributeValue) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, name);
    canonical(&mut out, value.into());
    out
}

fn number_of(digits: &str) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, digits);
    out
}

/// A decimal number by value: its sign, its digits without zeros at either end, and where the point is among
/// them.
fn number(out: &mut Vec<u8>, written: &str) {
    // Nearly every number is a whole one: what follows, in short.
    if let [b'1'..=b'9', rest @ ..] = written.as_bytes()
        && rest.iter().all(u8::is_ascii_digit)
    {
        out.push(b'+');
        out.extend_from_slice(&(written.len() as i64).to_le_bytes());
        return out.extend_from_slice(written.trim_end_matches('0').as_bytes());
    }
    let (mantissa, exponent) = match written.find(['e', 'E']) {
        Some(at) => (&written[..at], written[at + 1..].parse::<i64>()),
        None => (written, Ok(0)),
    };
    let (is_negative, magnitude) = match mantissa.strip_prefix('-') {
        Some(magnitude) => (true, magnitude),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    let is_number = !(whole.is_empty() && fraction.is_empty())
        && whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    let (Ok(exponent), true) = (exponent, is_number) else {
        // Not a number, so it equals only itself.
        return tagged(out, b'x', |out| text(out, written));
    };
    let digits = || whole.bytes().chain(fraction.bytes());
    let leading = digits().take_while(|digit| *digit == b'0').count();
    let total = whole.len() + fraction.len();
    if leading == total {
        return out.push(b'0');
    }
    let trailing =
        fraction.bytes().rev().chain(whole.bytes().rev()).take_while(|digit| *digit == b'0').count();
    out.push(if is_negative { b'-' } else { b'+' });
    // Of the first digit that counts.
    let power = exponent + whole.len() as i64 - leading as i64;
    out.extend_from_slice(&power.to_le_bytes());
    out.extend(digits().skip(leading).take(total - leading - trailing));
}
