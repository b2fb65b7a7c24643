use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use reprise_spec::evaluation::Rate;
use reprise_spec::finetuning::Top;
use reprise_spec::stage::Stage;
use serde_json::json;

use super::{Places, load, print, progress};
use crate::exit::{Exit, Failure};
use crate::inert;
use crate::provenance::changes::LeftOut;
use crate::provenance::{Changes, GitState, Host, Provenance};
use crate::results::{Cost, Judgement, Recognition, Results, find};
use crate::store::{ListedRun, RunRecord, StageState, Store};

mod against;
mod counts;
mod layers;

/// Show one run: what it found, its stages, and what it was made with
#[derive(clap::Args)]
pub struct Args {
    /// The run's id, or enough of its beginning to be unique; the newest run if left out
    #[arg(default_value = "")]
    run: String,
    /// Count words and characters of every decoded split, as ESPnet's tables do
    #[arg(long)]
    counts: bool,
    /// Another run that recognised the same speech: test whether the two differ
    #[arg(long, value_name = "RUN")]
    against: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let store = load::store(places, None)?;
    let listed = match args.run.as_str() {
        "" => store
            .newest()?
            .ok_or_else(|| Failure::user("the store has no runs", "make one with `reprise run EXPERIMENT`"))?,
        prefix => store.run(prefix)?,
    };
    let seen = listed.seen();
    let record = undamaged(listed)?;
    if let Some(other) = &args.against {
        let compared = against::compare(&record, &undamaged(store.run(other)?)?, &store)?;
        match args.json {
            true => print::json(&compared),
            false => print::line(compared.to_string()),
        }
        return Ok(Exit::Fine);
    }
    if args.counts {
        let counts = counts::of(&record, &store)?;
        match args.json {
            true => print::json(&counts),
            false => print::line(counts::table(&counts)),
        }
        return Ok(Exit::Fine);
    }
    let results = Results::of(&record, &store);
    if args.json {
        print::json(&json!({ "status": seen, "record": record, "results": results }));
        return Ok(Exit::Fine);
    }
    print::line(format!("run {}  {}  {}", record.id, record.title(), print::word(&seen)));
    print::line(format!("spec:{}  variant:{}", record.spec.short(), record.variant.short()));
    if let Some(error) = &record.error {
        let stage = error.stage.as_deref().map(|stage| format!(" in {}", inert::terminal(stage))).unwrap_or_default();
        print::line(format!("\nfailed{stage}: {}", error.message));
        error.help.iter().for_each(|help| print::line(format!("help: {help}")));
    }
    print::line("");
    print::line(stages(&record, &store));
    let found = tables(&results);
    if !found.is_empty() {
        print::line(format!("\n{found}"));
    }
    if !record.environment.is_empty() {
        print::line("");
        let rows = record.environment.iter().map(|(name, value)| vec![name.clone(), value.clone()]).collect();
        print::line(print::table(&["made with", ""], &[], rows));
    }
    print::line("");
    print::line(print::table(&["made by", ""], &[], origin(&record, &store)));
    Ok(Exit::Fine)
}

fn undamaged(listed: ListedRun) -> Result<RunRecord, Failure> {
    let damaged = |damage| {
        Failure::user(format!("run {} is damaged: {damage}", listed.id), "its stages are not: run the experiment again")
    };
    listed.record.map_err(damaged)
}

