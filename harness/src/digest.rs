//! The digest of an output: tensors and table rows, whatever container holds them.
//!
//! For every file, sorted by the bytes of its name: the name, then
//! - `.safetensors`: name, dtype, shape and data of each tensor, sorted by name; metadata and the order in the file don't count;
//! - `.npy`: dtype, memory order, shape and data;
//! - any other: its bytes.
//!
//! Every part has its length before it, as a little-endian `u64`. Files are streamed, never held whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use reprise_spec::identity::OutputDigest;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::store::ManifestFile;

/// The longest header of a tensor file that is read; safetensors' own limit.
const HEADER: u64 = 100_000_000;

/// Why an output has no digest.
#[derive(Debug, Error, Diagnostic)]
#[error("the output {} cannot be used: {reason}", .path.display())]
pub struct DigestError {
    pub path: PathBuf,
    pub reason: String,
}

/// The digest of a folder of outputs, and its files.
///
/// # Errors
/// For an empty folder, and for a file that can't be read, is no regular file, or isn't what its name says.
pub fn output(folder: &Path) -> Result<(OutputDigest, Vec<ManifestFile>), DigestError> {
    let mut names = Vec::new();
    collect(folder, "", &mut names)?;
    names.sort();
    if names.is_empty() {
        return Err(DigestError { path: folder.to_path_buf(), reason: "it holds no files".into() });
    }
    let mut parts = Parts::default();
    parts.add(b"reprise output 1");
    let mut files = Vec::new();
    for name in names {
        let path = folder.join(&name);
        let fail = |reason: String| DigestError { path: path.clone(), reason };
        parts.add(name.as_bytes());
        let mut file = File::open(&path).map_err(|error| fail(error.to_string()))?;
        let size = file.metadata().map_err(|error| fail(error.to_string()))?.len();
        match Path::new(&name).extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => tensors(&mut file, size, &mut parts).map_err(fail)?,
            Some("npy") => array(&mut file, size, &mut parts).map_err(fail)?,
            _ => parts.add_stream(&mut file, size).map_err(fail)?,
        }
        let sha256 = bytes_digest(&path).map_err(|error| fail(error.to_string()))?;
        files.push(ManifestFile { name, size, sha256 });
    }
    Ok((OutputDigest(parts.0.finalize().into()), files))
}

/// Names of the files below a folder, relative to it.
fn collect(root: &Path, below: &str, names: &mut Vec<String>) -> Result<(), DigestError> {
    let folder = root.join(below);
    let fail = |path: &Path, reason: String| DigestError { path: path.to_path_buf(), reason };
    for entry in fs::read_dir(&folder).map_err(|error| fail(&folder, error.to_string()))? {
        let entry = entry.map_err(|error| fail(&folder, error.to_string()))?;
        let path = entry.path();
        let name = entry.file_name().into_string().map_err(|_| fail(&path, "its name is not UTF-8".into()))?;
        let name = if below.is_empty() { name } else { format!("{below}/{name}") };
        match entry.file_type().map_err(|error| fail(&path, error.to_string()))? {
            kind if kind.is_dir() => collect(root, &name, names)?,
            kind if kind.is_file() => names.push(name),
            _ => return Err(fail(&path, "it is not a regular file".into())),
        }
    }
    Ok(())
}

/// SHA-256 over parts with their lengths before them.
#[derive(Default)]
struct Parts(Sha256);

impl Parts {
    fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    fn add_shape(&mut self, shape: &[u64]) {
        let bytes: Vec<u8> = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
        self.add(&bytes);
    }

    /// The next `size` bytes of a file as one part.
    fn add_stream(&mut self, file: &mut impl Read, size: u64) -> Result<(), String> {
        self.0.update(size.to_le_bytes());
        let read = std::io::copy(&mut file.take(size), &mut self.0).map_err(|error| error.to_string())?;
        if read == size { Ok(()) } else { Err("it ends too early".into()) }
    }
}

fn bytes_digest(path: &Path) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hex::encode(hasher.finalize()))
}

#[derive(Deserialize)]
struct TensorInfo {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

fn tensors(file: &mut File, size: u64, parts: &mut Parts) -> Result<(), String> {
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| "it is too short for a tensor file".to_owned())?;
    let length = u64::from_le_bytes(length);
    if length > HEADER || length > size - 8 {
        return Err(format!("its header is said to be {length} bytes long, the file has {size}"));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(|error| error.to_string())?;
    let header: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&header).map_err(|error| format!("its header is damaged: {error}"))?;
    let start = 8 + length;
    let mut infos = BTreeMap::new();
    for (name, value) in header.into_iter().filter(|(name, _)| name != "__metadata__") {
        let info: TensorInfo =
            serde_json::from_value(value).map_err(|error| format!("tensor {name:?} is damaged: {error}"))?;
        let (from, to) = info.data_offsets;
        if from > to || to > size - start {
            return Err(format!("tensor {name:?} lies outside the file"));
        }
        infos.insert(name, info);
    }
    let held: u64 = infos.values().map(|info| info.data_offsets.1 - info.data_offsets.0).sum();
    if held != size - start {
        return Err(format!("its tensors hold {held} bytes, the file {}", size - start));
    }
    parts.0.update((infos.len() as u64).to_le_bytes());
    for (name, info) in infos {
        let (from, to) = info.data_offsets;
        parts.add(name.as_bytes());
        parts.add(info.dtype.as_bytes());
        parts.add_shape(&info.shape);
        file.seek(SeekFrom::Start(start + from)).map_err(|error| error.to_string())?;
        parts.add_stream(file, to - from)?;
    }
    Ok(())
}

