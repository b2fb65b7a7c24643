use std::fs;

use reprise_spec::decoding::{Bootstrap, Search};
use reprise_spec::identity::{ContentDigest, OutputDigest};
use reprise_spec::network::FeatureKind;
use reprise_spec::stage::{CorpusPart, CorpusStage, DecodeStage, FeaturesStage, Role, Stage};
use reprise_spec::values::SplitName;

use super::*;
use crate::store::{Manifest, ManifestInput, manifest};

/// A store with the outputs of stages that nobody executed.
struct Place {
    _temp: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        Self { store: Store::at(temp.path()), _temp: temp }
    }

    /// Stores an output of a stage that reads the others, and gives its key.
    fn stage(&self, stage: Stage, seed: Option<u64>, inputs: &[(Role, StageKey)]) -> StageKey {
        let key = stage.key(inputs, seed);
        let digest = OutputDigest([7; 32]);
        let input = |(role, key): &(Role, StageKey)| ManifestInput { role: role.clone(), key: *key, digest };
        let manifest = Manifest {
            format: manifest::FORMAT,
            key,
            kind: stage.kind().into(),
            canonical: hex::encode(stage.canonical()),
            settings: stage,
            seed,
            continued: None,
            inputs: inputs.iter().map(input).collect(),
            digest,
            files: Vec::new(),
            summary: Vec::new(),
            environment: BTreeMap::new(),
            build: "test".into(),
            started: jiff::Timestamp::UNIX_EPOCH,
            finished: jiff::Timestamp::UNIX_EPOCH,
            seconds: 0.0,
            attempts: 1,
        };
        let folder = self.store.stage_folder(&key).join(digest.short());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(manifest::FILE), serde_json::to_vec(&manifest).unwrap()).unwrap();
        key
    }

    /// Features of a corpus with this content, and what is decoded from them.
    fn decoded(&self, content: u8, kind: FeatureKind) -> StageKey {
        let (content, part) = (ContentDigest([content; 32]), CorpusPart::Alignments);
        let corpus = self.stage(Stage::Corpus(CorpusStage { split: split(), content, part }), None, &[]);
        let features = self.stage(Stage::Features(FeaturesStage { kind }), None, &[(Role::Corpus(split()), corpus)]);
        let decode =
            DecodeStage { split: split(), search: Search::Greedy, weights: None, bootstrap: Bootstrap::default() };
        self.stage(Stage::Decode(decode), None, &[(Role::Features(split()), features)])
    }

    fn explain(&self, a: StageKey, b: StageKey) -> Explanation {
        explain(&Subject::Stage(a), &Subject::Stage(b), &self.store).unwrap()
    }
}

fn split() -> SplitName {
    SplitName::try_from("test".to_owned()).unwrap()
}

fn causes(explanation: &Explanation) -> Vec<(Vec<String>, Vec<String>)> {
    let paths = |cause: &Cause| cause.fields.iter().map(|field| field.path.clone()).collect();
    explanation.causes.iter().map(|cause| (cause.route.clone(), paths(cause))).collect()
}

#[test]
fn the_first_cause_is_found_upstream() {
    let place = Place::new();
    let (one, other) = (place.decoded(1, FeatureKind::Mfcc), place.decoded(2, FeatureKind::Mfcc));
    let explanation = place.explain(one, other);
    assert!(!explanation.equal && explanation.fields.is_empty());
    assert_eq!(explanation.inputs.len(), 1);
    let route = vec!["features test".to_owned(), "corpus test".to_owned()];
    assert_eq!(causes(&explanation), [(route, vec!["content".to_owned()])]);
}

#[test]
fn nothing_above_a_stage_that_differs_itself_is_blamed() {
    let place = Place::new();
    let explanation = place.explain(place.decoded(1, FeatureKind::Mfcc), place.decoded(2, FeatureKind::LogMel));
    assert_eq!(causes(&explanation), [(vec!["features test".to_owned()], vec!["kind".to_owned()])]);
}

#[test]
fn equal_stages_are_equal_and_a_stage_that_is_gone_is_said_to_be() {
    let place = Place::new();
    let (one, other) = (place.decoded(1, FeatureKind::Mfcc), place.decoded(2, FeatureKind::Mfcc));
    assert!(place.explain(one, one).equal);
    let features = place.explain(one, other).inputs[0].a.unwrap();
    fs::remove_dir_all(place.store.stage_folder(&features)).unwrap();
    assert_eq!(causes(&place.explain(one, other)), [(vec!["features test".to_owned()], vec![])]);
    let gone = explain(&Subject::Stage(features), &Subject::Stage(one), &place.store);
    assert!(matches!(gone, Err(ExplainError::Unknown { .. })));
}

#[test]
fn the_start_of_a_key_is_enough_when_only_one_starts_so() {
    let place = Place::new();
    let key = place.decoded(1, FeatureKind::Mfcc);
    assert_eq!(Subject::named(&key.short(), &place.store).unwrap(), Subject::Stage(key));
    assert_eq!(Subject::named(&key.to_string(), &place.store).unwrap(), Subject::Stage(key));
    assert!(matches!(Subject::named(&key.hex()[..3], &place.store), Err(ExplainError::Nothing { .. })), "too short");
    assert!(matches!(
        Subject::named(&format!("variant:{}", key.hex()), &place.store),
        Err(ExplainError::Nothing { .. })
    ));
    let twin = StageKey({
        let mut bytes = key.0;
        bytes[31] ^= 1;
        bytes
    });
    fs::create_dir_all(place.store.stage_folder(&twin)).unwrap();
    assert!(matches!(Subject::named(&key.short(), &place.store), Err(ExplainError::Ambiguous { .. })));
}
