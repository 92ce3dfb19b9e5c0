//! One bar a table on a terminal, one line a table every two seconds elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Ui;
use super::rates::{Counter, Rates, Sample};

/// How often bars move.
const BARS_EVERY: Duration = Duration::from_millis(200);
/// How often lines are printed.
const LINES_EVERY: Duration = Duration::from_secs(2);

/// The progress of several tables, shown until it is closed or dropped.
#[derive(Debug)]
pub struct Board {
    task: Option<JoinHandle<()>>,
    closing: CancellationToken,
}

type Source = Box<dyn Fn() -> Vec<Sample> + Send>;

impl Board {
    pub(super) fn open(ui: Ui, title: &str, source: Source) -> Self {
        let closing = CancellationToken::new();
        let shown = show(ui.clone(), title.to_owned(), source, closing.clone());
        Self { task: (!ui.quiet).then(|| tokio::spawn(shown)), closing }
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
        let samples = source();
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
                    // What has come to its end is said once, with the rate that it had.
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

fn style() -> ProgressStyle {
    let template = "  {prefix:28} {bar:24} {percent:>3}% {msg}";
    // The template is ours; if it ever does not parse, a plain bar is better than none.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
