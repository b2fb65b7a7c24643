//! Hidden states on disk, written piece by piece: `.safetensors` with one tensor a layer, or `.npy`.
//!
//! Both hold little-endian `f32`, layer after layer and frame after frame, so only their headers differ; and the shapes are known before the
//! first piece is, so a piece goes to its place at once.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use reprise_spec::extraction::StateFormat;
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use super::ledger;
use crate::failure::StageError;
use crate::npy;

/// One layer of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The layer's number.
    pub number: u32,
    pub frames: u64,
    pub width: u64,
}

impl Shape {
    fn bytes(&self) -> u64 {
        self.frames * self.width * 4
    }
}

/// A file of hidden states under way. Dropped before [`StateFile::finish`], it leaves nothing under its name.
#[derive(Debug)]
pub struct StateFile {
    file: File,
    path: PathBuf,
    partial: PathBuf,
    shapes: Vec<Shape>,
    /// Where each layer's next frame goes.
    next: Vec<u64>,
    /// Of the whole file.
    size: u64,
}

impl StateFile {
    /// Begins a file at `path`, under a new name until it is whole. `metadata` goes into the header of `.safetensors` as JSON.
    ///
    /// # Errors
    /// When the disk refuses, and for `.npy` of layers with different numbers of frames.
    pub fn create(path: &Path, format: StateFormat, shapes: Vec<Shape>, metadata: &Value) -> Result<Self, StageError> {
        let partial = ledger::partial(path);
        let header = match format {
            StateFormat::Safetensors => safetensors_header(&shapes, metadata),
            StateFormat::Npy => npy_header(&shapes)?,
        };
        let mut next = Vec::with_capacity(shapes.len());
        let mut size = header.len() as u64;
        for shape in &shapes {
            next.push(size);
            size += shape.bytes();
        }
        let create = || {
            let file = ledger::new_file(&partial)?;
            file.set_len(size)?;
            file.write_all_at(&header, 0)?;
            Ok(file)
        };
        let file = create().map_err(|error| StageError::io("cannot write", &partial, &error))?;
        Ok(Self { file, path: path.to_owned(), partial, shapes, next, size })
    }

    /// Writes the next frames of every layer, T × D each.
    pub fn append(&mut self, states_td: &[Tensor]) -> Result<(), StageError> {
        for (index, state_td) in states_td.iter().enumerate() {
            let state_td = state_td.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
            let mut bytes = vec![0; state_td.numel() * 4];
            state_td.f_copy_data_u8(&mut bytes, state_td.numel())?;
            let write = self.file.write_all_at(&bytes, self.next[index]);
            write.map_err(|error| StageError::io("cannot write", &self.partial, &error))?;
            self.next[index] += bytes.len() as u64;
        }
        Ok(())
    }

    /// Flushes the file, gives it its name, and returns its size in bytes.
    ///
    /// # Errors
    /// When the disk refuses, and when fewer or more frames came than were announced.
    pub fn finish(self) -> Result<u64, StageError> {
        let mut end = self.size;
        for (shape, next) in self.shapes.iter().zip(&self.next).rev() {
            if *next != end {
                let Shape { number, frames, .. } = shape;
                let message =
                    format!("layer {number} of {} has not the {frames} frames announced", self.path.display());
                return Err(StageError::Failed(message));
            }
            end -= shape.bytes();
        }
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.partial, &self.path))
            .map_err(|error| StageError::io("cannot write", &self.path, &error))?;
        Ok(self.size)
    }
}

impl Drop for StateFile {
    /// After [`StateFile::finish`] there is nothing under this name any more.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.partial);
    }
}

fn safetensors_header(shapes: &[Shape], metadata: &Value) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "reprise": metadata.to_string() }));
    let mut start = 0;
    for shape in shapes {
        let Shape { number, frames, width } = shape;
        let end = start + shape.bytes();
        let info = json!({ "dtype": "F32", "shape": [frames, width], "data_offsets": [start, end] });
        header.insert(format!("layer.{number}"), info);
        start = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}

fn npy_header(shapes: &[Shape]) -> Result<Vec<u8>, StageError> {
    let Some(first) = shapes.first() else { return Err(StageError::Failed("no layer is asked for".into())) };
    let Shape { frames, width, .. } = first;
    if shapes.iter().any(|shape| (shape.frames, shape.width) != (*frames, *width)) {
        let message = "layers of different rates do not fit into one array";
        return Err(StageError::refused(message, "use `--format safetensors`, or ask for layers of one rate"));
    }
    Ok(npy::header::<f32>(&match shapes.len() {
        1 => format!("({frames}, {width})"),
        layers => format!("({layers}, {frames}, {width})"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors;

    fn pieces() -> Vec<[Tensor; 2]> {
        let piece = |start: i64, frames: i64| {
            let all = Tensor::arange_start(start, start + frames * 3, (Kind::Float, Device::Cpu)).view([frames, 3]);
            [all.shallow_clone(), all.narrow(0, 0, (frames + 1) / 2) * -1.0]
        };
        vec![piece(0, 4), piece(12, 3)]
    }

    fn shape(number: u32, frames: u64) -> Shape {
        Shape { number, frames, width: 3 }
    }

    #[test]
    fn layers_of_different_rates_come_back_from_safetensors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let shapes = vec![shape(2, 7), shape(10, 4)];
        let mut file = StateFile::create(&path, StateFormat::Safetensors, shapes, &json!({ "samples": 5 })).unwrap();
        for piece in pieces() {
            assert!(!path.exists(), "the name appears when the file is whole");
            file.append(&piece).unwrap();
        }
        assert_eq!(file.finish().unwrap(), fs::metadata(&path).unwrap().len());
        let read = tensors::read(&path).unwrap();
        assert_eq!(read.metadata, r#"{"samples":5}"#);
        assert_eq!(read.tensors.keys().collect::<Vec<_>>(), ["layer.10", "layer.2"]);
        let [fine, coarse] =
            [0, 1].map(|at| Tensor::cat(&pieces().iter().map(|p| p[at].copy()).collect::<Vec<_>>(), 0));
        assert_eq!((&read.tensors["layer.2"], &read.tensors["layer.10"]), (&fine, &coarse));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_layer_is_a_matrix_of_npy_and_several_are_stacked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        for (shapes, expected) in [(vec![shape(4, 7)], vec![7, 3]), (vec![shape(4, 7), shape(5, 7)], vec![2, 7, 3])] {
            let layers = shapes.len();
            let mut file = StateFile::create(&path, StateFormat::Npy, shapes, &Value::Null).unwrap();
            for piece in pieces() {
                file.append(&(0..layers).map(|_| piece[0].shallow_clone()).collect::<Vec<_>>()).unwrap();
            }
            file.finish().unwrap();
            let mut read = npy::Reader::<f32>::open(&path).unwrap();
            assert_eq!(read.shape(), expected);
            let one: Vec<f32> = (0..21).map(|n| n as f32).collect();
            assert_eq!(read.read_all().unwrap(), one.repeat(layers));
        }
        let mixed = StateFile::create(&path, StateFormat::Npy, vec![shape(4, 7), shape(5, 4)], &Value::Null);
        assert!(mixed.unwrap_err().to_string().contains("different rates"));
    }

    #[test]
    fn a_file_that_lacks_frames_gets_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let shapes = vec![shape(2, 7), shape(3, 4)];
        let mut file = StateFile::create(&path, StateFormat::Safetensors, shapes, &Value::Null).unwrap();
        file.append(&pieces()[0]).unwrap();
        assert!(file.finish().unwrap_err().to_string().contains("layer 3"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
