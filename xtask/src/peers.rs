//! Installs what benchmarks are measured beside into a virtual environment of the checkout.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{run, say};

/// The pinned packages, from the root of the checkout.
const LIST: &str = "xtask/peers.txt";

/// Makes `.peers` hold what the list says, unless it does; `REPRISE_PEERS` names another environment, which is left as it is.
pub fn ensure(root: &Path) -> Result<(), String> {
    if let Some(own) = std::env::var_os("REPRISE_PEERS") {
        say(&format!("peers from REPRISE_PEERS={}", own.display()));
        return Ok(());
    }
    let (folder, list) = (root.join(".peers"), root.join(LIST));
    let wanted = fs::read_to_string(&list).map_err(|error| format!("cannot read {}: {error}", list.display()))?;
    let installed = folder.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        say(&format!("the peers are in {}", folder.display()));
        return Ok(());
    }
    say("downloading the peers of the benchmarks (about 4 GB)");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).current_dir(root))?;
    run(Command::new(folder.join("bin/python"))
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--requirement", LIST])
        .current_dir(root))?;
    fs::write(&installed, wanted).map_err(|error| format!("cannot write {}: {error}", installed.display()))
}
