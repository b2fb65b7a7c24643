//! Work that the trainer does beside stages: nothing of it is stored, nobody else can be at it, and its result is where the user wants it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use reprise_spec::contract::{self, Event, Failure, Score, Tool, ToolRequest};

use super::stage::{self, Unmade};
use super::trainer::{self, Launch};
use super::{ExecuteError, Happening, Interrupt, Machine};
use crate::lease;
use crate::store::{Means, StoreError, files};

/// The name of the request, in the folder of the tool's work.
const REQUEST: &str = "request.json";

/// Starts the trainer on `tool`, tells `observe` what happens, and returns the numbers that it found.
///
/// Request and log lie in `work`, which is made where it is missing, or in a temporary folder that goes with this call.
///
/// # Errors
/// When the trainer can't be started, can't do the work, or `interrupt` asks to stop.
pub fn run_tool(
    machine: &Machine,
    tool: Tool,
    work: Option<&Path>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Happening<'_>),
) -> Result<Vec<Score>, ExecuteError> {
    let temporary = tempfile::tempdir().map_err(|error| StoreError::io("create", &std::env::temp_dir(), error))?;
    let work = work.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()));
    let folder: PathBuf = work.clone().unwrap_or_else(|| temporary.path().to_path_buf());
    fs::create_dir_all(&folder).map_err(|error| StoreError::io("create", &folder, error))?;
    let Means { device, threads, .. } = machine.means;
    let request = ToolRequest { contract: contract::VERSION, tool, work, device, threads };
    let path = folder.join(REQUEST);
    files::write_json(&path, &request)?;
    let arguments = [OsStr::new("tool"), path.as_os_str()];
    let launch = Launch { arguments: &arguments, log: folder.join(lease::LOG), lease: None };
    let ended = trainer::run(machine, &launch, interrupt, observe)?;
    stage::verdict(&ended).map_err(|unmade| match unmade {
        Unmade::Interrupted => ExecuteError::ToolInterrupted,
        Unmade::Error(error) => *error,
        Unmade::Failed { class, message, help, log } => {
            let told = matches!(ended.verdict, Some(Event::Failed { .. }));
            let log = log.filter(|_| !told || class == Failure::Stage);
            ExecuteError::Tool { class, message, log, help: help.filter(|_| told) }
        }
    })
}
