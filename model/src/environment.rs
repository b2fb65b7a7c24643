//! What this process computes with, for the environment fingerprint that stands beside every result.
//!
//! Facts only, as text under kebab-case names. They are recorded after threads are set, and never enter a key.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

use reprise_spec::contract::Device;

use crate::shim;

/// Variables by which libtorch and its maths libraries choose other kernels, thread counts or orders of summation.
const SWITCHES: [&str; 15] = [
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_DETERMINISTIC",
    "ONEDNN_MAX_CPU_ISA",
];

/// The facts for a stage on `device`.
pub fn of(device: Device) -> BTreeMap<String, String> {
    let (folder, version) = libtorch();
    let mut facts = BTreeMap::new();
    let mut fact = |name: &str, value: String| facts.insert(name.to_owned(), value);
    fact("libtorch-version", version.unwrap_or_else(|| "unknown".into()));
    fact("libtorch-path", folder.map_or_else(|| "unknown".into(), |folder| folder.display().to_string()));
    fact("cpu-model", cpu_model());
    fact("cpu-capability", cpu_capability());
    fact("threads", tch::get_num_threads().to_string());
    fact("interop-threads", tch::get_num_interop_threads().to_string());
    fact("openmp", tch::utils::has_openmp().to_string());
    fact("mkl", tch::utils::has_mkl().to_string());
    fact("onednn", tch::utils::has_mkldnn().to_string());
    for (name, on) in shim::switches().into_iter().flatten() {
        fact(name, on.to_string());
    }
    fact("flush-denormal", flushes_denormal().to_string());
    for name in SWITCHES {
        fact(&format!("env-{name}"), std::env::var(name).unwrap_or_else(|_| "unset".into()));
    }
    match device {
        Device::Cpu => fact("device", "cpu".into()),
        Device::Cuda(index) => {
            fact("cuda-available", tch::Cuda::is_available().to_string());
            fact("cuda-devices", tch::Cuda::device_count().to_string());
            if tch::Cuda::is_available() {
                fact("cuda-runtime", tch::utils::version_cudart().to_string());
                fact("cudnn", tch::utils::version_cudnn().to_string());
            }
            fact("cuda-driver", cuda_driver());
            fact("device", format!("cuda:{index}"))
        }
    };
    facts
}

/// Whether this thread takes numbers below the smallest normal one for zero.
fn flushes_denormal() -> bool {
    black_box(f32::MIN_POSITIVE) / black_box(2.0) == 0.0
}

/// The folder of the libtorch that is loaded, and the version that it states.
pub fn libtorch() -> (Option<PathBuf>, Option<String>) {
    let folder = fs::read_to_string("/proc/self/maps").ok().and_then(|maps| loaded_from(&maps));
    let version = folder.as_deref().and_then(xtask::libtorch::version);
    (folder, version)
}

/// The folder above the `lib/` that `libtorch_cpu.so` is mapped from. A path begins at the first slash of its line and may contain spaces.
fn loaded_from(maps: &str) -> Option<PathBuf> {
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    let path = PathBuf::from(&line[line.find('/')?..]);
    path.ancestors().nth(2).map(PathBuf::from)
}

/// The processor as Linux names it.
fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    field.map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.trim().to_owned())
}

/// The instruction set that ATen's kernels are chosen for, by ATen's own rule (`aten/src/ATen/native/DispatchStub.cpp`): the variable
/// `ATEN_CPU_CAPABILITY` if it holds a known word, else what the processor has.
fn cpu_capability() -> String {
    if let Ok(word) = std::env::var("ATEN_CPU_CAPABILITY")
        && ["default", "avx2", "avx512"].contains(&word.as_str())
    {
        return word;
    }
    detected_capability().into()
}

#[cfg(target_arch = "x86_64")]
fn detected_capability() -> &'static str {
    let fma = is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    match (fma, avx512, is_x86_feature_detected!("avx2")) {
        (true, true, _) => "avx512",
        (true, false, true) => "avx2",
        _ => "default",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detected_capability() -> &'static str {
    "default"
}

/// The first line of the driver's own account of its version.
fn cuda_driver() -> String {
    let text = fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_is_found_below_a_folder_with_a_space() {
        let maps = "55d0-55d1 r--p 00000000 08:01 42 /usr/bin/x\n\
                    7f00-7f01 r-xp 00000000 08:01 43                         /a checkout/.libtorch/torch/lib/libtorch_cpu.so\n";
        assert_eq!(loaded_from(maps), Some(PathBuf::from("/a checkout/.libtorch/torch")));
        assert_eq!(loaded_from("55d0-55d1 r--p 00000000 08:01 42 /usr/bin/x\n"), None);
    }

    #[test]
    fn the_facts_name_the_loaded_libtorch() {
        let facts = of(Device::Cpu);
        assert!(facts["libtorch-version"].starts_with(xtask::libtorch::VERSION), "{facts:?}");
        assert_ne!(facts["cpu-model"], "");
        assert_eq!(facts["threads"], tch::get_num_threads().to_string());
    }

    #[test]
    fn the_facts_say_which_switches_are_on() {
        // In a thread of its own: flushing belongs to the thread.
        let facts = std::thread::spawn(|| shim::set_flush_denormal(true).map(|done| (done, of(Device::Cpu))));
        let (done, facts) = facts.join().unwrap().unwrap();
        assert_eq!(facts["flush-denormal"], done.to_string());
        assert!(facts.contains_key("deterministic-algorithms") && facts.contains_key("tf32-cudnn"), "{facts:?}");
    }
}
