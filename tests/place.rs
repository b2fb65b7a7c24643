//! A fresh folder to run the programs in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// The root of the checkout.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The experiment that whole runs use: two iterations, fine-tuning and decoding with networks of two layers, a few steps each.
pub const TINY: &str = include_str!("fixtures/experiments/tiny.yaml");

/// The trainer that stands beside `reprise` must come from the same sources: otherwise these tests would test another program.
static TRAINER_BELONGS: LazyLock<()> = LazyLock::new(|| {
    let findings = Place::empty().reprise(&["doctor", "--json"]).out;
    let findings: serde_json::Value = serde_json::from_str(&findings).expect("JSON");
    let finding = findings.as_array().and_then(|all| all.iter().find(|finding| finding["check"] == "trainer"));
    let finding = finding.expect("a finding about the trainer");
    assert_eq!(finding["verdict"], "ok", "{}; {}", finding["message"], finding["help"]);
});

/// The shortest experiment that passes every file of the corpus through a stage: fine-tuning from random weights, and decoding.
pub const SHORTEST: &str = include_str!("fixtures/experiments/shortest.yaml");

/// What beside [`TINY`] analyses its layers in every way.
pub const LAYERS: &str = include_str!("fixtures/experiments/layers.yaml");

/// A folder of its own with a project file; removed at the end.
pub struct Place {
    folder: tempfile::TempDir,
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Place {
    /// A place with a project file and no corpus.
    pub fn empty() -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        place.write("reprise.toml", "data = [\"corpora\"]\n");
        place
    }

    /// A place with the tiny experiment and a corpus of a few utterances of the shipped one, for a trainer of this build.
    pub fn with_corpus() -> Self {
        LazyLock::force(&TRAINER_BELONGS);
        let place = Self::empty();
        place.write("tiny.yaml", TINY);
        place.write("shortest.yaml", SHORTEST);
        place.write("layers.yaml", LAYERS);
        let from = checkout().join("experiments/corpora/quickstart");
        for (split, speakers) in [("train", &["101", "104"][..]), ("dev", &["201"]), ("test", &["301", "302"])] {
            for speaker in speakers {
                copy_some(&from, &place.path("corpora/small"), &format!("{split}/{speaker}/1"), 6);
            }
            for part in ["phones", "words"] {
                place.copy_alignments(&from, split, part);
            }
        }
        place
    }

    /// A path below the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file below the folder.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// Keeps the rows of utterances that the corpus here has.
    fn copy_alignments(&self, from: &Path, split: &str, part: &str) {
        let text = fs::read_to_string(from.join(format!("alignments/{split}.{part}.tsv"))).expect("alignments");
        let ids = self.utterances(split);
        let kept: Vec<&str> = text
            .lines()
            .enumerate()
            .filter(|(index, line)| *index == 0 || ids.iter().any(|id| line.split('\t').next() == Some(id)))
            .map(|(_, line)| line)
            .collect();
        self.write(&format!("corpora/small/alignments/{split}.{part}.tsv"), &(kept.join("\n") + "\n"));
    }

    /// The ids of a split's utterances, sorted.
    pub fn utterances(&self, split: &str) -> Vec<String> {
        let mut ids: Vec<String> =
            self.audio(split).iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
        ids.sort();
        ids
    }

    /// The audio files of a split, sorted.
    pub fn audio(&self, split: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for speaker in fs::read_dir(self.path("corpora/small").join(split)).expect("a split").flatten() {
            for file in fs::read_dir(speaker.path().join("1")).expect("a chapter").flatten() {
                if file.path().extension().is_some_and(|extension| extension == "flac") {
                    found.push(file.path());
                }
            }
        }
        found.sort();
        found
    }

    /// A command of `reprise` in this folder, with nothing of the caller's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reprise"));
        command.current_dir(self.folder.path()).env_clear().args(arguments).stdin(Stdio::null());
        command.env("HOME", self.path("home")).env("XDG_CACHE_HOME", self.path("cache")).env("PATH", "/usr/bin:/bin");
        if matches!(arguments.first(), Some(&("run" | "extract" | "units"))) {
            command.args(["--threads", "1"]); // several tests run at once
        }
        command
    }

    /// Runs `reprise` to its end.
    pub fn reprise(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments).output().expect("reprise starts"))
    }

    /// Runs `reprise`, which must end well, and parses its standard output as JSON.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let said = self.reprise(arguments);
        assert_eq!(said.code, Some(0), "{said:#?}");
        serde_json::from_str(&said.out).expect("JSON on standard output")
    }

    /// The names of the stages that a run of `experiment` would execute.
    pub fn to_execute(&self, experiment: &str) -> Vec<String> {
        let plan = self.json(&["plan", "--json", experiment]);
        let stages = plan["stages"].as_array().expect("stages");
        let stored = |stage: &&serde_json::Value| stage["outlook"].get("stored").is_none();
        stages.iter().filter(stored).map(|stage| stage["node"]["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// What was said, with this folder's path and everything that differs between machines and times replaced.
    pub fn redacted(&self, text: &str) -> String {
        let folder = self.folder.path().display().to_string();
        text.replace(&folder, "[HERE]")
    }
}

pub fn said(output: Output) -> Said {
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Copies the first utterances of a chapter with their transcripts.
fn copy_some(from: &Path, to: &Path, chapter: &str, count: usize) {
    fs::create_dir_all(to.join(chapter)).expect("a folder");
    let name = {
        let mut parts = chapter.split('/').skip(1);
        format!("{}-{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    };
    let transcripts = format!("{chapter}/{name}.trans.txt");
    let text = fs::read_to_string(from.join(&transcripts)).expect("transcripts");
    let kept: Vec<&str> = text.lines().take(count).collect();
    for line in &kept {
        let id = line.split(' ').next().expect("an id");
        let file = format!("{chapter}/{id}.flac");
        fs::copy(from.join(&file), to.join(&file)).expect("a copy");
    }
    fs::write(to.join(transcripts), kept.join("\n") + "\n").expect("transcripts");
}
