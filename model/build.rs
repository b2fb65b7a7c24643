//! Checks libtorch, tells the linker where it is, compiles the C++ beside tch, and names the build.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

use xtask::{build_id, libtorch};

/// C++ for what tch lacks; see `src/shim.rs` and `src/kernels.rs`.
const SHIM: [&str; 8] = [
    "src/shim.cpp",
    "src/kernels/attention.cpp",
    "src/kernels/blocks.cpp",
    "src/kernels/dropout.cpp",
    "src/kernels/front_end.cpp",
    "src/kernels/positional.cpp",
    "src/kernels/recompute.cpp",
    "src/kernels/rows.cpp",
];

const HEADERS: [&str; 6] = [
    "src/kernels/attention.h",
    "src/kernels/functions.h",
    "src/kernels/parallel.h",
    "src/kernels/random.h",
    "src/kernels/rows.h",
    "src/kernels/vector.h",
];

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    let root = root.canonicalize().unwrap_or(root);
    if let Err(error) = build_id::export(&root) {
        refuse(&format!("cannot name this build: {error}"));
    }
    let torch = checked_libtorch(&root);
    link(&torch);
    compile_shim(&torch);
}

/// The folder of libtorch, or the end of the build with the command that mends it.
fn checked_libtorch(root: &Path) -> PathBuf {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let torch = env::var_os("LIBTORCH").map_or_else(|| root.join(".libtorch/torch"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", torch.join("version.py").display());
    match libtorch::inspect(&torch) {
        Ok(_) => torch,
        Err(problem) => refuse(&format!("{problem}; {}", libtorch::help(&torch))),
    }
}

/// Records where libtorch lies, relative to the program (a checkout may move) and absolute (the program may be copied).
///
/// Programs lie in the profile's folder of the target directory, tests and examples one folder further down. rustc links with
/// `--as-needed`, which leaves `libtorch_cuda` out, so that the trainer starts on machines without CUDA: keep it so.
fn link(torch: &Path) {
    let libraries = torch.join("lib");
    let out = PathBuf::from(variable("OUT_DIR"));
    let mut places = vec![libraries.display().to_string()];
    if let Some(programs) = out.ancestors().nth(3) {
        for folder in [programs.join("deps"), programs.to_path_buf()] {
            places.insert(0, format!("$ORIGIN/{}", relative(&folder, &libraries).display()));
        }
    }
    for place in places {
        for argument in ["-Xlinker", "-rpath", "-Xlinker", &place] {
            println!("cargo::rustc-link-arg={argument}");
        }
    }
}

/// The way from one absolute folder to another.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Path::new(".."));
    let down = to.components().skip(shared).map(|part| Path::new(part.as_os_str()));
    up.chain(down).collect()
}

fn compile_shim(torch: &Path) {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .pic(true)
        .debug(false)
        .opt_level(3) // whatever the profile: these loops are what training waits for
        .flag_if_supported("-Wno-psabi")
        .flag_if_supported("-ffp-contract=fast") // a product and a sum are one instruction where there is one, as in libtorch's products
        .warnings(false)
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .include(torch.join("include"))
        .include(torch.join("include/torch/csrc/api/include"))
        .files(SHIM)
        .compile("reprise_shim");
    for file in SHIM.iter().chain(&HEADERS) {
        println!("cargo::rerun-if-changed={file}");
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| refuse(&format!("cargo did not set {name}")))
}

fn refuse(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
