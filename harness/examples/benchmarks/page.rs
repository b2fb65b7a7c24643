//! `BENCHMARKS.md`.

use std::fmt::Write;

use super::versus::{Bound, Comparison, Growth, Measured, Value, median};
use super::{FIGURE, Records};

const HEAD: &str = "\
# Benchmarks

Every number in a table was measured by a program of this repository; `cargo xtask bench` measures them all again, `cargo xtask bench NAME` those of one
program, and compares the ratios with these. Ours and the peer take turns in one run, with as many threads and, where both use it, the same
libtorch; a ratio is of median times, and its range that of single turns. Times by themselves hang on the machine and on what else it does.
`cargo run --release -p reprise --example benchmarks -- accept` writes this page.
";

/// Written by hand: profiles of what isn't met.
const MISSED: &str = include_str!("missed.md");

/// The page of all records.
pub fn markdown(records: &Records) -> String {
    let mut page =
        format!("{HEAD}\n![How many times as fast as its peer each part is, and how fast it has to be]({FIGURE})\n");
    for (name, record) in records {
        let date = jiff::Timestamp::from_second(record.when as i64)
            .map_or_else(|_| "?".into(), |when| when.strftime("%Y-%m-%d").to_string());
        let _ = write!(page, "\n## {name}\n\n{date}, {}, {} threads\n", record.processor, record.threads);
        if !record.comparisons.is_empty() {
            page.push_str("\n| What | Ours (s) | Peer (s) | Turns | Ratio | Range | Wanted | Met | Peer |\n");
            page.push_str("| :-- | --: | --: | --: | --: | --: | --: | :-- | :-- |\n");
        }
        for comparison in &record.comparisons {
            let (ratio, (least, most)) = (comparison.ratio(), comparison.range());
            let versions: Vec<String> =
                comparison.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
            let wanted = if comparison.wanted > 0.0 { format!("{}", comparison.wanted) } else { "–".into() };
            let met = if comparison.wanted <= 0.0 { "–" } else { met(ratio >= comparison.wanted) };
            let (ours, theirs) = (median(&comparison.ours, "seconds"), median(&comparison.theirs, "seconds"));
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {ratio:.2} | {least:.2} to {most:.2} | {wanted} | {met} | {}: {} |",
                comparison.what,
                digits(ours),
                digits(theirs),
                turns(comparison),
                comparison.peer,
                versions.join(", "),
            );
        }
        for comparison in &record.comparisons {
            others(&mut page, comparison);
        }
        values(&mut page, &record.values);
        record.growth.iter().for_each(|growth| grows(&mut page, growth));
    }
    page + MISSED
}

fn turns(comparison: &Comparison) -> String {
    let (ours, theirs) = (comparison.ours.len(), comparison.theirs.len());
    if ours == theirs { ours.to_string() } else { format!("{ours} and {theirs}") }
}

/// What was measured beside time, as means of the turns.
fn others(page: &mut String, comparison: &Comparison) {
    let Some(first) = comparison.ours.first() else { return };
    let mut names = first.keys().filter(|name| !["seconds", "loss"].contains(&name.as_str())).peekable();
    if names.peek().is_none() {
        return;
    }
    let _ = write!(page, "\n| {}, means | ours | {} |\n| :-- | --: | --: |\n", comparison.what, comparison.peer);
    for name in names {
        let of = |side: &[Measured]| {
            let all: Vec<&f64> = side.iter().filter_map(|turn| turn.get(name)).collect();
            let mean = all.iter().copied().sum::<f64>() / all.len().max(1) as f64;
            if all.is_empty() { "–".into() } else { digits(mean) }
        };
        let _ = writeln!(page, "| {name} | {} | {} |", of(&comparison.ours), of(&comparison.theirs));
    }
}

fn values(page: &mut String, values: &[Value]) {
    if values.is_empty() {
        return;
    }
    page.push_str("\n| What | Measured | Unit | Wanted | Met | Peer |\n| :-- | --: | :-- | --: | :-- | :-- |\n");
    for value in values {
        let (wanted, kept) = match value.bound {
            Bound::AtMost(most) => (format!("at most {}", digits(most)), value.measured <= most),
            Bound::AtLeast(least) => (format!("at least {}", digits(least)), value.measured >= least),
        };
        let _ = writeln!(
            page,
            "| {} | {} | {} | {wanted} | {} | {} |",
            value.what,
            digits(value.measured),
            value.unit,
            met(kept),
            value.peer
        );
    }
}

fn grows(page: &mut String, growth: &Growth) {
    let Some(first) = growth.points.first() else { return };
    let others: Vec<&String> = first.keys().filter(|name| !["size", "seconds"].contains(&name.as_str())).collect();
    let heads: String =
        others.iter().map(|name| format!(" {} |", name.replace("-mib", " (MiB)").replace('-', " "))).collect();
    let _ = write!(
        page,
        "\n{}:\n\n| {} | seconds |{heads}\n| --: | --: |{}\n",
        growth.what,
        growth.size,
        " --: |".repeat(others.len())
    );
    for point in &growth.points {
        let of = |name: &str| point.get(name).map_or_else(|| "–".into(), |value| digits(*value));
        let rest: String = others.iter().map(|name| format!(" {} |", of(name))).collect();
        let _ = writeln!(page, "| {} | {} |{rest}", of("size"), of("seconds"));
    }
}

fn met(kept: bool) -> &'static str {
    if kept { "yes" } else { "**no**" }
}

/// Three significant digits, and all of a whole number.
fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let places = (2 - value.abs().log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