/// NumPy's format, versions 1 to 3: magic, version, length and text of a header, data.
fn array(file: &mut File, size: u64, parts: &mut Parts) -> Result<(), String> {
    let short = |_| "it is too short for an array".to_owned();
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(short)?;
    if !start.starts_with(b"\x93NUMPY") {
        return Err("it doesn't start like an array".into());
    }
    let mut length = [0; 4];
    let width = if start[6] == 1 { 2 } else { 4 };
    file.read_exact(&mut length[..width]).map_err(short)?;
    let length = u64::from(u32::from_le_bytes(length));
    let before = 8 + width as u64 + length;
    if before > size {
        return Err(format!("its header is said to be {length} bytes long, the file has {size}"));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(short)?;
    let header = String::from_utf8(header).map_err(|_| "its header is not text".to_owned())?;
    let (dtype, fortran, shape) = array_header(&header).ok_or_else(|| format!("its header is damaged: {header:?}"))?;
    parts.add(dtype.as_bytes());
    parts.add(if fortran { b"columns first" } else { b"rows first" });
    parts.add_shape(&shape);
    parts.add_stream(file, size - before)
}

/// dtype, memory order and shape from `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn array_header(header: &str) -> Option<(String, bool, Vec<u64>)> {
    let value = |key: &str| Some(header.split_once(&format!("'{key}':"))?.1.trim_start());
    let dtype = value("descr")?.strip_prefix('\'')?.split_once('\'')?.0.to_owned();
    let order = value("fortran_order")?;
    let fortran = order.starts_with("True");
    let sizes = value("shape")?.strip_prefix('(')?.split_once(')')?.0;
    let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape = sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?;
    (fortran || order.starts_with("False")).then_some((dtype, fortran, shape))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use safetensors::tensor::{Dtype, TensorView, serialize};

    use super::*;

    fn of(files: &[(&str, Vec<u8>)]) -> Result<OutputDigest, String> {
        let temp = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(temp.path().join(name), bytes).unwrap();
        }
        output(temp.path()).map(|(digest, _)| digest).map_err(|error| error.reason)
    }

    fn tensor_file(tensors: &[(String, Vec<u8>)], metadata: Option<HashMap<String, String>>) -> Vec<u8> {
        let view = |bytes| TensorView::new(Dtype::U8, vec![<[u8]>::len(bytes)], bytes).unwrap();
        serialize(tensors.iter().map(|(name, bytes)| (name.clone(), view(bytes))), metadata).unwrap()
    }

    proptest! {
        #[test]
        fn metadata_and_order_of_tensors_do_not_count(
            tensors in proptest::collection::btree_map("[a-z.]{1,6}", proptest::collection::vec(any::<u8>(), 0..5), 1..5),
            metadata in proptest::collection::hash_map("[a-z]{1,3}", "[a-z]{0,3}", 0..5),
        ) {
            let tensors: Vec<_> = tensors.into_iter().collect();
            let plain = of(&[("m.safetensors", tensor_file(&tensors, None))]);
            prop_assert!(plain.is_ok());
            prop_assert_eq!(&plain, &of(&[("m.safetensors", tensor_file(&tensors, Some(metadata)))]));
            prop_assert_eq!(&plain, &of(&[("m.safetensors", reversed(&tensors))]));
            let mut other = tensors.clone();
            other[0].1.push(1);
            prop_assert_ne!(&plain, &of(&[("m.safetensors", tensor_file(&other, None))]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), array: bool) {
            let start: &[u8] = if array { b"\x93NUMPY\x01\x00" } else { &[] };
            let _ = of(&[(if array { "a.npy" } else { "a.safetensors" }, [start, &bytes].concat())]);
        }
    }

    /// The same tensors, the last one first in the file.
    fn reversed(tensors: &[(String, Vec<u8>)]) -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, bytes) in tensors.iter().rev() {
            let offsets = [data.len(), data.len() + bytes.len()];
            let info = serde_json::json!({"dtype": "U8", "shape": [bytes.len()], "data_offsets": offsets});
            header.insert(name.clone(), info);
            data.extend(bytes);
        }
        let header = serde_json::to_vec(&header).unwrap();
        [&(header.len() as u64).to_le_bytes(), header.as_slice(), &data].concat()
    }

    fn array_file(header: &str, data: &[u8]) -> Vec<u8> {
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn the_padding_of_an_array_does_not_count_and_its_shape_does() {
        let file = |header: &str| of(&[("a.npy", array_file(header, &[1, 2, 3, 4]))]).unwrap();
        let plain = file("{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }\n");
        assert_eq!(plain, file("{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }         \n"));
        assert_ne!(plain, file("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }\n"));
        assert_ne!(plain, file("{'descr': '<u2', 'fortran_order': False, 'shape': (4,), }\n"));
    }

    #[test]
    fn a_file_is_its_name_and_its_bytes() {
        let plain = of(&[("a", b"xy".into()), ("b", b"z".into())]).unwrap();
        assert_ne!(plain, of(&[("a", b"x".into()), ("b", b"yz".into())]).unwrap());
        assert_ne!(plain, of(&[("a", b"xy".into()), ("c", b"z".into())]).unwrap());
    }

    #[test]
    fn damage_is_named() {
        let header_too_long = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
        assert!(of(&[("a.safetensors", header_too_long)]).unwrap_err().contains("the file has 10"));
        let mut cut = tensor_file(&[("a".into(), vec![1, 2, 3])], None);
        cut.pop();
        assert!(of(&[("a.safetensors", cut)]).unwrap_err().contains("outside the file"));
        assert!(of(&[]).unwrap_err().contains("no files"));
    }
}
