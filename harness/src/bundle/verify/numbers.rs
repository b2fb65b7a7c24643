//! Scores against the data that they summarise.

use std::collections::{BTreeMap, BTreeSet};

use reprise_spec::contract::Score;
use reprise_spec::decoding::Weights;
use reprise_spec::layers::{self, Findings};
use reprise_spec::recognition::{Edits, Recognised, Scores};
use reprise_spec::stage::{CorpusPart, CorpusStage, ProbeStage, Role, Stage, UnitsStage};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::tables::Table;
use super::{Area, Read, Verification, alignment, name_of};
use crate::bundle::text;
use crate::store::StoredOutput;

/// Samples a second.
const SAMPLE_RATE: f64 = 16_000.0;

/// How far two sums of the same numbers may lie apart, as a share of their size.
const ROUNDING: f64 = 1e-12;

/// Numbers by the names of scores.
type Values = BTreeMap<String, f64>;

/// What the files of an output say of its scores.
#[derive(Default)]
struct Found {
    values: Values,
    /// What contradicts itself beside the scores.
    wrong: Vec<String>,
    /// Scores that can't be told from what is stored, with the reason.
    unknown: BTreeMap<String, &'static str>,
}

pub fn check(read: &Read<'_>, verification: &mut Verification) {
    for output in read.outputs {
        let name = name_of(output, read.runs);
        let found = match found(output, read) {
            Ok(found) => found,
            Err(error) => {
                verification.failed(Area::Numbers, name, error);
                continue;
            }
        };
        for wrong in found.wrong {
            verification.failed(Area::Numbers, &name, wrong);
        }
        let mut known = BTreeSet::new();
        for Score { name: metric, value, interval } in &output.manifest.summary {
            let of = format!("{name}/{metric}");
            if !known.insert(metric) {
                verification.failed(Area::Numbers, &of, "it is there twice");
            }
            match (found.values.get(metric), found.unknown.get(metric)) {
                (Some(expected), _) => {
                    let wrong = (!same(*value, *expected)).then(|| format!("it is {value}, its data give {expected}"));
                    verification.check(Area::Numbers, &of, wrong);
                }
                (None, Some(why)) => verification.not_checked(Area::Numbers, of.clone(), *why),
                (None, None) => {
                    verification.not_checked(Area::Numbers, of.clone(), "no stored data that it summarises")
                }
            }
            if let Some(interval) = interval {
                check_interval(
                    &of,
                    *interval,
                    found.values.get(&format!("{metric} low")).zip(found.values.get(&format!("{metric} high"))),
                    verification,
                );
            }
        }
    }
}

/// The ends of an interval are drawn by the trainer, so all that can be said is that they are those of `scores.json`.
fn check_interval(of: &str, interval: (f64, f64), stored: Option<(&f64, &f64)>, verification: &mut Verification) {
    let of = format!("{of}, interval");
    match stored {
        Some((low, high)) if interval != (*low, *high) => {
            verification.failed(Area::Numbers, of, "it is not that of scores.json");
        }
        _ => verification.not_checked(Area::Numbers, of, "it is resampled by the trainer, which executes nothing here"),
    }
}

/// Equal but for the rounding of sums in another order.
pub(super) fn same(value: f64, expected: f64) -> bool {
    value.to_bits() == expected.to_bits() || (value - expected).abs() <= ROUNDING * expected.abs()
}

/// What the files of an output say.
fn found(output: &StoredOutput, read: &Read<'_>) -> Result<Found, String> {
    match &output.manifest.settings {
        Stage::Corpus(CorpusStage { part: CorpusPart::Utterances { transcribed, .. }, .. }) => {
            utterances(output, *transcribed)
        }
        Stage::Corpus(CorpusStage { part: CorpusPart::Alignments, .. }) => alignments(output),
        Stage::Features(_) => frames(output),
        Stage::Units(settings) => units(output, settings),
        Stage::Pretrain(_) => validation(output, &[("loss", "validation-loss")]),
        Stage::Finetune(_) => {
            validation(output, &[("loss", "validation-loss"), ("wer", "validation-wer"), ("cer", "validation-cer")])
        }
        Stage::Tune(_) => tuned(output),
        Stage::Decode(_) => recognition(output, read),
        Stage::Probe(ProbeStage::UnitQuality(_)) => unit_quality(output),
        Stage::Probe(ProbeStage::Layers(_)) => layers(output),
        Stage::LanguageModel(_) => language_model(output),
        Stage::Checkpoint(_) | Stage::Lexicon(_) | Stage::WordVectors(_) | Stage::WordPairs(_) => Ok(Found::default()),
    }
}

