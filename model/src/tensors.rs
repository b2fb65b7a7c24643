//! Named tensors on disk as `.safetensors`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, View};
use tch::{Device, Kind, Tensor};

use crate::failure::StageError;

/// The one key of the file's metadata, so that the writer's map has no order to lose.
const METADATA: &str = "reprise";

/// What ends the name of a file that is being written.
const PARTIAL: &str = "partial";

/// What a file holds.
#[derive(Debug)]
pub struct Contents {
    /// On the CPU.
    pub tensors: BTreeMap<String, Tensor>,
    /// JSON, empty where the writer left none.
    pub metadata: String,
}

/// Writes the tensors sorted by name, with `metadata` (JSON), to a new name; flushes it; renames it to `path`.
pub fn write(path: &Path, tensors: Vec<(String, Tensor)>, metadata: String) -> Result<(), StageError> {
    write_for(path, tensors, METADATA, metadata)
}

/// Like [`write`], with metadata under a key of another program.
pub fn write_for(path: &Path, tensors: Vec<(String, Tensor)>, key: &str, metadata: String) -> Result<(), StageError> {
    let partial = path.with_extension(PARTIAL);
    let fail = |error: std::io::Error| StageError::io("cannot write", path, &error);
    let mut views = BTreeMap::new();
    for (name, tensor) in tensors {
        let dtype =
            dtype(tensor.kind()).ok_or_else(|| StageError::Failed(format!("{name} has no kind that is stored")))?;
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        views.insert(name, Stored { dtype, shape, tensor: tensor.detach().to_device(Device::Cpu).contiguous() });
    }
    let metadata = HashMap::from([(key.to_owned(), metadata)]);
    safetensors::serialize_to_file(views, Some(metadata), &partial).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(error) => fail(error),
        other => StageError::Failed(format!("cannot write {}: {other}", path.display())),
    })?;
    File::open(&partial).and_then(|file| file.sync_all()).map_err(fail)?;
    fs::rename(&partial, path).map_err(fail)
}

/// What [`write`] had begun to write into `folder` when its process was killed.
pub fn unfinished(folder: &Path) -> Result<Vec<PathBuf>, StageError> {
    let fail = |error: std::io::Error| StageError::io("cannot list", folder, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|extension| extension == PARTIAL) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Reads a whole file.
///
/// # Errors
/// A file that is missing, shorter than its header says, or not of this format, named.
pub fn read(path: &Path) -> Result<Contents, StageError> {
    let bytes = fs::read(path).map_err(|error| StageError::io("cannot read", path, &error))?;
    let damaged = |error: &dyn std::fmt::Display| StageError::Failed(format!("{} is damaged: {error}", path.display()));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let kind = kind(view.dtype()).ok_or_else(|| damaged(&format!("{name} has an unknown kind")))?;
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        tensors.insert(name, Tensor::f_from_data_size(view.data(), &shape, kind)?);
    }
    let metadata = header.metadata().as_ref().and_then(|map| map.get(METADATA)).cloned().unwrap_or_default();
    Ok(Contents { tensors, metadata })
}

struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    tensor: Tensor,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        self.tensor.copy_data_u8(&mut bytes, self.tensor.numel());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

fn dtype(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        Kind::Int64 => Dtype::I64,
        _ => return None,
    })
}

fn kind(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::I64 => Kind::Int64,
        _ => return None,
    })
}
