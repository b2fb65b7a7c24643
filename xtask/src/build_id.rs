//! The build id: one name for the sources that decide what `reprise-trainer` computes.
//!
//! Both programs carry it, so that `reprise` notices a trainer that was built from something else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Files and folders that count, relative to the root of the checkout. Of a folder: Rust and C++ sources.
const COUNTED: [&str; 7] = [
    "Cargo.lock",
    "Cargo.toml",
    "harness/spec/Cargo.toml",
    "harness/spec/src",
    "model/Cargo.toml",
    "model/build.rs",
    "model/src",
];

/// For build scripts: sets `REPRISE_BUILD_ID` (32 hex digits) for the crate and asks cargo to run the script again when a counted file changes.
///
/// # Errors
/// A counted file that cannot be read, named.
pub fn export(root: &Path) -> io::Result<()> {
    for part in COUNTED {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
    }
    println!("cargo::rustc-env=REPRISE_BUILD_ID={:032x}", build_id(root)?);
    Ok(())
}

/// FNV-1a with 128 bits over (name, content) of every counted file, sorted by name, lengths first.
fn build_id(root: &Path) -> io::Result<u128> {
    let mut files = Vec::new();
    for part in COUNTED {
        collect(&root.join(part), &mut files)?;
    }
    files.sort();
    let mut hash = 0x6c62272e07bb014262b821756295c58d;
    for file in &files {
        let name = file.strip_prefix(root).unwrap_or(file).to_string_lossy().into_owned();
        for bytes in [name.into_bytes(), fs::read(file)?] {
            for byte in (bytes.len() as u64).to_le_bytes().into_iter().chain(bytes) {
                hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000000001000000000000000000013b);
            }
        }
    }
    Ok(hash)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let name = |error| io::Error::other(format!("{}: {error}", path.display()));
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(name)? {
        let path = entry.map_err(name)?.path();
        let source = path.extension().is_some_and(|e| e == "rs" || e == "cpp" || e == "h");
        if path.is_dir() || source {
            collect(&path, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_counted_file_changes_the_id_and_others_do_not() {
        let root = std::env::temp_dir().join(format!("reprise build id {}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for part in COUNTED {
            let file = if part.ends_with("src") { root.join(part).join("deep/a.rs") } else { root.join(part) };
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, part).unwrap();
        }
        let first = build_id(&root).unwrap();
        fs::write(root.join("README.md"), "other").unwrap();
        fs::write(root.join("model/src/note.txt"), "other").unwrap();
        assert_eq!(build_id(&root).unwrap(), first);
        fs::write(root.join("model/src/deep/a.rs"), "changed").unwrap();
        let second = build_id(&root).unwrap();
        assert_ne!(second, first);
        fs::rename(root.join("model/src/deep/a.rs"), root.join("model/src/deep/b.rs")).unwrap();
        assert_ne!(build_id(&root).unwrap(), second);
        fs::remove_dir_all(&root).unwrap();
    }
}
