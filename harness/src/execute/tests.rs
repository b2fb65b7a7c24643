//! Runs against a trainer that is a shell script: what it makes of a stage depends on nothing but the stage's key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use reprise_spec::experiment::{Experiment, Written};
use serde_json::json;

use super::*;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::data::Roots;
use crate::outlook::{self, Outlook};
use crate::store::{Means, Seen, StageState, Status, StoredOutput};
use crate::{plan, provenance};

/// A corpus, a store and a trainer in a folder of their own.
struct Place {
    temp: tempfile::TempDir,
    experiment: Experiment,
}

impl Place {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        for split in ["train", "dev", "test"] {
            let folder = temp.path().join("data/toy").join(split);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("1.flac"), format!("{split} audio")).unwrap();
            fs::write(folder.join("1.trans.txt"), "1 HELLO\n").unwrap();
        }
        let experiment: Result<Written, _> = serde_json::from_value(json!({
            "version": 1, "name": "toy", "question": "Does it run?", "seeds": [1],
            "corpus": { "name": "toy", "pretrain": ["train"], "finetune": ["train"], "validate": ["dev"], "test": ["test"] },
            "strategy": { "baseline": { "iterations": [
                { "targets": { "mfcc": { "clusters": 10 } }, "steps": 3 },
                { "targets": { "layer": { "height": 3, "clusters": 10 } }, "steps": 4 } ] } }
        }));
        let place = Self { temp, experiment: experiment.unwrap().into() };
        place.trainer("");
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.temp.path().join(name)
    }

    /// A trainer that runs `special` after its greeting, with `$kind` and `$work` set, and then does its work.
    fn trainer(&self, special: &str) {
        let script = format!(
            r#"#!/bin/sh
work=$(dirname "$1")
kind=$(grep -A1 '"stage"' "$1" | tail -1 | tr -dc a-z)
echo "$kind" >> '{}'
echo '{{"hello":{{"contract":1,"build":"{build}","environment":{{"libtorch":"none"}}}}}}'
{special}
echo '{{"progress":{{"done":1,"total":2,"unit":"steps","note":"loss 1"}}}}'
grep '"key"' "$1" | head -1 > "$work/out/result.tsv"
echo '{{"done":{{"summary":[{{"name":"wer","value":0.5,"interval":null}}]}}}}'
"#,
            self.path("started").display(),
            build = provenance::BUILD,
        );
        // Renamed into place: a script that is open for writing can't be executed.
        fs::write(self.path("new"), script).unwrap();
        fs::set_permissions(self.path("new"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(self.path("new"), self.path("trainer")).unwrap();
    }

    /// The kinds of the stages that trainers were started on, oldest first.
    fn started(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("started")).unwrap_or_default();
        text.lines().map(String::from).collect()
    }

    fn store(&self) -> Store {
        Store::at(self.path(".reprise"))
    }

    fn run(&self) -> Result<Outcome, ExecuteError> {
        self.run_with(&Interrupt::default(), &mut |_, _| {})
    }

    fn run_with(&self, interrupt: &Interrupt, observe: Observer<'_>) -> Result<Outcome, ExecuteError> {
        self.run_seeds(&[1], 1, interrupt, observe).map(|mut outcomes| outcomes.remove(0))
    }

    fn plan(&self, seeds: &[u64]) -> Result<(Plan, CorpusFiles), ExecuteError> {
        let roots = Roots(vec![self.path("data")]);
        let experiment = Experiment { seeds: seeds.to_vec(), ..self.experiment.clone() };
        let needed = plan::needed(&experiment);
        let mut quiet = |_| {};
        let mut hasher = Hasher::new(None, false, &mut quiet);
        let corpus =
            CorpusFiles::survey(&experiment.corpus().unwrap(), &needed, self.temp.path(), &roots, &mut hasher)?;
        Ok((Plan::new(&experiment, &corpus.contents()).unwrap(), corpus))
    }

    fn run_seeds(
        &self,
        seeds: &[u64],
        at_once: usize,
        interrupt: &Interrupt,
        observe: Observer<'_>,
    ) -> Result<Vec<Outcome>, ExecuteError> {
        let (plan, corpus) = self.plan(seeds)?;
        let (plan, corpus) = (&plan, &corpus);
        let recipe = Recipe::new(self.experiment.clone(), Path::new("toy.yaml"), None);
        let store = self.store();
        let job = |seed| Job {
            label: format!("seed {seed}"),
            recipe: &recipe,
            text: "version: 1\n",
            identity: Identity {
                spec: SpecHash([1; 32]),
                variant: VariantHash([2; 32]),
                name: String::new(),
                canonical: vec![3],
            },
            plan,
            run: RunOf { variant: 0, seed },
            corpus,
            store: &store,
            provenance: Provenance { build: "test".into(), ..Provenance::default() },
            machine: Machine {
                trainer: self.path("trainer"),
                means: Means { loader_threads: 1, checkpoint_seconds: 60, ..Means::default() },
                cache: None,
                verify_data: false,
            },
            resume: None,
        };
        let jobs: Vec<Job<'_>> = seeds.iter().copied().map(job).collect();
        execute(&jobs, at_once, interrupt, observe)
    }

    fn seen(&self) -> Vec<Seen> {
        self.store().runs().unwrap().iter().map(crate::store::ListedRun::seen).collect()
    }

    /// The only stored output of a kind.
    fn output(&self, record: &RunRecord, name: &str) -> StoredOutput {
        let stage = record.stages.iter().find(|stage| stage.name == name).unwrap();
        self.store().output(&stage.key, &stage.state.digest().unwrap()).unwrap()
    }
}

