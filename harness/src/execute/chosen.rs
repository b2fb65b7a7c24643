//! The outputs that a run goes on with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Job, Keyed};
use crate::plan::Edge;
use crate::store::{
    Continued, Manifest, ManifestInput, RunRecord, Seen, Status, Store, StoreError, StoredOutput, Summary,
};

/// What a stage reads, each with the folder that it lies in.
#[derive(Clone)]
pub struct Inputs {
    /// Sorted by role.
    pub read: Vec<(ManifestInput, PathBuf)>,
    /// What trained the same for fewer steps.
    pub prefix: Option<(Continued, PathBuf)>,
}

impl Inputs {
    /// What a manifest says of them.
    pub fn recorded(&self) -> (Vec<ManifestInput>, Option<Continued>) {
        let read = self.read.iter().map(|(input, _)| input.clone()).collect();
        (read, self.prefix.as_ref().map(|(prefix, _)| *prefix))
    }
}

/// The outputs that a run goes on with, by node of the plan.
#[derive(Default)]
pub struct Chosen(BTreeMap<usize, StoredOutput>);

impl Chosen {
    pub fn add(&mut self, node: usize, output: StoredOutput) {
        self.0.insert(node, output);
    }

    /// What a stage reads; `None` while something of it has no output.
    pub fn inputs(&self, stage: &Keyed<'_>) -> Option<Inputs> {
        let input = |edge: &Edge| {
            let output = self.0.get(&edge.node)?;
            let Manifest { key, digest, .. } = output.manifest;
            Some((ManifestInput { role: edge.role.clone(), key, digest }, output.out()))
        };
        let mut read = stage.node.inputs.iter().map(input).collect::<Option<Vec<_>>>()?;
        read.sort();
        let prefix = match stage.need.continues {
            None => None,
            Some(node) => {
                let output = self.0.get(&node)?;
                let Manifest { key, digest, .. } = output.manifest;
                Some((Continued { key, digest }, output.out()))
            }
        };
        Some(Inputs { read, prefix })
    }
}

/// What the store has for a stage that reads these inputs.
pub fn stored(store: &Store, stage: &Keyed<'_>, inputs: &Inputs) -> Option<StoredOutput> {
    let (read, prefix) = inputs.recorded();
    store.valid_output(&stage.key, &read, prefix)
}

/// An earlier finished run of the same variant and seed with the outputs that this one would choose.
pub fn unchanged(job: &Job<'_>, stages: &[Keyed<'_>]) -> Result<Option<RunRecord>, StoreError> {
    let mut chosen = Chosen::default();
    let mut outputs = Vec::new();
    for stage in stages {
        let output = chosen.inputs(stage).and_then(|inputs| stored(job.store, stage, &inputs));
        let Some(output) = output else { return Ok(None) };
        outputs.push((output.manifest.key, Some(output.manifest.digest)));
        chosen.add(stage.index, output);
    }
    let same = |record: &RunRecord| {
        record.status == Status::Finished
            && record.variant == job.identity.variant
            && record.seed == job.run.seed
            && record.stages.iter().map(|stage| (stage.key, stage.state.digest())).eq(outputs.iter().copied())
    };
    let like = |summary: &Summary| {
        summary.seen == Seen::Finished && summary.variant == job.identity.variant && summary.seed == job.run.seed
    };
    Ok(job.store.records(like)?.find(same))
}
