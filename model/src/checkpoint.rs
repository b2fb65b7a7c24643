//! Checkpoints: all that a training run needs to continue to the bit.
//!
//! One file a step, `checkpoints/step-<12 digits>.safetensors`: every parameter (`parameter/<name>`), the optimiser's moments
//! (`first-moment/<name>`, `second-moment/<name>`), and the caller's progress as JSON. There is no generator state: dropout and
//! layer drop are drawn anew from (seed, stage, step) at each step. The last two whole files are kept.
//!
//! Beside a finished model the same lies in `state.safetensors`, without the parameters, which `model.safetensors` has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::VarStore;

use crate::failure::StageError;
use crate::model_folder;
use crate::optimiser::{Adam, Slot};
use crate::tensors::{self, Contents};

const KEPT: usize = 2;

/// The training state beside a model.
const STATE: &str = "state.safetensors";

/// The checkpoints of one stage.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Saved<P> {
    optimiser_step: u64,
    progress: P,
}

/// A training state that was read and not yet put anywhere.
#[derive(Debug)]
pub struct State<P> {
    /// As the caller wrote it.
    pub progress: P,
    optimiser_step: u64,
    tensors: BTreeMap<String, Tensor>,
}

impl Checkpoints {
    /// The folder `checkpoints/` below `work`, created if need be, without what a killed attempt had begun to write.
    pub fn open(work: &Path) -> Result<Self, StageError> {
        let folder = work.join("checkpoints");
        fs::create_dir_all(&folder).map_err(|error| StageError::io("cannot create", &folder, &error))?;
        for torn in tensors::unfinished(&folder)? {
            fs::remove_file(&torn).map_err(|error| StageError::io("cannot remove", &torn, &error))?;
        }
        Ok(Self { folder })
    }

    /// Writes the state after `step`, whole or not at all, and removes all but the last two and the newest that isn't after the step `good`.
    pub fn save<P: Serialize>(
        &self,
        step: u64,
        good: u64,
        store: &VarStore,
        adam: &Adam,
        progress: &P,
    ) -> Result<(), StageError> {
        let mut all = moments(adam);
        all.extend(store.variables().into_iter().map(|(name, tensor)| (parameter(&name), tensor)));
        write(&self.path(step), all, adam, progress)?;
        let kept = self.newest_until(good)?;
        for old in self.newest_first()?.into_iter().skip(KEPT).filter(|old| Some(old) != kept.as_ref()) {
            fs::remove_file(&old).map_err(|error| StageError::io("cannot remove", &old, &error))?;
        }
        Ok(())
    }

    /// The newest checkpoint that isn't after `step`.
    pub fn newest_until(&self, step: u64) -> Result<Option<PathBuf>, StageError> {
        let last = self.path(step);
        Ok(self.newest_first()?.into_iter().find(|path| *path <= last))
    }

    /// Says where the newest checkpoint is, and the newest that isn't after the step `good` where that is another.
    pub fn left(&self, good: u64) -> Result<String, StageError> {
        let Some(newest) = self.newest_first()?.into_iter().next() else { return Ok("No checkpoint is left".into()) };
        let mut said = format!("The state is in {}", newest.display());
        if let Some(good) = self.newest_until(good)?.filter(|good| *good != newest) {
            said.push_str(&format!(", and the last good one in {}", good.display()));
        }
        Ok(said)
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:012}.safetensors"))
    }

    /// Restores the newest whole checkpoint into `store` and `adam` and returns the progress beside it; `None` where there is none.
    /// Files that are cut short or damaged are passed over.
    ///
    /// # Errors
    /// A whole checkpoint of another network: a stage of another build has left it.
    pub fn restore<P: DeserializeOwned>(&self, store: &VarStore, adam: &mut Adam) -> Result<Option<P>, StageError> {
        for path in self.newest_first()? {
            let Ok(state) = State::read(&path) else { continue };
            state.put(store, adam).map_err(|misfit| {
                StageError::refused(
                    format!("{} does not fit the network: {misfit}", path.display()),
                    "remove the folder of checkpoints and run again",
                )
            })?;
            return Ok(Some(state.progress));
        }
        Ok(None)
    }

    fn newest_first(&self) -> Result<Vec<PathBuf>, StageError> {
        let fail = |error: std::io::Error| StageError::io("cannot list", &self.folder, &error);
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("step-") && name.ends_with(".safetensors") {
                paths.push(path);
            }
        }
        paths.sort();
        paths.reverse();
        Ok(paths)
    }
}