/// A file of every decoded split of a run, as far as they are stored: the stage's name and what `read` makes of the text.
fn decoded<T>(
    record: &RunRecord,
    store: &Store,
    file: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<(String, T)>, Failure> {
    let stored = record.stages.iter().filter_map(|stage| {
        let output = store.output(&stage.key, &stage.state.digest()?)?;
        matches!(output.manifest.settings, Stage::Decode(_)).then(|| (stage.name.clone(), output.out().join(file)))
    });
    let read = |(name, path): (String, PathBuf)| {
        let text = fs::read_to_string(&path).map_err(|error| error.to_string());
        let value = text.and_then(|text| read(&text)).map_err(|why| {
            let message = format!("{} can't be read: {why}", path.display());
            Failure::user(message, "an older program made it, or it was changed: run the experiment again")
        })?;
        Ok((name, value))
    };
    stored.map(read).collect()
}

/// Where the experiment and the program came from, and what they ran on; what an older program didn't record is left out.
fn origin(record: &RunRecord, store: &Store) -> Vec<Vec<String>> {
    let Provenance { build, experiment, changes, command, variables, host } = &record.provenance;
    let mut rows = vec![vec!["build".into(), build.clone()]];
    let mut row = |name: &str, value: String| rows.push(vec![name.into(), value]);
    if !command.is_empty() {
        row("command", command.join(" "));
    }
    if let Some(GitState { commit, branch, dirty }) = experiment {
        row("commit", commit.clone().unwrap_or_else(|| "none yet".into()));
        row("branch", branch.clone().unwrap_or_else(|| "none".into()));
        row("uncommitted changes", if *dirty { "yes" } else { "no" }.into());
    }
    if let Some(Changes { files, bytes, left_out, not_looked_at, .. }) = changes {
        let (file, noun) = (store.changes(&record.id), if *files == 1 { "file" } else { "files" });
        if *files > 0 {
            row("patch", format!("{} ({files} {noun}, {})", file.display(), print::bytes(*bytes)));
        }
        for LeftOut { path, because } in left_out {
            row("not in the patch", format!("{path} ({})", print::word(because)));
        }
        if *not_looked_at > 0 {
            row("not in the patch", format!("{not_looked_at} further files"));
        }
    }
    if let Some(Host { system, kernel, cpu, cpu_features, cores, memory }) = host {
        row("system", format!("{system}, {kernel}"));
        row("processor", format!("{cpu}, {cores} cores: {}", cpu_features.join(" ")));
        row("memory", memory.map_or_else(|| "unknown".into(), print::bytes));
    }
    for (name, value) in variables {
        row(name, value.clone());
    }
    rows
}

fn stages(record: &RunRecord, store: &Store) -> String {
    let rows = record
        .stages
        .iter()
        .map(|stage| {
            let (state, digest, seconds) = match &stage.state {
                StageState::Reused { digest } => ("reused", digest.short(), String::new()),
                StageState::Executed { digest, seconds } => ("executed", digest.short(), print::duration(*seconds)),
                other => return vec![stage.name.clone(), print::word(other), stage.key.short()],
            };
            let gone = stage.state.digest().is_some_and(|digest| store.output(&stage.key, &digest).is_none());
            vec![
                stage.name.clone(),
                if gone { "gone".into() } else { state.into() },
                stage.key.short(),
                digest,
                seconds,
            ]
        })
        .collect();
    print::table(&["stage", "state", "key", "output", "took"], &[4], rows)
}

/// Scores of a codebook.
const QUALITY: [&str; 5] = ["pnmi", "pnmi-null", "pnmi-corrected", "phone-purity", "cluster-purity"];

/// What tuning found.
const TUNED: [(&str, &str); 4] = [
    ("lm-weight", "tuned lm weight"),
    ("word-score", "word score"),
    ("silence-score", "silence score"),
    ("wer", "wer where tuned"),
];

/// Unit quality and masked accuracy of every iteration (beside it the share of the most frequent unit, or what a blind guess tells of the
/// targets of a quantiser), then error rates of every decoded split, of networks without their top layers, and the weights that were tuned, then
/// what layers say.
pub fn tables(results: &Results) -> String {
    let mut parts = Vec::new();
    if !results.iterations.is_empty() {
        let rows = results
            .iterations
            .iter()
            .enumerate()
            .flat_map(|(index, iteration)| {
                iteration.targets.iter().map(move |units| {
                    let mut row = vec![(index + 1).to_string(), units.source.clone(), units.clusters.to_string()];
                    row.extend(QUALITY.map(|name| cell(find(&units.quality, name))));
                    let [accuracy, most_frequent, blind] = ["masked-accuracy", "most-frequent-unit", "blind-guess"]
                        .map(|name| find(&iteration.pretraining, name));
                    row.extend([cell(accuracy), cell(most_frequent.or(blind))]);
                    row
                })
            })
            .collect();
        let header = [
            "iteration",
            "units of",
            "clusters",
            "pnmi",
            "null",
            "corrected",
            "phone purity",
            "cluster purity",
            "masked accuracy",
            "by chance",
        ];
        parts.push(print::table(&header, &[0, 2, 3, 4, 5, 6, 7, 8, 9], rows));
    }
    if !results.codebooks.is_empty() {
        let rows = results.codebooks.iter().map(|codebook| {
            let quality = QUALITY.map(|name| cell(find(&codebook.units.quality, name)));
            [codebook.name.clone()].into_iter().chain(quality).collect()
        });
        let header = ["codebook of", "pnmi", "null", "corrected", "phone purity", "cluster purity"];
        parts.push(print::table(&header, &[1, 2, 3, 4, 5], rows.collect()));
    }
    parts.extend(recognition(results));
    parts.extend(tops(results));
    parts.extend(tuned(results));
    if results.judgements.iter().any(|judgement| !judgement.compares()) {
        parts.push(
            "a model in mid-schedule supports no claim beside an annealed one; `evaluation: { cool-down: STEPS }` trains a branch of it"
                .to_owned(),
        );
    }
    parts.extend(layers::tables(&results.layers));
    parts.join("\n\n")
}

/// Error rates of every decoded split at every point.
fn recognition(results: &Results) -> Option<String> {
    let several = results.whole().count() > 1;
    let (mut header, mut right): (Vec<&str>, Vec<usize>) = (Vec::new(), Vec::new());
    if several {
        header.extend(["steps", "iteration", "audio", "device", "learning rate"]);
        right.extend([0, 2, 3]);
    }
    right.extend([header.len() + 1, header.len() + 2, header.len() + 3]);
    header.extend(["split", "wer (interval)", "cer (interval)", "sentences with errors"]);
    let row = &|judgement: &Judgement, recognition: &Recognition| {
        let mut row = Vec::new();
        if let Some(point) = judgement.point.filter(|_| several) {
            let Cost { audio_seconds, device_seconds } = judgement.cost;
            row.extend([
                point.cumulative.to_string(),
                format!("{} to {}", point.iteration, point.step),
                format!("{:.1} h", audio_seconds / 3600.0),
                print::duration(device_seconds),
                rate(point.rate).to_owned(),
            ]);
        }
        row.extend(error_rates(recognition));
        row
    };
    let rows: Vec<Vec<String>> = results
        .whole()
        .flat_map(|judgement| judgement.recognition.iter().map(move |recognition| row(judgement, recognition)))
        .collect();
    (!rows.is_empty()).then(|| print::table(&header, &right, rows))
}

/// What became of error rates where top layers were drawn anew or taken away, beside the whole network of the same point.
fn tops(results: &Results) -> Option<String> {
    let points: BTreeSet<_> = results
        .judgements
        .iter()
        .filter(|judgement| judgement.top != Top::Kept)
        .map(|judgement| judgement.point)
        .collect();
    let rows = results.judgements.iter().filter(|judgement| points.contains(&judgement.point)).flat_map(|judgement| {
        let steps = judgement.point.map_or("-".into(), |point| point.cumulative.to_string());
        let before = [steps, judgement.top.to_string()];
        judgement
            .recognition
            .iter()
            .map(move |recognition| before.clone().into_iter().chain(error_rates(recognition)).collect())
    });
    let header = ["steps", "fine-tuned", "split", "wer (interval)", "cer (interval)", "sentences with errors"];
    (!points.is_empty()).then(|| print::table(&header, &[0, 3, 4, 5], rows.collect()))
}

fn error_rates(recognition: &Recognition) -> impl Iterator<Item = String> + use<> {
    let rates = ["wer", "cer", "ser"].map(|name| cell(find(&recognition.scores, name)));
    std::iter::once(recognition.split.clone()).chain(rates)
}

/// The weights that were tuned for each model.
fn tuned(results: &Results) -> Option<String> {
    let tuned = || results.judgements.iter().filter(|judgement| !judgement.tuning.is_empty());
    let several = tuned().count() > 1;
    let row = |judgement: &Judgement| {
        let steps = judgement.point.map_or("-".into(), |point| point.cumulative.to_string());
        let of = [steps, judgement.top.to_string()].into_iter().filter(|_| several);
        of.chain(TUNED.map(|(name, _)| cell(find(&judgement.tuning, name)))).collect()
    };
    let of = ["steps", "fine-tuned"].into_iter().filter(|_| several);
    let header: Vec<&str> = of.chain(TUNED.map(|(_, title)| title)).collect();
    let right: Vec<usize> = (0..header.len()).filter(|&column| !several || column != 1).collect();
    let rows: Vec<Vec<String>> = tuned().map(row).collect();
    (!rows.is_empty()).then(|| print::table(&header, &right, rows))
}

fn rate(rate: Rate) -> &'static str {
    match rate {
        Rate::Annealed => "annealed",
        Rate::CooledDown => "cooled down",
        Rate::Running => "in mid-schedule",
    }
}

