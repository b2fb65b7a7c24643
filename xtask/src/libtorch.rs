//! Whether a folder holds the libtorch that Reprise is written for.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The one version of libtorch that the bindings accept.
pub const VERSION: &str = "2.11.0";

/// The command that mends every [`Problem`] of the checkout's own libtorch.
pub const COMMAND: &str = "cargo xtask libtorch";

/// Files without which nothing compiles, links or starts, relative to the folder.
const NEEDED: [&str; 5] = [
    "include/ATen/ATen.h",
    "include/torch/csrc/api/include/torch/torch.h",
    "lib/libc10.so",
    "lib/libtorch.so",
    "lib/libtorch_cpu.so",
];

/// Why a folder cannot be used as libtorch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is no such folder.
    Missing { folder: PathBuf },
    /// A file is not there or is shorter than the package says.
    Incomplete { folder: PathBuf, file: PathBuf },
    /// It is another release.
    OtherVersion { folder: PathBuf, found: String },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { folder } => write!(f, "libtorch {VERSION} is missing: there is no {}", folder.display()),
            Self::Incomplete { folder, file } => {
                write!(f, "libtorch in {} is incomplete: {} is missing or cut short", folder.display(), file.display())
            }
            Self::OtherVersion { folder, found } => {
                write!(f, "libtorch in {} is version {found}, but {VERSION} is needed", folder.display())
            }
        }
    }
}

impl std::error::Error for Problem {}

/// What to do about a [`Problem`] of `folder`: the one command, after giving up a `LIBTORCH` that points elsewhere than into a checkout.
pub fn help(folder: &Path) -> String {
    if folder.ends_with(".libtorch/torch") {
        format!("run `{COMMAND}`")
    } else {
        format!("unset LIBTORCH, then run `{COMMAND}`")
    }
}

/// Checks `folder` (the one that holds `include/` and `lib/`) and returns its full version, such as `2.11.0+cu130`.
///
/// The version is read from `version.py` of a Python wheel or `build-version` of a zip. If the wheel's file list lies beside the folder, the
/// size of every header and library in it is compared, those of the CUDA wheels beside it included.
///
/// # Errors
/// The first [`Problem`] found.
pub fn inspect(folder: &Path) -> Result<String, Problem> {
    let folder = folder.to_path_buf();
    if !folder.is_dir() {
        return Err(Problem::Missing { folder });
    }
    let Some(found) = version(&folder) else {
        return Err(Problem::Incomplete { folder, file: "version.py".into() });
    };
    if found.split('+').next() != Some(VERSION) {
        return Err(Problem::OtherVersion { folder, found });
    }
    if let Some(file) = NEEDED.into_iter().find(|file| !folder.join(file).is_file()) {
        return Err(Problem::Incomplete { folder, file: file.into() });
    }
    match folder.parent().and_then(broken_file) {
        Some(file) => Err(Problem::Incomplete { folder, file }),
        None => Ok(found),
    }
}

/// The full version that the files of `folder` state, such as `2.11.0+cu130`.
pub fn version(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = fs::read_to_string(folder.join("version.py")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(value.trim().trim_matches(['\'', '"']).to_owned())
}

/// The first header or library below `site` (where wheels were unpacked) whose size is not what the list of its wheel says.
fn broken_file(site: &Path) -> Option<PathBuf> {
    let mut lists: Vec<PathBuf> = fs::read_dir(site)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".dist-info") && (name.starts_with("torch-") || name.starts_with("nvidia_"))
        })
        .map(|path| path.join("RECORD"))
        .collect();
    lists.sort();
    lists.iter().find_map(|list| {
        let text = fs::read_to_string(list).unwrap_or_default();
        text.lines()
            .filter_map(recorded)
            .find(|(file, size)| {
                ["torch/include/", "torch/lib/", "nvidia/"].iter().any(|start| file.starts_with(start))
                    && fs::metadata(site.join(file)).map(|found| found.len()).ok() != Some(*size)
            })
            .map(|(file, _)| PathBuf::from(file))
    })
}

/// Name and size of a file in a wheel's list (`path,sha256=…,size`); `None` for lines without a size.
fn recorded(line: &str) -> Option<(&str, u64)> {
    let mut fields = line.rsplitn(3, ',');
    let size = fields.next()?.parse().ok()?;
    Some((fields.nth(1)?, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the shape of an unpacked wheel; removed when dropped.
    struct Site(PathBuf);

    impl Site {
        fn new(name: &str, version: &str) -> Self {
            let site = std::env::temp_dir().join(format!("reprise libtorch {name} {}", std::process::id()));
            let _ = fs::remove_dir_all(&site);
            for file in NEEDED {
                let path = site.join("torch").join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "whole").unwrap();
            }
            fs::write(site.join("torch/version.py"), format!("debug = False\n__version__ = '{version}'\n")).unwrap();
            let info = site.join("torch-2.11.0.dist-info");
            fs::create_dir_all(&info).unwrap();
            fs::write(
                info.join("RECORD"),
                "torch/lib/libtorch_cpu.so,sha256=x,5\n../../bin/torchrun,sha256=x,9\n\"torch/a,b.py\",sha256=x,9\nRECORD,,\n",
            )
            .unwrap();
            Self(site)
        }

        fn torch(&self) -> PathBuf {
            self.0.join("torch")
        }
    }

    impl Drop for Site {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_whole_wheel_is_accepted_with_its_full_version() {
        let site = Site::new("whole", "2.11.0+cu130");
        assert_eq!(inspect(&site.torch()), Ok("2.11.0+cu130".to_owned()));
    }

    #[test]
    fn a_zip_distribution_states_its_version_in_build_version() {
        let site = Site::new("zip", "unread");
        fs::write(site.torch().join("build-version"), "2.11.0+cpu\n").unwrap();
        assert_eq!(inspect(&site.torch()), Ok("2.11.0+cpu".to_owned()));
    }

    #[test]
    fn another_version_is_named() {
        let site = Site::new("other", "2.11.1");
        let problem = inspect(&site.torch()).unwrap_err();
        assert!(matches!(&problem, Problem::OtherVersion { found, .. } if found == "2.11.1"), "{problem}");
    }

    #[test]
    fn the_help_is_one_command_unless_the_user_pointed_elsewhere() {
        assert_eq!(help(Path::new("/a checkout/.libtorch/torch")), "run `cargo xtask libtorch`");
        assert_eq!(help(Path::new("/opt/libtorch")), "unset LIBTORCH, then run `cargo xtask libtorch`");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = PathBuf::from("/nonexistent/torch");
        assert_eq!(inspect(&folder), Err(Problem::Missing { folder }));
    }

    #[test]
    fn a_missing_library_is_named() {
        let site = Site::new("library", "2.11.0");
        fs::remove_file(site.torch().join("lib/libc10.so")).unwrap();
        assert!(
            matches!(inspect(&site.torch()), Err(Problem::Incomplete { file, .. }) if file == Path::new("lib/libc10.so"))
        );
    }

    #[test]
    fn a_library_that_was_cut_short_is_named() {
        let site = Site::new("cut", "2.11.0");
        fs::write(site.torch().join("lib/libtorch_cpu.so"), "who").unwrap();
        assert!(
            matches!(inspect(&site.torch()), Err(Problem::Incomplete { file, .. }) if file == Path::new("torch/lib/libtorch_cpu.so"))
        );
    }
}