/// Writes moments and progress to `state.safetensors` in `folder`.
pub fn save_beside_model<P: Serialize>(folder: &Path, adam: &Adam, progress: &P) -> Result<(), StageError> {
    write(&folder.join(STATE), moments(adam), adam, progress)
}

impl<P: DeserializeOwned> State<P> {
    /// The state after which `folder` has a finished model.
    ///
    /// # Errors
    /// `model.safetensors` or `state.safetensors` that is missing or damaged.
    pub fn beside_model(folder: &Path) -> Result<Self, StageError> {
        let mut state = Self::read(&folder.join(STATE))?;
        let model = tensors::read(&folder.join(model_folder::WEIGHTS))?;
        state.tensors.extend(model.tensors.into_iter().map(|(name, tensor)| (parameter(&name), tensor)));
        Ok(state)
    }

    fn read(path: &Path) -> Result<Self, StageError> {
        let Contents { tensors, metadata } = tensors::read(path)?;
        let Saved { optimiser_step, progress } = serde_json::from_str(&metadata).map_err(|error| {
            StageError::Failed(format!("{} does not say how far training was: {error}", path.display()))
        })?;
        Ok(Self { progress, optimiser_step, tensors })
    }
}

impl<P> State<P> {
    /// Gives `store` and `adam` the whole state.
    ///
    /// # Errors
    /// A parameter or moment that is missing or of another shape, named; nothing has been changed then.
    pub fn put(&self, store: &VarStore, adam: &mut Adam) -> Result<(), String> {
        let parameters = store.variables().into_iter().map(|(name, to)| (parameter(&name), to));
        self.copy(parameters.chain(moments(adam)).collect())?;
        adam.continue_after(self.optimiser_step);
        Ok(())
    }

    /// Gives the parameters of `store` whose names are `carried` their values.
    ///
    /// # Errors
    /// As [`State::put`].
    pub fn put_parameters(&self, store: &VarStore, carried: impl Fn(&str) -> bool) -> Result<(), String> {
        let parameters = store.variables().into_iter().filter(|(name, _)| carried(name));
        self.copy(parameters.map(|(name, to)| (parameter(&name), to)).collect())
    }

    /// Gives `adam` the moments of the parameters whose names are `carried`, and its count of steps.
    ///
    /// # Errors
    /// As [`State::put`].
    pub fn put_moments(&self, adam: &mut Adam, carried: impl Fn(&str) -> bool) -> Result<(), String> {
        let of_carried = |(name, _): &(String, Tensor)| name.split_once('/').is_some_and(|(_, name)| carried(name));
        self.copy(moments(adam).into_iter().filter(of_carried).collect())?;
        adam.continue_after(self.optimiser_step);
        Ok(())
    }

    fn copy(&self, mut wanted: Vec<(String, Tensor)>) -> Result<(), String> {
        wanted.sort_by(|(a, _), (b, _)| a.cmp(b));
        let found = |(name, to): (String, Tensor)| match self.tensors.get(&name) {
            Some(from) if from.size() == to.size() => Ok((from, to)),
            Some(from) => Err(format!("{name} has the shape {:?}, not {:?}", from.size(), to.size())),
            None => Err(format!("there is no {name}")),
        };
        let pairs: Vec<(&Tensor, Tensor)> = wanted.into_iter().map(found).collect::<Result<_, _>>()?;
        tch::no_grad(|| pairs.into_iter().for_each(|(from, mut to)| to.copy_(from)));
        Ok(())
    }
}

fn parameter(name: &str) -> String {
    format!("parameter/{name}")
}

