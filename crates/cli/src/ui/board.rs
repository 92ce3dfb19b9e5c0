//! One bar a table on a terminal, one line a table every two seconds elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lockstep_coordinator::first_of;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::rates::{Counter, Rates, Sample};
use super::{EACH_MAX, Ui};

/// Interval at which bars move.
const BARS_EVERY: Duration = Duration::from_millis(200);
/// Interval at which lines are printed.
const LINES_EVERY: Duration = Duration::from_secs(2);

/// The progress of several tables, shown until it is closed or dropped.
pub struct Board {
    task: Option<JoinHandle<()>>,
    closing: CancellationToken,
    /// Held for who else counts what it shows.
    _source: Source,
}

type Source = Arc<dyn Fn() -> Vec<Sample> + Send + Sync>;

impl Board {
    pub(super) fn open(ui: Ui, title: &str, source: Source) -> Self {
        let closing = CancellationToken::new();
        let shown = show(ui.clone(), title.to_owned(), source.clone(), closing.clone());
        Self { task: (!ui.quiet).then(|| tokio::spawn(shown)), closing, _source: source }
    }

    /// Shows the last state once more and clears the bars.
    pub async fn close(mut self) {
        self.closing.cancel();
        if let Some(task) = self.task.take() {
            // It has nothing to fail at but a panic, which its own hook has printed.
            let _ = task.await;
        }
    }
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").field("task", &self.task).finish_non_exhaustive()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

async fn show(ui: Ui, title: String, source: Source, closing: CancellationToken) {
    let begun = Instant::now();
    let mut rates: Vec<Rates> = Vec::new();
    let mut bars: Vec<ProgressBar> = Vec::new();
    let mut said: Vec<Option<Counter>> = Vec::new();
    let mut ticks = tokio::time::interval(if ui.bars.is_some() { BARS_EVERY } else { LINES_EVERY });
    let mut first = true;
    loop {
        let last = tokio::select! {
            biased;
            () = closing.cancelled() => true,
            _ = ticks.tick() => false,
        };
        let samples = folded(source());
        rates.resize_with(samples.len(), Rates::default);
        for (sample, rates) in samples.iter().zip(&mut rates) {
            rates.update(begun.elapsed().as_secs_f64(), sample);
        }
        match &ui.bars {
            Some(multi) => {
                while bars.len() < samples.len() {
                    bars.push(multi.add(ProgressBar::new(0).with_style(style())));
                }
                for ((sample, rates), bar) in samples.iter().zip(&rates).zip(&bars) {
                    bar.set_prefix(format!("{title} {}", sample.name));
                    bar.set_length(sample.done.end.max(sample.done.now));
                    bar.set_position(sample.done.now);
                    bar.set_message(rates.line(sample));
                }
            }
            // At the first tick nothing has happened yet.
            None if !first => {
                said.resize_with(samples.len(), || None);
                for ((sample, rates), said) in samples.iter().zip(&rates).zip(&mut said) {
                    // A bar that has come to its end is said once, with the rate that it had.
                    let end = Some(sample.done).filter(|done| done.end > 0 && done.now >= done.end);
                    if end.is_some() && *said == end {
                        continue;
                    }
                    *said = end;
                    ui.say(&format!("  {title} {:<17} {}", sample.name, rates.line(sample)));
                }
            }
            None => {}
        }
        first = false;
        if last {
            break;
        }
    }
    for bar in bars {
        let summary = format!("  {} {}", bar.prefix(), bar.message());
        bar.finish_and_clear();
        ui.say(&summary);
    }
}

/// Notes of tables that are shown in the line of all of many.
const NOTES_MAX: usize = 3;

/// Many tables as one: fifty lines every two seconds are read by no person.
fn folded(samples: Vec<Sample>) -> Vec<Sample> {
    if samples.len() <= EACH_MAX {
        return samples;
    }
    let some = |of: fn(&Sample) -> Option<u64>| {
        samples.iter().any(|sample| of(sample).is_some()).then(|| samples.iter().filter_map(of).sum::<u64>())
    };
    let lags = samples.iter().filter_map(|sample| sample.lag);
    let notes: Vec<String> = samples
        .iter()
        .filter(|sample| !sample.notes.is_empty())
        .map(|sample| format!("{}: {}", sample.name, sample.notes.join(", ")))
        .collect();
    let sum = |of: fn(&Counter) -> u64| samples.iter().map(|sample| of(&sample.done)).sum::<u64>();
    vec![Sample {
        name: format!("{} tables", samples.len()),
        done: Counter {
            now: sum(|done| done.now),
            end: sum(|done| done.end),
            before: sum(|done| done.before),
        },
        bytes: some(|sample| sample.bytes),
        capacity_units: some(|sample| sample.capacity_units),
        lag: lags.reduce(|all, one| (all.0 + one.0, all.1.max(one.1))),
        ceiling: None,
        items: some(|sample| sample.items),
        notes: if notes.is_empty() { notes } else { vec![first_of(&notes, NOTES_MAX)] },
    }]
}

fn style() -> ProgressStyle {
    let template = "  {prefix:28} {bar:24} {percent:>3}% {msg}";
    // The template is ours; if it ever does not parse, a plain bar is better than none.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_tables_are_one_line_with_what_there_is_to_say_of_some() {
        let of = |n: u64| Sample {
            name: format!("table_{n}"),
            done: Counter { now: n, end: 100, before: 0 },
            lag: Some((n % 2, n)),
            notes: if n.is_multiple_of(10) { vec!["1 dead letters".to_owned()] } else { Vec::new() },
            ..Sample::default()
        };
        let all = folded((1..=50).map(of).collect());
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].name.as_str(), all[0].done.now, all[0].done.end), ("50 tables", 1_275, 5_000));
        assert_eq!((all[0].lag, all[0].bytes), (Some((25, 50)), None));
        let said = "table_10: 1 dead letters, table_20: 1 dead letters, table_30: 1 dead letters and 2 more";
        assert_eq!(all[0].notes, [said]);
        assert_eq!(folded((1..=12).map(of).collect()).len(), 12);
    }
}
