//! Whether answers make up a whole table. Pure; why it is enough is written in the parent module.

use std::collections::{HashMap, HashSet};

use lockstep_postgres::{Answered, ComparisonPiece};

/// Next thing to do about a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A piece is not read, or what was read of it is lost.
    Reading,
    /// Workers that have read pieces have not answered.
    Answering,
    /// Each has answered, and what they say is of different moments: the wish has to be repeated.
    Stale,
    /// These answers are the whole table.
    Whole(Vec<Answered>),
}

/// Judges the answers to a wish.
pub(super) fn stage(pieces: &[ComparisonPiece], answers: &[Answered]) -> Stage {
    let newest: HashSet<i64> = pieces.iter().filter(|piece| piece.done).map(|piece| piece.token).collect();
    if let Some(taken) = whole(&newest, pieces.len(), answers) {
        return Stage::Whole(taken);
    }
    if !are_read(pieces) {
        return Stage::Reading;
    }
    let answered: HashSet<i64> = answers.iter().map(|answer| answer.worker).collect();
    if pieces.iter().all(|piece| piece.worker.is_some_and(|worker| answered.contains(&worker))) {
        return Stage::Stale;
    }
    Stage::Answering
}

/// Tells whether each piece is read, and held by a process that can still hand it over.
pub(super) fn are_read(pieces: &[ComparisonPiece]) -> bool {
    !pieces.is_empty() && pieces.iter().all(|piece| piece.done && piece.held)
}

/// Returns the answers that hold each of the newest tokens once and nothing else.
fn whole(newest: &HashSet<i64>, pieces: usize, answers: &[Answered]) -> Option<Vec<Answered>> {
    let is_current = |answer: &&Answered| answer.tokens.iter().all(|token| newest.contains(token));
    let mut times: HashMap<i64, usize> = HashMap::new();
    let mut taken = Vec::new();
    for answer in answers.iter().filter(is_current) {
        taken.push(answer.clone());
        answer.tokens.iter().for_each(|token| *times.entry(*token).or_default() += 1);
    }
    let each_once = times.values().all(|times| *times == 1);
    (pieces > 0 && newest.len() == pieces && times.len() == pieces && each_once).then_some(taken)
}
