//! The figure of all ratios: bars on a logarithmic axis, a mark where each has to reach.

use svg::Document;
use svg::node::element::{Line, Rectangle, Text, Title};

use super::Records;

const WIDTH: f64 = 1000.0;
const LABELS: f64 = 560.0;
const ROW: f64 = 26.0;
const TOP: f64 = 40.0;
/// Ratios at the ends of the axis; what is beyond is told by its number.
const LEAST: f64 = 0.5;
const MOST: f64 = 160.0;

/// Draws it, in colours that read on light and on dark.
pub fn svg(records: &Records) -> String {
    let comparisons: Vec<_> = records.values().flat_map(|record| &record.comparisons).collect();
    let (low, high) = (LEAST.log10(), MOST.log10());
    let x = |ratio: f64| LABELS + (ratio.clamp(LEAST, MOST).log10() - low) / (high - low) * (WIDTH - LABELS - 60.0);
    let height = TOP + ROW * comparisons.len() as f64 + 14.0;
    let text = |x: f64, y: f64, anchor: &str, content: String| {
        Text::new(content).set("x", x).set("y", y).set("text-anchor", anchor).set("fill", "#777").set("font-size", 12)
    };
    let mut figure = Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .set("role", "img")
        .set("font-family", "sans-serif")
        .add(Title::new("Times as fast as the peer; the dark mark is what is wanted"));
    for tick in [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0] {
        let width = if tick == 1.0 { 2 } else { 1 };
        figure = figure.add(text(x(tick), TOP - 14.0, "middle", format!("{tick}×"))).add(
            Line::new()
                .set("x1", x(tick))
                .set("x2", x(tick))
                .set("y1", TOP - 8.0)
                .set("y2", height - 8.0)
                .set("stroke", "#999")
                .set("stroke-width", width)
                .set("stroke-opacity", 0.4),
        );
    }
    for (row, comparison) in comparisons.iter().enumerate() {
        let (y, ratio) = (TOP + ROW * row as f64, comparison.ratio());
        let met = ratio >= comparison.wanted;
        let (from, to) = (x(ratio.min(1.0)), x(ratio.max(1.0)));
        let mark = if comparison.wanted > 0.0 { x(comparison.wanted) } else { 0.0 };
        figure = figure
            .add(text(LABELS - 12.0, y + 15.0, "end", format!("{} ({})", comparison.what, comparison.peer)))
            .add(
                Rectangle::new()
                    .set("x", from)
                    .set("y", y + 4.0)
                    .set("width", to - from)
                    .set("height", ROW - 10.0)
                    .set("fill", if met { "#2a7fb8" } else { "#c8641e" }),
            )
            .add(text(to.max(mark) + 6.0, y + 16.0, "start", format!("{ratio:.1}")));
        if comparison.wanted > 0.0 {
            figure = figure.add(
                Line::new()
                    .set("x1", mark)
                    .set("x2", mark)
                    .set("y1", y + 1.0)
                    .set("y2", y + ROW - 3.0)
                    .set("stroke", "#777")
                    .set("stroke-width", 3),
            );
        }
    }
    figure.to_string() + "\n"
}
