//! Installs libtorch into the checkout: pinned wheels, verified, then renamed into place.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::libtorch::{self, COMMAND};

use crate::say;

/// The wheel's build of Python; none of its Python is imported, so any Python can unpack it.
const WHEEL: [&str; 8] = ["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312", "--abi", "none"];

/// The glibc levels that the pinned wheels are built for.
const PLATFORMS: [&str; 6] = [
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_25_x86_64",
    "manylinux_2_18_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
];

/// Which wheels a machine needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    Cpu,
    Cuda,
}

impl Flavour {
    /// CUDA where an NVIDIA driver shows a device.
    pub fn of_this_machine() -> Self {
        let gpu = Path::new("/dev/nvidia0").exists()
            || Command::new("nvidia-smi").arg("-L").output().is_ok_and(|output| output.status.success());
        if gpu { Self::Cuda } else { Self::Cpu }
    }

    /// The list of wheels with their hashes, relative to the root of the checkout.
    fn list(self) -> &'static str {
        match self {
            Self::Cpu => "xtask/libtorch-cpu.txt",
            Self::Cuda => "xtask/libtorch-cuda.txt",
        }
    }

    /// Whether wheels unpacked in `site` serve this flavour; those for CUDA serve both.
    fn served_by(self, site: &Path) -> bool {
        let needed: &[&str] = match self {
            Self::Cpu => &["cu13/lib/libcudart.so.13", "cu13/lib/libcupti.so.13"],
            Self::Cuda => {
                &["cu13/lib/libcudart.so.13", "cu13/lib/libcupti.so.13", "cu13/lib/libcublas.so.13", "cudnn", "nccl"]
            }
        };
        needed.iter().all(|part| site.join("nvidia").join(part).exists())
    }
}

/// The folder of libtorch to build with: `LIBTORCH` if the user set one, or the checkout's own, installed now if it isn't whole.
///
/// # Errors
/// What is wrong and the command to run.
pub fn ensure(root: &Path) -> Result<PathBuf, String> {
    let ours = root.join(".libtorch/torch");
    if let Some(own) = std::env::var_os("LIBTORCH").map(PathBuf::from).filter(|own| own != &ours) {
        let version =
            libtorch::inspect(&own).map_err(|problem| format!("{problem}\nhelp: {}", libtorch::help(&own)))?;
        say(&format!("libtorch {version} from LIBTORCH={}", own.display()));
        return Ok(own);
    }
    install_if_needed(root, Flavour::of_this_machine(), lock(root)?)?;
    Ok(ours)
}

/// Waits until nobody else installs into this checkout; others wait until the file is closed by all who hold it.
fn lock(root: &Path) -> Result<File, String> {
    let path = root.join(".libtorch.lock");
    let fail = |error: std::io::Error| format!("cannot lock {}: {error}", path.display());
    let file = File::create(&path).map_err(fail)?;
    if file.try_lock().is_err() {
        say("waiting for another installation of libtorch");
        file.lock().map_err(fail)?;
    }
    Ok(file)
}

fn install_if_needed(root: &Path, flavour: Flavour, lock: File) -> Result<(), String> {
    let site = root.join(".libtorch");
    match libtorch::inspect(&site.join("torch")) {
        Ok(version) if flavour.served_by(&site) => {
            say(&format!("libtorch {version} is in {}", site.display()));
            return Ok(());
        }
        Ok(_) => say(&format!(
            "libtorch in {} lacks CUDA libraries that this machine needs: installing it again",
            site.display()
        )),
        Err(problem) => say(&format!("{problem}: installing it")),
    }
    let new = root.join(".libtorch.new");
    remove(&new)?;
    let unpacking = new.join("unpacking");
    fs::create_dir_all(&unpacking).map_err(|error| format!("cannot create {}: {error}", unpacking.display()))?;
    pip_is_there()?;
    say(match flavour {
        Flavour::Cpu => "downloading libtorch for the CPU (about 0.5 GB)",
        Flavour::Cuda => "downloading libtorch with CUDA (about 3 GB)",
    });
    let status = Command::new("python3")
        .args(pip_arguments(flavour, &new))
        .current_dir(root)
        .stdin(lock) // so that pip goes on holding the lock if this program is killed
        .env("TMPDIR", &unpacking)
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| format!("cannot start python3: {error}"))?;
    if !status.success() {
        return Err(format!(
            "pip could not install libtorch ({status})\nhelp: see pip's message above, then run `{COMMAND}` again"
        ));
    }
    remove(&unpacking)?;
    libtorch::inspect(&new.join("torch"))
        .map_err(|problem| format!("pip ended well, and yet {problem}\nhelp: run `{COMMAND}` again"))?;
    remove(&site)?;
    fs::rename(&new, &site).map_err(|error| format!("cannot rename {}: {error}", new.display()))?;
    say(&format!("libtorch {} is in {}", libtorch::VERSION, site.display()));
    Ok(())
}

