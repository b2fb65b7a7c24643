//! Layer-wise analysis: of the models of its points, and of random weights as their control.

use reprise_spec::evaluation::Point;
use reprise_spec::network::Network;
use reprise_spec::probing::Analysis;
use reprise_spec::stage::{LayersStage, ProbeStage, Role, Stage};

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

    fn analyse(&mut self, told: Told, control: Option<Network>, mut inputs: Vec<Edge>) {
        let Setting { corpus, probing, .. } = self.setting;
        let Some(layers) = &probing.layers else { return };
        let mut analyses = probing.analyses.clone();
        analyses.sort();
        let aligned = |analysis: &Analysis| analysis.reads_words() || analysis.reads_phones();
        for split in &layers.splits {
            inputs.push(self.corpus(split));
            if analyses.iter().any(aligned) {
                inputs.push(self.alignments(split));
            }
        }
        let seen = layers.splits.iter().filter(|split| control.is_none() && corpus.pretrain.contains(split));
        let seen = seen.cloned().collect();
        let stage = LayersStage { analyses, layers: layers.clone(), seen, control };
        self.add(told, Stage::Probe(ProbeStage::Layers(Box::new(stage))), inputs);
    }
}
