//! A `.safetensors` file that somebody else made: checked before anything of it is believed, read one tensor at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata};
use tch::{Kind, Tensor};

use super::files;
use crate::failure::StageError;

/// The longest header that is read; the format's own limit.
const HEADER: u64 = 100_000_000;

/// The bytes before the header, which hold its length.
const PREFIX: u64 = 8;

/// Tensors of single precision, or of a half precision that single precision holds exactly.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    shape: Vec<i64>,
    /// From the start of the file.
    offset: u64,
    bytes: usize,
}

impl TensorFile {
    /// Reads the header.
    ///
    /// # Errors
    /// Refuses a file that is not of this format or not as long as its header says, and tensors of other kinds than F32, F16 and BF16:
    /// integers are no weights, and F64 would have to be rounded.
    pub fn open(path: &Path) -> Result<Self, StageError> {
        let (file, length) = files::open(path)?;
        let refuse = |reason: String, help: &str| {
            Err(StageError::refused(format!("{} is not a whole safetensors file: {reason}", path.display()), help))
        };
        let again = "get the file again: this copy is cut short, altered, or something else";
        let fail = |error: std::io::Error| StageError::io("cannot read", path, &error);
        if length < PREFIX {
            return refuse(format!("it has {length} bytes"), again);
        }
        let mut prefix = [0; PREFIX as usize];
        file.read_exact_at(&mut prefix, 0).map_err(fail)?;
        if prefix.starts_with(b"PK\x03\x04") || matches!(prefix, [0x80, 2..=5, ..]) {
            return refuse(
                "it is what `torch.save` writes, which may run code when it is read, so it never is".into(),
                "save the tensors with `safetensors.torch.save_file`, on a machine and for a file that you trust",
            );
        }
        let header = u64::from_le_bytes(prefix);
        if header > HEADER {
            return refuse(format!("its header claims {header} bytes, and no header has more than {HEADER}"), again);
        }
        if header > length - PREFIX {
            return refuse(format!("its header claims {header} bytes, but only {} follow", length - PREFIX), again);
        }
        let mut text = vec![0; header as usize];
        file.read_exact_at(&mut text, PREFIX).map_err(fail)?;
        let metadata: Metadata = match serde_json::from_slice(&text) {
            Ok(metadata) => metadata,
            Err(error) => return refuse(format!("its header makes no sense: {}", short(&error.to_string())), again),
        };
        let (claimed, data) = (metadata.data_len() as u64, length - PREFIX - header);
        if claimed != data {
            return refuse(format!("its header claims {claimed} bytes of data, but {data} follow"), again);
        }
        let mut entries = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let kind = match info.dtype {
                Dtype::F32 => Kind::Float,
                Dtype::F16 => Kind::Half,
                Dtype::BF16 => Kind::BFloat16,
                other => {
                    let message = format!("{}: {} is of kind {other:?}", path.display(), quoted(&name));
                    return Err(StageError::refused(message, "save every tensor as F32, F16 or BF16"));
                }
            };
            let (start, end) = info.data_offsets;
            let shape = info.shape.iter().map(|&size| size as i64).collect();
            let offset = PREFIX + header + start as u64;
            entries.insert(name, Entry { kind, shape, offset, bytes: end - start });
        }
        Ok(Self { path: path.to_path_buf(), file, entries })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The shape of a tensor, if the file has it.
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Numbers in all tensors.
    pub fn elements(&self) -> u64 {
        self.entries.values().map(|entry| (entry.bytes / entry.kind.elt_size_in_bytes()) as u64).sum()
    }

    /// Tensors of half precision, which reading widens.
    pub fn halves(&self) -> usize {
        self.entries.values().filter(|entry| entry.kind != Kind::Float).count()
    }

    /// A tensor in single precision, on the CPU.
    pub fn read(&self, name: &str) -> Result<Tensor, StageError> {
        let entry = self.entries.get(name).ok_or_else(|| StageError::Failed(format!("there is no tensor {name}")))?;
        let mut bytes = vec![0; entry.bytes];
        self.file
            .read_exact_at(&mut bytes, entry.offset)
            .map_err(|error| StageError::io("cannot read", &self.path, &error))?;
        Ok(Tensor::f_from_data_size(&bytes, &entry.shape, entry.kind)?.f_to_kind(Kind::Float)?)
    }
}

/// A name from a file, safe to print.
pub fn quoted(name: &str) -> String {
    format!("`{}`", short(&name.escape_debug().to_string()))
}

/// A text cut at a length that people read.
pub fn short(text: &str) -> String {
    const MOST: usize = 120;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        std::fs::write(&path, bytes).unwrap();
        let error = TensorFile::open(&path).unwrap_err();
        assert!(matches!(error, StageError::Refused { .. }), "{error}");
        error.to_string().replace(&dir.path().display().to_string(), "")
    }

    fn file(header: &str, data: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    }

    #[test]
    fn files_that_lie_are_refused_with_what_they_say() {
        let mut all = Vec::new();
        for (bytes, what) in [
            (vec![], "empty"),
            (b"PK\x03\x04 zip file".to_vec(), "torch.save"),
            (b"\x80\x02}q\x00.....".to_vec(), "pickle"),
            (b"<html><body>not found".to_vec(), "a page"),
            ([&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "huge header"),
            ([&1000u64.to_le_bytes()[..], b"{}"].concat(), "long header"),
            (file("{", 0), "broken header"),
            (file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 7), "cut short"),
            (file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 9), "longer"),
            (file(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8), "shape against bytes"),
            (file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12), "a hole"),
            (
                file(r#"{"a":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,8]}}"#, 8),
                "shape that overflows",
            ),
            (file(r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8), "negative shape"),
            (file(r#"{"a\n\u001b[31m":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#, 8), "integers"),
            (file(r#"{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#, 8), "double precision"),
        ] {
            all.push(format!("{what}: {}", refused(&bytes)));
        }
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn halves_are_widened_exactly() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let header = r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]},"c":{"dtype":"F32","shape":[0,3],"data_offsets":[6,6]}}"#;
        let mut bytes = file(header, 0);
        bytes.extend([0x00, 0x3c, 0x01, 0x00, 0x80, 0x3f]); // 1, the smallest subnormal; 1
        std::fs::write(&path, bytes).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(Vec::<f32>::try_from(file.read("a").unwrap()).unwrap(), [1.0, 2f32.powi(-24)]);
        assert_eq!(Vec::<f32>::try_from(file.read("b").unwrap()).unwrap(), [1.0]);
        assert_eq!(file.read("c").unwrap().size(), [0, 3]);
        assert_eq!((file.halves(), file.elements()), (2, 3));
    }
}
