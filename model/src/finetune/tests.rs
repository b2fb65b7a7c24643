use reprise_spec::finetuning::{Finetuning, TriStage};
use reprise_spec::network as parts;
use reprise_spec::values::{Count, Fraction, Layers, Positive, Steps};

use super::*;
use crate::audio::tests::wav;
use crate::corpus;

/// A corpus in which every letter is a tone of its own and a space is silence.
pub(crate) fn tones(dir: &std::path::Path, transcripts: &[&str]) -> Corpora {
    let mut utterances = Vec::new();
    for (index, transcript) in transcripts.iter().enumerate() {
        let mut samples: Vec<i16> = vec![0; 1600];
        for letter in transcript.chars() {
            let hertz = 300.0 * f64::from(letter as u32 % 32);
            let amplitude = if letter == ' ' { 0.0 } else { 8_000.0 };
            let wave = |n: u32| amplitude * (f64::from(n) / 16_000.0 * hertz * std::f64::consts::TAU).sin();
            samples.extend((0..1_920).map(|n| wave(n) as i16));
            samples.extend([0; 960]);
        }
        let id = format!("tones-{index}");
        let path = format!("{id}.wav");
        std::fs::write(dir.join(&path), wav(16_000, 1, &samples)).unwrap();
        let transcript = Some((*transcript).into());
        utterances.push(Utterance { id, path, samples: samples.len() as u64, speaker: "s".into(), transcript });
    }
    std::fs::write(dir.join("utterances.tsv"), corpus::table(&utterances)).unwrap();
    std::fs::write(dir.join("corpus.json"), r#"{"transcribed":true,"conversion":"refuse"}"#).unwrap();
    let split = "tones".to_owned().try_into().unwrap();
    Corpora { splits: vec![(split, Corpus::read(dir, dir).unwrap())] }
}

pub(crate) fn network() -> Network {
    let count = |value: u64| Count::try_from(value).unwrap();
    Network {
        front_end: parts::FrontEnd::LogMel(parts::LogMelFrontEnd { bins: count(20), ..Default::default() }),
        encoder: parts::Encoder {
            layers: count(2),
            width: count(48),
            heads: count(2),
            feed_forward: count(96),
            positional: parts::PositionalConvolution { kernel: count(8), groups: count(4) },
            ..parts::Encoder::default()
        },
        ..Network::default()
    }
}

pub(crate) fn settings(steps: u64) -> Finetuning {
    let defaults = Finetuning::default();
    Finetuning {
        steps: Steps::try_from(steps).unwrap(),
        freeze_steps: Steps::try_from(5).unwrap(),
        schedule: TriStage { peak: Positive::try_from(3e-3).unwrap(), ..defaults.schedule },
        time_masking: SpanMasking { prob: Fraction::try_from(0.1).unwrap(), ..defaults.time_masking.clone() },
        channel_masking: SpanMasking { prob: Fraction::try_from(0.0).unwrap(), ..defaults.channel_masking.clone() },
        layer_drop: Fraction::try_from(0.0).unwrap(),
        batch_seconds: Seconds::try_from(6.0).unwrap(),
        ..defaults
    }
}

/// The fine-tuning of [`network`] with all of its layers.
pub(crate) fn stage(settings: &Finetuning) -> FinetuneStage {
    let (train_on, validate_on) = (Vec::new(), Vec::new());
    FinetuneStage { network: network(), finetuning: settings.clone(), top: Top::Kept, train_on, validate_on }
}

pub(crate) fn finetuner<'a>(corpora: &'a Corpora, settings: &Finetuning) -> Finetuner<'a> {
    tch::set_num_threads(1); // Tests run side by side already, and the tensors are small.
    let vocabulary = Vocabulary::of(corpora.iter().filter_map(|(_, _, u)| u.transcript.as_deref())).unwrap();
    let examples = Examples::of(corpora, &vocabulary, &network(), settings.batch_seconds).unwrap();
    Finetuner::new(&stage(settings), examples, vocabulary, 1, Device::Cpu)
}

