//! Folders of `transformers` and state dicts of torchaudio (tests/fixtures/generate/hf_folders.py): what is imported computes the same, and
//! what is exported again is the same to the bit.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use reprise_model::ctc::{CtcModel, Frames};
use reprise_model::encoder::Mode;
use reprise_model::exchange::{Foreign, fairseq, hugging_face, torchaudio};
use reprise_model::hubert::{Hubert, Masks, Taps};
use reprise_model::model_folder::{self, About, Family, Output};
use reprise_model::recogniser::{Recogniser, VOCABULARY};
use reprise_model::report::Reporter;
use reprise_model::tensors;
use reprise_spec::extraction::{Layers, Numbering};
use reprise_spec::network::{FrontEnd, LinearProjection, Network};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::fixture::{self, Arrays, worst};

const TOLERANCE: f64 = 1e-5;

/// The folders below tests/fixtures/hugging-face, and whether they have a CTC head.
const FOLDERS: [(&str, bool); 4] =
    [("hubert-ctc", true), ("hubert-layer", false), ("wav2vec2-ctc", true), ("wav2vec2-pretraining", false)];

fn silent() -> Reporter {
    Reporter::without_metrics(File::create("/dev/null").unwrap())
}

fn import(foreign: Foreign, to: &Path) {
    foreign.adopt(to, &mut silent()).unwrap();
}

fn import_hf(name: &str, to: &Path) {
    import(hugging_face::open(&fixture::path(&format!("hugging-face/{name}"))).unwrap(), to);
}

/// Compares all that `arrays` expect of the model in `folder`.
fn computes_the_same(folder: &Path, arrays: &Arrays) {
    let _no_grad = tch::no_grad_guard();
    let wave_bs = &arrays["wave"];
    let (_store, hubert, about) = model_folder::load(folder, Device::Cpu).unwrap();
    let states = hubert.hidden_states(wave_bs, None, hubert.depth());
    let output = hubert.forward(wave_bs, None, &Masks::default(), Mode::Evaluate, Taps::Output).outputs.remove(0);
    let mut seen = 1;
    assert!(worst(&output, &arrays["output"]) < TOLERANCE);
    for (layer, state) in states.iter().enumerate() {
        if let Some(theirs) = arrays.get(&format!("hidden.{layer}")) {
            assert!(worst(state, theirs) < TOLERANCE, "layer {layer}");
            seen += 1;
        }
    }
    if let Some(theirs) = arrays.get("logits") {
        let Output::Characters { symbols } = about.output else { panic!("{about:?}") };
        let store = VarStore::new(Device::Cpu);
        let model = CtcModel::new(&store.root(), &about.network, symbols as usize, 0.0);
        model_folder::load_into(folder, &store).unwrap();
        let frames = Frames::side_by_side(&[model.hubert.front_end.forward(wave_bs, None, Mode::Evaluate)]);
        let ours = model.logits(&frames, &Masks::default(), Mode::Evaluate);
        assert!(worst(&ours, theirs) < TOLERANCE, "logits");
        Recogniser::read(folder, Device::Cpu).unwrap();
        seen += 1;
    }
    assert_eq!(seen, arrays.len() - 1, "everything but the wave was compared");
}

/// The bits of every tensor, under the newer spelling of weight norm.
fn bits(path: &Path) -> BTreeMap<String, (Vec<i64>, Vec<u32>)> {
    let newer = |name: String| {
        name.replace("weight_g", "parametrizations.weight.original0")
            .replace("weight_v", "parametrizations.weight.original1")
    };
    let bits =
        |tensor: &Tensor| Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap().into_iter().map(f32::to_bits).collect();
    let read = tensors::read(path).unwrap().tensors;
    read.into_iter().map(|(name, tensor)| (newer(name), (tensor.size(), bits(&tensor)))).collect()
}

#[test]
fn folders_of_transformers_compute_the_same_here() {
    let dir = tempfile::tempdir().unwrap();
    for (name, ctc) in FOLDERS {
        let folder = dir.path().join(name);
        import_hf(name, &folder);
        computes_the_same(&folder, &fixture::arrays(&format!("hugging-face/{name}/expected.npz")));
        assert_eq!(folder.join(VOCABULARY).exists(), ctc);
    }
}

/// hubert.md section 7.2: the last hidden state of a pre-norm network is the one after its final norm.
#[test]
fn layers_in_their_numbering_are_their_hidden_states() {
    let dir = tempfile::tempdir().unwrap();
    for (name, _) in FOLDERS {
        let folder = dir.path().join(name);
        import_hf(name, &folder);
        let arrays = fixture::arrays(&format!("hugging-face/{name}/expected.npz"));
        let (_store, hubert, about) = model_folder::load(&folder, Device::Cpu).unwrap();
        let states = Numbering::HuggingFace.states(&Layers::All, &about.network).unwrap();
        let found = tch::no_grad(|| hubert.states(&arrays["wave"], &states));
        assert_eq!(found.len(), hubert.depth() + 1);
        assert!(worst(&found[hubert.depth()], &arrays["output"]) < TOLERANCE, "{name}");
        for (layer, state) in found.iter().enumerate().take(hubert.depth()) {
            assert!(worst(state, &arrays[&format!("hidden.{layer}")]) < TOLERANCE, "{name}, layer {layer}");
        }
    }
}

