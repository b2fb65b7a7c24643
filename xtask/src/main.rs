//! `cargo xtask`: everything that a checkout needs before and beside plain cargo.

mod install;
mod peers;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

const USAGE: &str = "\
Set-up, demo and tests of the checkout

Usage: cargo xtask <COMMAND> [ARGUMENTS]

Commands:
  demo      Install libtorch, build, run the quickstart experiment and print where its result is
  test      Install libtorch, then run the tests; ARGUMENTS go to `cargo test`
  lint      Install libtorch, then check formatting and lints
  libtorch  Install libtorch into the checkout, if it isn't there yet
  peers     Install what benchmarks are measured beside, if it isn't there yet
  bench     Install both and run the benchmarks; ARGUMENTS name some of them

A LIBTORCH variable of your own wins over the checkout's libtorch.";

const QUICKSTART: &str = "experiments/quickstart/baseline.yaml";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    let Some(root) =
        std::env::var_os("CARGO_MANIFEST_DIR").and_then(|own| Some(PathBuf::from(own).parent()?.to_owned()))
    else {
        eprintln!("error: this program is started by cargo\nhelp: run `cargo xtask` in the checkout");
        return ExitCode::from(2);
    };
    let done = match (command.to_str(), rest.is_empty()) {
        (Some("demo"), true) => demo(&root),
        (Some("test"), _) => test(&root, &rest),
        (Some("lint"), true) => lint(&root),
        (Some("libtorch"), true) => install::ensure(&root).map(drop),
        (Some("peers"), true) => peers::ensure(&root),
        (Some("bench"), _) => bench(&root, &rest),
        (Some("help" | "--help" | "-h"), true) => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn demo(root: &Path) -> Result<(), String> {
    let libtorch = install::ensure(root)?;
    phase("building (the first time takes some minutes)", || cargo(root, &libtorch, &["build", "--workspace"], &[]))?;
    // cargo puts this program and the one that it just built into the same folder.
    let program = std::env::current_exe()
        .map_err(|error| format!("cannot tell where the programs are: {error}"))?
        .with_file_name("reprise");
    phase(&format!("running {QUICKSTART}"), || {
        run(Command::new(&program).args(["run", QUICKSTART]).current_dir(root).env("LIBTORCH", &libtorch))
    })?;
    say(&format!("the result is in {}", root.join(".reprise/runs").display()));
    say(&format!("`{} list` lists it; run the demo again and no stage is executed", program.display()));
    Ok(())
}

fn test(root: &Path, arguments: &[OsString]) -> Result<(), String> {
    let libtorch = install::ensure(root)?;
    phase("testing (the first time builds for some minutes)", || {
        cargo(root, &libtorch, &["test", "--workspace"], arguments)
    })
}

/// Runs the benchmarks that are named, or all, and compares their ratios with the accepted ones.
fn bench(root: &Path, named: &[OsString]) -> Result<(), String> {
    let libtorch = install::ensure(root)?;
    peers::ensure(root)?;
    let chosen: Vec<OsString> = match named {
        [] => vec!["--bench".into(), "*".into()],
        named => named.iter().flat_map(|name| ["--bench".into(), name.clone()]).collect(),
    };
    phase("measuring (building for it takes some minutes the first time)", || {
        cargo(root, &libtorch, &["bench", "--workspace"], &chosen)
    })?;
    cargo(root, &libtorch, &["run", "--quiet", "--release", "--package", "reprise", "--example", "benchmarks"], &[])
}

fn lint(root: &Path) -> Result<(), String> {
    let libtorch = install::ensure(root)?;
    phase("checking the formatting", || cargo(root, &libtorch, &["fmt", "--all", "--check"], &[]))?;
    phase("checking lints", || {
        cargo(root, &libtorch, &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"], &[])
    })
}

fn cargo(root: &Path, libtorch: &Path, arguments: &[&str], more: &[OsString]) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(Command::new(cargo).args(arguments).args(more).current_dir(root).env("LIBTORCH", libtorch))
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().display().to_string();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}")),
        Err(error) => Err(format!("cannot start {name}: {error}")),
    }
}

/// Says what begins and how long it took.
fn phase(name: &str, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    say(name);
    let start = Instant::now();
    work()?;
    say(&format!("done in {} s", start.elapsed().as_secs()));
    Ok(())
}

fn say(message: &str) {
    eprintln!("xtask: {message}");
}
