//! Digests of outputs.

use std::collections::BTreeSet;

use super::{Area, Read, Verification, name_of};
use crate::bundle::sums;
use crate::digest;
use crate::store::{LeftOut, Manifest, StoredOutput};

pub fn check(read: &Read<'_>, verification: &mut Verification) {
    for output in read.outputs {
        let name = name_of(output, read.runs);
        let left_out = match LeftOut::read(&output.path) {
            Ok(list) => list.map_or_else(Vec::new, |list| list.files),
            Err(error) => {
                verification.failed(Area::Outputs, &name, error.to_string());
                continue;
            }
        };
        let Manifest { digest, files, .. } = &output.manifest;
        if left_out.is_empty() {
            let wrong = match digest::output(&output.out()) {
                Ok((found, present)) if found == *digest && present == *files => None,
                Ok(_) => Some("its files give another digest than its manifest says".into()),
                Err(error) => Some(error.reason),
            };
            verification.check(Area::Outputs, &name, wrong);
            continue;
        }
        let unknown = left_out.iter().find(|file| !files.contains(file));
        if let Some(file) = unknown {
            verification.failed(
                Area::Outputs,
                &name,
                format!("{:?} is left out, but no file of the output", file.name),
            );
            continue;
        }
        partly(output, &left_out.iter().map(|file| file.name.as_str()).collect(), read, &name, verification);
    }
}

/// The files that are there, each by its checksum in the manifest, and nothing beside them.
fn partly(
    output: &StoredOutput,
    left_out: &BTreeSet<&str>,
    read: &Read<'_>,
    name: &str,
    verification: &mut Verification,
) {
    let mut known = BTreeSet::new();
    for file in output.manifest.files.iter().filter(|file| !left_out.contains(file.name.as_str())) {
        let path = output.out().join(&file.name);
        let wrong = match sums::of_file(&path) {
            Ok(found) if found == file.sha256 => None,
            Ok(_) => Some(format!("{:?} is not what its manifest says", file.name)),
            Err(error) => Some(format!("{:?}: {error}", file.name)),
        };
        verification.check(Area::Outputs, name, wrong);
        known.insert(path);
    }
    let below = read.bundle.files().keys().map(|file| read.bundle.root().join(file));
    for stray in below.filter(|path| path.starts_with(output.out()) && !known.contains(path)) {
        let file = stray.file_name().unwrap_or_default().to_string_lossy().into_owned();
        verification.failed(Area::Outputs, name, format!("its manifest doesn't name {file:?}"));
    }
    let names: Vec<&str> = left_out.iter().copied().collect();
    verification.not_checked(Area::Outputs, name, format!("its digest: left out {}", names.join(", ")));
}