/// One call of pip for the wheels of `flavour`, every one held to its hash. Run in the root of the checkout.
fn pip_arguments(flavour: Flavour, target: &Path) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
            .into_iter()
            .chain(WHEEL)
            .chain(PLATFORMS.into_iter().flat_map(|platform| ["--platform", platform]))
            .map(String::from)
            .collect();
    arguments.extend(["--require-hashes", "--requirement", flavour.list(), "--target"].map(String::from));
    arguments.push(target.display().to_string());
    arguments
}

fn pip_is_there() -> Result<(), String> {
    let found = Command::new("python3").args(["-m", "pip", "--version"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    Err(format!(
        "Python 3 with pip is needed once, to unpack libtorch, and `python3 -m pip` does not work here\n\
         help: install it (Debian and Ubuntu: python3-pip; Fedora: python3-pip; without root: `python3 -m ensurepip --user`), \
         then run `{COMMAND}` again"
    ))
}

fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_is_pinned_with_its_hash() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (flavour, least) in [(Flavour::Cpu, 3), (Flavour::Cuda, 15)] {
            let list = fs::read_to_string(root.join(flavour.list())).unwrap();
            let wheels: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
            assert!(wheels.len() >= least, "{flavour:?}");
            assert!(wheels[0].starts_with(&format!("torch=={} ", libtorch::VERSION)), "{flavour:?}");
            for wheel in wheels {
                let (name, hash) = wheel.split_once(" --hash=sha256:").unwrap_or_else(|| panic!("{wheel}"));
                assert!(name.contains("=="), "{wheel}");
                assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{wheel}");
            }
        }
    }

    #[test]
    fn what_the_cpu_needs_is_part_of_what_cuda_needs() {
        let cuda = include_str!("../libtorch-cuda.txt");
        for wheel in include_str!("../libtorch-cpu.txt").lines().filter(|line| !line.starts_with('#')) {
            assert!(cuda.lines().any(|line| line == wheel), "{wheel}");
        }
    }

    #[test]
    fn pip_is_held_to_hashes_and_wheels_and_a_folder_with_spaces() {
        let arguments = pip_arguments(Flavour::Cpu, Path::new("/a checkout/.libtorch.new"));
        for needed in ["--require-hashes", "--no-deps", "--only-binary=:all:", "xtask/libtorch-cpu.txt"] {
            assert!(arguments.iter().any(|argument| argument == needed), "{needed}");
        }
        assert_eq!(arguments.last().map(String::as_str), Some("/a checkout/.libtorch.new"));
    }

    #[test]
    fn a_cpu_install_does_not_serve_a_gpu() {
        let site = std::env::temp_dir().join(format!("reprise flavour {}", std::process::id()));
        let add = |part: &str| fs::create_dir_all(site.join("nvidia").join(part)).unwrap();
        add("cu13/lib/libcudart.so.13");
        assert!(!Flavour::Cpu.served_by(&site));
        add("cu13/lib/libcupti.so.13");
        assert!(Flavour::Cpu.served_by(&site) && !Flavour::Cuda.served_by(&site));
        ["cu13/lib/libcublas.so.13", "cudnn", "nccl"].into_iter().for_each(add);
        assert!(Flavour::Cpu.served_by(&site) && Flavour::Cuda.served_by(&site));
        fs::remove_dir_all(&site).unwrap();
    }
}
