//! Words that may be told of DynamoDB's own messages: never a value of an item, and no part of a signature
//! (R36).
//!
//! 1. A number does not read, and the ValidationException quotes it. 2. The message is in the log, in a
//! report and in a dead letter. Amazon does not list its messages, so only words are told that are in
//! messages that are known to hold no value, names that such a message announces, and the words of what was
//! being done. CloudTrail and the key, where a report has it, lead on.

use super::codes;

/// Words of messages that are known, in lower case. Numbers among them are bounds of DynamoDB's own.
const WORDS: &str = "\
    1 2 10 25 38 100 255 400 400kb 1024 2048 8192 4096 of1024 of2048 bytes kb mb a action actual against \
    aggregated all allowed already an and another any are as at attempting attribute \
    attributedefinitions attributes attributevalue attributevalues authentication aws batch be been \
    batchgetitem batchwriteitem being between binary body but by call can cancellation cancelled cannot \
    capacity cause characters check checks collection condition conditional conditionalcheckfailed \
    conditionexpression constraint contain contains conversion convert converted could create currently \
    data defined definition delete deleted deletion denied depth describe detected different digits \
    disable do does duplicate duplicates dynamodb each element elements empty equal error errors exact \
    exactly exceed exceeded exceeds exclusive exist existing exists expected expression \
    expressionattributenames expressionattributevalues failed fewer filterexpression first for formed \
    format found from function gb get given global greater had has hash hashkey have identical if in \
    incorrect index indexes indexkey indexname input inserted invalid is it item items json key \
    keyconditionexpression keys keyschema larger length less level levels limit list local long lower \
    magnitude malformed many map match maximum may member members memory minimum mismatch missing more \
    must n name names negative nested nesting no non non-existent none not null number numbers numeric \
    object of on one only operand operation operations operator or order other out over overflow page \
    parameter parameters parse part partition payload per permitted please pk positive precision present \
    primary process processed projection protected protection provided put queried query range rangekey \
    reached reasons refer remove request requested requests required resource return s schema secondary \
    segment serialized set sets should shorter significant single size sizes sk small smaller some sort \
    specific specified start starting state statement statements store stored storing stream string sub \
    such support supported syntax table tables than that the their there these this time to token too \
    total transaction transactions transactionconflict transactwriteitems ttl type types undefined \
    underflow unexpected unknown unsupported up update updated updates updating upper use used using \
    utf-8 valid validation validationerror validationexception value values was wasn't well were when \
    which will with within write written wrong you your";

/// Words that announce a name of a table's own, in lower case.
const BEFORE_A_NAME: &[&str] = &[
    "specified index: ",
    "missing the key ",
    "type mismatch for key ",
    "type mismatch for index key ",
    "indexname: ",
    "indexkey: ",
    "string value. key: ",
    "binary value. key: ",
];

/// `message` of an answer with this code, as far as it may be told, while `doing` something.
pub(super) fn of_message(code: &str, message: &str, doing: &str) -> String {
    if code != "ValidationException" && codes::is_listed(code) {
        return of_a_known_code(message);
    }
    let is_of_ours = |word: &str| {
        WORDS.split_ascii_whitespace().any(|known| known.eq_ignore_ascii_case(word))
            || doing.split(|c: char| !is_of_a_word(c)).any(|known| known == word)
    };
    let mut told = String::new();
    let mut rest = message;
    while !rest.is_empty() {
        let word_bytes = rest.find(|c| !is_of_a_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_bytes);
        let before = message[..message.len() - rest.len()].to_ascii_lowercase();
        let trimmed = word.trim_end_matches('.');
        if trimmed.is_empty()
            || is_of_ours(trimmed)
            || BEFORE_A_NAME.iter().any(|words| before.ends_with(words))
        {
            told.push_str(word);
        } else if !told.trim_end().ends_with('…') {
            told.push('…');
        }
        let gap_bytes = after.find(is_of_a_word).unwrap_or(after.len());
        let (gap, next) = after.split_at(gap_bytes);
        // Text between words is told where it is plain; a quote, and whatever a value is made of, is
        // not.
        let is_plain = |c: char| matches!(c, ' ' | ':' | ',' | ';' | '(' | ')');
        let plain_bytes = gap.find(|c| !is_plain(c)).unwrap_or(gap.len());
        told.push_str(&gap[..plain_bytes]);
        if plain_bytes < gap.len() && !told.ends_with(' ') {
            told.push(' ');
        }
        rest = next;
    }
    told.trim().to_owned()
}