fn file(output: &StoredOutput, name: &str) -> Result<String, String> {
    text(&output.out().join(name), name).map_err(|error| error.to_string())
}

fn json<T: DeserializeOwned>(output: &StoredOutput, name: &str) -> Result<T, String> {
    serde_json::from_str(&file(output, name)?).map_err(|error| format!("{name}: {error}"))
}

fn values<const N: usize>(values: [(&str, f64); N]) -> Values {
    values.map(|(name, value)| (name.to_owned(), value)).into()
}

fn utterances(output: &StoredOutput, transcribed: bool) -> Result<Found, String> {
    let (text, excluded) = (file(output, "utterances.tsv")?, file(output, "excluded.tsv")?);
    let (table, excluded) = (Table::read(&text)?, Table::read(&excluded)?);
    let samples: f64 = table.numbers::<u64>("samples")?.into_iter().map(|samples| samples as f64).sum();
    let mut found = values([
        ("utterances", table.len() as f64),
        ("seconds", samples / SAMPLE_RATE),
        ("excluded", excluded.len() as f64),
    ]);
    if transcribed {
        let words = table.column("transcript")?.map(|transcript| transcript.split_whitespace().count());
        found.insert("words".into(), words.sum::<usize>() as f64);
    }
    Ok(Found { values: found, ..Found::default() })
}

fn alignments(output: &StoredOutput) -> Result<Found, String> {
    let (phones, words) = (file(output, "phones.tsv")?, file(output, "words.tsv")?);
    let (phones, words) = (Table::read(&phones)?, Table::read(&words)?);
    let aligned: BTreeSet<&str> = phones.column("utt")?.collect();
    let count =
        |table: &Table<'_>| Ok::<_, String>(table.column("label")?.filter(|label| !label.is_empty()).count() as f64);
    let (of_phones, of_words) = (count(&phones)?, count(&words)?);
    let values = values([("aligned", aligned.len() as f64), ("phones", of_phones), ("words", of_words)]);
    Ok(Found { values, ..Found::default() })
}

fn frames(output: &StoredOutput) -> Result<Found, String> {
    let text = file(output, "utterances.tsv")?;
    let frames: f64 = Table::read(&text)?.numbers::<u64>("frames")?.into_iter().map(|frames| frames as f64).sum();
    let unknown = BTreeMap::from([("dimensions".into(), "it is the width of features.npy")]);
    Ok(Found { values: values([("frames", frames)]), unknown, ..Found::default() })
}

fn units(output: &StoredOutput, settings: &UnitsStage) -> Result<Found, String> {
    let unknown = ["inertia", "inertia-held-out", "dead-clusters", "usage-perplexity"]
        .map(|name| (name.to_owned(), "it is of features that no bundle holds"));
    let mut found = Found { unknown: unknown.into(), ..Found::default() };
    if settings.fit.get() == 1.0 {
        let text = file(output, "utterances.tsv")?;
        let table = Table::read(&text)?;
        let fitted = |split: &str| settings.fit_on.iter().any(|name| name.to_string() == split);
        let frames = table.column("split")?.zip(table.numbers::<u64>("frames")?).filter(|(split, _)| fitted(split));
        found.values = values([("frames", frames.map(|(_, frames)| frames as f64).sum())]);
    }
    Ok(found)
}

