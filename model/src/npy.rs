//! Arrays on disk as NumPy's `.npy`, version 1.0: little-endian, rows first, written and read without holding the whole array.
//!
//! Source: the format's description in `numpy.lib.format`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use crate::failure::StageError;

/// Bytes before the data in files that [`Writer`] makes; room for any shape, a multiple of 64 as the format asks.
const HEADER: usize = 128;
const MAGIC: &[u8; 8] = b"\x93NUMPY\x01\x00";

/// A number type that arrays on disk are made of.
pub trait Element: Copy {
    /// The type as `.npy` headers name it.
    const DESCR: &str;
    /// Bytes each.
    const SIZE: usize;
    /// Appends the little-endian bytes.
    fn put(self, bytes: &mut Vec<u8>);
    /// Reads from exactly [`Element::SIZE`] little-endian bytes.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! element {
    ($type:ty, $descr:literal) => {
        impl Element for $type {
            const DESCR: &str = $descr;
            const SIZE: usize = size_of::<$type>();

            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn get(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$type>()];
                array.copy_from_slice(bytes);
                Self::from_le_bytes(array)
            }
        }
    };
}

element!(f32, "<f4");
element!(u16, "<u2");

/// The little-endian bytes of numbers.
pub fn bytes<T: Element>(numbers: &[T]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(numbers.len() * T::SIZE);
    numbers.iter().for_each(|number| number.put(&mut bytes));
    bytes
}

/// The numbers of little-endian bytes; of a number that is cut short nothing.
pub fn numbers<T: Element>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(T::SIZE).map(T::get).collect()
}

/// Writes an array row by row; the number of rows is known at the end.
pub struct Writer<T> {
    file: BufWriter<File>,
    path: PathBuf,
    columns: Option<usize>,
    written: usize,
    element: PhantomData<T>,
}

impl<T: Element> Writer<T> {
    /// A new file for rows of `columns` numbers, or for a one-dimensional array with `None`.
    pub fn create(path: &Path, columns: Option<usize>) -> Result<Self, StageError> {
        let fail = |error: std::io::Error| StageError::io("cannot create", path, &error);
        let mut file = BufWriter::new(File::create(path).map_err(fail)?);
        file.write_all(&[0; HEADER]).map_err(fail)?;
        Ok(Self { file, path: path.to_owned(), columns, written: 0, element: PhantomData })
    }

    /// Appends whole rows, or the beginning of one that later calls complete.
    pub fn write(&mut self, numbers: &[T]) -> Result<(), StageError> {
        let bytes = bytes(numbers);
        self.written += numbers.len();
        self.file.write_all(&bytes).map_err(|error| StageError::io("cannot write", &self.path, &error))
    }

    /// Writes the header, flushes to the disk and returns the number of rows.
    pub fn finish(mut self) -> Result<usize, StageError> {
        let columns = self.columns.unwrap_or(1);
        if !self.written.is_multiple_of(columns.max(1)) {
            return Err(StageError::Failed(format!("{} ends within a row of {columns}", self.path.display())));
        }
        let rows = self.written.checked_div(columns).unwrap_or(0);
        let shape = self.columns.map_or(format!("({rows},)"), |columns| format!("({rows}, {columns})"));
        let header = header::<T>(&shape);
        let mut close = || {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&header)?;
            self.file.flush()?;
            self.file.get_ref().sync_all()
        };
        close().map_err(|error| StageError::io("cannot write", &self.path, &error))?;
        Ok(rows)
    }
}

/// The header of an array, `shape` as Python writes it; the data follow it row after row.
pub fn header<T: Element>(shape: &str) -> Vec<u8> {
    let descr = T::DESCR;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&((HEADER - 10) as u16).to_le_bytes());
    bytes.extend_from_slice(format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}").as_bytes());
    bytes.resize(HEADER - 1, b' ');
    bytes.push(b'\n');
    bytes
}

/// Reads rows of an array wherever they lie.
pub struct Reader<T> {
    file: BufReader<File>,
    path: PathBuf,
    shape: Vec<usize>,
    data: u64,
    element: PhantomData<T>,
}

impl<T: Element> Reader<T> {
    /// Opens a file, and refuses one whose header names another type or whose length isn't what the header says.
    pub fn open(path: &Path) -> Result<Self, StageError> {
        let io = |error: std::io::Error| StageError::io("cannot read", path, &error);
        let bad = |what: &str| StageError::Failed(format!("{} {what}", path.display()));
        let mut file = BufReader::new(File::open(path).map_err(io)?);
        let length = file.get_ref().metadata().map_err(io)?.len();
        let mut start = [0; 10];
        file.read_exact(&mut start).map_err(|_| bad("is not a .npy file"))?;
        if &start[..8] != MAGIC {
            return Err(bad("is not a .npy file of version 1.0"));
        }
        let mut text = vec![0; usize::from(u16::from_le_bytes([start[8], start[9]]))];
        file.read_exact(&mut text).map_err(|_| bad("ends within its header"))?;
        let data = 10 + text.len() as u64;
        let text = String::from_utf8(text).map_err(|_| bad("has a header that is not text"))?;
        let shape = parse(&text, T::DESCR).map_err(|what| bad(&what))?;
        let size = shape.iter().try_fold(T::SIZE as u64, |size, &n| size.checked_mul(n as u64));
        match size.and_then(|size| size.checked_add(data)) {
            Some(expected) if expected == length => {}
            _ => return Err(bad(&format!("has {length} bytes, which is not what its shape {shape:?} needs"))),
        }
        Ok(Self { file, path: path.to_owned(), shape, data, element: PhantomData })
    }

