//! `reprise-trainer`: executes one stage in a process of its own, so that a fault of libtorch ends one attempt and nothing else.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use reprise_model::environment;
use reprise_model::failure::StageError;
use reprise_model::report::{Reporter, STOP};
use reprise_model::shim;
use reprise_model::stage::{self, Work};
use reprise_model::tool::{self, ToolWork};
use reprise_spec::contract::{self, Device, Event, Failure, Request, Score, ToolRequest};
use serde::de::DeserializeOwned;

/// The sources that this program was built from; `reprise` refuses a trainer of another build.
const BUILD: &str = env!("REPRISE_BUILD_ID");

const USAGE: &str = "\
usage: reprise-trainer REQUEST       execute the stage that the file names
       reprise-trainer tool REQUEST  do the work beside stages that the file names
       reprise-trainer --hello       print the first event of every stage: contract, build and environment
       reprise-trainer --version     print version, build and libtorch

This program is started by `reprise`, once a stage or tool.";

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match path.to_str() {
        Some("--version") => {
            let libtorch = environment::libtorch().1.unwrap_or_else(|| "of unknown version".into());
            println!("reprise-trainer {} (build {BUILD}, libtorch {libtorch})", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some("--hello") => {
            return match serde_json::to_string(&hello(Device::Cpu)) {
                Ok(line) => {
                    println!("{line}");
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    eprintln!("cannot write the greeting: {error}");
                    ExitCode::from(4)
                }
            };
        }
        _ => {}
    }
    match (path.to_str(), std::env::args_os().nth(2)) {
        (Some("tool"), Some(path)) => with_request(&path, use_tool),
        _ => with_request(&path, execute_stage),
    }
}

/// Reads a request and does what it asks for.
fn with_request<R: DeserializeOwned>(path: &OsStr, act: fn(R) -> ExitCode) -> ExitCode {
    let bytes = std::fs::read(path).map_err(|error| error.to_string());
    match bytes.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string())) {
        Ok(request) => act(request),
        Err(error) => {
            eprintln!("cannot read the request {}: {error}", Path::new(path).display());
            ExitCode::from(4)
        }
    }
}

fn execute_stage(request: Request) -> ExitCode {
    let (device, threads) = (request.device, request.threads);
    let open = |events| Reporter::open(events, &request.work, request.attempt);
    let (report, device) = match set_up(device, threads, open) {
        Ok(ready) => ready,
        Err(exit) => return exit,
    };
    let mut work = Work { request, report, device };
    let result = stage::execute(&mut work).and_then(|summary| work.report.flush().map(|()| summary));
    finish(&mut work.report, result)
}

fn use_tool(request: ToolRequest) -> ExitCode {
    let ready = set_up(request.device, request.threads, |events| Ok(Reporter::without_metrics(events)));
    let (report, device) = match ready {
        Ok(ready) => ready,
        Err(exit) => return exit,
    };
    let mut work = ToolWork { request, report, device };
    let result = tool::execute(&mut work);
    finish(&mut work.report, result)
}

/// Everything that must be in place before the first tensor, and the greeting.
fn set_up(
    device: Device,
    threads: u32,
    open: impl FnOnce(File) -> Result<Reporter, StageError>,
) -> Result<(Reporter, tch::Device), ExitCode> {
    let loaded = match device {
        Device::Cpu => Ok(tch::Device::Cpu),
        Device::Cuda(index) => shim::load_cuda(index).map(|()| tch::Device::Cuda(index as usize)),
    };
    let events = take_standard_output().map_err(|error| {
        eprintln!("cannot set up the event stream: {error}");
        ExitCode::from(4)
    })?;
    stop_when_asked();
    let mut report = open(events).map_err(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })?;
    tch::set_num_threads(threads as i32);
    let switched = shim::set_deterministic(true).and_then(|()| shim::set_flush_denormal(true));
    report.send(&hello(device));
    match loaded.and_then(|device| switched.map(|_| device)) {
        Ok(device) => Ok((report, device)),
        Err(error) => Err(failed(&mut report, &error)),
    }
}

/// The last event, and the exit status that goes with it.
fn finish(report: &mut Reporter, result: Result<Vec<Score>, StageError>) -> ExitCode {
    match result {
        Ok(summary) => {
            report.send(&Event::Done { summary });
            ExitCode::SUCCESS
        }
        Err(StageError::Interrupted { step }) => {
            report.send(&Event::Interrupted { step });
            ExitCode::from(130)
        }
        Err(error) => failed(report, &error),
    }
}

/// Says why there is no result.
fn failed(report: &mut Reporter, error: &StageError) -> ExitCode {
    let class = error.class().unwrap_or(Failure::Stage);
    let help = if let StageError::Refused { help, .. } = error { help.clone() } else { None };
    report.send(&Event::Failed { class, message: error.to_string(), help });
    ExitCode::from(if class == Failure::Refused { 2 } else { 3 })
}

/// The first event: who this is and what it computes with.
fn hello(device: Device) -> Event {
    Event::Hello { contract: contract::VERSION, build: BUILD.into(), environment: environment::of(device) }
}

/// Takes descriptor 1 for events and points it at standard error, because native libraries print.
fn take_standard_output() -> std::io::Result<File> {
    let events = rustix::io::dup(rustix::stdio::stdout())?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(File::from(events))
}

/// TERM, INT and the end of standard input ask the stage to stop.
fn stop_when_asked() {
    std::thread::spawn(|| {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(count) if count > 0) {}
        STOP.store(true, Ordering::Relaxed);
    });
    if let Ok(mut signals) =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])
    {
        std::thread::spawn(move || {
            for _ in signals.forever() {
                STOP.store(true, Ordering::Relaxed);
            }
        });
    }
}
