//! A store with one finished run that no trainer made, small and consistent.

use jiff::Timestamp;
use reprise_spec::contract::Score;
use reprise_spec::decoding::ResamplingUnit;
use reprise_spec::recognition::{Edits, ErrorRate, Recognised, Scores};
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::*;
use crate::data::{FileEntry, FileList};
use crate::digest;
use crate::lease::{Owner, Process};
use crate::plan::{Contents, Part, Plan, RunOf};
use crate::provenance::{BUILD, Provenance};
use crate::store::{Attempt, Manifest, ManifestInput, Means, Recipe, StageRecord, StageState, Status};

pub struct Planted {
    temp: tempfile::TempDir,
    pub store: Store,
    id: RunId,
}

fn experiment_text() -> String {
    json!({
        "version": 1, "name": "toy", "question": "Does <b>it</b> hold?", "seeds": [1],
        "corpus": { "name": "toy", "pretrain": ["train"], "finetune": ["train"], "validate": ["dev"], "test": ["test"] },
        "strategy": { "baseline": { "iterations": [{ "targets": { "mfcc": { "clusters": 10 } }, "steps": 3 }] } }
    })
    .to_string()
    .replace("[1]", " [1]")
}

fn files_of(split: &str) -> FileList {
    let entry = |name: &str| FileEntry { path: format!("{split}/{name}"), size: 7, sha256: [7; 32] };
    FileList::new(vec![entry("a.flac"), entry("a.trans.txt")])
}

fn contents() -> Contents {
    let of = |split: &str| ((split.to_owned().try_into().unwrap(), Part::Utterances), files_of(split).digest());
    Contents { splits: ["train", "dev", "test"].map(of).into(), ..Contents::default() }
}

fn tensors(name: &str) -> Vec<u8> {
    let data = [1u8, 2, 3, 4];
    serialize([(name.to_owned(), TensorView::new(Dtype::U8, vec![4], &data).unwrap())], None).unwrap()
}

fn array() -> Vec<u8> {
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }\n";
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &[1, 2]].concat()
}

/// The hypotheses of the test split: one word of two is missing in one of two sentences.
fn rows() -> Vec<Recognised> {
    let row = |id: &str, hypothesis: &str, alignment: &str| Recognised {
        id: id.into(),
        speaker: "s".into(),
        reference: "HELLO WORLD".into(),
        hypothesis: hypothesis.into(),
        alignment: alignment.parse().unwrap(),
    };
    vec![row("u1", "HELLO", "CD"), row("u2", "HALLO WORLD", "SC")]
}

