//! Whether this machine can execute stages: checks that read and touch nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reprise_spec::contract::{self, Event};
use serde::Serialize;
use xtask::libtorch;

use crate::data::Roots;
use crate::execute;
use crate::provenance::{BUILD, GitState};
use crate::store::Store;

const GIB: u64 = 1 << 30;
/// What the quickstart experiment and the largest stage of its kind stay under.
const MEMORY_WANTED: u64 = 3 * GIB;
/// Room for the checkpoints and outputs of a few small runs.
const DISK_WANTED: u64 = 2 * GIB;
/// Threads of a stage unless told otherwise.
const THREADS: usize = 2;

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub check: &'static str,
    pub verdict: Verdict,
    /// What was found.
    pub message: String,
    /// What to do; present for all but good findings.
    pub help: Option<String>,
}

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Ok,
    /// Works, with something to know.
    Warning,
    /// Runs will fail.
    Problem,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, message: message.into(), help: None }
    }

    fn warning(check: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, message: message.into(), help: Some(help.into()) }
    }

    fn problem(check: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Problem, message: message.into(), help: Some(help.into()) }
    }
}

/// Every check, in the order in which a reader should mend things.
pub fn examine(store: &Store, roots: &Roots, folder: &Path) -> Vec<Finding> {
    let mut findings = trainer_and_libtorch();
    findings.push(threads(std::thread::available_parallelism().map_or(1, usize::from)));
    findings.push(memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default()));
    findings.extend(store_and_disk(store.root()));
    findings.push(data(roots));
    findings.push(git(GitState::of(folder)));
    findings
}

/// The trainer, and the libtorch that it runs on; without a trainer that answers, the libtorch that it would be built with.
fn trainer_and_libtorch() -> Vec<Finding> {
    let trainer = match execute::find_trainer() {
        Ok(trainer) => trainer,
        Err(error) => {
            return vec![
                expected_libtorch(),
                Finding::problem("trainer", error.to_string(), "build the workspace: `cargo build --workspace`"),
            ];
        }
    };
    let output = Command::new(&trainer).arg("--hello").stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => greeting(&trainer, &output.stdout),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().last().unwrap_or("nothing").trim();
            vec![
                expected_libtorch(),
                Finding::problem(
                    "trainer",
                    format!("{} does not start ({}): {said}", trainer.display(), output.status),
                    format!("run `{}`, then `cargo build --workspace`", libtorch::COMMAND),
                ),
            ]
        }
        Err(error) => vec![Finding::problem(
            "trainer",
            format!("cannot start {}: {error}", trainer.display()),
            "build the workspace: `cargo build --workspace`",
        )],
    }
}

/// Judges the first event of a trainer.
fn greeting(trainer: &Path, line: &[u8]) -> Vec<Finding> {
    let rebuild = "build both programs together: `cargo build --workspace`";
    let Ok(Event::Hello { contract, build, environment }) = serde_json::from_slice(line) else {
        return vec![Finding::problem("trainer", format!("{} answers with no greeting", trainer.display()), rebuild)];
    };
    let fact = |name: &str| environment.get(name).map_or("unknown", String::as_str);
    let shown = trainer.display();
    let program = if contract != contract::VERSION {
        Finding::problem(
            "trainer",
            format!("{shown} speaks contract {contract}, this program {}", contract::VERSION),
            rebuild,
        )
    } else if build != BUILD {
        Finding::problem("trainer", format!("{shown} is build {build}, this program {BUILD}"), rebuild)
    } else {
        Finding::ok("trainer", format!("{shown}, build {build}"))
    };
    let capability = fact("cpu-capability");
    let processor = format!("{}, kernels for {capability}", fact("cpu-model"));
    vec![
        libtorch_in(Path::new(fact("libtorch-path"))),
        program,
        match capability {
            "avx2" | "avx512" => Finding::ok("processor", processor),
            _ => Finding::warning(
                "processor",
                processor,
                "expect several times the usual time: libtorch is slow without AVX2",
            ),
        },
    ]
}

/// The libtorch that a build would take: `LIBTORCH`, else `.libtorch` of the checkout that holds this program.
fn expected_libtorch() -> Finding {
    let own = std::env::var_os("LIBTORCH").map(PathBuf::from);
    let program = std::env::current_exe().unwrap_or_default();
    let beside = || program.ancestors().map(|folder| folder.join(".libtorch/torch")).find(|folder| folder.is_dir());
    libtorch_in(&own.or_else(beside).unwrap_or_else(|| PathBuf::from(".libtorch/torch")))
}

fn libtorch_in(folder: &Path) -> Finding {
    match libtorch::inspect(folder) {
        Ok(version) => Finding::ok("libtorch", format!("{version} in {}", folder.display())),
        Err(problem) => Finding::problem("libtorch", problem.to_string(), libtorch::help(folder)),
    }
}

fn threads(available: usize) -> Finding {
    if available >= THREADS {
        return Finding::ok(
            "threads",
            format!("{available} available, {THREADS} used by a stage unless told otherwise"),
        );
    }
    Finding::warning(
        "threads",
        format!("{available} available, {THREADS} used by a stage unless told otherwise"),
        "results stay the same with more threads than cores, only slower",
    )
}

/// Judges the text of `/proc/meminfo`.
fn memory(text: &str) -> Finding {
    let available = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    let Some(kib) = available else {
        return Finding::warning("memory", "cannot tell how much is available", "the quickstart needs 3 GiB");
    };
    let message = format!("{:.1} GiB available", kib as f64 * 1024.0 / GIB as f64);
    if kib * 1024 >= MEMORY_WANTED {
        return Finding::ok("memory", message);
    }
    Finding::warning("memory", message, "the quickstart needs 3 GiB: end other programs, or expect to be killed")
}

