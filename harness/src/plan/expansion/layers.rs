//! Layer-wise analysis: of the models of its points, of random weights as their control, and of what changes from point to point.

use reprise_spec::evaluation::Point;
use reprise_spec::network::Network;
use reprise_spec::probing::{Analysis, Layers};
use reprise_spec::stage::{LayersStage, ProbeStage, Role, Stage, WordPairsStage, WordVectorsStage};
use reprise_spec::values::Name;

use super::{Edge, Expansion, Setting, Told};

impl Expansion<'_> {
    /// Analyses the network with the weights that a first iteration starts from. It needs no training, so that what is wrong with the sample is
    /// found before any.
    pub(super) fn analyse_control(&mut self) {
        let network = self.setting.model.clone();
        let inputs = self.input_units().into_iter().collect();
        self.analyse("layers of random weights".to_owned().into(), Some(network), inputs);
    }

    /// Analyses the model of a point. The last one has a plain name.
    pub(super) fn analyse_point(&mut self, point: Point, model: usize) {
        let last = point.iteration == self.setting.iterations.len() && point.ends_iteration;
        let name = if last { "layers".into() } else { format!("layers at {}", point.cumulative) };
        let told = Told { name, point: Some(point), continues: None };
        self.analyse(told, None, vec![Edge { role: Role::Pretrained, node: model }]);
    }

    /// Compares the layers of every analysed point, and of random weights, with those of the last point, where that is asked for.
    pub(super) fn compare_steps(&mut self, analysed: &[(Point, usize)]) {
        let Setting { probing, model, .. } = self.setting;
        let (Some(layers), Some(((_, last), earlier))) = (&probing.layers, analysed.split_last()) else { return };
        if !probing.analyses.contains(&Analysis::CkaSteps) {
            return;
        }
        let with_last = |mut inputs: Vec<Edge>| {
            inputs.push(Edge { role: Role::Reference, node: *last });
            inputs
        };
        let random = with_last(self.input_units().into_iter().collect());
        let told = "layers of random weights beside the last".to_owned().into();
        self.add_analysis(told, vec![Analysis::CkaSteps], layers, Some(model.clone()), random);
        for (point, node) in earlier {
            let name = format!("layers at {} beside the last", point.cumulative);
            let told = Told { name, point: Some(*point), continues: None };
            let inputs = with_last(vec![Edge { role: Role::Pretrained, node: *node }]);
            self.add_analysis(told, vec![Analysis::CkaSteps], layers, None, inputs);
        }
    }

    /// What needs no other model: comparing steps is no part of it, so that asking for it moves no analysis.
    fn analyse(&mut self, told: Told, control: Option<Network>, mut inputs: Vec<Edge>) {
        let probing = &self.setting.probing;
        let Some(layers) = &probing.layers else { return };
        let mut analyses = probing.analyses.clone();
        analyses.retain(|analysis| *analysis != Analysis::CkaSteps);
        if analyses.is_empty() {
            return;
        }
        analyses.sort();
        let read = |file: &Option<Name>, analysis| file.clone().filter(|_| analyses.contains(&analysis));
        if let Some(file) = read(&layers.word_vectors, Analysis::CcaSemantic) {
            inputs.push(self.word_vectors(&file, layers));
        }
        if let Some(file) = read(&layers.word_pairs, Analysis::WordSimilarity) {
            inputs.push(self.word_pairs(&file));
        }
        self.add_analysis(told, analyses, layers, control, inputs);
    }

    fn add_analysis(
        &mut self,
        told: Told,
        analyses: Vec<Analysis>,
        layers: &Layers,
        control: Option<Network>,
        mut inputs: Vec<Edge>,
    ) {
        let aligned = |analysis: &Analysis| analysis.reads_words() || analysis.reads_phones();
        for split in &layers.splits {
            inputs.push(self.corpus(split));
            if analyses.iter().any(aligned) {
                inputs.push(self.alignments(split));
            }
        }
        let pretrain = &self.setting.corpus.pretrain;
        let seen = layers.splits.iter().filter(|split| control.is_none() && pretrain.contains(split));
        let seen = seen.cloned().collect();
        let stage = LayersStage { analyses, layers: layers.nameless(), seen, control };
        self.add(told, Stage::Probe(ProbeStage::Layers(Box::new(stage))), inputs);
    }

    fn word_vectors(&mut self, file: &Name, layers: &Layers) -> Edge {
        let inputs = layers.splits.iter().map(|split| self.alignments(split)).collect();
        let content = self.contents.files.get(file);
        let stage = content.map(|&content| Stage::WordVectors(WordVectorsStage { content }));
        let node = self.insert("word-vectors/1", stage, inputs, None, format!("word vectors {file}").into());
        Edge { role: Role::WordVectors, node }
    }

    fn word_pairs(&mut self, file: &Name) -> Edge {
        let content = self.contents.files.get(file);
        let stage = content.map(|&content| Stage::WordPairs(WordPairsStage { content }));
        let node = self.insert("word-pairs/1", stage, Vec::new(), None, format!("word pairs {file}").into());
        Edge { role: Role::WordPairs, node }
    }
}