/// The last row of `validation.tsv`, with columns that scores call otherwise.
fn validation(output: &StoredOutput, renamed: &[(&str, &str)]) -> Result<Found, String> {
    let text = file(output, "validation.tsv")?;
    let name = |column: &str| {
        let other = renamed.iter().find(|(from, _)| *from == column);
        other.map_or(column, |(_, to)| *to).to_owned()
    };
    let values = Table::read(&text)?.last().into_iter().map(|(column, value)| (name(column), value)).collect();
    Ok(Found { values, ..Found::default() })
}

fn tuned(output: &StoredOutput) -> Result<Found, String> {
    let (Weights { lm, word, silence, .. }, text) = (json(output, "weights.json")?, file(output, "grid.tsv")?);
    let table = Table::read(&text)?;
    let rows = table.numbers::<f64>("lm")?.into_iter().zip(table.numbers::<f64>("word")?);
    let rows = rows.zip(table.numbers::<f64>("silence")?).zip(table.numbers::<f64>("wer")?);
    let chosen = rows.clone().find(|(weights, _)| *weights == ((lm.get(), word.get()), silence.get()));
    let mut found = Found {
        values: values([("lm-weight", lm.get()), ("word-score", word.get()), ("silence-score", silence.get())]),
        ..Found::default()
    };
    match chosen {
        Some((_, wer)) => {
            found.values.insert("wer".into(), wer);
            if rows.map(|(_, wer)| wer).any(|other| other < wer) {
                found.wrong.push("grid.tsv has better weights than those of weights.json".into());
            }
        }
        None => found.wrong.push("grid.tsv doesn't have the weights of weights.json".into()),
    }
    Ok(found)
}

fn recognition(output: &StoredOutput, read: &Read<'_>) -> Result<Found, String> {
    let rows = Recognised::read(&file(output, "hypotheses.tsv")?).map_err(|why| format!("hypotheses.tsv: {why}"))?;
    let scores: Scores = json(output, "scores.json")?;
    let mut found = Found { wrong: rows.iter().filter_map(alignment::wrong).collect(), ..Found::default() };
    found.wrong.extend(other_references(output, &rows, read)?);
    let words: Edits = rows.iter().map(|row| row.alignment.edits()).sum();
    let of = rows.len().max(1) as f64;
    let share = |count: usize| count as f64 / of;
    found.values = values([
        ("wer", words.rate()),
        ("wer low", scores.wer.interval.0),
        ("wer high", scores.wer.interval.1),
        ("cer low", scores.cer.interval.0),
        ("cer high", scores.cer.interval.1),
        ("ser", share(rows.iter().filter(|row| row.alignment.edits().total() > 0).count())),
        ("empty-hypotheses", share(rows.iter().filter(|row| row.hypothesis.is_empty()).count())),
    ]);
    let characters: Option<Vec<(u64, u64)>> = rows.iter().map(alignment::characters).collect();
    let speakers: BTreeSet<&str> = rows.iter().map(|row| row.speaker.as_str()).collect();
    let mut same = words == scores.wer.edits
        && scores.wer.rate == words.rate()
        && (scores.utterances, scores.speakers) == (rows.len(), speakers.len());
    match characters {
        Some(characters) => {
            let (edits, units) = characters.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            let rate = edits as f64 / units.max(1) as f64;
            found.values.insert("cer".into(), rate);
            same &= scores.cer.rate == rate && units == scores.cer.edits.reference;
        }
        None => drop(found.unknown.insert("cer".into(), "texts are too long to align them here")),
    }
    if !same {
        found.wrong.push("scores.json has other counts than hypotheses.tsv gives".into());
    }
    Ok(found)
}

/// References that aren't those of the corpus that was decoded.
fn other_references(output: &StoredOutput, rows: &[Recognised], read: &Read<'_>) -> Result<Option<String>, String> {
    let input = output.manifest.inputs.iter().find(|input| matches!(input.role, Role::Corpus(_)));
    let Some(corpus) = input.and_then(|input| read.store.output(&input.key, &input.digest)) else {
        return Ok(Some("the corpus that it decoded is not in the bundle".into()));
    };
    let text = file(&corpus, "utterances.tsv")?;
    let table = Table::read(&text)?;
    let said = table.column("id")?.zip(table.column("speaker")?).zip(table.column("transcript")?);
    let said: BTreeSet<_> = said.map(|((id, speaker), transcript)| (id, speaker, transcript)).collect();
    let scored: BTreeSet<_> =
        rows.iter().map(|row| (row.id.as_str(), row.speaker.as_str(), row.reference.as_str())).collect();
    let wrong = said != scored || scored.len() != rows.len();
    Ok(wrong.then(|| "its utterances and references are not those of the corpus".into()))
}