#[test]
fn a_small_network_learns_three_utterances() {
    let dir = tempfile::tempdir().unwrap();
    let corpora = tones(dir.path(), &["abba cab", "bed", "dada be"]);
    let settings = settings(400);
    let mut finetuner = finetuner(&corpora, &settings);
    let before = finetuner.recogniser.validate(&corpora, || Ok(())).unwrap();
    let mut watch = Watch::default();
    for step in 1..=400 {
        assert_eq!(finetuner.step(step, &mut watch).unwrap().1, Verdict::Good);
    }
    let after = finetuner.recogniser.validate(&corpora, || Ok(())).unwrap();
    assert!(before.characters.rate() > 0.5, "{before:?}");
    // Tests beside this one draw from the same libtorch generator, so the initial weights, and with them the last errors, vary.
    assert!(after.characters.rate() < 0.25, "{after:?}");
    assert!(after.loss.unwrap() < 0.5 * before.loss.unwrap(), "{before:?}, {after:?}");
}

#[test]
fn the_encoder_rests_while_it_is_frozen() {
    let dir = tempfile::tempdir().unwrap();
    let corpora = tones(dir.path(), &["abba", "bad"]);
    let mut finetuner = finetuner(&corpora, &settings(20));
    let mut changed = |steps: std::ops::RangeInclusive<u64>| {
        let copy = |variables: &VarStore| -> std::collections::BTreeMap<String, Tensor> {
            variables.variables().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect()
        };
        let before = copy(&finetuner.store);
        for step in steps {
            finetuner.step(step, &mut Watch::default()).unwrap();
        }
        let after = copy(&finetuner.store);
        before.into_iter().filter(|(name, tensor)| *tensor != after[name]).map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(changed(1..=5), ["lm_head.bias", "lm_head.weight"]);
    let names = changed(6..=7);
    assert!(names.iter().any(|name| name.starts_with("hubert.encoder")), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("hubert.feature_projection")), "{names:?}");
}

#[test]
fn a_written_model_recognises_the_same_and_a_pretrained_one_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let corpora = tones(dir.path(), &["abba cab", "bed"]);
    let finetuner = finetuner(&corpora, &settings(1));
    finetuner.save_model(dir.path()).unwrap();
    let again = Recogniser::read(dir.path(), Device::Cpu).unwrap();
    let validate = |recogniser: &Recogniser| recogniser.validate(&corpora, || Ok(())).unwrap();
    assert_eq!(validate(&again), validate(&finetuner.recogniser));

    tch::manual_seed(5);
    let store = VarStore::new(Device::Cpu);
    let _hubert = crate::hubert::Hubert::new(&store.root(), &network());
    let about = About::trained(network(), Output::Backbone, Family::Wav2vec2);
    model_folder::save(dir.path(), &store, &about).unwrap();
    let mut finetuner = finetuner;
    let before = store.variables()["masked_spec_embed"].copy();
    assert!(!finetuner.store.variables()["hubert.masked_spec_embed"].equal(&before));
    finetuner.start_from(dir.path()).unwrap();
    for (name, parameter) in store.variables() {
        assert!(finetuner.store.variables()[&format!("hubert.{name}")].equal(&parameter), "{name}");
    }
    finetuner.stage.network = Network::default();
    assert!(finetuner.start_from(dir.path()).is_err());
}

