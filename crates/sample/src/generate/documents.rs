//! Documents that services are sent and answer: of every size, most of them small.

use lockstep_core::Json;
use rand::{Rng, RngExt};
use serde::Serialize;
use serde_json::value::RawValue;

use super::words::{CURRENCIES, NAMES, chance, pick, weighted};

#[derive(Serialize)]
struct Request<'a> {
    operation: &'a str,
    reference: String,
    applicant: Applicant,
    amount: Amount,
    purpose: &'static str,
    client: Client,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment>,
}

#[derive(Serialize)]
struct Applicant {
    name: &'static str,
    email: Option<String>,
    consents: &'static [&'static str],
}

#[derive(Serialize)]
struct Client {
    application: &'static str,
    host: String,
    idempotency_key: String,
}

/// A value with the zeros people write: `jsonb` keeps `10.50` apart from `10.5`, and so must we.
#[derive(Serialize)]
struct Amount {
    value: Box<RawValue>,
    currency: &'static str,
}

#[derive(Serialize)]
struct Attachment {
    name: String,
    sha256: String,
    bytes: u32,
}

#[derive(Serialize)]
struct Response<'a> {
    status: &'a str,
    score: Option<u16>,
    trace: String,
    took_seconds: f64,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    lender: &'static str,
    balance: Box<RawValue>,
    months: u16,
    open: bool,
    remark: Option<&'static str>,
}

/// Makes a request.
pub(super) fn request(rng: &mut impl Rng, operation: &str) -> Json {
    let attachments = if operation == "Archive" { rng.random_range(1..6) } else { 0 };
    of(&Request {
        operation,
        reference: hex(rng, 24),
        applicant: Applicant {
            name: pick(rng, &NAMES),
            email: chance(rng, 80).then(|| format!("applicant{}@mail.example", rng.random_range(0..100_000))),
            consents: pick(rng, &[&[][..], &["scoring"][..], &["scoring", "marketing"][..]]),
        },
        amount: Amount { value: money(rng), currency: weighted(rng, &CURRENCIES) },
        purpose: pick(
            rng,
            &[
                "Renovation of the roof, heating",
                "Gebrauchtwagen für die Familie",
                "事業資金(運転資金)",
                "Études à l’étranger",
            ],
        ),
        client: Client {
            application: pick(rng, &["loan-portal/4.12.1", "branch-desk/2.9.0"]),
            host: format!("ip-10-0-{}-{}", rng.random_range(0..8), rng.random_range(1..255)),
            idempotency_key: hex(rng, 32),
        },
        attachments: (0..attachments)
            .map(|n| Attachment {
                name: format!("scan-{n} ✓.pdf"),
                sha256: hex(rng, 64),
                bytes: rng.random_range(1_000..5_000_000),
            })
            .collect(),
    })
}

/// Makes a response.
pub(super) fn response(rng: &mut impl Rng, status: &str) -> Json {
    // Nine in ten are small; one in a hundred is tens of kilobytes, as credit reports are.
    let lines = match rng.random_range(0..100) {
        0 => rng.random_range(80..300),
        1..10 => rng.random_range(5..25),
        10..40 => 2,
        40..75 => 1,
        _ => 0,
    };
    of(&Response {
        status,
        score: chance(rng, 60).then(|| rng.random_range(300..850)),
        trace: hex(rng, 16),
        took_seconds: f64::from(rng.random_range(1..30_000_u32)) / 1_000.0,
        lines: (0..lines)
            .map(|_| Line {
                lender: pick(rng, &["Sparkasse", "Crédit Agricole", "三菱UFJ銀行", "PKO", "Barclays"]),
                balance: money(rng),
                months: rng.random_range(0..361),
                open: chance(rng, 70),
                remark: chance(rng, 20).then(|| pick(rng, &["", "paid late \\ twice", "ملاحظة", "🔒"])),
            })
            .collect(),
    })
}

/// Hexadecimal digits.
pub(super) fn hex(rng: &mut impl Rng, digits: usize) -> String {
    let mut text = String::with_capacity(digits);
    while text.len() < digits {
        let word: u64 = rng.random();
        text.extend(format!("{word:016x}").chars().take(digits - text.len()));
    }
    text
}

fn money(rng: &mut impl Rng) -> Box<RawValue> {
    let text = match rng.random_range(0..20) {
        0 => format!("{}.00", rng.random_range(1..10_000)),
        1 => format!("{}e2", rng.random_range(1..100)),
        // More digits than any machine number has; PostgreSQL keeps them all.
        2 => format!("{}.{:09}{:010}", rng.random_range(1..i64::MAX), 0, rng.random_range(0..u32::MAX)),
        _ => format!("{}.{:02}", rng.random_range(0..50_000), rng.random_range(0..100)),
    };
    RawValue::from_string(text).expect("digits around a point are a JSON number")
}

fn of(document: &impl Serialize) -> Json {
    Json::of(document).expect("structs of plain fields serialise")
}
