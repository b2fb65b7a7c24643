//! Stages as nodes of the plan: equal ones are one.

use reprise_spec::network::FeatureKind;
use reprise_spec::stage::{CorpusPart, CorpusStage, FeaturesStage, Role, Stage, UnitSource};
use reprise_spec::values::SplitName;

use super::{Edge, Expansion, Told, transcribed};
use crate::plan::{Need, Node, Part};

impl Expansion<'_> {
    pub(super) fn features(&mut self, split: &SplitName, kind: FeatureKind) -> Edge {
        let inputs = vec![self.corpus(split)];
        let stage = Stage::Features(FeaturesStage { kind });
        let node = self.add(format!("features {split} ({})", UnitSource::Features(kind)), stage, inputs);
        Edge { role: Role::Features(split.clone()), node }
    }

    pub(super) fn corpus(&mut self, split: &SplitName) -> Edge {
        let corpus = &self.setting.corpus;
        let part = CorpusPart::Utterances {
            transcribed: transcribed(corpus, split),
            conversion: corpus.conversion,
            exclude_at_most: corpus.exclude_at_most,
        };
        let node = self.add_corpus(format!("corpus {split}"), split, Part::Utterances, part, Vec::new());
        Edge { role: Role::Corpus(split.clone()), node }
    }

    pub(super) fn alignments(&mut self, split: &SplitName) -> Edge {
        let inputs = vec![self.corpus(split)];
        let name = format!("alignments {split}");
        let node = self.add_corpus(name, split, Part::Alignments, CorpusPart::Alignments, inputs);
        Edge { role: Role::Alignments(split.clone()), node }
    }

    fn add_corpus(
        &mut self,
        name: String,
        split: &SplitName,
        files: Part,
        part: CorpusPart,
        inputs: Vec<Edge>,
    ) -> usize {
        let content = self.contents.splits.get(&(split.clone(), files));
        let stage = content.map(|&content| Stage::Corpus(CorpusStage { split: split.clone(), content, part }));
        self.insert("corpus/1", stage, inputs, None, name.into())
    }

    pub(super) fn add(&mut self, told: impl Into<Told>, stage: Stage, inputs: Vec<Edge>) -> usize {
        let seed = stage.draws().then_some(self.run.seed);
        self.insert(stage.kind(), Some(stage), inputs, seed, told.into())
    }

    /// The index of an equal node that the plan has, or of a new one.
    pub(super) fn insert(
        &mut self,
        kind: &'static str,
        stage: Option<Stage>,
        mut inputs: Vec<Edge>,
        seed: Option<u64>,
        told: Told,
    ) -> usize {
        inputs.sort();
        inputs.dedup();
        let Told { name, point, continues } = told;
        let nodes = &mut self.plan.nodes;
        // Equal stages are one, whatever they are to their runs; unknown ones are told apart by their names.
        let same =
            |n: &Node| n.stage == stage && n.inputs == inputs && n.seed == seed && (stage.is_some() || n.name == name);
        let index = nodes.iter().position(same).unwrap_or_else(|| {
            let read: Option<Vec<_>> =
                inputs.iter().map(|edge| nodes[edge.node].key.map(|key| (edge.role.clone(), key))).collect();
            let key = stage.as_ref().zip(read).map(|(stage, inputs)| stage.key(&inputs, seed));
            nodes.push(Node { name: name.clone(), kind, stage, inputs, seed, key, runs: Vec::new() });
            nodes.len() - 1
        });
        if !nodes[index].runs.iter().any(|need| need.run == self.run) {
            nodes[index].runs.push(Need { run: self.run, place: self.places, name, point, continues });
            self.places += 1;
        }
        index
    }
}
