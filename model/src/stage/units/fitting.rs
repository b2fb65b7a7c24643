//! The frames that a codebook is fitted on: in memory, or where they are more than that in a file that the fit reads as it goes.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use reprise_spec::strategy::Clustering;
use tch::{Device, Kind, Tensor};

use crate::failure::StageError;
use crate::kmeans::{self, Fit, Moment};

/// Most bytes of frames that are held in memory.
pub const HELD: u64 = 1 << 32;

/// Frames as they are gathered, `total` of them.
pub struct Gathering {
    total: usize,
    end: usize,
    most: u64,
    path: PathBuf,
    device: Device,
    place: Option<Place>,
}

enum Place {
    Memory(Tensor),
    File { file: BufWriter<File>, width: usize },
}

/// All frames that a codebook is fitted on.
pub enum Fitting {
    /// N × D.
    Held(Tensor),
    Mapped {
        map: Mmap,
        width: usize,
        device: Device,
    },
}

impl Gathering {
    /// Room for `total` frames: on the device, or, where they need more than `most` bytes, in a file of the folder `work`, which lasts as
    /// long as the attempt.
    pub fn new(total: usize, most: u64, work: &Path, device: Device) -> Self {
        Self { total, end: 0, most, path: work.join("checkpoints/frames.f32"), device, place: None }
    }

    /// Adds the frames of an utterance (T × D, `f32`).
    pub fn push(&mut self, frames_td: &Tensor) -> Result<(), StageError> {
        let (count, width) = frames_td.size2()?;
        let place = match &mut self.place {
            Some(place) => place,
            None => {
                let bytes = self.total as u64 * width as u64 * size_of::<f32>() as u64;
                let place = if bytes > self.most {
                    let fail = |error: std::io::Error| StageError::io("cannot create", &self.path, &error);
                    self.path.parent().map_or(Ok(()), fs::create_dir_all).map_err(fail)?;
                    Place::File { file: BufWriter::new(File::create(&self.path).map_err(fail)?), width: width as usize }
                } else {
                    Place::Memory(Tensor::f_empty([self.total as i64, width], (Kind::Float, self.device))?)
                };
                self.place.insert(place)
            }
        };
        match place {
            Place::Memory(all_nd) => all_nd.narrow(0, self.end as i64, count).f_copy_(frames_td)?,
            Place::File { file, .. } => {
                let numbers = Vec::<f32>::try_from(frames_td.to_device(Device::Cpu).reshape([-1]))?;
                let bytes: Vec<u8> = numbers.into_iter().flat_map(f32::to_ne_bytes).collect();
                file.write_all(&bytes).map_err(|error| StageError::io("cannot write", &self.path, &error))?;
            }
        };
        self.end += count as usize;
        Ok(())
    }

    /// The frames, all of which have been added.
    pub fn finish(self) -> Result<Fitting, StageError> {
        match self.place {
            None => Ok(Fitting::Held(Tensor::zeros([0, 1], (Kind::Float, self.device)))),
            Some(Place::Memory(all_nd)) => Ok(Fitting::Held(all_nd)),
            Some(Place::File { file, width }) => {
                let fail = |error: std::io::Error| StageError::io("cannot write", &self.path, &error);
                file.into_inner().map_err(|error| fail(error.into_error()))?;
                let file = File::open(&self.path).map_err(fail)?;
                // SAFETY: the file is of this attempt alone, which holds the lease of its folder, and nothing writes to it any more.
                let map = unsafe { Mmap::map(&file) }.map_err(fail)?;
                Ok(Fitting::Mapped { map, width, device: self.device })
            }
        }
    }
}

impl Fitting {
    /// How many frames there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Held(all_nd) => all_nd.size()[0] as usize,
            Self::Mapped { map, width, .. } => numbers(map).len() / width,
        }
    }

    /// Some of the frames: T × D, on the device.
    pub fn rows(&self, rows: &Range<usize>) -> Result<Tensor, StageError> {
        match self {
            Self::Held(all_nd) => Ok(all_nd.narrow(0, rows.start as i64, rows.len() as i64).copy()),
            Self::Mapped { map, width, device } => {
                let numbers = &numbers(map)[rows.start * width..rows.end * width];
                Ok(Tensor::f_from_slice(numbers)?.f_view([-1, *width as i64])?.f_to_device(*device)?)
            }
        }
    }

    /// Fits a codebook; where the frames are mapped, the CPU does.
    pub fn fit(
        &self,
        clusters: usize,
        settings: &Clustering,
        seed: u64,
        watch: &mut dyn FnMut(Moment) -> Result<(), StageError>,
    ) -> Result<Fit, StageError> {
        match self {
            Self::Held(all_nd) => kmeans::fit(all_nd, clusters, settings, seed, watch),
            Self::Mapped { map, width, device } => {
                let fit = kmeans::fit_rows(numbers(map), *width, clusters, settings, seed, watch)?;
                let centroids = fit.centroids.tensor().f_to_device(*device)?;
                Ok(Fit { centroids: kmeans::Centroids::new(&centroids), ..fit })
            }
        }
    }
}

/// The numbers of a file that [`Gathering`] wrote; a map begins at a page, so that none stand before the first.
fn numbers(map: &Mmap) -> &[f32] {
    // SAFETY: any four bytes are an `f32`.
    unsafe { map.align_to::<f32>() }.1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of one utterance after the other, gathered with room for so many bytes.
    fn gathered(frames_nd: &Tensor, most: u64, work: &Path) -> Fitting {
        let mut gathering = Gathering::new(frames_nd.size()[0] as usize, most, work, Device::Cpu);
        for utterance_td in frames_nd.split(170, 0) {
            gathering.push(&utterance_td).unwrap();
        }
        gathering.finish().unwrap()
    }

    #[test]
    fn frames_in_a_file_make_the_codebook_that_frames_in_memory_make() {
        tch::manual_seed(7);
        let frames_nd = Tensor::randn([900, 12], (Kind::Float, Device::Cpu));
        let work = tempfile::tempdir().unwrap();
        let bytes = 900 * 12 * 4;
        let (held, mapped) = (gathered(&frames_nd, bytes, work.path()), gathered(&frames_nd, bytes - 1, work.path()));
        assert!(matches!((&held, &mapped), (Fitting::Held(_), Fitting::Mapped { .. })));
        assert_eq!((held.count(), mapped.count()), (900, 900));
        assert_eq!(held.rows(&(170..340)).unwrap(), mapped.rows(&(170..340)).unwrap());
        let fit = |fitting: &Fitting| fitting.fit(15, &Clustering::default(), 1, &mut |_| Ok(())).unwrap();
        let (held, mapped) = (fit(&held), fit(&mapped));
        assert_eq!(held.centroids.tensor(), mapped.centroids.tensor());
        assert_eq!((held.inertia, held.usage), (mapped.inertia, mapped.usage));
    }

    #[test]
    fn no_frames_are_no_file() {
        let work = tempfile::tempdir().unwrap();
        assert_eq!(Gathering::new(0, 0, work.path(), Device::Cpu).finish().unwrap().count(), 0);
    }
}