    /// All dimensions; the first counts rows.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// Numbers a row; 1 for a one-dimensional array.
    pub fn columns(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// Reads `count` rows from row `start`, one row after the other.
    pub fn read(&mut self, start: usize, count: usize) -> Result<Vec<T>, StageError> {
        if start.checked_add(count).is_none_or(|end| end > self.rows()) {
            let (path, rows) = (self.path.display(), self.rows());
            return Err(StageError::Failed(format!("{path} has {rows} rows, not {count} from row {start}")));
        }
        let row = self.columns() * T::SIZE;
        let mut bytes = vec![0; count * row];
        let mut read = || {
            self.file.seek(SeekFrom::Start(self.data + (start * row) as u64))?;
            self.file.read_exact(&mut bytes)
        };
        read().map_err(|error| StageError::io("cannot read", &self.path, &error))?;
        Ok(bytes.chunks_exact(T::SIZE).map(T::get).collect())
    }

    /// Reads the whole array.
    pub fn read_all(&mut self) -> Result<Vec<T>, StageError> {
        self.read(0, self.rows())
    }
}

/// The shape in a header's Python dictionary, which must hold exactly the three keys of version 1.0.
fn parse(text: &str, descr: &str) -> Result<Vec<usize>, String> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let inner = compact.strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or("has no header dictionary")?;
    let (before, after) = inner.split_once("'shape':(").ok_or("has no shape")?;
    let (shape, after) = after.split_once(')').ok_or("has an open shape")?;
    let mut others: Vec<&str> = before.split(',').chain(after.split(',')).filter(|item| !item.is_empty()).collect();
    others.sort_unstable();
    if others != [format!("'descr':'{descr}'").as_str(), "'fortran_order':False"] {
        return Err(format!("is not an array of {descr} in row order: {}", text.trim()));
    }
    let shape: Vec<usize> = shape
        .split(',')
        .filter(|n| !n.is_empty())
        .map(|n| n.parse().map_err(|_| format!("has the shape ({shape})")))
        .collect::<Result<_, _>>()?;
    if shape.is_empty() { Err("is a single number, not an array".into()) } else { Ok(shape) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(columns: Option<usize>, numbers: &[f32]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let mut writer = Writer::create(&path, columns).unwrap();
        numbers.chunks(3).for_each(|part| writer.write(part).unwrap());
        assert_eq!(writer.finish().unwrap(), numbers.len() / columns.unwrap_or(1));
        (dir, path)
    }

    #[test]
    fn rows_come_back_from_wherever_they_lie() {
        let (_dir, path) = written(Some(2), &[0., 1., 2., 3., 4., 5.]);
        let mut reader = Reader::<f32>::open(&path).unwrap();
        assert_eq!((reader.shape(), reader.columns()), (&[3, 2][..], 2));
        assert_eq!(reader.read(1, 2).unwrap(), [2., 3., 4., 5.]);
        assert_eq!(reader.read(0, 1).unwrap(), [0., 1.]);
        assert!(reader.read(2, 2).is_err());
    }

    #[test]
    fn numpy_s_own_header_is_read() {
        let text = "{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }          \n";
        assert_eq!(parse(text, "<u2"), Ok(vec![3]));
        assert!(parse(text, "<f4").is_err());
        assert!(parse(&text.replace("False", "True"), "<u2").is_err());
        assert!(parse(&text.replace("(3,)", "()"), "<u2").is_err());
    }

    #[test]
    fn a_file_that_lost_its_end_is_refused() {
        let (_dir, path) = written(None, &[1., 2., 3.]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(Reader::<f32>::open(&path).is_err_and(|e| e.to_string().contains("not what its shape")));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers in prop::collection::vec(any::<u16>(), 0..50)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("labels.npy");
            let mut writer = Writer::create(&path, None).unwrap();
            writer.write(&numbers).unwrap();
            prop_assert_eq!(writer.finish().unwrap(), numbers.len());
            prop_assert_eq!(Reader::<u16>::open(&path).unwrap().read_all().unwrap(), numbers);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..128, byte: u8) {
            let (dir, path) = written(Some(2), &[0., 1., 2., 3.]);
            let mut whole = std::fs::read(&path).unwrap();
            whole[at] = byte;
            std::fs::write(&path, &whole).unwrap();
            let _ = Reader::<f32>::open(&path).and_then(|mut r| r.read_all());
            let other = dir.path().join("b.npy");
            std::fs::write(&other, &bytes).unwrap();
            let _ = Reader::<f32>::open(&other).and_then(|mut r| r.read_all());
        }
    }
}
