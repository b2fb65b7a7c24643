//! Checkpoints: all that a training run needs to continue to the bit.
//!
//! One file a step, `checkpoints/step-<12 digits>.safetensors`: every parameter (`parameter/<name>`), the optimiser's moments
//! (`first-moment/<name>`, `second-moment/<name>`), and the caller's progress as JSON. There is no generator state: dropout and
//! layer drop are drawn anew from (seed, stage, step) at each step. The last two whole files are kept.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::VarStore;

use crate::failure::StageError;
use crate::optimiser::Adam;
use crate::tensors::{self, Contents};

const KEPT: usize = 2;

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

    /// Writes the state after `step`, whole or not at all, and removes all but the last two.
    pub fn save<P: Serialize>(&self, step: u64, store: &VarStore, adam: &Adam, progress: &P) -> Result<(), StageError> {
        let mut all: Vec<(String, Tensor)> =
            store.variables().into_iter().map(|(name, tensor)| (format!("parameter/{name}"), tensor)).collect();
        for slot in adam.slots() {
            all.push((format!("first-moment/{}", slot.name), slot.first.shallow_clone()));
            all.push((format!("second-moment/{}", slot.name), slot.second.shallow_clone()));
        }
        let saved = Saved { optimiser_step: adam.step(), progress };
        let metadata = serde_json::to_string(&saved)
            .map_err(|error| StageError::Failed(format!("cannot describe the checkpoint of step {step}: {error}")))?;
        tensors::write(&self.folder.join(format!("step-{step:012}.safetensors")), all, metadata)?;
        for old in self.newest_first()?.into_iter().skip(KEPT) {
            fs::remove_file(&old).map_err(|error| StageError::io("cannot remove", &old, &error))?;
        }
        Ok(())
    }

    /// Restores the newest whole checkpoint into `store` and `adam` and returns the progress beside it; `None` where there is none.
    /// Files that are cut short or damaged are passed over.
    ///
    /// # Errors
    /// A whole checkpoint of another network: a stage of another build has left it.
    pub fn restore<P: DeserializeOwned>(&self, store: &VarStore, adam: &mut Adam) -> Result<Option<P>, StageError> {
        for path in self.newest_first()? {
            let Ok(Contents { tensors, metadata }) = tensors::read(&path) else { continue };
            let Ok(saved) = serde_json::from_str::<Saved<P>>(&metadata) else { continue };
            let put = |mut to: Tensor, name: String| match tensors.get(&name) {
                Some(from) if from.size() == to.size() => {
                    tch::no_grad(|| to.copy_(from));
                    Ok(())
                }
                _ => Err(StageError::refused(
                    format!("{} does not fit the network: {name}", path.display()),
                    "remove the folder of checkpoints and run again",
                )),
            };
            for (name, parameter) in store.variables() {
                put(parameter, format!("parameter/{name}"))?;
            }
            for slot in adam.slots() {
                put(slot.first.shallow_clone(), format!("first-moment/{}", slot.name))?;
                put(slot.second.shallow_clone(), format!("second-moment/{}", slot.name))?;
            }
            adam.continue_after(saved.optimiser_step);
            return Ok(Some(saved.progress));
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

#[cfg(test)]
mod tests {
    use reprise_spec::training;
    use tch::nn::Init;
    use tch::{Device, Kind};

    use super::*;

    fn step(adam: &mut Adam, store: &VarStore) {
        let parameter = store.variables().remove("p").unwrap();
        (&parameter * &parameter).sum(Kind::Float).backward();
        adam.step_at(0.1).unwrap();
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
                checkpoints.save(number, &store, &adam, &number).unwrap();
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
    fn a_checkpoint_of_another_network_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(folder.path()).unwrap();
        let (store, adam) = fresh();
        checkpoints.save(1, &store, &adam, &()).unwrap();
        let store = VarStore::new(Device::Cpu);
        let _ = store.root().var("p", &[4], Init::Const(0.7));
        let mut adam = Adam::new(&store, &training::Adam::default());
        assert!(checkpoints.restore::<()>(&store, &mut adam).is_err());
    }
}
