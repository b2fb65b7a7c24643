//! What a stored stage's key was made of.

use std::collections::BTreeMap;
use std::fs;

use reprise_spec::canon::Canon;
use reprise_spec::contract::Request;
use reprise_spec::identity::StageKey;
use reprise_spec::stage::Role;

use super::{ExplainError, Field, InputKeys, differing, fields};
use crate::lease;
use crate::store::Store;

/// The parts of a stage's key.
pub struct StageIdentity {
    /// Kind and version: `pretrain/2`.
    kind: String,
    settings: Canon,
    seed: Option<u64>,
    inputs: BTreeMap<Role, StageKey>,
}

impl StageIdentity {
    /// What the manifest of an output under this key says, else the request of an attempt that hasn't ended.
    ///
    /// # Errors
    /// When the store has neither, or its canonical bytes are damaged.
    pub fn known(store: &Store, key: &StageKey) -> Result<Self, ExplainError> {
        let unknown = |reason: String| ExplainError::Unknown { what: format!("stage:{}", key.short()), reason };
        if let Some(output) = store.outputs(key).into_iter().next() {
            let manifest = output.manifest;
            let bytes = hex::decode(&manifest.canonical).map_err(|error| unknown(error.to_string()))?;
            let settings = Canon::from_bytes(&bytes).map_err(|error| unknown(error.to_string()))?;
            let inputs = manifest.inputs.into_iter().map(|input| (input.role, input.key)).collect();
            return Ok(Self { kind: manifest.kind, settings, seed: manifest.seed, inputs });
        }
        let request = store.stage_folder(key).join(lease::WORK).join("request.json");
        let bytes = fs::read(&request).map_err(|_| unknown("no output of it is stored whole".into()))?;
        let request: Request = serde_json::from_slice(&bytes).map_err(|error| unknown(error.to_string()))?;
        let settings = Canon::from_bytes(&request.stage.canonical()).map_err(|error| unknown(error.to_string()))?;
        let inputs = request.inputs.into_iter().map(|input| (input.role, input.key)).collect();
        Ok(Self { kind: request.stage.kind().into(), settings, seed: request.seed, inputs })
    }

    /// Kind, settings, seed and roles of inputs that differ; of stages of two kinds only these kinds.
    pub fn fields_that_differ(&self, other: &Self) -> Vec<Field> {
        let word = |kind: &str| kind.split('/').next().unwrap_or_default().to_owned();
        let kind = differing("kind", &self.kind, &other.kind);
        if word(&self.kind) != word(&other.kind) {
            return kind.into_iter().collect();
        }
        let seed = |seed: Option<u64>| seed.map_or_else(|| "none".into(), |seed| seed.to_string());
        let lacks = self.inputs_that_differ(other).into_iter().filter(|keys| keys.a.is_none() || keys.b.is_none());
        let short = |key: Option<StageKey>| key.map(|key| format!("stage:{}", key.short()));
        kind.into_iter()
            .chain(fields(&self.settings, &other.settings))
            .chain(differing("seed", seed(self.seed), seed(other.seed)))
            .chain(lacks.map(|keys| Field { path: keys.role, a: short(keys.a), b: short(keys.b) }))
            .collect()
    }

    /// The inputs that have other keys, by role.
    pub fn inputs_that_differ(&self, other: &Self) -> Vec<InputKeys> {
        let roles: std::collections::BTreeSet<&Role> = self.inputs.keys().chain(other.inputs.keys()).collect();
        roles
            .into_iter()
            .map(|role| InputKeys {
                role: role.to_string(),
                a: self.inputs.get(role).copied(),
                b: other.inputs.get(role).copied(),
            })
            .filter(|keys| keys.a != keys.b)
            .collect()
    }
}
