//! The rating, and the one function that decides it. Pure; `docs/quality.md` says the same to people.

use super::found::{Quality, QualityRating};

/// Rows without a problem that a rating asks for, in ten thousandths.
const THRESHOLDS: [(QualityRating, u128); 4] = [
    (QualityRating::Excellent, 9_999),
    (QualityRating::Good, 9_990),
    (QualityRating::Fair, 9_900),
    (QualityRating::Poor, 9_500),
];

/// Rates a table, and says what keeps it from being better.
///
/// A row has a problem when it breaks a rule or does not decode, on the side where more rows do; rows that
/// refer to nothing come on top. Sums that differ at rest make it [`QualityRating::Critical`]; something that
/// was not checked keeps it from being [`QualityRating::Excellent`].
pub fn rate(quality: &Quality) -> (Option<QualityRating>, Vec<String>) {
    let sides = [("source", &quality.source), ("target", &quality.target)];
    let rows = sides.iter().map(|(_, side)| side.rows + side.unreadable).max().unwrap_or(0);
    if rows == 0 {
        let unchecked = quality.unchecked.iter().chain(&quality.failures).cloned();
        return (None, std::iter::once("no row was judged".to_owned()).chain(unchecked).collect());
    }
    let mut because = Vec::new();
    for (name, side) in sides {
        for rule in side.rules.iter().filter(|rule| rule.rows > 0) {
            because.push(format!("{} rows of the {name} break `{}`", rule.rows, rule.rule));
        }
        if side.unreadable > 0 {
            because.push(format!("{} rows of the {name} do not decode or cannot be held", side.unreadable));
        }
    }
    let mut problems = sides.iter().map(|(_, side)| side.rows_broken + side.unreadable).max().unwrap_or(0);
    for reference in &quality.references {
        let dangling = reference.dangling.unwrap_or(0);
        problems += dangling;
        if dangling > 0 {
            because.push(format!(
                "{dangling} rows refer by `{}` to no row of {}",
                reference.column, reference.to
            ));
        }
    }
    let clean = u128::from(rows.saturating_sub(problems));
    let reached = THRESHOLDS.iter().find(|(_, share)| clean * 10_000 >= share * u128::from(rows));
    let mut rating = reached.map_or(QualityRating::Critical, |(rating, _)| *rating);
    let unchecked = quality.unchecked.iter().chain(&quality.failures);
    if unchecked.clone().next().is_some() {
        rating = rating.min(QualityRating::Good);
        because.extend(unchecked.cloned());
    }
    for sum in quality.sums.iter().filter(|sum| quality.at_rest && !sum.agrees()) {
        rating = QualityRating::Critical;
        because.push(format!("the sums of `{}` differ", sum.name));
    }
    (Some(rating), because)
}
