//! The drawings: SVG without a script. Each has a title and a description, and tells nothing by colour alone.

use maud::{Markup, PreEscaped, html};

use crate::text::count;

const WIDTH: f64 = 720.0;
/// The inner part: what labels of axes leave.
const LEFT: f64 = 56.0;

/// Draws one bar cut into parts, each with a label and a class of colour.
pub(crate) fn stacked(title: &str, parts: &[(&str, u64, &str)]) -> Markup {
    let whole: u64 = parts.iter().map(|(_, number, _)| number).sum();
    let mut x = 0.0;
    let bars = parts.iter().filter(|(_, number, _)| *number > 0).map(|(label, number, class)| {
        // A part of one row in a million must still be seen.
        let width = (*number as f64 / whole.max(1) as f64 * WIDTH).max(3.0);
        let bar = format!(
            r#"<rect x="{x:.2}" y="0" width="{width:.2}" height="18" class="{class}"><title>{label}: {}</title></rect>"#,
            count(*number)
        );
        x += width;
        bar
    });
    let bars: String = bars.collect();
    html! {
        figure {
            svg viewBox=(format!("0 0 {x:.2} 18")) preserveAspectRatio="none" role="img" aria-label=(title) class="stacked" {
                (PreEscaped(bars))
            }
            figcaption {
                @for (label, number, class) in parts.iter().filter(|(_, number, _)| *number > 0) {
                    span class="key" { span class=(format!("swatch {class}")) {} (label) " " b { (count(*number)) } }
                }
            }
        }
    }
}

/// Two series over the same places: pairs of bars, or thin ones where there are many.
pub(crate) fn paired(title: &str, points: &[(&str, u64, u64)]) -> Markup {
    let height = 170.0;
    let most = points.iter().map(|(_, a, b)| (*a).max(*b)).max().unwrap_or(0).max(1);
    let step = (WIDTH - LEFT) / points.len().max(1) as f64;
    let bar = (step * 0.42).clamp(0.5, 22.0);
    let y = |number: u64| height - number as f64 / most as f64 * (height - 12.0);
    let bars = points.iter().enumerate().map(|(at, (label, source, target))| {
        let middle = LEFT + step * (at as f64 + 0.5);
        let differs = if source == target { "" } else { " differs" };
        let one = |x: f64, number: u64, class: &str| {
            let top = y(number);
            format!(
                r#"<rect x="{x:.2}" y="{top:.2}" width="{bar:.2}" height="{:.2}" class="{class}{differs}"/>"#,
                height - top
            )
        };
        format!(
            "<g><title>{label}: source {}, target {}</title>{}{}</g>",
            count(*source),
            count(*target),
            one(middle - bar, *source, "source"),
            one(middle, *target, "target")
        )
    });
    let bars: String = bars.collect();
    // A handful of labels, so that they never touch.
    let every = points.len().div_ceil(8).max(1);
    let labels = points.iter().enumerate().step_by(every).map(|(at, (label, ..))| {
        let x = LEFT + step * (at as f64 + 0.5);
        format!(r#"<text x="{x:.2}" y="188" text-anchor="middle">{label}</text>"#)
    });
    let labels: String = labels.collect();
    html! {
        figure {
            svg viewBox=(format!("0 0 {WIDTH} 194")) role="img" aria-label=(title) {
                (axis(height, &count(most)))
                (PreEscaped(bars))
                (PreEscaped(labels))
            }
            figcaption {
                span class="key" { span class="swatch source" {} "PostgreSQL" }
                span class="key" { span class="swatch target" {} "DynamoDB" }
            }
        }
    }
}

/// Lines over time; each point is seconds and a number.
pub(crate) fn lines(title: &str, series: &[(&str, Vec<(f64, f64)>)], unit: &str) -> Markup {
    let height = 130.0;
    let points = || series.iter().flat_map(|(_, points)| points);
    let end = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let most = points().map(|(_, y)| *y).fold(1.0, f64::max);
    let drawn = series.iter().enumerate().map(|(nth, (_, points))| {
        let path = points.iter().map(|(x, y)| {
            format!("{:.1},{:.1}", LEFT + x / end * (WIDTH - LEFT), height - y / most * (height - 12.0))
        });
        let path = path.collect::<Vec<_>>().join(" ");
        format!(r#"<polyline points="{path}" class="line line{}"/>"#, nth % 3)
    });
    let drawn: String = drawn.collect();
    html! {
        figure {
            svg viewBox=(format!("0 0 {WIDTH} 152")) role="img" aria-label=(title) {
                (axis(height, &format!("{most:.0} {unit}")))
                (PreEscaped(drawn))
                text x=(LEFT) y="148" { "0 s" }
                text x=(WIDTH) y="148" text-anchor="end" { (format!("{end:.0} s")) }
            }
            figcaption {
                @for (nth, (label, _)) in series.iter().enumerate() {
                    span class="key" { span class=(format!("swatch line{}", nth % 3)) {} (label) }
                }
            }
        }
    }
}

fn axis(height: f64, most: &str) -> Markup {
    html! {
        line x1=(LEFT) y1=(height) x2=(WIDTH) y2=(height) class="axis" {}
        line x1=(LEFT) y1="12" x2=(WIDTH) y2="12" class="grid" {}
        text x=(LEFT - 6.0) y="16" text-anchor="end" { (most) }
        text x=(LEFT - 6.0) y=(height) text-anchor="end" { "0" }
    }
}