fn finished(outcome: Result<Outcome, ExecuteError>) -> RunRecord {
    match outcome.unwrap() {
        Outcome::Finished(record) => record,
        Outcome::Unchanged(record) => panic!("{} is unchanged", record.id),
    }
}

fn names(record: &RunRecord, wanted: impl Fn(&StageState) -> bool) -> Vec<&str> {
    record.stages.iter().filter(|stage| wanted(&stage.state)).map(|stage| stage.name.as_str()).collect()
}

const EXECUTED: fn(&StageState) -> bool = |state| matches!(state, StageState::Executed { .. });

#[test]
fn a_second_run_executes_nothing_and_makes_no_record() {
    let place = Place::new();
    let record = finished(place.run());
    assert_eq!(names(&record, EXECUTED).len(), 11);
    assert_eq!(place.started().len(), 11);
    assert_eq!(record.environment["libtorch"], "none");
    let manifest = place.output(&record, "decode test").manifest;
    assert_eq!((manifest.summary[0].value, manifest.build.as_str(), manifest.attempts), (0.5, provenance::BUILD, 1));
    assert_eq!(manifest.inputs.len(), 2);
    let start = Instant::now();
    assert_eq!(place.run().unwrap(), Outcome::Unchanged(record));
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!((place.started().len(), place.seen()), (11, vec![Seen::Finished]));
}

#[test]
fn a_changed_file_executes_what_reads_it() {
    let place = Place::new();
    finished(place.run());
    fs::write(place.path("data/toy/test/1.flac"), "other audio").unwrap();
    let record = finished(place.run());
    assert_eq!(names(&record, EXECUTED), ["corpus test", "decode test"]);
    assert_eq!(place.seen(), [Seen::Finished, Seen::Finished]);
}

#[test]
fn a_trainer_that_is_killed_fails_the_run_and_the_next_continues_it() {
    let place = Place::new();
    place.trainer("[ $kind = pretrain ] && echo 'last words' >&2 && mkdir -p $work/checkpoints && kill -9 $$");
    let error = place.run().unwrap_err();
    assert_eq!(error.exit_code(), 3);
    let text = error.to_string();
    assert!(text.contains("pretrain iteration 1: killed by signal 9 (SIGKILL): out of memory, or somebody"), "{text}");
    assert!(text.contains("last words"), "{text}");
    assert_eq!(place.seen(), [Seen::Failed]);

    place.trainer("[ -d $work/checkpoints ] && [ ! -e $work/out/half ] && echo continued >&2");
    let mut attempts = Vec::new();
    let record = finished(place.run_with(&Interrupt::default(), &mut |_, happening| {
        if let Happening::Started { attempt, .. } = happening {
            attempts.push(attempt);
        }
    }));
    assert_eq!(attempts, [2, 1, 1, 1, 1], "what does not depend on the killed stage was executed before");
    assert_eq!((record.attempts.len(), record.error.as_ref(), place.seen()), (2, None, vec![Seen::Finished]));
    let output = place.output(&record, "pretrain iteration 1");
    assert_eq!(output.manifest.attempts, 2);
    assert!(fs::read_to_string(output.path.join("log.txt")).unwrap().contains("continued"));
    assert!(!output.path.join("checkpoints").exists() && !output.path.join("lease").exists());
}

