use reprise_spec::evaluation::Rate;
use serde_json::json;

mod layers;

use super::{Places, load, print, progress};
use crate::exit::{Exit, Failure};
use crate::provenance::changes::LeftOut;
use crate::provenance::{Changes, GitState, Host, Provenance};
use crate::results::{Cost, Results, find};
use crate::store::{RunRecord, StageState, Store};

/// Show one run: what it found, its stages, and what it was made with
#[derive(clap::Args)]
pub struct Args {
    /// The run's id, or enough of its beginning to be unique; the newest run if left out
    #[arg(default_value = "")]
    run: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let store = load::store(places, None)?;
    let listed = match args.run.as_str() {
        "" => store
            .runs()?
            .into_iter()
            .next()
            .ok_or_else(|| Failure::user("the store has no runs", "make one with `reprise run EXPERIMENT`"))?,
        prefix => store.run(prefix)?,
    };
    let seen = listed.seen();
    let record = listed.record.map_err(|damage| {
        Failure::user(format!("run {} is damaged: {damage}", listed.id), "its stages are not: run the experiment again")
    })?;
    let results = Results::of(&record, &store);
    if args.json {
        print::json(&json!({ "status": seen, "record": record, "results": results }));
        return Ok(Exit::Fine);
    }
    print::line(format!("run {}  {}  {}", record.id, record.title(), print::word(&seen)));
    print::line(format!("spec:{}  variant:{}", record.spec.short(), record.variant.short()));
    if let Some(error) = &record.error {
        let stage = error.stage.as_deref().map(|stage| format!(" in {stage}")).unwrap_or_default();
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

/// Unit quality and masked accuracy of every iteration (beside it the share of the most frequent unit, or what a blind guess tells of the
/// targets of a quantiser), then error rates of every decoded split, then what layers say.
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
    let several = results.judgements.len() > 1;
    let rows: Vec<Vec<String>> = results
        .judgements
        .iter()
        .flat_map(|judgement| {
            judgement.recognition.iter().map(move |recognition| {
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
                row.push(recognition.split.clone());
                row.extend(["wer", "cer", "ser"].map(|name| cell(find(&recognition.scores, name))));
                row
            })
        })
        .collect();
    if !rows.is_empty() {
        let (mut header, mut right): (Vec<&str>, Vec<usize>) = (Vec::new(), Vec::new());
        if several {
            header.extend(["steps", "iteration", "audio", "device", "learning rate"]);
            right.extend([0, 2, 3]);
        }
        right.extend([header.len() + 1, header.len() + 2, header.len() + 3]);
        header.extend(["split", "wer (interval)", "cer (interval)", "sentences with errors"]);
        parts.push(print::table(&header, &right, rows));
    }
    if results.judgements.iter().any(|judgement| !judgement.compares()) {
        parts.push(
            "a model in mid-schedule supports no claim beside an annealed one; `evaluation: { cool-down: STEPS }` trains a branch of it"
                .to_owned(),
        );
    }
    parts.extend(layers::tables(&results.layers));
    parts.join("\n\n")
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
