//! Models from and for other programs.
//!
//! What comes in is judged before any of it is believed: a config may ask for nothing that the network here doesn't compute, and the tensors
//! must be exactly those that the network has. What goes out computes the same in the other program. Weights pass bit by bit.

use std::collections::BTreeMap;
use std::path::Path;

use reprise_spec::arithmetic;
use reprise_spec::contract::{Level, Score};
use reprise_spec::network::{FrontEnd, Network, WaveFrontEnd};
use reprise_spec::stage::PretrainTargets;
use reprise_spec::strategy::Quantiser;
use reprise_spec::training::{CosineHead, Head};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::contrastive::Contrastive;
use crate::ctc::CtcModel;
use crate::failure::StageError;
use crate::hubert::Hubert;
use crate::model_folder::{self, About, Family, MASK_EMBEDDING, Output};
use crate::recogniser::VOCABULARY;
use crate::report::Reporter;
use crate::vocabulary::Vocabulary;

pub mod architecture;
pub mod fairseq;
pub mod files;
pub mod hugging_face;
pub mod keys;
pub mod symbols;
pub mod tensor_file;
pub mod torchaudio;

use files::NewFolder;
use keys::Keys;
use tensor_file::{TensorFile, quoted};

/// Names of a list that are told; the others are counted.
const TOLD: usize = 5;

/// A model of another program, understood but not yet read.
#[derive(Debug)]
pub struct Foreign {
    pub network: Network,
    pub family: Family,
    pub output: Output,
    /// The names of the rows of a CTC head; absent where there is none.
    pub vocabulary: Option<Vocabulary>,
    pub tensors: TensorFile,
    /// Where a tensor goes, by its name there.
    pub place: fn(&str) -> Place,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Where a tensor of another program goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the parameter of this name, in a model without a CTC head; one of the head is below `lm_head`.
    Ours(String),
    /// Nowhere: it belongs to this part, which an encoder doesn't need.
    LeftOut(&'static str),
}

impl Place {
    /// A parameter of the encoder, with the newer spelling of weight norm brought to the older one, which is ours.
    pub fn encoder(name: &str) -> Self {
        for (theirs, ours) in WEIGHT_NORM {
            if let Some(stem) = name.strip_suffix(theirs) {
                return Self::Ours(format!("{stem}{ours}"));
            }
        }
        Self::Ours(name.to_owned())
    }
}

/// The two spellings of weight norm: `torch.nn.utils.parametrizations.weight_norm`, and `torch.nn.utils.weight_norm` before it.
const WEIGHT_NORM: [(&str, &str); 2] =
    [("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v")];

/// Registers the parameters of a network and of what stands above it there too: a CTC head or a quantiser.
fn register(store: &VarStore, network: &Network, output: &Output) {
    let root = store.root();
    if let Output::Characters { symbols } = output {
        drop(CtcModel::new(&root, network, *symbols as usize, 0.0));
        return;
    }
    drop(Hubert::new(&root, network));
    if let Some((wave, quantiser, head)) = contrastive(network, output) {
        drop(Contrastive::new(&root, network, wave.channels.get().into(), head, quantiser));
    }
}

/// The settings of wav2vec 2.0's pretraining.
fn contrastive<'a>(
    network: &'a Network,
    output: &'a Output,
) -> Option<(&'a WaveFrontEnd, &'a Quantiser, &'a CosineHead)> {
    match (&network.front_end, output) {
        (
            FrontEnd::Wave(wave),
            Output::Pretrained { targets: PretrainTargets::Quantiser(quantiser), head: Head::Cosine(head), .. },
        ) => Some((wave, quantiser, head)),
        _ => None,
    }
}

/// How a program whose settings stand in a `.json` beside the tensors names the rows of a CTC head.
struct Rows {
    key: &'static str,
    /// Rows before those that are listed.
    before: &'static [&'static str],
    must: &'static str,
}