#[test]
fn what_a_trainer_refuses_is_the_users_to_mend() {
    let place = Place::new();
    place.trainer(
        r#"echo '{"failed":{"class":"refused","message":"1.flac is cut short","help":"fetch it again"}}'; exit 2"#,
    );
    let error = place.run().unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().as_str()), (2, "corpus train: 1.flac is cut short"));
    assert_eq!(error.help().unwrap().to_string(), "fetch it again");
    let record = place.store().runs().unwrap().remove(0).record.unwrap();
    assert_eq!(record.error.unwrap().help.unwrap(), "fetch it again");
}

#[test]
fn a_request_to_stop_is_passed_on_and_the_run_is_interrupted() {
    let place = Place::new();
    place.trainer(
        r#"trap 'echo "{\"interrupted\":{\"step\":2}}"; exit 130' TERM
           [ $kind = units ] && while :; do sleep 0.02; done"#,
    );
    let interrupt = Interrupt::default();
    let error = place.run_with(&interrupt, &mut |place, happening| {
        if matches!(happening, Happening::Started { .. }) && place.unwrap().name.starts_with("units") {
            interrupt.request();
        }
    });
    assert_eq!(error.unwrap_err().exit_code(), 130);
    assert_eq!(place.seen(), [Seen::Interrupted]);
    place.trainer("");
    assert_eq!(finished(place.run()).attempts.len(), 2);
}

#[test]
fn a_trainer_that_does_not_stop_is_ended_by_a_second_request() {
    let place = Place::new();
    place.trainer("trap '' TERM; while :; do sleep 0.02; done");
    let interrupt = Interrupt::default();
    let second = interrupt.clone();
    let timer = std::thread::spawn(move || {
        while second.count() == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(300));
        second.request();
    });
    let error = place.run_with(&interrupt, &mut |_, happening| {
        if matches!(happening, Happening::Started { .. }) {
            interrupt.request();
        }
    });
    timer.join().unwrap();
    assert_eq!(error.unwrap_err().exit_code(), 130);
}

