//! The outputs that a run goes on with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Job, Keyed};
use crate::plan::{Edge, Node};
use crate::store::{Manifest, ManifestInput, RunRecord, Status, Store, StoreError, StoredOutput};

/// What a stage reads: sorted by role, with the folder that each lies in.
pub type Inputs = Vec<(ManifestInput, PathBuf)>;

/// The outputs that a run goes on with, by node of the plan.
#[derive(Default)]
pub struct Chosen(BTreeMap<usize, StoredOutput>);

impl Chosen {
    pub fn add(&mut self, node: usize, output: StoredOutput) {
        self.0.insert(node, output);
    }

    /// What a stage reads; `None` while an input has no output.
    pub fn inputs(&self, node: &Node) -> Option<Inputs> {
        let input = |edge: &Edge| {
            let output = self.0.get(&edge.node)?;
            let Manifest { key, digest, .. } = output.manifest;
            Some((ManifestInput { role: edge.role.clone(), key, digest }, output.out()))
        };
        let mut inputs = node.inputs.iter().map(input).collect::<Option<Vec<_>>>()?;
        inputs.sort();
        Some(inputs)
    }
}

/// What the store has for a stage that reads these inputs.
pub fn stored(store: &Store, stage: &Keyed<'_>, inputs: &Inputs) -> Option<StoredOutput> {
    let inputs: Vec<ManifestInput> = inputs.iter().map(|(input, _)| input.clone()).collect();
    store.valid_output(&stage.key, &inputs)
}

/// An earlier finished run of the same variant and seed with the outputs that this one would choose.
pub fn unchanged(job: &Job<'_>, stages: &[Keyed<'_>]) -> Result<Option<RunRecord>, StoreError> {
    let mut chosen = Chosen::default();
    let mut outputs = Vec::new();
    for stage in stages {
        let output = chosen.inputs(stage.node).and_then(|inputs| stored(job.store, stage, &inputs));
        let Some(output) = output else { return Ok(None) };
        outputs.push((output.manifest.key, Some(output.manifest.digest)));
        chosen.add(stage.index, output);
    }
    let same = |record: &RunRecord| {
        record.status == Status::Finished
            && record.variant == job.identity.variant
            && record.seed == job.seed
            && record.stages.iter().map(|stage| (stage.key, stage.state.digest())).eq(outputs.iter().copied())
    };
    Ok(job.store.runs()?.into_iter().filter_map(|run| run.record.ok()).find(same))
}
