//! What `reprise extract` and `reprise units` ask of the trainer: audio files in, hidden states or unit labels out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::corpus::Conversion;
use crate::identity::OutputDigest;
use crate::network::{LayerNormPlacement, Network};

/// One audio file. A list of them is a file of JSON lines, in the order of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AudioFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Unique in the list, also without its extension.
    pub name: AudioName,
    /// Samples that a list says it has.
    pub samples: Option<u64>,
}

/// What an audio file is called in the output: a relative path that leads nowhere but down, with `/` between its parts and no character
/// that would break a line of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AudioName(String);

impl AudioName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without the extension of its last part.
    pub fn stem(&self) -> &str {
        let last = self.0.rfind('/').map_or(0, |slash| slash + 1);
        match self.0[last..].rfind('.') {
            Some(dot) if dot > 0 => &self.0[..last + dot],
            _ => &self.0,
        }
    }
}

impl TryFrom<String> for AudioName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let bad_part = |part: &str| matches!(part, "" | "." | "..");
        match name.chars().any(|c| c.is_control() || c == '\\') {
            true => Err(format!("{name:?} holds a control character or a backslash")),
            false if name.split('/').any(bad_part) => Err(format!("{name:?} is not a path below a folder")),
            false => Ok(Self(name)),
        }
    }
}

impl From<AudioName> for String {
    fn from(name: AudioName) -> String {
        name.0
    }
}

impl std::fmt::Display for AudioName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A folder that an earlier stage, or an import, made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Made {
    pub path: PathBuf,
    pub digest: OutputDigest,
}

/// Computes hidden states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Extract {
    pub model: Made,
    pub layers: Layers,
    pub numbering: Numbering,
    pub format: StateFormat,
    pub audio: AudioInput,
    /// The folder of the output.
    pub out: PathBuf,
}

/// Labels audio with a codebook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Label {
    /// A folder of units.
    pub codebook: Made,
    /// The model whose layer the codebook clusters, where it clusters one.
    pub model: Option<Made>,
    pub format: LabelFormat,
    pub audio: AudioInput,
    /// The folder that the paths of a fairseq `.tsv` start from.
    pub root: PathBuf,
    /// The file of the output, with the extension of its format.
    pub out: PathBuf,
}

/// Which audio, and how it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AudioInput {
    /// A file of [`AudioFile`]s.
    pub list: PathBuf,
    /// How many it lists.
    pub files: u64,
    pub conversion: Conversion,
    pub unreadable: Unreadable,
}

/// What a file that can't be read means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unreadable {
    /// It is named, and the others are done.
    Passed,
    /// The work stops there.
    Fatal,
}

/// Which layers, in the numbers of a [`Numbering`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layers {
    All,
    Last,
    /// These, ascending.
    These(Vec<u32>),
}

/// The container of hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateFormat {
    /// One tensor a layer, `layer.<number>`, frames × width.
    Safetensors,
    /// One array: frames × width of a single layer, layers × frames × width of several, which must then have one rate.
    Npy,
}

impl StateFormat {
    /// The extension of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Npy => "npy",
        }
    }
}

/// The container of unit labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelFormat {
    /// fairseq's: one line of labels a file, and beside it a `.tsv` of root, relative paths and samples.
    Km,
    /// One JSON object a line: `id`, `samples`, `rate`, `labels`.
    Jsonl,
}

impl LabelFormat {
    /// The extension of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Km => "km",
            Self::Jsonl => "jsonl",
        }
    }
}

/// Whose layer numbers are meant (hubert.md sections 4.2 and 7.2).
///
/// In all of them the output of block k of L has the number k; they differ in what they call 0, and in whether the last one of a
/// pre-norm network is taken before or after its final norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Numbering {
    /// 0 to L: 0 is the input of block 1, all others are outputs of blocks before any final norm. What `height` means in experiments.
    Reprise,
    /// 0 to L, the entries of `hidden_states` in transformers 4: 0 is the input of block 1, L of a pre-norm network is after its final
    /// norm. transformers 5 (5.23 was looked at) has it before that norm, which is [`Numbering::Reprise`].
    HuggingFace,
    /// 1 to L, the values of `output_layer`: outputs of blocks before any final norm.
    Fairseq,
    /// 1 to L, the entries of `extract_features` counted from 1: outputs of blocks before any final norm.
    Torchaudio,
    /// 0 to L, the entries of an upstream's `hidden_states`: as in transformers 4.
    S3prl,
}

impl Numbering {
    /// The least number.
    pub fn first(self) -> u32 {
        match self {
            Self::Reprise | Self::HuggingFace | Self::S3prl => 0,
            Self::Fairseq | Self::Torchaudio => 1,
        }
    }