#[test]
fn an_event_that_is_not_known_is_kept() {
    let place = Place::new();
    place.trainer(r#"echo '{"temperature":{"celsius":80}}'"#);
    let record = finished(place.run());
    let log = fs::read_to_string(place.output(&record, "corpus train").path.join("log.txt")).unwrap();
    assert!(log.contains("temperature"), "{log}");
}

#[test]
fn another_contract_is_refused() {
    let place = Place::new();
    let script = fs::read_to_string(place.path("trainer")).unwrap().replace("\"contract\":1", "\"contract\":99");
    fs::write(place.path("trainer"), script).unwrap();
    let error = place.run().unwrap_err();
    assert!(error.to_string().contains("version 99 of the contract"), "{error}");
    assert_eq!((error.exit_code(), place.seen()), (2, vec![Seen::Failed]));
}

#[test]
fn a_trainer_that_ends_without_a_word_fails_the_stage() {
    let place = Place::new();
    place.trainer("exit 0");
    let error = place.run().unwrap_err();
    assert!(error.to_string().contains("without a result"), "{error}");
    place.trainer("rm -r $work/out; mkdir $work/out; echo '{\"done\":{\"summary\":[]}}'; exit 0");
    let error = place.run().unwrap_err();
    assert!(error.to_string().contains("no files"), "{error}");
    assert_eq!(error.exit_code(), 3);
}

#[test]
fn a_half_written_output_is_not_taken_for_a_whole_one() {
    let place = Place::new();
    let record = finished(place.run());
    let decode = place.output(&record, "decode test");
    // Killed between manifest and rename: all is there, under the wrong name.
    fs::rename(&decode.path, decode.path.with_file_name("work")).unwrap();
    let started = place.started().len();
    let recovered = finished(place.run());
    assert_eq!((names(&recovered, EXECUTED), place.started().len()), (vec!["decode test"], started), "it was finished");
    // The same, but something of it is lost.
    fs::rename(&decode.path, decode.path.with_file_name("work")).unwrap();
    fs::write(decode.path.with_file_name("work").join("out/result.tsv"), "other").unwrap();
    let again = finished(place.run());
    assert_eq!((names(&again, EXECUTED), place.started().len()), (vec!["decode test"], started + 1));
    // A torn file, a torn manifest, no manifest.
    for (damage, file) in [("", "out/result.tsv"), ("{\"format\": 1, \"ke", "manifest.json")] {
        fs::write(place.output(&again, "decode test").path.join(file), damage).unwrap();
        assert_eq!(names(&finished(place.run()), EXECUTED), ["decode test"]);
    }
    fs::remove_file(place.output(&again, "decode test").path.join("manifest.json")).unwrap();
    assert_eq!(names(&finished(place.run()), EXECUTED), ["decode test"]);
}

#[test]
fn an_output_made_from_other_inputs_is_stale_and_says_so() {
    let place = Place::new();
    let record = finished(place.run());
    // The same stage, executed again with another result: its readers read something else.
    let units = place.output(&record, "units iteration 1 (mfcc, 10)");
    fs::remove_dir_all(units.path).unwrap();
    place.trainer("[ $kind = units ] && echo new > $work/out/more.tsv; [ $kind = pretrain ] && exit 1");
    assert_eq!(place.run().unwrap_err().exit_code(), 3);
    let (plan, _) = place.plan(&[1]).unwrap();
    let of = |(node, outlook): (&Node, Outlook)| (node.name.clone(), outlook);
    let outlooks: Vec<_> = plan.nodes.iter().zip(outlook::of(&plan, &place.store())).map(of).collect();
    let stale: Vec<_> = outlooks.iter().filter(|(_, outlook)| *outlook == Outlook::Stale).collect();
    assert_eq!(stale, [&("pretrain iteration 1".to_owned(), Outlook::Stale)]);

    place.trainer("[ $kind = units ] && echo new > $work/out/more.tsv");
    let mut started = Vec::new();
    let again = finished(place.run_with(&Interrupt::default(), &mut |place, happening| {
        if let Happening::Started { stale, .. } = happening {
            started.push((place.unwrap().name.to_owned(), stale));
        }
    }));
    // The trainer gives the same model, so what reads the model is still valid.
    assert_eq!(started, [("pretrain iteration 1".to_owned(), true)]);
    let key = again.stages.iter().find(|stage| stage.name == "pretrain iteration 1").unwrap().key;
    let outputs = place.store().outputs(&key);
    assert_eq!(outputs.len(), 2);
    assert_eq!(outputs[0].manifest.digest, outputs[1].manifest.digest);
}

/// What a run found, without what tells one execution from another.
#[derive(Debug, PartialEq)]
struct Found {
    seed: u64,
    status: Status,
    stages: Vec<(String, Option<OutputDigest>)>,
    environment: BTreeMap<String, String>,
}

fn found(record: &RunRecord) -> Found {
    let stages = record.stages.iter().map(|stage| (stage.name.clone(), stage.state.digest())).collect();
    Found { seed: record.seed, status: record.status, stages, environment: record.environment.clone() }
}

#[test]
fn jobs_side_by_side_record_what_one_after_the_other_do() {
    let found_with = |at_once| {
        let place = Place::new();
        place.trainer("sleep 0.2");
        let (mut at_work, mut most) = (0, 0);
        let outcomes = place.run_seeds(&[1, 2], at_once, &Interrupt::default(), &mut |_, happening| match happening {
            Happening::Started { .. } => {
                at_work += 1;
                most = most.max(at_work);
            }
            Happening::Finished { .. } => at_work -= 1,
            Happening::Waiting { .. } => panic!("stages that two runs share are waited for without a word"),
            _ => {}
        });
        let found: Vec<_> = outcomes.unwrap().iter().map(|outcome| found(outcome.record())).collect();
        (found, place.started().len(), most)
    };
    let (one, started_one, most_one) = found_with(1);
    let (three, started_three, most_three) = found_with(3);
    assert_eq!(one, three);
    assert_eq!((started_one, most_one), (started_three, 1));
    assert!((2..=3).contains(&most_three), "{most_three}");
}

#[test]
fn a_stage_that_fails_ends_only_what_depends_on_it() {
    for at_once in [1, 3] {
        let place = Place::new();
        place.trainer(r#"[ $kind = units ] && grep -q '"seed": 1' "$1" && exit 1"#);
        let error = place.run_seeds(&[1, 2], at_once, &Interrupt::default(), &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().starts_with("units iteration 1 (mfcc, 10): "), "{error}");
        let mut records: Vec<_> = place.store().runs().unwrap().into_iter().map(|run| run.record.unwrap()).collect();
        records.sort_by_key(|record| record.seed);
        assert_eq!([records[0].status, records[1].status], [Status::Failed, Status::Finished]);
        let pending = names(&records[0], |state| *state == StageState::Pending);
        assert_eq!(pending.first(), Some(&"pretrain iteration 1"), "{pending:?}");
        assert!(!pending.contains(&"corpus test"), "{pending:?}");
    }
}

#[test]
fn all_stages_at_work_are_asked_to_stop() {
    let place = Place::new();
    place.trainer(
        r#"trap 'echo "{\"interrupted\":{\"step\":2}}"; exit 130' TERM
           while :; do sleep 0.02; done"#,
    );
    let interrupt = Interrupt::default();
    let mut started = 0;
    let error = place.run_seeds(&[1, 2], 2, &interrupt, &mut |_, happening| {
        started += i32::from(matches!(happening, Happening::Started { .. }));
        if started == 2 {
            interrupt.request();
            started += 1; // once
        }
    });
    assert_eq!(error.unwrap_err().exit_code(), 130);
    let record = place.store().runs().unwrap().remove(0).record.unwrap();
    assert_eq!(names(&record, |state| *state == StageState::Interrupted).len(), 2);
}

#[test]
fn two_runs_at_once_share_every_stage() {
    let place = Place::new();
    place.trainer("sleep 0.1");
    let waited = std::thread::scope(|scope| {
        let one = || {
            let mut waited = false;
            let run = place.run_with(&Interrupt::default(), &mut |_, happening| {
                waited |= matches!(happening, Happening::Waiting { .. });
            });
            run.unwrap();
            waited
        };
        let threads = [scope.spawn(one), scope.spawn(one)];
        threads.map(|thread| thread.join().unwrap())
    });
    assert!(waited.contains(&true));
    assert_eq!(place.started().len(), 11);
    assert_eq!(place.seen(), [Seen::Finished, Seen::Finished]);
}

#[test]
fn files_that_differ_from_a_committed_list_are_named() {
    let mut place = Place::new();
    let digest = |text: &str| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(text));
    let list = format!(
        "{}  9  dev/1.flac\n{}  8  dev/1.trans.txt\n{}  3  dev/gone.flac\n",
        digest("dev audio"),
        digest("1 OTHER\n"),
        digest("abc"),
    );
    fs::write(place.path("dev.txt"), list).unwrap();
    place.experiment.variants[0].setting.corpus.lists = serde_json::from_value(json!({ "dev": "dev.txt" })).unwrap();
    let error = place.run().unwrap_err();
    insta::assert_snapshot!(error.to_string(), @r"
    corpus toy differs from the committed lists in 2 of its files:
      dev/1.trans.txt: other content under the same name and size
      dev/gone.flac: missing
    ");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn without_the_corpus_nothing_runs() {
    let place = Place::new();
    fs::remove_dir_all(place.path("data/toy")).unwrap();
    let error = place.run().unwrap_err();
    let text = error.to_string().replace(&place.temp.path().display().to_string(), "[temp]");
    assert_eq!(text, "corpus toy not found: looked in [temp]/data");
    assert!(error.help().unwrap().to_string().contains("--data DIR"));
    assert!(!Path::exists(&place.path(".reprise")));
}