fn cell(score: Option<&reprise_spec::contract::Score>) -> String {
    score.map_or("-".into(), progress::number)
}

#[cfg(test)]
mod tests {
    use reprise_spec::contract::Score;
    use reprise_spec::evaluation::Point;
    use reprise_spec::values::Layers;

    use super::*;

    #[test]
    fn networks_without_their_top_layers_stand_beside_whole_ones() {
        let layers = |n: u64| Layers::try_from(n).unwrap();
        let point = |iteration, cumulative| Point {
            cumulative,
            iteration,
            step: 300,
            ends_iteration: true,
            rate: Rate::Annealed,
        };
        let judgement = |point, top, wer: f64| Judgement {
            point: Some(point),
            top,
            cost: Cost { audio_seconds: 7_200.0, device_seconds: 61.0 },
            finetuning: Vec::new(),
            tuning: Vec::new(),
            recognition: vec![Recognition {
                split: "test".into(),
                scores: vec![Score { name: "wer".into(), value: wer, interval: Some((wer - 0.1, wer + 0.1)) }],
            }],
        };
        let (first, last) = (point(1, 300), point(2, 600));
        let judgements = vec![
            judgement(first, Top::Kept, 0.5),
            judgement(last, Top::Kept, 0.4),
            judgement(last, Top::Reset(layers(1)), 0.35),
            judgement(last, Top::Removed(layers(12)), 0.45),
        ];
        insta::assert_snapshot!(tables(&Results { judgements, ..Results::default() }));
    }

    #[test]
    fn tuned_weights_stand_below_the_error_rates_that_they_gave() {
        let score = |name: &str, value| Score { name: name.into(), value, interval: None };
        let tuning = [("lm-weight", 1.5), ("word-score", -1.0), ("silence-score", 0.0), ("wer", 0.125)];
        let scores = vec![score("wer", 0.25), score("cer", 0.125), score("ser", 0.5)];
        let judgement = Judgement {
            tuning: tuning.map(|(name, value)| score(name, value)).to_vec(),
            recognition: vec![Recognition { split: "test".into(), scores }],
            ..Judgement::default()
        };
        let results = Results { judgements: vec![judgement], ..Results::default() };
        insta::assert_snapshot!(tables(&results), @r"
        SPLIT  WER (INTERVAL)  CER (INTERVAL)  SENTENCES WITH ERRORS
        test           25.0 %          12.5 %                 50.0 %

        TUNED LM WEIGHT  WORD SCORE  SILENCE SCORE  WER WHERE TUNED
                  1.500          -1              0           12.5 %
        ");
    }
}
