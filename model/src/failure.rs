//! How a stage ends when it cannot do its work.

use std::path::Path;

use reprise_spec::contract::Failure;

/// Why a stage ended without a result, whose turn it is, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The user can mend it: data, settings, disk space.
    #[error("{message}")]
    Refused { message: String, help: Option<String> },
    /// The stage could not do its work.
    #[error("{0}")]
    Failed(String),
    /// The stage was asked to stop; what it had done is in the checkpoint of this step, if it writes any.
    #[error("interrupted")]
    Interrupted { step: Option<u64> },
}

impl StageError {
    /// A refusal that says what to do next.
    pub fn refused(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), help: Some(help.into()) }
    }

    /// A file that could not be read or written, named. A full disk and a missing permission are the user's to mend.
    pub fn io(what: &str, path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let message = format!("{what} {}: {error}", path.display());
        let help = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "free some space and run again: nothing finished is lost"
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "check the permissions of the folder",
            ErrorKind::NotFound => "check that the file is still there",
            _ => return Self::Failed(message),
        };
        Self::refused(message, help)
    }

    /// Who can do something about it; `None` for an interruption.
    pub fn class(&self) -> Option<Failure> {
        match self {
            Self::Refused { .. } => Some(Failure::Refused),
            Self::Failed(_) => Some(Failure::Stage),
            Self::Interrupted { .. } => None,
        }
    }
}

impl From<tch::TchError> for StageError {
    fn from(error: tch::TchError) -> Self {
        let text = error.to_string();
        if text.contains("No space left on device") {
            return Self::refused(text, "free some space and run again: nothing finished is lost");
        }
        Self::Failed(format!("libtorch: {text}"))
    }
}
