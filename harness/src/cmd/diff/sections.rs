//! What a person reads of a comparison.

use std::collections::BTreeSet;

use crate::cmd::document::{Block, Section};
use crate::cmd::print;
use crate::diff::curves::CurvePair;
use crate::diff::hypotheses::{Decoded, Utterance};
use crate::diff::metrics::{MetricPair, Standing};
use crate::diff::origin::{FileChanges, Named};
use crate::diff::stages::{self, StagePair, Why};
use crate::diff::{Diff, Number, Piece, Sides, Which};
use crate::explain::Field;

/// The sections that have something to say, of each table at most so many rows.
pub fn of(diff: &Diff, rows: usize) -> Vec<Section> {
    let several = diff.pairs.len() > 1;
    let section = |title, blocks: Vec<Block>| (!blocks.is_empty()).then_some(Section { title, blocks });
    [
        section("", head(diff)),
        section("settings", fields("field", &diff.settings, rows)),
        section("data", data(diff, rows)),
        section("code", code(diff, rows)),
        section("environment", fields("made with", &diff.environment, rows)),
        section("stages", stages(&diff.stages, several, rows)),
        section("numbers", metrics(&diff.metrics, several, rows)),
        section("curves", curves(&diff.curves, several, rows)),
        section("hypotheses", hypotheses(&diff.hypotheses, several, rows)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A table's first rows, and how many more there are.
fn limited(header: &[&'static str], right: &[usize], mut rows: Vec<Vec<String>>, most: usize) -> Vec<Block> {
    let more = rows.len().saturating_sub(most);
    rows.truncate(most);
    if rows.is_empty() && more == 0 {
        return Vec::new();
    }
    let table = (!rows.is_empty()).then(|| Block::table(header, right, rows));
    table.into_iter().chain(left_out(more, "row")).collect()
}

fn left_out(more: usize, of: &str) -> Option<Block> {
    (more > 0).then(|| Block::Text(format!("{} left out: see --rows and --json", counted(more, of))))
}

fn head(diff: &Diff) -> Vec<Block> {
    let sides = [("A", &diff.of.a), ("B", &diff.of.b)];
    let titled = sides.iter().any(|(_, head)| !head.title.is_empty());
    let mut header = vec!["", "given", "is", "setting"];
    header.extend(titled.then_some("of"));
    let row = |(name, head): (&str, &crate::diff::Head)| {
        let setting = or_none(head.variant.map(|variant| format!("variant:{}", variant.short())));
        let mut row = vec![name.to_owned(), head.given.clone(), head.is.clone(), setting];
        row.extend(titled.then(|| head.title.clone()));
        row
    };
    let mut blocks = vec![Block::table(&header, &[], sides.map(row).into())];
    for (name, head) in sides {
        blocks.extend(head.notes.iter().map(|note| Block::Text(format!("{name}: {note}"))));
    }
    if diff.pairs.len() > 1 {
        let seeds: Vec<String> = diff.pairs.iter().map(|pair| pair.a.seed.to_string()).collect();
        blocks.push(Block::Text(format!("compared seed by seed: {}", seeds.join(", "))));
    }
    blocks.push(Block::Text(format!("{}: {}", print::word(&diff.answer).replace('-', " "), diff.because)));
    blocks
}

fn fields(name: &'static str, fields: &[Field], most: usize) -> Vec<Block> {
    let row = |field: &Field| vec![field.path.clone(), or_none(field.a.clone()), or_none(field.b.clone())];
    limited(&[name, "A", "B"], &[], fields.iter().map(row).collect(), most)
}

fn data(diff: &Diff, most: usize) -> Vec<Block> {
    let rows = diff.data.iter().map(|pair| {
        let [a, b] = pair.content.map(|content| content.short()).into_array();
        let [of_a, of_b] = pair.utterances.map(or_number).into_array();
        vec![pair.stage.clone(), a, b, of_a, of_b, pair.files.as_ref().map_or("-".into(), changes)]
    });
    let header = ["stage", "content A", "content B", "utterances A", "utterances B", "files"];
    let mut blocks = limited(&header, &[3, 4], rows.collect(), most);
    for pair in &diff.data {
        let Some(FileChanges { changed, only, .. }) = &pair.files else { continue };
        let kinds = [("changed", changed), ("only in A", &only.a), ("only in B", &only.b)];
        blocks.extend(kinds.iter().filter(|(_, named)| named.count > 0).map(|(kind, Named { count, first })| {
            let more = if *count > first.len() { ", …" } else { "" };
            Block::Text(format!("{}, {kind}: {}{more}", pair.stage, first.join(", ")))
        }));
    }
    blocks
}

fn changes(FileChanges { equal, changed, only }: &FileChanges) -> String {
    let counts =
        [(changed.count, "changed"), (only.a.count, "only in A"), (only.b.count, "only in B"), (*equal, "equal")];
    let told = counts.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}"));
    told.collect::<Vec<_>>().join(", ")
}

fn code(diff: &Diff, most: usize) -> Vec<Block> {
    let mut blocks = fields("code", &diff.code.fields, most);
    for file in diff.code.patches.iter().take(most) {
        let what = match file.only {
            None => "is changed in other ways",
            Some(Which::A) => "is changed in A alone",
            Some(Which::B) => "is changed in B alone",
        };
        blocks.push(Block::Text(format!("{} {what}:", file.file)));
        let lines: Vec<Piece> = file.lines.iter().take(most).cloned().collect();
        let more = file.lines.len() - lines.len() + file.left_out;
        blocks.extend((!lines.is_empty()).then_some(Block::Lines(lines)));
        blocks.extend(left_out(more, "line"));
    }
    blocks.extend(left_out(diff.code.patches.len().saturating_sub(most), "file"));
    blocks
}

fn stages(stages: &[StagePair], several: bool, most: usize) -> Vec<Block> {
    let differing: Vec<&StagePair> = stages.iter().filter(|stage| !is_equal(stage)).collect();
    if differing.is_empty() {
        return Vec::new();
    }
    let reasons = |stage: &StagePair| {
        let reasons: BTreeSet<&Why> = stage.runs.iter().map(|run| &run.why).collect();
        reasons.into_iter().map(because).collect::<Vec<_>>().join("; ")
    };
    let row = |stage: &&StagePair| {
        let same = |run: &&stages::Standing| run.digest.both().is_some_and(|digests| digests.a == digests.b);
        match stage.runs.as_slice() {
            [run] if !several => {
                let [a, b] = run.digest.map(|digest| or_none(digest.map(|digest| digest.short()))).into_array();
                let key = run.key.both().is_some_and(|keys| keys.a == keys.b);
                let key = if key { "same" } else { "other" }.to_owned();
                vec![stage.stage.clone(), key, a, b, reasons(stage)]
            }
            runs => {
                let same = format!("{} of {}", runs.iter().filter(same).count(), runs.len());
                vec![stage.stage.clone(), same, reasons(stage)]
            }
        }
    };
    let rows = differing.iter().map(row).collect();
    let header: &[&str] = match several {
        true => &["stage", "same output in", "because of"],
        false => &["stage", "key", "output A", "output B", "because of"],
    };
    let mut blocks = limited(header, &[], rows, most);
    let equal = stages.len() - differing.len();
    blocks.extend((equal > 0).then(|| Block::Text(format!("the same on both sides: {}", counted(equal, "stage")))));
    blocks
}

fn is_equal(stage: &StagePair) -> bool {
    stage.runs.iter().all(|run| run.why == Why::Same)
}

fn because(why: &Why) -> String {
    match why {
        Why::Same => "nothing: it is the same".into(),
        Why::Settings(paths) => match paths.len() {
            ..5 => paths.join(", "),
            all => format!("{} and {} more settings", paths[..3].join(", "), all - 3),
        },
        Why::OtherInputs => "the stages that it reads".into(),
        Why::Inputs => "what the stages that it reads gave".into(),
        Why::Environment(facts) => format!("what it was made with: {}", facts.join(", ")),
        Why::Unexplained => "nothing known: it does not repeat to the bit".into(),
        Why::Unknown => "not known: one of the two is no longer stored".into(),
        Why::Only(Which::A) => "B has no such stage".into(),
        Why::Only(Which::B) => "A has no such stage".into(),
        Why::Unfinished => "one of the two has no output yet".into(),
    }
}

fn metrics(metrics: &[MetricPair], several: bool, most: usize) -> Vec<Block> {
    let mut shown: Vec<&MetricPair> = metrics.iter().filter(|pair| pair.standing != Standing::Same).collect();
    // What is furthest from its tolerance first.
    shown.sort_by(|a, b| (a.standing.cmp(&b.standing)).then(distance(b).total_cmp(&distance(a))));
    let row = |pair: &&MetricPair| {
        let [a, b] = match pair.values.both() {
            Some(values) => two(values).into_array(),
            None => pair.values.map(or_number).into_array(),
        };
        let mut row = vec![pair.address.to_string(), a, b, pair.difference.map_or("-".into(), signed)];
        if several {
            let interval = |(low, high): (Number, Number)| format!("{} to {}", signed(low), signed(high));
            row.extend([pair.runs.to_string(), pair.interval.map_or("-".into(), interval), or_number(pair.detectable)]);
        }
        row.extend([or_number(pair.tolerance), standing(pair)]);
        row
    };
    let rows = shown.iter().map(row).collect();
    let mut blocks = match several {
        true => {
            let header =
                ["number", "mean A", "mean B", "B less A", "seeds", "95 % interval", "detectable", "tolerance", ""];
            limited(&header, &[1, 2, 3, 4, 5, 6, 7], rows, most)
        }
        false => limited(&["number", "A", "B", "B less A", "tolerance", ""], &[1, 2, 3, 4], rows, most),
    };
    let equal = metrics.len() - shown.len();
    if !blocks.is_empty() && equal > 0 {
        blocks.push(Block::Text(format!("equal to the bit: {}", counted(equal, "number"))));
    }
    blocks
}

/// The difference in tolerances; 0 where there is none to compare.
fn distance(pair: &MetricPair) -> f64 {
    let distance = pair.difference.zip(pair.tolerance).map(|(Number(less), Number(tolerance))| less.abs() / tolerance);
    distance.filter(|distance| !distance.is_nan()).unwrap_or_default()
}

fn standing(pair: &MetricPair) -> String {
    let better = match pair.better {
        Some(Which::A) => ", A is better",
        Some(Which::B) => ", B is better",
        None => "",
    };
    match pair.standing {
        Standing::Beyond => format!("beyond{better}"),
        Standing::OnlyA => "not in B".into(),
        Standing::OnlyB => "not in A".into(),
        Standing::Undecided => match pair.seeds_needed {
            Some(seeds) => format!("undecided: {} would tell", counted(seeds, "seed")),
            None => "undecided".into(),
        },
        Standing::Within => "within".into(),
        Standing::Untold => "tells nothing alone".into(),
        Standing::Same => "equal".into(),
    }
}

fn curves(curves: &[CurvePair], several: bool, most: usize) -> Vec<Block> {
    let Some(first_stage) = curves.first() else { return Vec::new() };
    let of_stage = curves.iter().filter(|curve| curve.stage == first_stage.stage && curve.seed == first_stage.seed);
    let first = of_stage.min_by_key(|curve| curve.parted.parts_at).unwrap_or(first_stage);
    let values = |values: Sides<Option<Number>>| match values.both() {
        Some(values) => two(values).into_array(),
        None => values.map(or_number).into_array(),
    };
    let [a, b] = values(first.parted.there);
    let (step, metric) = (first.parted.parts_at, &first.parted.metric);
    let of_seed = if several { format!(" of seed {}", first.seed.a) } else { String::new() };
    let text = format!("first at step {step} of {}{of_seed}, {metric}: {a} and {b}", first.stage);
    let row = |curve: &CurvePair| {
        let parted = &curve.parted;
        let [last_a, last_b] = values(parted.last);
        let mut row = vec![curve.stage.clone()];
        row.extend(several.then(|| curve.seed.a.to_string()));
        row.extend([parted.metric.clone(), parted.parts_at.to_string()]);
        row.extend([
            parted.widest.map_or("-".into(), |gap| signed(gap.difference)),
            parted.widest.map_or("-".into(), |gap| gap.step.to_string()),
            last_a,
            last_b,
        ]);
        row
    };
    let rows = curves.iter().map(row).collect();
    let header = ["stage", "seed", "curve", "parts at step", "widest gap, B less A", "at step", "last A", "last B"];
    let table = match several {
        true => limited(&header, &[1, 3, 4, 5, 6, 7], rows, most),
        false => {
            let header: Vec<&str> = header.into_iter().filter(|name| *name != "seed").collect();
            limited(&header, &[2, 3, 4, 5, 6], rows, most)
        }
    };
    [Block::Text(text)].into_iter().chain(table).collect()
}

fn hypotheses(decoded: &[Decoded], several: bool, most: usize) -> Vec<Block> {
    let row = |split: &Decoded| {
        let mut row = vec![split.stage.clone()];
        row.extend(several.then(|| split.seed.a.to_string()));
        let tested = split.matched_pairs.as_ref();
        let p = tested.and_then(|tested| tested.p);
        row.extend([
            split.utterances.to_string(),
            split.changed.len().to_string(),
            split.errors.a.to_string(),
            split.errors.b.to_string(),
            split.better.a.to_string(),
            split.better.b.to_string(),
            tested.and_then(|tested| tested.w).map_or("-".into(), |w| format!("{:+.2}", w)),
            p.map_or("-".into(), |p| if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }),
        ]);
        row
    };
    let header = [
        "decoded",
        "seed",
        "utterances",
        "changed",
        "errors A",
        "errors B",
        "fewer in A",
        "fewer in B",
        "w (MAPSSWE)",
        "p",
    ];
    let rows = decoded.iter().map(row).collect();
    let mut blocks = match several {
        true => limited(&header, &[1, 2, 3, 4, 5, 6, 7, 8, 9], rows, most),
        false => {
            let header: Vec<&str> = header.into_iter().filter(|name| *name != "seed").collect();
            limited(&header, &[1, 2, 3, 4, 5, 6, 7, 8], rows, most)
        }
    };
    for split in decoded {
        let of_seed = if several { format!(" of seed {}", split.seed.a) } else { String::new() };
        blocks.extend(
            split.not_paired.iter().map(|why| Block::Text(format!("{}{of_seed} isn't tested: {why}", split.stage))),
        );
        let Sides { a, b } = split.only;
        if a + b > 0 {
            blocks.push(Block::Text(format!(
                "{}{of_seed}: {} only in A, {b} only in B",
                split.stage,
                counted(a, "utterance")
            )));
        }
        if several {
            continue;
        }
        let words = |utterance: &Utterance| {
            let Utterance { id, reference, errors, words } = utterance;
            let title = format!(
                "{}{of_seed}, {id}: {} in A, {} in B",
                split.stage,
                counted(errors.a as usize, "word error"),
                errors.b
            );
            let reference = reference.split_whitespace().map(|word| Piece { of: None, text: word.to_owned() });
            let lines = vec![("reference", reference.collect()), ("A", words.a.clone()), ("B", words.b.clone())];
            Block::Words { title, lines }
        };
        blocks.extend(split.changed.iter().take(most).map(words));
        blocks.extend(left_out(split.changed.len().saturating_sub(most), "utterance"));
    }
    blocks
}

/// `1 row`, `2 rows`.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".into())
}

fn or_number(value: Option<Number>) -> String {
    value.map_or("-".into(), |Number(value)| number(value))
}

/// Six digits, or more where two that differ would look alike.
fn two(values: Sides<Number>) -> Sides<String> {
    let shown = values.map(|Number(value)| number(value));
    match shown.a == shown.b && values.a != values.b {
        true => values.map(|Number(value)| value.to_string()),
        false => shown,
    }
}

fn signed(Number(value): Number) -> String {
    let shown = number(value);
    if value > 0.0 { format!("+{shown}") } else { shown }
}

/// A number with six significant digits; whole ones whole.
fn number(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return value.to_string();
    }
    let magnitude = value.abs().log10().floor();
    match () {
        () if value == value.round() && magnitude < 15.0 => format!("{value:.0}"),
        () if (-5.0..9.0).contains(&magnitude) => {
            let digits = (5.0 - magnitude).max(0.0) as usize;
            let shown = format!("{value:.digits$}");
            if shown.contains('.') { shown.trim_end_matches('0').trim_end_matches('.').to_owned() } else { shown }
        }
        () => format!("{value:.5e}"),
    }
}
