//! What verbs that take a model share: finding its folder, and asking the trainer for work beside stages.

use std::path::{Path, PathBuf};

use reprise_spec::contract::{Device, Score, Tool};

use super::{Places, load, progress};
use crate::execute::{self, Machine};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::store::StageRecord;

/// The file that makes a folder a model folder.
const ABOUT: &str = "model.json";

/// The folder of a model that a person named: a model folder, or the beginning of a run's id. Of a run it is the model of `stage`, or the
/// last that it made.
pub fn folder(name: &str, stage: Option<&str>, places: &Places) -> Result<PathBuf, Failure> {
    let path = Path::new(name);
    if path.join(ABOUT).is_file() {
        return match stage {
            None => Ok(path.to_path_buf()),
            Some(_) => Err(Failure::user(format!("{name} is a model folder and has no stages"), "leave out --stage")),
        };
    }
    if path.exists() {
        return Err(Failure::user(
            format!("{name} is not a model folder: it has no {ABOUT}"),
            "name what `reprise import` made or a run; folders of other programs are imported first",
        ));
    }
    let store = load::store(places, None)?;
    let run = store.run(name)?;
    let record = run
        .record
        .map_err(|damage| Failure::user(format!("run {} is damaged: {damage}", run.id), "name another run"))?;
    let model = |record: &StageRecord| {
        let out = store.output(&record.key, &record.state.digest()?)?.out();
        out.join(ABOUT).is_file().then_some(out)
    };
    let models: Vec<(&str, PathBuf)> =
        record.stages.iter().filter_map(|record| Some((record.name.as_str(), model(record)?))).collect();
    let names = models.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let chosen = match stage {
        Some(stage) => models.into_iter().find(|(name, _)| *name == stage),
        None => models.into_iter().next_back(),
    };
    chosen.map(|(_, folder)| folder).ok_or_else(|| match stage {
        Some(stage) if !names.is_empty() => Failure::user(
            format!("the stage {stage:?} of run {} has no model", run.id),
            format!("the stages with one are {names}"),
        ),
        _ => Failure::user(format!("run {} has made no model yet", run.id), "let it pretrain or fine-tune first"),
    })
}

/// What the trainer is started with for work beside stages.
pub fn machine(device: Device, threads: u32) -> Result<Machine, Failure> {
    let trainer = execute::find_trainer()?;
    Ok(Machine { trainer, device, threads, checkpoint_seconds: 120, cache: None, verify_data: false })
}

/// Has the trainer do `tool`, shown under `name`; request and log lie in `work`, if any.
pub fn use_tool(name: &str, tool: Tool, machine: &Machine, work: Option<&Path>) -> Result<Vec<Score>, Failure> {
    let interrupt = Interrupt::install()
        .map_err(|error| Failure::new(Exit::Bug, format!("cannot handle signals: {error}"), None))?;
    let mut display = progress::Display::of(name);
    let outcome = execute::run_tool(machine, tool, work, &interrupt, &mut |happening| display.show(happening));
    display.clear();
    Ok(outcome?)
}
