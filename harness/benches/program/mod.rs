//! The program `reprise` as a person starts it: how long it takes from its start to its end, and the most memory that it holds.

#![allow(dead_code)] // every benchmark uses a part

use std::path::Path;
use std::process::{Command, Stdio};

use super::versus::{Measured, median, timed};

/// One command, with the exit code that it ends with.
#[derive(Clone)]
pub struct Program {
    arguments: Vec<String>,
    code: i32,
    folder: std::path::PathBuf,
    variables: Vec<(String, String)>,
}

impl Program {
    pub fn new(folder: &Path, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { arguments, code: 0, folder: folder.to_path_buf(), variables: Vec::new() }
    }

    pub fn ends_with(self, code: i32) -> Self {
        Self { code, ..self }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &self.folder);
        command.env("XDG_CACHE_HOME", self.folder.join("cache"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// One start, timed.
    pub fn start(&self) -> Measured {
        let mut command = self.command(env!("CARGO_BIN_EXE_reprise"));
        command.args(&self.arguments);
        let (status, measured) = timed(|| command.status().expect("reprise starts"));
        assert_eq!(status.code(), Some(self.code), "{:?}", self.arguments);
        measured
    }

    /// What it prints on standard output.
    pub fn said(&self) -> Vec<u8> {
        let mut command = self.command(env!("CARGO_BIN_EXE_reprise"));
        command.args(&self.arguments).stdout(Stdio::piped()).output().expect("reprise starts").stdout
    }

    /// The most resident memory of one start in MiB, where there is a `time` to tell.
    pub fn peak_mib(&self) -> Option<f64> {
        let mut command = self.command("/usr/bin/time");
        command.args(["-f", "%M", env!("CARGO_BIN_EXE_reprise")]).args(&self.arguments).stderr(Stdio::piped());
        let told = command.output().ok()?;
        let kib: f64 = String::from_utf8_lossy(&told.stderr).split_whitespace().last()?.parse().ok()?;
        Some(kib / 1024.0)
    }

    /// The median of several starts after one that isn't counted, as a point of growth.
    pub fn measure(&self, times: usize) -> Measured {
        self.start();
        let starts: Vec<Measured> = (0..times).map(|_| self.start()).collect();
        let mut measured = Measured::from([("seconds".into(), median(&starts, "seconds"))]);
        measured.extend(self.peak_mib().map(|peak| ("peak-mib".to_owned(), peak)));
        measured
    }

    pub fn median_ms(&self, times: usize) -> f64 {
        self.measure(times)["seconds"] * 1e3
    }
}
