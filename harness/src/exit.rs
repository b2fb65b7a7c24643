//! How the program ends.

use std::process::ExitCode;

use reprise_spec::problem::SpecErrors;
use serde_json::json;

use crate::audio::AudioListError;
use crate::bundle::BundleError;
use crate::data::DataError;
use crate::execute::ExecuteError;
use crate::explain::ExplainError;
use crate::golden::GoldenError;
use crate::named::NameError;
use crate::plan::PlanError;
use crate::project::ProjectError;
use crate::report::render::RenderError;
use crate::store::StoreError;

/// Exit codes. They are an interface: scripts may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Fine = 0,
    /// The answer is no: a golden metric is missed, two runs differ.
    No = 1,
    /// The user can mend it: specification, arguments, data, disk space.
    User = 2,
    /// A stage could not do its work.
    Stage = 3,
    /// A defect of Reprise.
    Bug = 4,
    /// Asked to stop; `run` continues.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// What went wrong, for people, and the code that the program ends with.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub report: miette::Report,
}

impl Failure {
    /// Something that the user can mend, and how.
    pub fn user(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::User, message, Some(help.into()))
    }

    /// A failure with a code, and what to do next where something can be done.
    pub fn new(exit: Exit, message: impl Into<String>, help: Option<String>) -> Self {
        let mut diagnostic = miette::MietteDiagnostic::new(message);
        diagnostic.help = help;
        Self { exit, report: miette::Report::new(diagnostic) }
    }
}

impl Failure {
    /// What is wrong, one entry a problem, for `--json`.
    pub fn problems(&self) -> Vec<serde_json::Value> {
        match self.report.downcast_ref::<SpecErrors>() {
            Some(errors) => errors.plain().into_iter().map(|problem| json!(problem)).collect(),
            None => vec![
                json!({ "message": self.report.to_string(), "help": self.report.help().map(|help| help.to_string()) }),
            ],
        }
    }
}

/// Errors that are the user's to mend.
macro_rules! user_errors {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self { exit: Exit::User, report: error.into() }
            }
        })*
    };
}

user_errors!(
    SpecErrors,
    DataError,
    StoreError,
    ProjectError,
    PlanError,
    ExplainError,
    NameError,
    AudioListError,
    RenderError
);

impl From<GoldenError> for Failure {
    fn from(error: GoldenError) -> Self {
        match error {
            GoldenError::Invalid(errors) => errors.into(),
            error => Self { exit: Exit::User, report: error.into() },
        }
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        let exit = if error.is_no() { Exit::No } else { Exit::User };
        Self { exit, report: error.into() }
    }
}

impl From<ExecuteError> for Failure {
    fn from(error: ExecuteError) -> Self {
        let exit = match error.exit_code() {
            2 => Exit::User,
            130 => Exit::Interrupted,
            _ => Exit::Stage,
        };
        Self { exit, report: error.into() }
    }
}