fn is_of_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '\'')
}

/// Shortens a message under a code that is on the list: DynamoDB speaks of names and rights there; only a
/// signature that is refused is quoted back, with the session's token in it.
fn of_a_known_code(message: &str) -> String {
    let quoted = message.find(['\'', '"', '\n']).unwrap_or(message.len());
    let whole = message.find("The Canonical String").map_or(quoted, |at| at.min(quoted));
    let (told, held) = message.split_at(whole);
    if held.is_empty() { told.to_owned() } else { format!("{}…", told.trim_end()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOING: &str = "putting an item into loan_payments";

    #[test]
    fn a_value_that_a_validation_quotes_is_not_told() {
        for (message, told) in [
            (
                "The parameter cannot be converted to a numeric value: 12,34 Planted",
                "The parameter cannot be converted to a numeric value: …",
            ),
            (
                "1 validation error detected: Value 'it's; Planted' at 'key' failed to satisfy \
                    constraint: Member must have \
                 length less than or equal to 255",
                "Member must have length less than or equal to 255",
            ),
            (
                "Invalid KeyConditionExpression: Syntax error; token: \"Planted\", near: \"(x\"",
                "Syntax error; token: …",
            ),
            (
                "Statement wasn't well formed, can't be processed: INSERT 'Planted' 4711",
                "Statement wasn't well formed,",
            ),
        ] {
            let said = of_message("ValidationException", message, DOING);
            assert!(!said.contains("Planted") && !said.contains("4711") && !said.contains("12"), "{said}");
            assert!(said.contains(told.trim_end_matches(" …")), "{said}");
            assert_eq!(said, of_message("SomethingOfNextYear", message, DOING));
        }
    }

    #[test]
    fn what_holds_no_value_is_told_whole_with_its_names() {
        for message in [
            "The table does not have the specified index: by-status_2",
            "One or more parameter values were invalid: Type mismatch for key order_id expected: S actual: N",
            "One or more parameter values were invalid: Missing the key order_id in the item",
            "One or more parameter values were invalid: Size of hashkey has exceeded the maximum size \
                limit of2048 bytes",
            "Item size has exceeded the maximum allowed size",
            "Attempting to store more than 38 significant digits in a Number",
            "Number overflow. Attempting to store a number with magnitude larger than supported range",
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot \
                contain an empty string \
             value. Key: order_id",
            "Cannot do operations on a non-existent table",
            "An string set  may not be empty",
            "Table: loan_payments",
        ] {
            assert_eq!(of_message("ValidationException", message, DOING), message);
        }
        for (code, message) in [
            (
                "AccessDeniedException",
                "User: arn:aws:iam::123:user/x is not authorized to perform: dynamodb:PutItem",
            ),
            ("ResourceNotFoundException", "Requested resource not found: Table: other not found"),
        ] {
            assert_eq!(of_message(code, message, DOING), message);
        }
    }

    #[test]
    fn no_part_of_a_signature_is_told() {
        let refused = "The request signature we calculated does not match. The Canonical String for this \
            request should have \
                       been 'POST x-amz-security-token:Planted'";
        let said = of_message("InvalidSignatureException", refused, DOING);
        assert!(said.starts_with("The request") && !said.contains("Planted"), "{said}");
        let said = of_message("IncompleteSignatureException", "'Credential=Planted' not a valid pair", DOING);
        assert_eq!(said, "…");
    }
}