fn moments(adam: &Adam) -> Vec<(String, Tensor)> {
    let of_slot = |slot: Slot<'_>| {
        [
            (format!("first-moment/{}", slot.name), slot.first.shallow_clone()),
            (format!("second-moment/{}", slot.name), slot.second.shallow_clone()),
        ]
    };
    adam.slots().flat_map(of_slot).collect()
}

fn write<P: Serialize>(path: &Path, all: Vec<(String, Tensor)>, adam: &Adam, progress: &P) -> Result<(), StageError> {
    let saved = Saved { optimiser_step: adam.step(), progress };
    let metadata = serde_json::to_string(&saved).map_err(|error| {
        StageError::Failed(format!("cannot describe the training state {}: {error}", path.display()))
    })?;
    tensors::write(path, all, metadata)
}

#[cfg(test)]
mod tests {
    use reprise_spec::training;
    use tch::nn::Init;
    use tch::{Device, Kind};

    use super::*;

    fn step(adam: &mut Adam, store: &VarStore) {
        let parameter = store.variables().remove("p").unwrap();
        (&parameter * &parameter).sum(Kind::Float).backward();
        let gradients = adam.gradients();
        adam.step_at(0.1, gradients).unwrap();
    }

    fn fresh() -> (VarStore, Adam) {
        let store = VarStore::new(Device::Cpu);
        let _ = store.root().var("p", &[3], Init::Const(0.7));
        let adam = Adam::new(&store, &training::Adam::default());
        (store, adam)
    }

    fn value(store: &VarStore) -> Vec<f32> {
        Vec::try_from(&store.variables()["p"].detach()).unwrap()
    }

    #[test]
    fn a_restored_run_continues_to_the_bit_past_a_torn_file() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(folder.path()).unwrap();
        let (store, mut adam) = fresh();
        for number in 1..=5u64 {
            step(&mut adam, &store);
            if number <= 3 {
                checkpoints.save(number, 0, &store, &adam, &number).unwrap();
            }
        }
        assert_eq!(checkpoints.newest_first().unwrap().len(), 2);
        let whole = fs::read(checkpoints.newest_first().unwrap().remove(0)).unwrap();
        fs::write(folder.path().join("checkpoints/step-000000000004.safetensors"), &whole[..whole.len() - 1]).unwrap();

        let (again, mut adam) = fresh();
        let progress: u64 = checkpoints.restore(&again, &mut adam).unwrap().unwrap();
        assert_eq!((progress, adam.step()), (3, 3));
        step(&mut adam, &again);
        step(&mut adam, &again);
        assert_eq!(value(&again), value(&store));
    }

    #[test]
    fn the_newest_from_before_things_went_wrong_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(folder.path()).unwrap();
        let (store, adam) = fresh();
        let mut kept = Vec::new();
        for (step, good) in [(3, 0), (5, 4), (8, 6), (11, 6), (13, 6), (20, 20), (21, 20), (22, 20)] {
            checkpoints.save(step, good, &store, &adam, &()).unwrap();
            let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().trim_start_matches("step-0").into();
            let steps = checkpoints.newest_first().unwrap().into_iter().map(name);
            kept.push(steps.map(|step: String| step.parse::<u64>().unwrap()).collect::<Vec<_>>());
        }
        let expected: [&[u64]; 8] =
            [&[3], &[5, 3], &[8, 5], &[11, 8, 5], &[13, 11, 5], &[20, 13], &[21, 20], &[22, 21, 20]];
        assert_eq!(kept, expected);
    }

    #[test]
    fn a_checkpoint_of_another_network_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(folder.path()).unwrap();
        let (store, adam) = fresh();
        checkpoints.save(1, 0, &store, &adam, &()).unwrap();
        let store = VarStore::new(Device::Cpu);
        let _ = store.root().var("p", &[4], Init::Const(0.7));
        let mut adam = Adam::new(&store, &training::Adam::default());
        assert!(checkpoints.restore::<()>(&store, &mut adam).is_err());
    }
}