/// Whether the store, or the folder it would be made in, takes files, and how many.
fn store_and_disk(root: &Path) -> [Finding; 2] {
    let existing = root.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let elsewhere = "pass --store DIR, or set REPRISE_STORE, to a folder that you may write to";
    let shown = root.display();
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    let store = if !existing.is_dir() {
        Finding::problem("store", format!("{} is not a folder", existing.display()), elsewhere)
    } else {
        match rustix::fs::access(existing, access) {
            Ok(()) if existing == root => Finding::ok("store", shown.to_string()),
            Ok(()) => Finding::ok("store", format!("{shown}, made by the first run")),
            Err(error) => {
                Finding::problem("store", format!("cannot write to {}: {error}", existing.display()), elsewhere)
            }
        }
    };
    let disk = match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let message = format!("{:.1} GiB free for {shown}", free as f64 / GIB as f64);
            let help = "free some space, or pass --store DIR on a larger disk";
            match free {
                0 => Finding::problem("disk", message, help),
                1..DISK_WANTED => Finding::warning("disk", message, help),
                _ => Finding::ok("disk", message),
            }
        }
        Err(error) => Finding::warning(
            "disk",
            format!("cannot tell the free space of {}: {error}", existing.display()),
            "see that some GiB are free",
        ),
    };
    [store, disk]
}

fn data(roots: &Roots) -> Finding {
    let help = "pass --data DIR, set REPRISE_DATA, or write `data = [\"DIR\"]` into reprise.toml";
    let missing: Vec<String> =
        roots.0.iter().filter(|root| !root.is_dir()).map(|root| root.display().to_string()).collect();
    if roots.0.is_empty() {
        Finding::warning("data", "no data roots: only experiments with a corpus of their own can run", help)
    } else if missing.is_empty() {
        let shown: Vec<String> = roots.0.iter().map(|root| root.display().to_string()).collect();
        Finding::ok("data", shown.join(", "))
    } else {
        Finding::warning("data", format!("no such folder: {}", missing.join(", ")), help)
    }
}

fn git(state: Option<GitState>) -> Finding {
    let help = "keep experiments in git, so that results can name the commit they come from";
    match state {
        Some(GitState { commit: Some(commit), dirty, .. }) => {
            let changes = if dirty { ", with changes that no commit holds" } else { "" };
            Finding::ok("git", format!("commit {}{changes}", &commit[..commit.len().min(12)]))
        }
        Some(_) => Finding::warning("git", "the repository has no commit yet", help),
        None => Finding::warning("git", "this folder is in no git repository", help),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn hello(build: &str, contract: u32) -> Vec<u8> {
        let environment = BTreeMap::from([
            ("libtorch-path".to_owned(), "/nonexistent/torch".to_owned()),
            ("cpu-capability".to_owned(), "default".to_owned()),
        ]);
        serde_json::to_vec(&Event::Hello { contract, build: build.into(), environment }).unwrap()
    }

    fn verdict(findings: &[Finding], check: &str) -> Verdict {
        findings.iter().find(|finding| finding.check == check).unwrap().verdict
    }

    #[test]
    fn a_trainer_of_another_build_or_contract_is_a_problem() {
        let of = |build, contract| greeting(Path::new("reprise-trainer"), &hello(build, contract));
        assert_eq!(verdict(&of(BUILD, contract::VERSION), "trainer"), Verdict::Ok);
        assert_eq!(verdict(&of("other", contract::VERSION), "trainer"), Verdict::Problem);
        assert_eq!(verdict(&of(BUILD, contract::VERSION + 1), "trainer"), Verdict::Problem);
        assert_eq!(
            verdict(&greeting(Path::new("reprise-trainer"), b"Segmentation fault"), "trainer"),
            Verdict::Problem
        );
    }

    #[test]
    fn a_missing_libtorch_says_the_one_command() {
        let found = libtorch_in(Path::new("/a checkout/.libtorch/torch"));
        assert_eq!(found.verdict, Verdict::Problem);
        assert_eq!(found.help.as_deref(), Some("run `cargo xtask libtorch`"));
    }

    #[test]
    fn a_processor_without_avx2_is_a_warning() {
        let findings = greeting(Path::new("reprise-trainer"), &hello(BUILD, contract::VERSION));
        assert_eq!(verdict(&findings, "processor"), Verdict::Warning);
    }

    #[test]
    fn little_memory_is_a_warning() {
        assert_eq!(memory("MemTotal: 9 kB\nMemAvailable:    8388608 kB\n").message, "8.0 GiB available");
        assert_eq!(memory("MemAvailable:    1048576 kB\n").verdict, Verdict::Warning);
        assert_eq!(memory("").verdict, Verdict::Warning);
    }

    #[test]
    fn a_store_below_a_file_is_a_problem_and_looking_makes_none() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(store_and_disk(&file)[0].verdict, Verdict::Problem);
        let fresh = temp.path().join("deep/.reprise");
        assert_eq!(store_and_disk(&fresh)[0].verdict, Verdict::Ok);
        assert!(!fresh.exists() && !temp.path().join("deep").exists());
    }

    #[test]
    fn data_roots_that_are_not_there_are_named() {
        let found = data(&Roots(vec![PathBuf::from("/nonexistent/speech")]));
        assert_eq!((found.verdict, found.message.as_str()), (Verdict::Warning, "no such folder: /nonexistent/speech"));
    }

    #[test]
    fn a_folder_outside_git_is_a_warning() {
        assert_eq!(git(None).verdict, Verdict::Warning);
        let state = GitState { commit: Some("0123456789abcdef".into()), branch: None, dirty: true };
        assert_eq!(git(Some(state)).message, "commit 0123456789ab, with changes that no commit holds");
    }
}
