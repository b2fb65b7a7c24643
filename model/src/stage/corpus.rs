//! `corpus`: reads every file of a split once, checks it, and writes down what there is.

use reprise_spec::contract::Score;
use reprise_spec::stage::{CorpusPart, CorpusStage};

use super::Work;
use crate::failure::StageError;

mod alignments;
pub(super) mod files;
mod utterances;

/// Problems that a message names one by one; the rest is counted.
const NAMED: usize = 20;

/// Executes the stage.
pub fn run(settings: &CorpusStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let CorpusStage { split, content: _, part } = settings;
    match *part {
        CorpusPart::Utterances { transcribed, conversion, exclude_at_most } => {
            utterances::run(split, transcribed, conversion, exclude_at_most, work)
        }
        CorpusPart::Alignments => alignments::run(split, work),
    }
}

/// The first [`NAMED`] problems, one a line, and how many more there are.
fn named(problems: impl ExactSizeIterator<Item = String>) -> String {
    let more = problems.len().saturating_sub(NAMED);
    let mut text: String = problems.take(NAMED).map(|problem| format!("\n  {problem}")).collect();
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}

fn score(name: &str, value: f64) -> Score {
    Score { name: name.into(), value, interval: None }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use reprise_spec::contract::{DataSource, Device, Input, Request};
    use reprise_spec::corpus::Conversion;
    use reprise_spec::identity::{ContentDigest, OutputDigest, StageKey};
    use reprise_spec::network::FeatureKind;
    use reprise_spec::stage::{FeaturesStage, Role, Stage};
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::alignment::Alignments;
    use crate::audio::tests::{FLAC, wav};
    use crate::corpus::Corpus;
    use crate::npy;
    use crate::report::Reporter;
    use crate::stage::features;

    /// A data root with one split, and the stages that ran on it.
    struct Bench(tempfile::TempDir);

    impl Bench {
        fn new() -> Self {
            let bench = Self(tempfile::tempdir().unwrap());
            bench.add("test/7/1/7-1-a.wav", &wav(16_000, 1, &[5; 16_000]));
            bench.add("test/7/1/7-1-b.flac", FLAC);
            bench.add("test/7/1/7-1.trans.txt", b"7-1-b TWO  WORDS \r\n\n7-1-a ONE\n");
            bench
        }

        fn add(&self, path: &str, bytes: &[u8]) {
            let path = self.0.path().join("data").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }

        fn list(&self, below: &str) -> String {
            fn walk(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
                for entry in fs::read_dir(dir).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() { walk(&path, found) } else { found.push(path) }
                }
            }
            let (root, mut found) = (self.0.path().join("data"), Vec::new());
            walk(&root.join(below), &mut found);
            found.sort();
            let line = |path: &std::path::PathBuf| {
                let bytes = fs::read(path).unwrap();
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                format!("{}  {}  {name}\n", hex::encode(Sha256::digest(&bytes)), bytes.len())
            };
            found.iter().map(line).collect()
        }

        fn work(&self, stage: Stage, name: &str, list: &str, inputs: Vec<Input>) -> Work {
            let root = self.0.path();
            fs::create_dir_all(root.join(name).join("out")).unwrap();
            fs::write(root.join("list"), list).unwrap();
            let events = fs::File::create(root.join("events")).unwrap();
            let request = Request {
                contract: 1,
                key: StageKey([0; 32]),
                stage,
                seed: None,
                inputs,
                prefix: None,
                data: Some(DataSource { root: root.join("data"), files: Some(root.join("list")) }),
                work: root.join(name),
                device: Device::Cpu,
                threads: 2,
                loader_threads: 1,
                recompute: false,
                checkpoint_seconds: 60,
                attempt: 1,
            };
            let report = Reporter::open(events, &request.work, 1).unwrap();
            Work { request, report, device: tch::Device::Cpu }
        }

        fn stage(&self, part: CorpusPart) -> CorpusStage {
            CorpusStage { split: "test".to_owned().try_into().unwrap(), content: ContentDigest([0; 32]), part }
        }

        fn utterances(&self, list: &str, exclude_at_most: u32) -> Result<Vec<Score>, StageError> {
            let conversion = Conversion::Refuse;
            let stage = self.stage(CorpusPart::Utterances { transcribed: true, conversion, exclude_at_most });
            run(&stage, &mut self.work(Stage::Corpus(stage.clone()), "utterances", list, vec![]))
        }

        fn alignments(&self) -> Result<Vec<Score>, StageError> {
            let stage = self.stage(CorpusPart::Alignments);
            let list = self.list("alignments");
            run(&stage, &mut self.work(Stage::Corpus(stage.clone()), "alignments", &list, vec![self.corpus()]))
        }

        fn corpus(&self) -> Input {
            let role = Role::Corpus("test".to_owned().try_into().unwrap());
            let path = self.0.path().join("utterances/out");
            Input { role, key: StageKey([0; 32]), digest: OutputDigest([0; 32]), path }
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.0.path().join(name)).unwrap()
        }
    }

    fn refusal(result: Result<Vec<Score>, StageError>) -> String {
        match result.unwrap_err() {
            StageError::Refused { message, help } => format!("{message}\nhelp: {}", help.unwrap_or_default()),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_sound_split_becomes_a_table_sorted_by_id() {
        let bench = Bench::new();
        let scores = bench.utterances(&bench.list("test"), 0).unwrap();
        let scores: Vec<_> = scores.iter().map(|s| format!("{} {}", s.name, s.value)).collect();
        assert_eq!(scores, ["utterances 2", "seconds 1.3", "excluded 0", "words 3"]);
        insta::assert_snapshot!(bench.read("utterances/out/utterances.tsv").replace('\t', " | "), @r"
        id | path | samples | speaker | transcript
        7-1-a | test/7/1/7-1-a.wav | 16000 | 7 | ONE
        7-1-b | test/7/1/7-1-b.flac | 4800 | 7 | TWO  WORDS
        ");
        let corpus = Corpus::read(&bench.corpus().path, &bench.0.path().join("data")).unwrap();
        assert_eq!(corpus.utterances[1].transcript.as_deref(), Some("TWO  WORDS"));
        assert_eq!(corpus.wave(&corpus.utterances[1]).unwrap().len(), 4800);
    }

    #[test]
    fn every_problem_is_named_at_once_and_can_be_left_out_in_a_stated_number() {
        let bench = Bench::new();
        bench.add("test/7/1/7-1-c.flac", &FLAC[..3000]);
        bench.add("test/7/1/7-1-d.wav", &wav(8_000, 1, &[5; 8_000]));
        bench.add("test/7/1/7-1-e.wav", &wav(16_000, 2, &[5; 8_000]));
        bench.add("test/7/1/7-1-f.wav", b"");
        bench.add("test/7/1/7-1-g.wav", &wav(16_000, 1, &[5; 8_000]));
        bench.add("test/7/1/7-1-h.wav", &wav(16_000, 1, &[5; 399]));
        bench.add("test/7/2/7-1-i.wav", &wav(16_000, 1, &[5; 8_000]));
        bench.add("test/7/1/7-1-i.wav", &wav(16_000, 1, &[5; 8_000]));
        bench.add("test/7/1/notes.doc", b"");
        bench.add("test/7/1/7-2.trans.txt", b"7-1-h SHORT\n7-1-j \xFF\n7-1-k NOBODY\n7-1-l\n");
        bench.add("test/7/1/7-1-j.wav", &wav(16_000, 1, &[5; 8_000]));
        bench.add("test/7/1/7-1-l.wav", &wav(16_000, 1, &[5; 8_000]));
        insta::assert_snapshot!(refusal(bench.utterances(&bench.list("test"), 11)), @r##"
        test has 12 unusable files or utterances, 11 may be left out:
          test/7/1/notes.doc: neither .flac nor .wav nor .trans.txt
          test/7/1/7-1-c.flac: truncated: 0 of 4800 samples are there
          test/7/1/7-1-d.wav: 8000 Hz and 1 channel, not 16000 Hz mono, and `corpus.conversion` is `refuse`
          test/7/1/7-1-e.wav: 16000 Hz and 2 channels, not 16000 Hz mono, and `corpus.conversion` is `refuse`
          test/7/1/7-1-f.wav: the file is empty
          test/7/1/7-1-g.wav: audio without a transcript
          test/7/1/7-1-h.wav: 399 samples are shorter than one frame of 25 ms
          test/7/1/7-1-i.wav: another file has the same utterance id
          test/7/2/7-1-i.wav: another file has the same utterance id
          test/7/1/7-1-j.wav: its transcript is not UTF-8 (7-2.trans.txt line 2)
          7-1-k: a transcript without audio
          test/7/1/7-1-l.wav: its transcript is empty (7-2.trans.txt line 4)
        help: mend them, or set `corpus.exclude-at-most: 12`: they are then left out and listed in the result
        "##);
        assert!(bench.utterances(&bench.list("test"), 12).is_ok());
        assert_eq!(bench.read("utterances/out/excluded.tsv").lines().count(), 1 + 12);
        assert_eq!(bench.read("utterances/out/utterances.tsv").lines().count(), 1 + 2);
    }

    #[test]
    fn a_file_swapped_under_its_old_name_is_not_read() {
        let bench = Bench::new();
        let list = bench.list("test");
        bench.add("test/7/1/7-1-a.wav", &wav(16_000, 1, &[6; 16_000]));
        let message = refusal(bench.utterances(&list, 9));
        assert!(message.contains("7-1-a.wav changed since its checksum was taken"), "{message}");
    }

    #[test]
    fn alignments_come_as_tables_or_as_textgrids() {
        let bench = Bench::new();
        bench.utterances(&bench.list("test"), 0).unwrap();
        bench.add("alignments/test.phones.tsv", b"utt\tstart\tend\tphone\n7-1-a\t0\t0.5\tAH0\n7-1-a\t0.6\t1.05\tN\n");
        bench.add("alignments/test.words.tsv", b"utt\tstart\tend\tword\n7-1-a\t0\t0.5\tone\n7-1-a\t0.5\t0.6\t\n");
        let scores: Vec<f64> = bench.alignments().unwrap().iter().map(|score| score.value).collect();
        assert_eq!(scores, [1.0, 2.0, 1.0]);
        let tables = Alignments::read(&bench.0.path().join("alignments/out")).unwrap();
        assert_eq!(tables.phones("7-1-a").unwrap()[1].end, 16_800);
        assert_eq!((tables.phones("7-1-b"), tables.words("7-1-a").unwrap().len()), (None, 2));

        fs::remove_dir_all(bench.0.path().join("data/alignments")).unwrap();
        let interval = |xmin, xmax, text| format!("intervals [1]:\nxmin = {xmin}\nxmax = {xmax}\ntext = \"{text}\"\n");
        let tier = |name, intervals: &[String]| format!("item [1]:\nname = \"{name}\"\n{}", intervals.concat());
        let phones = tier("phones", &[interval(0.0, 0.5, "AH0"), interval(0.6, 1.05, "N")]);
        let words = tier("words", &[interval(0.0, 0.5, "one"), interval(0.5, 0.6, "")]);
        let grid = format!("File type = \"ooTextFile\"\n{words}{phones}");
        bench.add("alignments/textgrid/test/7-1-a.TextGrid", grid.as_bytes());
        bench.alignments().unwrap();
        assert_eq!(Alignments::read(&bench.0.path().join("alignments/out")).unwrap(), tables);
    }

    #[test]
    fn impossible_alignments_are_refused_together() {
        let bench = Bench::new();
        bench.utterances(&bench.list("test"), 0).unwrap();
        bench.add(
            "alignments/test.phones.tsv",
            b"utt\tstart\tend\tphone\n7-1-a\t0\t1.06\tAH0\n7-1-b\t0\t0.1\tXX\n7-1-c\t0\t1\tN\n",
        );
        bench.add(
            "alignments/test.words.tsv",
            b"utt\tstart\tend\tword\n7-1-a\t0.1\t0.5\ta\n7-1-a\t0.4\t0.6\tb\n7-1-b\t0.1\t0.1\tc\n",
        );
        bench.add("alignments/7-1-b.TextGrid", b"File type = \"ooTextFile\"\n");
        insta::assert_snapshot!(refusal(bench.alignments()), @r##"
        the alignments of test cannot be used:
          alignments/7-1-b.TextGrid: no tier in the long text form
          phones of 7-1-a: "AH0" from 0.000 to 1.060 s lies beyond the audio of 1.000 s
          phones of 7-1-c: the split has no such utterance
          words of 7-1-a: "b" from 0.400 to 0.600 s begins before the label ahead of it ends at 0.500 s
          words of 7-1-b: "c" from 0.100 to 0.100 s has no length
          phones of 7-1-b: "XX" is not a phone: ARPAbet with or without stress, `sil`, `sp` and `spn` are known
        help: mend the alignments, or take them away to measure without them
        "##);
    }

    /// All files of a stage's output, by name.
    fn outputs(work: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
        let entries = fs::read_dir(work.join("out")).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect();
        files.sort();
        files
    }

    #[test]
    fn an_attempt_reads_nothing_that_an_earlier_one_has_finished() {
        let bench = Bench::new();
        let (list, root) = (bench.list("test"), bench.0.path().to_path_buf());
        let features = || {
            let settings = FeaturesStage { kind: FeatureKind::Mfcc };
            let mut work = bench.work(Stage::Features(settings.clone()), "features", "", vec![bench.corpus()]);
            features::run(&settings, &mut work)
        };
        bench.utterances(&list, 0).unwrap();
        features().unwrap();
        let before = ["utterances", "features"].map(|name| outputs(&root.join(name)));
        // The whole of one file's record and a piece of the next, as a kill leaves it; and what was finished is gone from the disk.
        let kept = root.join("features/checkpoints/features.finished");
        let written = fs::read(&kept).unwrap();
        let first = 8 + u64::from_le_bytes(written[..8].try_into().unwrap()) as usize + 8;
        fs::write(&kept, &written[..first + 20]).unwrap();
        fs::write(root.join("data/test/7/1/7-1-a.wav"), "gone").unwrap();
        features().unwrap();
        for name in ["utterances", "features"] {
            fs::remove_dir_all(root.join(name).join("out")).unwrap();
        }
        bench.utterances(&list, 0).unwrap();
        features().unwrap();
        assert_eq!(["utterances", "features"].map(|name| outputs(&root.join(name))), before);
        fs::remove_dir_all(root.join("features/checkpoints")).unwrap();
        assert!(features().is_err(), "without what was finished the file is needed");
    }

    #[test]
    fn features_are_written_in_the_order_of_the_corpus() {
        let bench = Bench::new();
        bench.utterances(&bench.list("test"), 0).unwrap();
        for (kind, dimensions, name) in [(FeatureKind::Mfcc, 39, "mfcc"), (FeatureKind::LogMel, 80, "log-mel")] {
            let settings = FeaturesStage { kind };
            let mut work = bench.work(Stage::Features(settings.clone()), name, "", vec![bench.corpus()]);
            features::run(&settings, &mut work).unwrap();
            let array = npy::Reader::<f32>::open(&work.output("features.npy")).unwrap();
            assert_eq!(array.shape(), [98 + 28, dimensions]);
            assert_eq!(bench.read(&format!("{name}/out/utterances.tsv")), "id\tframes\n7-1-a\t98\n7-1-b\t28\n");
        }
    }
}