/// Bytes by name.
type Files = Vec<(&'static str, Vec<u8>)>;

/// Files and scores of a stage.
fn made(stage: &Stage) -> (Files, Vec<(&'static str, f64)>) {
    let text = |text: &str| text.as_bytes().to_vec();
    let lengths = "id\tframes\nu1\t3\nu2\t4\n";
    match stage {
        Stage::Corpus(_) => (
            vec![
                (
                    "utterances.tsv",
                    text(
                        "id\tpath\tsamples\tspeaker\ttranscript\nu1\ta\t16000\ts\tHELLO WORLD\nu2\tb\t8000\ts\tHELLO WORLD\n",
                    ),
                ),
                ("excluded.tsv", text("id\tpath\treason\n")),
                ("corpus.json", text("{}")),
            ],
            vec![("utterances", 2.0), ("seconds", 1.5), ("excluded", 0.0), ("words", 4.0)],
        ),
        Stage::Features(_) => (
            vec![("features.npy", array()), ("utterances.tsv", text(lengths))],
            vec![("frames", 7.0), ("dimensions", 39.0)],
        ),
        Stage::Units(_) => (
            vec![
                ("codebook.safetensors", tensors("centroids")),
                ("labels.npy", array()),
                ("units.json", text("{}")),
                ("utterances.tsv", text("split\tid\tframes\ntrain\tu1\t3\ntrain\tu2\t4\ndev\tu1\t3\n")),
            ],
            vec![("frames", 7.0), ("inertia", 0.125)],
        ),
        Stage::Pretrain(_) => (
            vec![
                ("model.safetensors", tensors("model")),
                ("state.safetensors", tensors("state")),
                ("model.json", text("{}")),
                ("validation.tsv", text("step\tloss\tmasked-accuracy\n3\t1.5\t0.25\n")),
            ],
            vec![("validation-loss", 1.5), ("masked-accuracy", 0.25)],
        ),
        Stage::Finetune(_) => (
            vec![
                ("model.safetensors", tensors("model")),
                ("model.json", text("{}")),
                ("validation.tsv", text("step\tloss\twer\tcer\n3\t\t0.75\t0.125\n")),
            ],
            vec![("validation-wer", 0.75), ("validation-cer", 0.125)],
        ),
        Stage::Decode(_) => {
            let words = Edits { substitutions: 1, deletions: 1, insertions: 0, reference: 4 };
            let characters = Edits { substitutions: 1, deletions: 6, insertions: 0, reference: 22 };
            let rate = |edits: Edits| ErrorRate { rate: edits.rate(), interval: (0.0, 1.0), edits };
            let scores = Scores {
                wer: rate(words),
                cer: rate(characters),
                ser: 1.0,
                empty_hypotheses: 0.0,
                utterances: 2,
                speakers: 1,
                resampled: ResamplingUnit::Speaker,
            };
            (
                vec![
                    ("hypotheses.tsv", Recognised::table(&rows()).into_bytes()),
                    ("scores.json", serde_json::to_vec(&scores).unwrap()),
                ],
                vec![("wer", 0.5), ("cer", 7.0 / 22.0), ("ser", 1.0), ("empty-hypotheses", 0.0)],
            )
        }
        other => panic!("nothing is planted for {other:?}"),
    }
}

impl Planted {
    pub fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::at(temp.path().join("own"));
        store.prepare().unwrap();
        let text = experiment_text();
        let read = reprise_spec::read::experiment("toy.yaml", &text, &mut |_| unreachable!()).unwrap();
        let experiment: Experiment = read.experiment;
        let setting = &experiment.variants[0].setting;
        let plan = Plan::of(setting, 1, &contents()).unwrap();
        let mut digests: BTreeMap<usize, OutputDigest> = BTreeMap::new();
        let mut stages = Vec::new();
        for (index, node, need) in plan.run(RunOf { variant: 0, seed: 1 }) {
            let (key, stage) = (node.key.unwrap(), node.stage.clone().unwrap());
            let (files, scores) = made(&stage);
            let folder = temp.path().join("made");
            fs::create_dir_all(folder.join("out")).unwrap();
            files.iter().for_each(|(name, bytes)| fs::write(folder.join("out").join(name), bytes).unwrap());
            let (digest, files) = digest::output(&folder.join("out")).unwrap();
            let input = |edge: &crate::plan::Edge| ManifestInput {
                role: edge.role.clone(),
                key: plan.nodes[edge.node].key.unwrap(),
                digest: digests[&edge.node],
            };
            let mut inputs: Vec<ManifestInput> = node.inputs.iter().map(input).collect();
            inputs.sort();
            let interval = |name: &str| ["wer", "cer"].contains(&name).then_some((0.0, 1.0));
            let score = |(name, value): (&str, f64)| Score { name: name.into(), value, interval: interval(name) };
            let manifest = Manifest {
                format: 1,
                key,
                kind: stage.kind().into(),
                canonical: hex::encode(stage.canonical()),
                seed: node.seed,
                inputs,
                continued: None,
                digest,
                files,
                summary: scores.into_iter().map(score).collect(),
                environment: [("libtorch-path", "/somewhere/libtorch"), ("threads", "1")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
                build: "planted".into(),
                started: Timestamp::UNIX_EPOCH,
                finished: Timestamp::UNIX_EPOCH,
                seconds: 1.0,
                attempts: 1,
                settings: stage.clone(),
            };
            manifest.write(&folder).unwrap();
            fs::write(folder.join("metrics.log"), b"").unwrap();
            fs::write(folder.join("request.json"), format!("{{\"root\": {:?}}}", temp.path())).unwrap();
            if let Stage::Corpus(corpus) = &stage {
                fs::write(folder.join("files.txt"), files_of(&corpus.split.to_string()).to_string()).unwrap();
            }
            let to = store.stage_folder(&key).join(digest.short());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::rename(&folder, to).unwrap();
            digests.insert(index, digest);
            stages.push(StageRecord {
                name: need.name.clone(),
                kind: stage.kind().into(),
                point: need.point,
                key,
                state: StageState::Executed { digest, seconds: 1.0 },
            });
        }
        let recipe = Recipe::new(experiment.clone(), &temp.path().join("toy.yaml"), Some(temp.path()));
        let record = |id| RunRecord {
            format: 1,
            id,
            experiment: "toy".into(),
            spec: experiment.spec_hash(),
            variant: setting.hash(),
            variant_name: String::new(),
            seed: 1,
            status: Status::Finished,
            stages: stages.clone(),
            attempts: vec![Attempt {
                owner: Owner { host: "planted-host".into(), boot: None, namespace: None, process: Process::starting() },
                means: Some(Means::default()),
                started: Timestamp::UNIX_EPOCH,
                ended: Some(Timestamp::UNIX_EPOCH),
            }],
            environment: BTreeMap::new(),
            provenance: Provenance {
                build: BUILD.into(),
                command: ["/root/bin/reprise", "run", "toy.yaml", "--upload", "hf_abcdefghijklmnopqrst"]
                    .map(String::from)
                    .into(),
                ..Provenance::default()
            },
            error: None,
        };
        let text = super::experiment::joined([("toy.yaml", text.as_str())]);
        let canonical = experiment.meaning().to_bytes();
        let (run, _lock) = store.create_run(&text, &canonical, &recipe, record).unwrap();
        Self { temp, store, id: run.id }
    }

    pub fn run(&self) -> RunRecord {
        self.store.run(self.id.as_str()).unwrap().record.unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Where the output of a stage lies in a bundle.
    pub fn folder_of(&self, stage: &str) -> PathBuf {
        let run = self.run();
        let stage = run.stages.iter().find(|known| known.name == stage).unwrap();
        Path::new("store/stages").join(stage.key.hex()).join(stage.state.digest().unwrap().short())
    }
}
