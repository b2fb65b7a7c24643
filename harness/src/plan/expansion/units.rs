//! Codebooks: what they cluster, and what measures them.

use reprise_spec::network::{FeatureKind, FrontEnd};
use reprise_spec::probing::Codebook;
use reprise_spec::stage::{CheckpointStage, ProbeStage, Role, Stage, UnitSource, UnitsStage};
use reprise_spec::strategy::{LayerTargets, Origin, UnitTargets};
use reprise_spec::values::{Clusters, Fraction, Name, SplitName};

use super::{Before, Edge, Expansion, PlanError, Setting, union};

impl Expansion<'_> {
    pub(super) fn targets(
        &mut self,
        number: usize,
        targets: &UnitTargets,
        before: &Before,
    ) -> Result<Clustered, PlanError> {
        let source = match targets {
            UnitTargets::Mfcc(_) => Source::Features(UnitSource::Features(FeatureKind::Mfcc), FeatureKind::Mfcc),
            UnitTargets::LogMel(_) => Source::Features(UnitSource::Features(FeatureKind::LogMel), FeatureKind::LogMel),
            UnitTargets::MfccSubspace(of) => {
                Source::Features(UnitSource::MfccSubspace { order: of.order, splice: of.splice }, FeatureKind::Mfcc)
            }
            UnitTargets::Layer(of) => {
                let source = UnitSource::Layer { height: of.height, after_final_norm: of.after_final_norm };
                let pretrained = match (&of.of, of.of.iteration(number)) {
                    (Origin::Checkpoint(name), _) => self.checkpoint(name),
                    (_, Some(iteration)) => {
                        let (height, layers) = (of.height.get(), self.setting.model.encoder.layers.get());
                        if height > layers {
                            return Err(PlanError::NoSuchLayer { iteration: number, height, layers });
                        }
                        let model = iteration.checked_sub(1).and_then(|index| before.models.get(index));
                        *model.ok_or(PlanError::NothingToCluster(number))?
                    }
                    (_, None) => return Err(PlanError::NothingToCluster(number)),
                };
                Source::Layer { source, pretrained }
            }
        };
        Ok(Clustered { source, clusters: targets.clusters(), fit: targets.fit() })
    }

    fn checkpoint(&mut self, name: &Name) -> usize {
        let content = self.contents.checkpoints.get(name);
        let stage = content.map(|&content| Stage::Checkpoint(CheckpointStage { content }));
        self.insert("checkpoint/1", stage, Vec::new(), None, format!("checkpoint {name}").into())
    }

    /// The codebook that the network's front-end reads, where it reads one.
    pub(super) fn input_units(&mut self) -> Option<Edge> {
        let FrontEnd::Units(units) = &self.setting.model.front_end else { return None };
        let source = Source::Features(UnitSource::Features(units.of), units.of);
        let clustered = Clustered { source, clusters: units.clusters, fit: units.fit };
        Some(Edge { role: Role::InputUnits, node: self.units("input", &clustered) })
    }

    pub(super) fn units(&mut self, of: &str, targets: &Clustered) -> usize {
        let name = format!("units {of} ({}, {})", targets.source.unit_source(), targets.clusters.get());
        self.units_drawn(name, targets, self.run.seed)
    }

    fn units_drawn(&mut self, name: String, targets: &Clustered, seed: u64) -> usize {
        let Setting { corpus, clustering, .. } = self.setting;
        let mut inputs = Vec::new();
        for split in union(&corpus.pretrain, &corpus.validate) {
            inputs.extend(self.clustered(&split, targets));
        }
        let stage = UnitsStage {
            source: targets.source.unit_source(),
            clusters: targets.clusters,
            clustering: clustering.clone(),
            fit: targets.fit,
            fit_on: corpus.pretrain.clone(),
            label: corpus.validate.iter().filter(|split| !corpus.pretrain.contains(split)).cloned().collect(),
        };
        let stage = Stage::Units(stage);
        self.insert(stage.kind(), Some(stage), inputs, Some(seed), name.into())
    }

    pub(super) fn unit_quality(&mut self, of: &str, targets: &Clustered, units: usize) {
        let Some(quality) = &self.setting.probing.unit_quality else { return };
        let mut inputs = vec![Edge { role: Role::Units, node: units }];
        for split in &quality.splits {
            inputs.push(self.corpus(split));
            inputs.push(self.alignments(split));
            inputs.extend(self.clustered(split, targets));
        }
        let stage = Stage::Probe(ProbeStage::UnitQuality(quality.clone()));
        self.add(format!("unit quality {of}"), stage, inputs);
    }

    /// Fits a codebook that nothing is trained on, and measures it.
    pub(super) fn codebook(&mut self, codebook: &Codebook, before: &Before) -> Result<(), PlanError> {
        let targets = self.targets(before.models.len() + 1, &codebook.targets, before)?;
        let of = match &codebook.targets {
            UnitTargets::Layer(LayerTargets { of: Origin::Checkpoint(name), .. }) => format!(" of {name}"),
            UnitTargets::Layer(LayerTargets { of: Origin::Iteration(number), .. }) => {
                format!(" of iteration {}", number.get())
            }
            UnitTargets::Layer(LayerTargets { of: Origin::Previous, .. }) => {
                format!(" of iteration {}", before.models.len())
            }
            UnitTargets::Mfcc(_) | UnitTargets::LogMel(_) | UnitTargets::MfccSubspace(_) => String::new(),
        };
        let seed = codebook.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
        let (source, clusters, fit) = (targets.source.unit_source(), targets.clusters.get(), targets.fit.get());
        let told = format!("{source}{of}, {clusters} clusters on {fit}{seed}");
        let units = self.units_drawn(format!("units of {told}"), &targets, codebook.seed.unwrap_or(self.run.seed));
        self.unit_quality(&format!("of {told}"), &targets, units);
        Ok(())
    }

    /// What a stage needs to see the frames of a split that are clustered.
    fn clustered(&mut self, split: &SplitName, targets: &Clustered) -> Vec<Edge> {
        match targets.source {
            Source::Features(_, kind) => vec![self.features(split, kind)],
            Source::Layer { pretrained, .. } => {
                vec![Edge { role: Role::Pretrained, node: pretrained }, self.corpus(split)]
            }
        }
    }
}

/// What an iteration clusters, into how many clusters, fitted on how much.
pub struct Clustered {
    pub source: Source,
    pub clusters: Clusters,
    pub fit: Fraction,
}

/// Where clustered frames come from, with the features or the node of the model that gives them.
#[derive(Clone, Copy)]
pub enum Source {
    Features(UnitSource, FeatureKind),
    Layer { source: UnitSource, pretrained: usize },
}

impl Source {
    pub fn unit_source(self) -> UnitSource {
        match self {
            Source::Features(source, _) | Source::Layer { source, .. } => source,
        }
    }
}