impl Foreign {
    /// Understands the tensors in `file` with the `settings` beside it.
    fn beside(
        file: &Path,
        settings: &Keys,
        network: Network,
        place: fn(&str) -> Place,
        rows: &Rows,
    ) -> Result<Self, StageError> {
        let tensors = TensorFile::open(file)?;
        let vocabulary = match settings.texts(rows.key)? {
            Some(listed) => {
                let all = rows.before.iter().copied().chain(listed).map(String::from).collect();
                Some(symbols::of_rows(settings.path(), all)?)
            }
            None if tensors.names().any(|name| place(name) == Place::Ours("lm_head.weight".into())) => {
                return Err(settings.wrong(rows.key, rows.must));
            }
            None => None,
        };
        let family = settings.one_of("model_type", "", Family::NAMES)?;
        let output = Output::of(vocabulary.as_ref());
        Ok(Self { network, family, output, vocabulary, tensors, place, notes: Vec::new() })
    }

    /// Reads every tensor and makes a model folder of them. Returns the number of parameters and layers.
    ///
    /// # Errors
    /// Refuses tensors that are missing, too many or of another shape, each named; then nothing is left behind.
    pub fn adopt(mut self, to: &Path, report: &mut Reporter) -> Result<Vec<Score>, StageError> {
        let folder = NewFolder::create(to)?;
        let prefix = if self.vocabulary.is_some() { model_folder::CTC_PREFIX } else { "" };
        let ours = self.placed(prefix)?;
        let mask = format!("{prefix}{MASK_EMBEDDING}");
        let mask_embedding = ours.contains_key(&mask);
        if !mask_embedding {
            self.notes.push("the embedding of masked frames is not there, so nothing can be trained with masks".into());
        }
        if self.tensors.halves() > 0 {
            self.notes.push(format!("{} tensors of half precision are widened, which is exact", self.tensors.halves()));
        }
        let store = self.store()?;
        let mut parameters: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
        if !mask_embedding {
            parameters.remove(&mask);
        }
        self.compare(&parameters, &ours)?;
        self.notes.iter().for_each(|note| report.say(Level::Info, note));
        let total = parameters.len() as u64;
        for (done, (name, parameter)) in (1..).zip(&mut parameters) {
            report.check_stop()?;
            let tensor = self.tensors.read(&ours[name])?;
            tch::no_grad(|| parameter.f_copy_(&tensor))?;
            report.progress(done, total, "tensors", "");
        }
        let numbers: usize = parameters.values().map(Tensor::numel).sum();
        let layers = self.network.encoder.layers.get();
        let about = About { network: self.network, output: self.output, family: self.family, mask_embedding };
        model_folder::save_tensors(folder.path(), parameters.into_iter().collect(), &about)?;
        if let Some(vocabulary) = &self.vocabulary {
            folder.write(VOCABULARY, vocabulary.to_text().as_bytes())?;
        }
        folder.finish()?;
        let score = |name: &str, value: f64| Score { name: name.into(), value, interval: None };
        Ok(vec![score("parameters", numbers as f64), score("layers", layers.into())])
    }

