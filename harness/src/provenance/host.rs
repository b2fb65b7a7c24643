//! The machine and the variables that a run was executed with.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

use serde::{Deserialize, Serialize};

use super::secrets;

/// Variables that are recorded, by how their names begin.
const FAMILIES: [&str; 15] = [
    "ATEN_", "CUBLAS_", "CUDA_", "CUDNN_", "DNNL_", "GOMP_", "KMP_", "MKL_", "NCCL_", "NVIDIA_", "OMP_", "ONEDNN_",
    "PYTORCH_", "REPRISE_", "TORCH_",
];

/// Variables that are recorded, by their whole names.
const NAMES: [&str; 12] = [
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LIBTORCH",
    "MALLOC_CONF",
    "MASTER_ADDR",
    "RANK",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "TZ",
    "WORLD_SIZE",
];

/// What matters of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Host {
    /// The distribution, or else the kernel's name.
    pub system: String,
    /// Name, release and architecture.
    pub kernel: String,
    /// The processor as Linux names it.
    pub cpu: String,
    /// Instruction sets beyond the architecture's first that decide which kernels run.
    pub cpu_features: Vec<String>,
    /// Logical cores that this process may use.
    pub cores: u32,
    /// In bytes; absent where the system doesn't say.
    pub memory: Option<u64>,
}

impl Host {
    /// This machine.
    pub fn current() -> Self {
        let kernel = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let system = field(&read("/etc/os-release"), "PRETTY_NAME", '=').map(|name| name.trim_matches('"').to_owned());
        Self {
            system: system.unwrap_or_else(|| text(kernel.sysname())),
            kernel: [kernel.sysname(), kernel.release(), kernel.machine()].map(text).join(" "),
            cpu: field(&cpu, "model name", ':').unwrap_or_else(|| text(kernel.machine())),
            cpu_features: features(&field(&cpu, "flags", ':').unwrap_or_default()),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            memory: field(&memory, "MemTotal", ':').and_then(|size| kilobytes(&size)),
        }
    }
}

/// The first value under a name.
fn field(text: &str, name: &str, separator: char) -> Option<String> {
    let of = |line: &str| {
        let (found, value) = line.split_once(separator)?;
        (found.trim() == name).then(|| value.trim().to_owned())
    };
    text.lines().find_map(of)
}

/// The vector and matrix instructions among the flags of a processor.
fn features(flags: &str) -> Vec<String> {
    let decides = |flag: &&str| ["avx", "fma", "f16c", "amx", "sse4"].iter().any(|family| flag.starts_with(family));
    let mut features: Vec<String> = flags.split_whitespace().filter(decides).map(String::from).collect();
    features.sort();
    features
}

/// `16384 kB` in bytes.
fn kilobytes(size: &str) -> Option<u64> {
    size.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Those of the variables that are recorded, without secrets.
pub fn allowed(variables: impl IntoIterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    variables
        .into_iter()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| NAMES.contains(&name.as_str()) || FAMILIES.iter().any(|family| name.starts_with(family)))
        .filter(|(name, _)| !secrets::is_secret_name(name))
        .map(|(name, value)| (name, secrets::redacted(&value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_recorded_by_name_and_never_with_a_secret() {
        let all = [
            ("OMP_NUM_THREADS", "2"),
            ("LD_LIBRARY_PATH", "/usr/lib"),
            ("REPRISE_DATA", "https://me:pass@host/data"),
            ("REPRISE_UPLOAD_TOKEN", "t0ps3cret"),
            ("CUDA_SECRET", "t0ps3cret"),
            ("NVIDIA_API_KEY", "t0ps3cret"),
            ("HF_TOKEN", "t0ps3cret"),
            ("HOME", "/home/me"),
        ];
        let found = allowed(all.map(|(name, value)| (name.into(), value.into())));
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("LD_LIBRARY_PATH", "/usr/lib"),
            ("OMP_NUM_THREADS", "2"),
            ("REPRISE_DATA", "https://[redacted]@host/data"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn facts_are_read_as_linux_writes_them() {
        let cpu = "processor\t: 0\nmodel name\t: A CPU @ 2.00GHz\nflags\t\t: fpu sse4_2 avx2 fma vmx avx512f\n";
        assert_eq!(field(cpu, "model name", ':').as_deref(), Some("A CPU @ 2.00GHz"));
        assert_eq!(features(&field(cpu, "flags", ':').unwrap()), ["avx2", "avx512f", "fma", "sse4_2"]);
        assert_eq!(kilobytes(&field("MemTotal:       16 kB\n", "MemTotal", ':').unwrap()), Some(16 << 10));
        let host = Host::current();
        assert!(host.cores > 0 && !host.kernel.is_empty());
    }
}