    /// The states that `layers` of `network` are, ascending.
    ///
    /// # Errors
    /// Says which number there is no layer of, or that the numbering knows no such network.
    pub fn states(self, layers: &Layers, network: &Network) -> Result<Vec<State>, String> {
        let name = self.name();
        let depth = network.encoder.layers.get();
        if network.hierarchy.is_some() && self != Self::Reprise {
            return Err(format!("{name} numbers no layers of networks with a hierarchy of rates"));
        }
        let numbers = match layers {
            Layers::All => (self.first()..=depth).collect(),
            Layers::Last => vec![depth],
            Layers::These(numbers) => numbers.clone(),
        };
        if let Some(number) = numbers.iter().find(|number| !(self.first()..=depth).contains(number)) {
            let first = self.first();
            return Err(format!("there is no layer {number}: {name} numbers this network's {first} to {depth}"));
        }
        let normed = matches!(self, Self::HuggingFace | Self::S3prl) && network.encoder.norm == LayerNormPlacement::Pre;
        let state = |layer| State { layer, after_final_norm: normed && layer == depth };
        Ok(numbers.into_iter().map(state).collect())
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reprise => "reprise",
            Self::HuggingFace => "hugging-face",
            Self::Fairseq => "fairseq",
            Self::Torchaudio => "torchaudio",
            Self::S3prl => "s3prl",
        }
    }
}

/// A hidden state of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct State {
    /// 0 is the input of the first block, k the output of block k.
    pub layer: u32,
    /// Whether the norm that follows the last block of a pre-norm network is applied.
    pub after_final_norm: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Hierarchy;

    fn states(numbering: Numbering, layers: Layers, norm: LayerNormPlacement) -> Result<Vec<(u32, bool)>, String> {
        let mut network = Network::default();
        network.encoder.norm = norm;
        let states = numbering.states(&layers, &network)?;
        Ok(states.into_iter().map(|state| (state.layer, state.after_final_norm)).collect())
    }

    /// hubert.md section 7.2.
    #[test]
    fn only_the_last_layer_of_a_pre_norm_network_differs_between_the_references() {
        use LayerNormPlacement::{Post, Pre};
        let all = |first: u32, normed| -> Vec<(u32, bool)> { (first..=12).map(|k| (k, normed && k == 12)).collect() };
        for (numbering, first, final_norm) in [
            (Numbering::Reprise, 0, false),
            (Numbering::HuggingFace, 0, true),
            (Numbering::S3prl, 0, true),
            (Numbering::Fairseq, 1, false),
            (Numbering::Torchaudio, 1, false),
        ] {
            assert_eq!(states(numbering, Layers::All, Pre), Ok(all(first, final_norm)), "{numbering:?}");
            assert_eq!(states(numbering, Layers::All, Post), Ok(all(first, false)), "{numbering:?}");
            assert_eq!(states(numbering, Layers::Last, Pre), Ok(vec![(12, final_norm)]), "{numbering:?}");
        }
    }

    #[test]
    fn numbers_outside_a_numbering_are_named() {
        let refuse = |numbering, number| {
            states(numbering, Layers::These(vec![1, number]), LayerNormPlacement::Post).unwrap_err()
        };
        assert_eq!(refuse(Numbering::Fairseq, 0), "there is no layer 0: fairseq numbers this network's 1 to 12");
        assert_eq!(refuse(Numbering::Reprise, 13), "there is no layer 13: reprise numbers this network's 0 to 12");
        let network = Network { hierarchy: Some(Hierarchy::default()), ..Network::default() };
        assert!(Numbering::S3prl.states(&Layers::Last, &network).is_err());
        assert!(Numbering::Reprise.states(&Layers::Last, &network).is_ok());
    }

    #[test]
    fn a_stem_keeps_folders_and_loses_one_extension() {
        let stem = |name: &str| AudioName::try_from(name.to_owned()).unwrap().stem().to_owned();
        let all = ["a.flac", "a/b.c/d.wav", "a/b.c/d", ".a", "a/.b", "a.b.c"].map(stem);
        assert_eq!(all, ["a", "a/b.c/d", "a/b.c/d", ".a", "a/.b", "a.b"]);
    }

    #[test]
    fn names_lead_nowhere_but_down() {
        for name in ["", "/a", "a//b", "a/", "../a", "a/../../b", "./a", "a/.", "a\tb", "a\nb", "a\\b", "\u{7f}"] {
            assert!(AudioName::try_from(name.to_owned()).is_err(), "{name:?}");
        }
        for name in ["a", "..a/b..", "a b/é.flac", "a/.b"] {
            assert!(AudioName::try_from(name.to_owned()).is_ok(), "{name:?}");
        }
    }
}