    /// Their names by ours.
    fn placed(&mut self, prefix: &str) -> Result<BTreeMap<String, String>, StageError> {
        let mut ours: BTreeMap<String, String> = BTreeMap::new();
        let mut left_out: BTreeMap<&str, usize> = BTreeMap::new();
        for theirs in self.tensors.names() {
            match (self.place)(theirs) {
                Place::LeftOut(part) => *left_out.entry(part).or_default() += 1,
                Place::Ours(name) => {
                    let head = name.starts_with(model_folder::CTC_HEAD);
                    let name = if head { name } else { format!("{prefix}{name}") };
                    if let Some(other) = ours.insert(name, theirs.to_owned()) {
                        let path = self.tensors.path().display();
                        let message = format!("{path}: {} and {} are one parameter", quoted(&other), quoted(theirs));
                        return Err(StageError::refused(message, "save the model again, with one of them"));
                    }
                }
            }
        }
        let told = left_out.iter().map(|(part, count)| format!("left out: {part} ({count} tensors)"));
        self.notes.extend(told);
        if !matches!(&self.network.front_end, FrontEnd::Wave(wave) if wave.bias) {
            let biases =
                |name: &String| name.contains("feature_extractor.conv_layers.") && name.ends_with(".conv.bias");
            let biases: Vec<String> = ours.keys().filter(|name| biases(name)).cloned().collect();
            for name in &biases {
                let theirs = ours.remove(name).unwrap_or_default();
                if self.tensors.read(&theirs)?.abs().sum(tch::Kind::Double).double_value(&[]) != 0.0 {
                    let path = self.tensors.path().display();
                    let message = format!("{path}: {} is not zero, but the config has no such bias", quoted(&theirs));
                    return Err(StageError::refused(
                        message,
                        "correct the config, if the model was trained with biases",
                    ));
                }
            }
            if !biases.is_empty() {
                self.notes.push(format!("left out: {} biases of convolutions, which are zero", biases.len()));
            }
        }
        Ok(ours)
    }

    /// Parameters of the network, with any values.
    fn store(&self) -> Result<VarStore, StageError> {
        let needed = arithmetic::parameters(&self.network).saturating_add(self.head_parameters());
        let there = self.tensors.elements();
        // So that a config alone makes nobody allocate: a slip of a layer or two is told by name below.
        if needed / 4 > there.saturating_add(1 << 20) {
            let path = self.tensors.path().display();
            let message = format!("the config describes {needed} parameters, but {path} holds {there}");
            return Err(StageError::refused(message, "check that the config and the tensors are of one model"));
        }
        let store = VarStore::new(Device::Cpu);
        register(&store, &self.network, &self.output);
        Ok(store)
    }

    /// Numbers in what stands above the encoder.
    fn head_parameters(&self) -> u64 {
        let width = u64::from(self.network.encoder.width.get());
        if let Some((wave, quantiser, head)) = contrastive(&self.network, &self.output) {
            let [groups, entries, target, channels, dimension] =
                [quantiser.groups, quantiser.entries, quantiser.dimension, wave.channels, head.dimension]
                    .map(|count| u64::from(count.get()));
            let rows = groups.saturating_mul(entries);
            return rows
                .saturating_mul(channels + 1 + target / groups)
                .saturating_add(dimension * (width + target + 2));
        }
        self.vocabulary.as_ref().map_or(0, |vocabulary| vocabulary.size() as u64 * (width + 1))
    }

    /// Whether the file has what the network needs, in its shapes, and nothing else.
    fn compare(
        &self,
        parameters: &BTreeMap<String, Tensor>,
        ours: &BTreeMap<String, String>,
    ) -> Result<(), StageError> {
        let missing = parameters.keys().filter(|name| !ours.contains_key(*name)).map(|name| quoted(name));
        let extra = ours.iter().filter(|(name, _)| !parameters.contains_key(*name)).map(|(_, theirs)| quoted(theirs));
        let misshapen = ours.iter().filter_map(|(name, theirs)| {
            let (needed, found) = (parameters.get(name)?.size(), self.tensors.shape(theirs)?);
            (needed != found).then(|| format!("{} is {found:?} and not {needed:?}", quoted(theirs)))
        });
        let mut problems = Vec::new();
        for (what, names) in [
            ("missing", missing.collect::<Vec<_>>()),
            ("unknown", extra.collect()),
            ("of another shape", misshapen.collect()),
        ] {
            if !names.is_empty() {
                let more = names.len().saturating_sub(TOLD);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                problems.push(format!("{what}: {}{more}", names[..names.len().min(TOLD)].join(", ")));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        let path = self.tensors.path().display();
        Err(StageError::refused(
            format!("{path} does not hold the tensors that its config describes\n{}", problems.join("\n")),
            "check that the config and the tensors are of one model, and that both are whole",
        ))
    }
}
