//! Rows as lines of `COPY`'s text format (PostgreSQL documentation, "COPY", "Text Format").

use std::io::Write as _;

use lockstep_core::{Json, fixed_width};
use lockstep_integration_logs::IntegrationLog;
use lockstep_payments::Payment;

/// Appends a log.
pub(super) fn log(out: &mut Vec<u8>, log: &IntegrationLog) {
    Line(out)
        .shown(log.log_id)
        .shown_or_null(log.application_id)
        .text(&log.log_type)
        .text(&log.service_name)
        .text_or_null(log.request_data.as_ref().map(Json::as_str))
        .text_or_null(log.response_data.as_ref().map(Json::as_str))
        .text_or_null(log.status_code.as_deref())
        .shown(log.is_success)
        .text_or_null(log.error_message.as_deref())
        .shown_or_null(log.processing_time_ms)
        .timestamp(Some(log.log_timestamp))
        .text_or_null(log.correlation_id.as_deref())
        .text_or_null(log.user_id.as_deref())
        .end();
}

/// Appends a payment.
pub(super) fn payment(out: &mut Vec<u8>, payment: &Payment) {
    Line(out)
        .shown(payment.payment_id)
        .shown(payment.customer_id)
        .shown(payment.loan_id)
        .shown(payment.payment_amount.get())
        .text(&payment.currency)
        .timestamp(Some(payment.payment_date))
        .text(&payment.payment_method)
        .text(&payment.payment_status)
        .text_or_null(payment.transaction_reference.as_deref())
        .timestamp(payment.processed_date)
        .timestamp(Some(payment.created_date))
        .timestamp(payment.updated_date)
        .end();
}

/// A line being written; every field is followed by a tab until the end turns the last one into a newline.
struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    /// Makes a value whose text needs no escapes.
    fn shown(self, value: impl std::fmt::Display) -> Self {
        write!(self.0, "{value}\t").expect("writing to memory does not fail");
        self
    }

    fn shown_or_null(self, value: Option<impl std::fmt::Display>) -> Self {
        match value {
            Some(value) => self.shown(value),
            None => self.null(),
        }
    }

    fn text(self, text: &str) -> Self {
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
            let (plain, special) = rest.split_at(at);
            self.0.extend_from_slice(plain);
            self.0.extend_from_slice(match special[0] {
                b'\t' => br"\t",
                b'\n' => br"\n",
                b'\r' => br"\r",
                _ => br"\\",
            });
            rest = &special[1..];
        }
        self.0.extend_from_slice(rest);
        self.0.push(b'\t');
        self
    }

    fn text_or_null(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    fn timestamp(self, at: Option<chrono::DateTime<chrono::Utc>>) -> Self {
        match at {
            Some(at) => self.shown(fixed_width(at).expect("generated times have years of four digits")),
            None => self.null(),
        }
    }

    fn null(self) -> Self {
        self.0.extend_from_slice(b"\\N\t");
        self
    }

    fn end(self) {
        if let Some(last) = self.0.last_mut() {
            *last = b'\n';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[track_caller]
    fn check(text: Option<&str>, expected: &str) {
        let mut out = Vec::new();
        Line(&mut out).text_or_null(text).shown(1).end();
        assert_eq!(String::from_utf8(out).expect("UTF-8"), format!("{expected}\t1\n"));
    }

    #[test]
    fn text_keeps_apart_from_null_and_from_its_own_escapes() {
        check(None, r"\N");
        check(Some(""), "");
        check(Some(r"\N"), r"\\N");
        check(Some("a\tb\\\r\n\\."), r"a\tb\\\r\n\\.");
        check(Some("مرحبا 🚫"), "مرحبا 🚫");
    }
}
