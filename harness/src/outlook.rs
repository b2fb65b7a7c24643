//! What a run would do with each stage of a plan, told before it does.

use serde::Serialize;

use crate::plan::Plan;
use crate::store::{Continued, ManifestInput, Store};
use reprise_spec::identity::OutputDigest;

/// What a run would do with one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outlook {
    /// Reuse this output.
    Stored { digest: OutputDigest },
    /// Execute it: nothing is stored under its key.
    Execute,
    /// Decide when its inputs are there: something is stored under its key, but made from inputs that this run has yet to make.
    Depends,
    /// Execute it: what is stored under its key was made from inputs with other digests.
    Stale,
    /// Not known before the corpus is.
    Unknown,
}

impl std::fmt::Display for Outlook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outlook::Stored { digest } => write!(f, "stored output:{}", digest.short()),
            Outlook::Execute => f.write_str("execute"),
            Outlook::Depends => f.write_str("execute, unless its inputs come out as before"),
            Outlook::Stale => f.write_str("execute: stored, but from other inputs"),
            Outlook::Unknown => f.write_str("unknown without the corpus"),
        }
    }
}

/// The outlook of every node of a plan, in its order.
pub fn of(plan: &Plan, store: &Store) -> Vec<Outlook> {
    let mut outlooks: Vec<Outlook> = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let mut edges: Vec<_> = node.inputs.iter().collect();
        edges.sort();
        // A run that has the shorter training as well goes on from it; of several runs the first speaks.
        let prefix = node.runs.iter().find_map(|need| need.continues).and_then(|prefix| {
            let Outlook::Stored { digest } = outlooks.get(prefix)? else { return None };
            Some(Continued { key: plan.nodes[prefix].key?, digest: *digest })
        });
        let inputs: Option<Vec<ManifestInput>> = edges
            .iter()
            .map(|edge| match (&outlooks[edge.node], plan.nodes[edge.node].key) {
                (Outlook::Stored { digest }, Some(key)) => {
                    Some(ManifestInput { role: edge.role.clone(), key, digest: *digest })
                }
                _ => None,
            })
            .collect();
        let outlook = match (node.key, inputs) {
            (None, _) => Outlook::Unknown,
            (Some(key), Some(inputs)) => match store.valid_output(&key, &inputs, prefix) {
                Some(output) => Outlook::Stored { digest: output.manifest.digest },
                None if store.outputs(&key).is_empty() => Outlook::Execute,
                None => Outlook::Stale,
            },
            (Some(key), None) if store.outputs(&key).is_empty() => Outlook::Execute,
            (Some(_), None) => Outlook::Depends,
        };
        outlooks.push(outlook);
    }
    outlooks
}