/// Of two layers the top one is drawn anew, or taken away.
#[test]
fn reset_layers_are_new_and_learn_at_once_and_removed_ones_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let corpora = tones(dir.path(), &["abba cab", "bed"]);
    tch::manual_seed(5);
    let store = VarStore::new(Device::Cpu);
    let _hubert = crate::hubert::Hubert::new(&store.root(), &network());
    model_folder::save(dir.path(), &store, &About::trained(network(), Output::Backbone, Family::Hubert)).unwrap();
    let pretrained = store.variables();
    let one = Layers::try_from(1).unwrap();
    let tuned = |top: Top| {
        let stage = FinetuneStage { top, ..stage(&settings(9)) };
        let vocabulary = Vocabulary::of(["abcde"]).unwrap();
        let examples = Examples::of(&corpora, &vocabulary, &network(), stage.finetuning.batch_seconds).unwrap();
        let mut finetuner = Finetuner::new(&stage, examples, vocabulary, 1, Device::Cpu);
        finetuner.start_from(dir.path()).unwrap();
        finetuner
    };
    // Weights that differ from the pretrained ones: fresh, or moved by then.
    let differ = |finetuner: &Finetuner| -> Vec<String> {
        let ours = finetuner.store.variables();
        let other =
            |(name, tensor): (&String, &Tensor)| (ours.get(&format!("hubert.{name}"))? != tensor).then(|| name.clone());
        let mut names: Vec<String> =
            pretrained.iter().filter_map(other).filter(|name| name.ends_with("weight")).collect();
        names.retain(|name| !name.contains("norm"));
        names.sort();
        names
    };
    let of_layer = |layer: u32| pretrained.keys().filter(move |name| layer_of(name) == Some(layer)).count();

    let mut reset = tuned(Top::Reset(one));
    let fresh = differ(&reset);
    assert!(!fresh.is_empty() && fresh.iter().all(|name| name.starts_with("encoder.layers.1.")), "{fresh:?}");
    let before: HashMap<String, Tensor> =
        reset.store.variables().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
    reset.step(1, &mut Watch::default()).unwrap();
    let moved = |name: &str| reset.store.variables()[name] != before[name];
    assert!(moved("hubert.encoder.layers.1.feed_forward.output_dense.weight") && moved("lm_head.weight"));
    assert_eq!(differ(&reset), fresh, "what was pretrained waits for the end of the freeze");
    reset.step(6, &mut Watch::default()).unwrap();
    assert!(differ(&reset).iter().any(|name| name.starts_with("encoder.layers.0.")));

    let removed = tuned(Top::Removed(one));
    assert_eq!(differ(&removed), [""; 0]);
    assert_eq!(removed.store.len(), pretrained.len() - of_layer(1) + 2);
    removed.save_model(dir.path()).unwrap();
    assert_eq!(model_folder::about(dir.path()).unwrap().network.encoder.layers.get(), 1);
    Recogniser::read(dir.path(), Device::Cpu).unwrap();
}

#[test]
fn utterances_with_too_many_symbols_are_left_out_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut corpora = tones(dir.path(), &["ab", "cd"]);
    corpora.splits[0].1.utterances[1].transcript = Some("a".repeat(60));
    let vocabulary = Vocabulary::of(["abcd"]).unwrap();
    let examples = Examples::of(&corpora, &vocabulary, &network(), Seconds::try_from(2.0).unwrap()).unwrap();
    assert_eq!(examples.left_out, ["tones/tones-1"]);
    let error = Examples::of(&corpora, &vocabulary, &network(), Seconds::try_from(0.1).unwrap()).unwrap_err();
    insta::assert_snapshot!(error, @"tones/tones-0 lasts 0.46 s, but a batch holds at most 0.1 s and nothing is cropped");
}

#[test]
fn what_shares_a_batch_does_not_change_the_scores() {
    let dir = tempfile::tempdir().unwrap();
    let corpora = tones(dir.path(), &["abba cab", "bed"]);
    let finetuner = finetuner(&corpora, &settings(1));
    let model = &finetuner.recogniser.model;
    let (_, corpus) = &corpora.splits[0];
    let features: Vec<Tensor> =
        corpus.utterances.iter().map(|utterance| model.features(&corpus.wave(utterance).unwrap())).collect();
    let logits = |features: &[Tensor]| model.logits(&Frames::side_by_side(features), &Masks::default(), Mode::Evaluate);
    let (together, alone) = (logits(&features), logits(&features[1..]));
    let frames = alone.size()[1];
    let difference = (together.narrow(0, 1, 1).narrow(1, 0, frames) - alone).abs().max().double_value(&[]);
    assert!(difference < 1e-5, "{difference}");
}
