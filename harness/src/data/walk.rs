//! Which files lie below a split.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use reprise_spec::values::{Name, SplitName};

use super::DataError;

/// Audio and, where the split has them, transcripts: paths relative to the corpus, sorted by their bytes.
pub fn utterances(name: &Name, root: &Path, split: &SplitName, transcribed: bool) -> Result<Vec<String>, DataError> {
    let folder = root.join(split.as_str());
    if !folder.is_dir() {
        let (name, split) = (name.clone(), split.clone());
        return Err(DataError::NoSplit { name, split, folder, help: siblings(root) });
    }
    let wanted = |file: &str| is_audio(file) || (transcribed && file.ends_with(".trans.txt"));
    let paths = below(root, split.as_str(), &wanted)?;
    if !paths.iter().any(|path| is_audio(path)) {
        return Err(DataError::Empty { name: name.clone(), split: split.clone(), folder });
    }
    Ok(paths)
}

fn is_audio(file: &str) -> bool {
    file.ends_with(".flac") || file.ends_with(".wav")
}

/// The audio files below a folder, whatever its layout: paths relative to it, sorted by their bytes.
pub fn audio(root: &Path) -> Result<Vec<String>, DataError> {
    below(root, "", &is_audio)
}

/// Word and phone times: `alignments/<split>.phones.tsv` and `.words.tsv`, else `alignments/textgrid/<split>/*.TextGrid`.
pub fn alignments(name: &Name, root: &Path, split: &SplitName) -> Result<Vec<String>, DataError> {
    let tables: Vec<String> = ["phones", "words"]
        .iter()
        .map(|level| format!("alignments/{split}.{level}.tsv"))
        .filter(|path| root.join(path).is_file())
        .collect();
    if !tables.is_empty() {
        return Ok(tables);
    }
    let grids = format!("alignments/textgrid/{split}");
    let paths = match root.join(&grids).is_dir() {
        true => below(root, &grids, &|file| file.ends_with(".TextGrid"))?,
        false => Vec::new(),
    };
    if paths.is_empty() {
        let folder = root.join("alignments");
        return Err(DataError::NoAlignments { name: name.clone(), split: split.clone(), folder });
    }
    Ok(paths)
}

fn siblings(root: &Path) -> String {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut folders: Vec<String> =
        entries.filter(|e| e.path().is_dir()).filter_map(|e| e.file_name().into_string().ok()).collect();
    folders.sort();
    folders.truncate(20);
    format!("its folder holds: {}", folders.join(", "))
}

/// The wanted files below a folder, through symbolic links, sorted by the bytes of their paths. Hidden names are passed over.
fn below(root: &Path, folder: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<String>, DataError> {
    let mut paths = Vec::new();
    descend(root, folder, wanted, &mut Vec::new(), &mut paths)?;
    paths.sort();
    Ok(paths)
}

fn descend(
    root: &Path,
    folder: &str,
    wanted: &dyn Fn(&str) -> bool,
    ancestors: &mut Vec<(u64, u64)>,
    paths: &mut Vec<String>,
) -> Result<(), DataError> {
    let path = root.join(folder);
    let unreadable = |path: &Path| {
        let path = path.to_path_buf();
        move |error| DataError::Unreadable { path, error }
    };
    let meta = fs::metadata(&path).map_err(unreadable(&path))?;
    let identity = (meta.dev(), meta.ino());
    if ancestors.contains(&identity) {
        return Err(DataError::Loop { path });
    }
    ancestors.push(identity);
    for entry in fs::read_dir(&path).map_err(unreadable(&path))? {
        let entry = entry.map_err(unreadable(&path))?;
        let name = utf8(entry.file_name(), &entry.path())?;
        if name.starts_with('.') {
            continue;
        }
        let below = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type().map_err(unreadable(&entry.path()))?;
        let is_folder = if kind.is_symlink() { entry.path().is_dir() } else { kind.is_dir() };
        if is_folder {
            descend(root, &below, wanted, ancestors, paths)?;
        } else if wanted(&name) {
            paths.push(below);
        }
    }
    ancestors.pop();
    Ok(())
}

fn utf8(name: std::ffi::OsString, path: &Path) -> Result<String, DataError> {
    let refuse = |reason| DataError::Name { path: PathBuf::from(path), reason };
    let name = name.into_string().map_err(|_| refuse("it is not UTF-8"))?;
    match name.chars().any(|c| c.is_control() || c == '\\') {
        true => Err(refuse("it holds a control character or a backslash")),
        false => Ok(name),
    }
}