/// What this program knows of `quality.json`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Measured {
    quality: Quality,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Quality {
    setting: Setting,
    scores: QualityScores,
    pnmi_corrected: f64,
    null: Null,
    dead_clusters: u32,
}

#[derive(Deserialize)]
struct Setting {
    frames: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct QualityScores {
    pnmi: f64,
    phone_purity: f64,
    cluster_purity: f64,
    mutual_information: f64,
    phone_entropy: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Null {
    pnmi: Spread,
    phone_purity: Spread,
    cluster_purity: Spread,
}

#[derive(Deserialize)]
struct Spread {
    mean: f64,
}

/// `quality.json`, and `usage.tsv` for what can be counted again. Counts of phones and clusters together are not stored.
fn unit_quality(output: &StoredOutput) -> Result<Found, String> {
    let Measured { quality } = json(output, "quality.json")?;
    let text = file(output, "usage.tsv")?;
    let table = Table::read(&text)?;
    let (frames, of_phone) = (table.numbers::<u64>("frames")?, table.numbers::<u64>("of-phone")?);
    let sum = |counts: &[u64]| counts.iter().map(|count| *count as f64).sum::<f64>();
    let (all, dead) = (sum(&frames), frames.iter().filter(|count| **count == 0).count());
    let purity = sum(&of_phone) / all.max(1.0);
    let QualityScores { pnmi, phone_purity, cluster_purity, mutual_information, phone_entropy } = quality.scores;
    let told = if phone_entropy > 0.0 { (mutual_information / phone_entropy).min(1.0) } else { 0.0 };
    let mut wrong = Vec::new();
    if quality.setting.frames as f64 != all
        || f64::from(quality.dead_clusters) != dead as f64
        || !same(phone_purity, purity)
    {
        wrong.push("quality.json has other counts than usage.tsv".into());
    }
    if !same(pnmi, told) {
        wrong.push("quality.json has a PNMI that is not information over entropy".into());
    }
    let Null { pnmi: null, phone_purity: phone_null, cluster_purity: cluster_null } = quality.null;
    let values = values([
        ("frames", all),
        ("dead-clusters", dead as f64),
        ("pnmi", told),
        ("pnmi-null", null.mean),
        ("pnmi-corrected", quality.pnmi_corrected),
        ("phone-purity", purity),
        ("phone-purity-null", phone_null.mean),
        ("cluster-purity", cluster_purity),
        ("cluster-purity-null", cluster_null.mean),
    ]);
    Ok(Found { values, wrong, ..Found::default() })
}

fn layers(output: &StoredOutput) -> Result<Found, String> {
    let findings: Findings = json(output, layers::FILE)?;
    let mut found = Found::default();
    for curve in &findings.curves {
        let Some(summary) = curve.summary() else { continue };
        let numbers = [
            ("best", summary.best),
            ("best-layer", summary.best_layer.into()),
            ("top-drop", summary.top_drop),
            ("area", summary.area),
        ];
        found.values.extend(numbers.map(|(name, value)| (format!("{}-{name}", curve.metric), value)));
    }
    if file(output, "layers.tsv").is_ok_and(|table| table != findings.table()) {
        found.wrong.push("layers.tsv is not the table of layers.json".into());
    }
    Ok(found)
}

fn language_model(output: &StoredOutput) -> Result<Found, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct About {
        order: u64,
        n_grams: Vec<u64>,
        words: u64,
    }
    let About { order, n_grams, words } = json(output, "lm.json")?;
    let n_grams: f64 = n_grams.into_iter().map(|count| count as f64).sum();
    let values = values([("order", order as f64), ("words", words as f64), ("n-grams", n_grams)]);
    Ok(Found { values, ..Found::default() })
}
