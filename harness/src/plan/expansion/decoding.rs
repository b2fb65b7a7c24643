//! What turns a fine-tuned model into error rates: language model, lexicon, tuned weights, and the decoding of every tested split.

use reprise_spec::decoding::{LanguageModel, Lexicon, Search};
use reprise_spec::stage::{DecodeStage, LanguageModelStage, LexiconStage, Role, Stage, TuneStage};
use reprise_spec::values::{Name, SplitName};

use super::{Edge, Expansion, Told};

impl Expansion<'_> {
    /// Decodes the splits that are tested on with the model of a node; `told` completes what is told of a stage that judges it.
    pub(super) fn decode(&mut self, finetuned: usize, told: impl Fn(String) -> Told) {
        let (corpus, decoding) = (&self.setting.corpus, &self.setting.decoding);
        if corpus.test.is_empty() {
            return;
        }
        let mut shared = vec![Edge { role: Role::Finetuned, node: finetuned }];
        shared.extend(self.words());
        let fixed = decoding.weights;
        let mut weights = decoding.lexicon.is_some().then_some(fixed);
        if let (Search::Beam(beam), Some(tuning)) = (&decoding.search, &decoding.tune) {
            let mut inputs = shared.clone();
            inputs.extend(tuning.on.iter().map(|split| self.corpus(split)).collect::<Vec<_>>());
            let stage = TuneStage { beam: beam.of_the_best(), weights: fixed, tuning: tuning.clone() };
            let node = self.add(told(format!("tune on {}", listed(&tuning.on))), Stage::Tune(stage), inputs);
            shared.push(Edge { role: Role::Weights, node });
            weights = None;
        }
        for split in &corpus.test {
            let mut inputs = shared.clone();
            inputs.push(self.corpus(split));
            let stage = DecodeStage {
                split: split.clone(),
                search: decoding.search.clone(),
                weights,
                bootstrap: decoding.bootstrap.clone(),
            };
            self.add(told(format!("decode {split}")), Stage::Decode(stage), inputs);
        }
    }

    /// The language model and the lexicon, where the search knows words.
    fn words(&mut self) -> Vec<Edge> {
        let decoding = &self.setting.decoding;
        let model = decoding.language_model.as_ref().map(|model| self.language_model(model));
        let lexicon = match &decoding.lexicon {
            Some(Lexicon::LanguageModel) => model,
            Some(Lexicon::File(name)) => Some(self.lexicon(name)),
            None => None,
        };
        let edge = |role: Role, node: Option<usize>| node.map(|node| Edge { role, node });
        edge(Role::LanguageModel, model).into_iter().chain(edge(Role::Lexicon, lexicon)).collect()
    }

    fn language_model(&mut self, model: &LanguageModel) -> usize {
        let (stage, inputs, name) = match model {
            LanguageModel::Estimate(estimation) => {
                let inputs = estimation.on.iter().map(|split| self.corpus(split)).collect();
                let name = format!("language model ({}-gram of {})", estimation.order.get(), listed(&estimation.on));
                (Some(LanguageModelStage::Estimate(estimation.clone())), inputs, name)
            }
            LanguageModel::File(file) => {
                let content = self.contents.files.get(&file.name);
                let stage = |&content| LanguageModelStage::File { content, missing_unknown: file.missing_unknown };
                (content.map(stage), Vec::new(), format!("language model {}", file.name))
            }
        };
        self.insert("language-model/1", stage.map(Stage::LanguageModel), inputs, None, name.into())
    }

    fn lexicon(&mut self, name: &Name) -> usize {
        let content = self.contents.files.get(name);
        let stage = content.map(|&content| Stage::Lexicon(LexiconStage { content }));
        self.insert("lexicon/1", stage, Vec::new(), None, format!("lexicon {name}").into())
    }
}

fn listed(splits: &[SplitName]) -> String {
    splits.iter().map(SplitName::as_str).collect::<Vec<_>>().join(", ")
}