#[test]
fn a_folder_comes_out_as_it_went_in() {
    let dir = tempfile::tempdir().unwrap();
    for (name, _) in FOLDERS {
        let (inside, outside) = (dir.path().join(name), dir.path().join(format!("{name}-out")));
        import_hf(name, &inside);
        hugging_face::export(&inside, &outside, &mut silent()).unwrap();
        let before = bits(&fixture::path(&format!("hugging-face/{name}/model.safetensors")));
        assert!(before == bits(&outside.join("model.safetensors")), "{name}");
        let again = dir.path().join(format!("{name}-again"));
        import(hugging_face::open(&outside).unwrap(), &again);
        let about = |folder: &Path| model_folder::about(folder).unwrap();
        assert_eq!(about(&again), about(&inside));
        assert_eq!(
            fs::read(again.join("model.safetensors")).unwrap(),
            fs::read(inside.join("model.safetensors")).unwrap()
        );
        let vocabulary = |folder: &Path| fs::read(folder.join(VOCABULARY)).ok();
        assert_eq!(vocabulary(&again), vocabulary(&inside));
    }
}

#[test]
fn what_a_folder_says_of_itself_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let about = |name: &str| {
        let folder = dir.path().join(name);
        import_hf(name, &folder);
        let About { network, family, mask_embedding, .. } = model_folder::about(&folder).unwrap();
        let FrontEnd::Wave(wave) = network.front_end else { panic!("{network:?}") };
        (family, mask_embedding, wave.normalise_waveform, wave.bias, network.projection.layer_norm)
    };
    assert_eq!(about("hubert-ctc"), (Family::Hubert, true, true, false, true));
    assert_eq!(about("hubert-layer"), (Family::Hubert, true, true, true, false));
    assert_eq!(about("wav2vec2-ctc"), (Family::Wav2vec2, true, false, false, true));
    assert_eq!(about("wav2vec2-pretraining"), (Family::Wav2vec2, false, true, false, true));
    let vocabulary = fs::read_to_string(dir.path().join("wav2vec2-ctc").join(VOCABULARY)).unwrap();
    assert_eq!(vocabulary, "<pad>\nb\na\n|\né\n");
}

#[test]
fn a_model_without_an_embedding_of_masked_frames_can_be_used_but_not_masked() {
    let _no_grad = tch::no_grad_guard();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("m");
    import_hf("wav2vec2-pretraining", &folder);
    assert!(!tensors::read(&folder.join("model.safetensors")).unwrap().tensors.contains_key("masked_spec_embed"));
    let (_store, hubert, _) = model_folder::load(&folder, Device::Cpu).unwrap();
    let wave_bs = Tensor::ones([1, 2_400], (Kind::Float, Device::Cpu));
    let masks = Masks { time_bt: Some(Tensor::ones([1, 7], (Kind::Bool, Device::Cpu))), channel_bd: None };
    let masked = hubert.forward(&wave_bs, None, &masks, Mode::Evaluate, Taps::Output).outputs.remove(0);
    assert!(masked.double_value(&[0, 0, 0]).is_nan());
}

/// An identity stands in for the map that fairseq's form leaves out, and changes no bit.
#[test]
fn a_network_without_a_projection_is_exported_with_an_identity() {
    let _no_grad = tch::no_grad_guard();
    tch::manual_seed(4);
    let dir = tempfile::tempdir().unwrap();
    let (from, to, again) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
    let network: Network = serde_json::from_value(serde_json::json!({
        "front-end": { "wave": { "channels": 12 } },
        "encoder": { "layers": 1, "width": 12, "heads": 3, "feed-forward": 20, "positional": { "kernel": 8, "groups": 4 } },
    }))
    .unwrap();
    assert_eq!(network.projection.linear, LinearProjection::WhereWidthsDiffer);
    let store = VarStore::new(Device::Cpu);
    let ours = Hubert::new(&store.root(), &network);
    fs::create_dir(&from).unwrap();
    model_folder::save(&from, &store, &About::trained(network, Output::Backbone, Family::Hubert)).unwrap();
    hugging_face::export(&from, &to, &mut silent()).unwrap();
    import(hugging_face::open(&to).unwrap(), &again);
    let (_store, theirs, _) = model_folder::load(&again, Device::Cpu).unwrap();
    let wave_bs = Tensor::randn([1, 4_000], (Kind::Float, Device::Cpu));
    for (ours, theirs) in ours.hidden_states(&wave_bs, None, 1).iter().zip(theirs.hidden_states(&wave_bs, None, 1)) {
        assert!(ours.equal(&theirs));
    }
}

#[test]
fn state_dicts_of_torchaudio_compute_the_same_here() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["hubert", "wav2vec2-ctc"] {
        let folder = dir.path().join(name);
        import(torchaudio::open(&fixture::path(&format!("torchaudio/{name}.safetensors"))).unwrap(), &folder);
        computes_the_same(&folder, &fixture::arrays(&format!("torchaudio/{name}.npz")));
        let about = model_folder::about(&folder).unwrap();
        assert_eq!(about.family == Family::Wav2vec2, name == "wav2vec2-ctc");
        assert!(!about.mask_embedding, "torchaudio keeps it in HuBERTPretrainModel alone");
    }
    let vocabulary = fs::read_to_string(dir.path().join("wav2vec2-ctc").join(VOCABULARY)).unwrap();
    assert_eq!(vocabulary, "<pad>\n|\nE\nT\n'\n");
}

/// The fixture went through experiments/convert/fairseq_to_safetensors.py.
#[test]
fn converted_checkpoints_of_fairseq_compute_the_same_here() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("m");
    import(fairseq::open(&fixture::path("fairseq/hubert-ctc.safetensors")).unwrap(), &folder);
    computes_the_same(&folder, &fixture::arrays("fairseq/hubert-ctc.npz"));
    assert!(model_folder::about(&folder).unwrap().mask_embedding);
    let vocabulary = fs::read_to_string(folder.join(VOCABULARY)).unwrap();
    assert_eq!(
        vocabulary, "<pad>\n<s>\n</s>\n<unk>\n|\nE\nT\n",
        "the blank is fairseq's <s>, and rows stay where they are"
    );
}
