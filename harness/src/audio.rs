//! Audio files as people name them: files, folders, fairseq's `.tsv` lists, and a list on standard input.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Write};
use std::path::{Component, Path, PathBuf};

use miette::Diagnostic;
use reprise_spec::extraction::{AudioFile, AudioName};
use tempfile::NamedTempFile;
use thiserror::Error;

use crate::data::{DataError, walk};

/// What names standard input.
pub const STANDARD_INPUT: &str = "-";
/// Bytes of a file name that file systems take.
const LONGEST_NAME: usize = 255;

/// Audio files in the order of the output, with names that are unique in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioList {
    pub files: Vec<AudioFile>,
    /// A folder that all of them lie below: the one that was named where it was one, else the deepest.
    pub root: PathBuf,
}

/// Why there is no such list.
#[derive(Debug, Error, Diagnostic)]
pub enum AudioListError {
    #[error("there is no {}", .path.display())]
    #[diagnostic(help("name an audio file, a folder, a .tsv list, or `-` for a list on standard input"))]
    Missing { path: PathBuf },
    #[error("no audio files: {}", if .named.is_empty() { "the list is empty".into() } else { format!("no *.flac and no *.wav below {named}") })]
    #[diagnostic(help("name an audio file, a folder, a .tsv list, or `-` for a list on standard input"))]
    Empty { named: String },
    #[error("{list}:{line}: {message}")]
    #[diagnostic(help(
        "a .tsv list has the root folder on its first line and then `relative/path<TAB>samples`; a list on standard input one path a line"
    ))]
    List { list: String, line: usize, message: String },
    #[error("cannot read {list}: {error}")]
    #[diagnostic(help("check that it is there, is text, and that you may read it"))]
    Unreadable { list: String, error: std::io::Error },
    #[error("{} cannot be named in the output: {reason}", .path.display())]
    #[diagnostic(help("rename the file, or leave it out"))]
    Name { path: PathBuf, reason: String },
    #[error("{} and {} would both become {output}", .first.display(), .second.display())]
    #[diagnostic(help("rename one of them, name a folder above both, or give two commands with an --out each"))]
    Collision { first: PathBuf, second: PathBuf, output: String },
    #[error("{} would become {output}, which has another use in the output", .path.display())]
    #[diagnostic(help("rename the file or its folder, or leave it out"))]
    Taken { path: PathBuf, output: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
}

impl AudioList {
    /// The files that `named` stands for: files, folders (searched for `*.flac` and `*.wav`, hidden names passed over, sorted), `.tsv`
    /// lists of fairseq, and `-` for a list on standard input. Relative paths start from `here`.
    ///
    /// A file below a folder or in a `.tsv` bears its relative path, any other the path that it was named by, without what leads up.
    ///
    /// # Errors
    /// For what isn't there, lists that are none, names that lead elsewhere or meet, and where there is no audio at all.
    pub fn collect(named: &[PathBuf], here: &Path, stdin: impl BufRead) -> Result<Self, AudioListError> {
        let mut files = Vec::new();
        let mut roots = Vec::new();
        let mut stdin = Some(stdin);
        for path in named {
            if path.as_os_str() == STANDARD_INPUT {
                if let Some(lines) = stdin.take() {
                    add_paths(lines, here, &mut files)?;
                }
                continue;
            }
            let absolute = absolute(&here.join(path));
            let folder = absolute.is_dir();
            if folder {
                for name in walk::audio(&absolute)? {
                    files.push(audio_file(absolute.join(&name), name, None)?);
                }
                roots.push(absolute);
            } else if path.extension().is_some_and(|extension| extension == "tsv") {
                roots.push(add_list(&absolute, here, &mut files)?);
            } else if absolute.exists() {
                files.push(file(path, here)?);
            } else {
                return Err(AudioListError::Missing { path: path.clone() });
            }
        }
        if files.is_empty() {
            let folders: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
            return Err(AudioListError::Empty { named: folders.join(", ") });
        }
        let root = match roots.as_slice() {
            [root] if files.iter().all(|file| file.path.starts_with(root)) => root.clone(),
            _ => common_folder(&files),
        };
        Ok(Self { files, root })
    }

    /// Makes sure that every file has an output of its own: its name with `extension` instead of its own, not one of `reserved`, and no
    /// folder of another output.
    ///
    /// # Errors
    /// Names the files that meet.
    pub fn check_outputs(&self, extension: &str, reserved: &[&str]) -> Result<(), AudioListError> {
        let mut outputs: BTreeMap<&str, &Path> = BTreeMap::new();
        for file in &self.files {
            let stem = file.name.stem();
            let last = stem.rsplit('/').next().unwrap_or_default();
            if last.len() + 1 + extension.len() > LONGEST_NAME {
                let reason = format!("with .{extension} it is longer than {LONGEST_NAME} bytes");
                return Err(AudioListError::Name { path: file.path.clone(), reason });
            }
            if let Some(first) = outputs.insert(stem, &file.path) {
                let (first, second) = (first.to_path_buf(), file.path.clone());
                return Err(AudioListError::Collision { first, second, output: format!("{stem}.{extension}") });
            }
        }
        let mut seen = BTreeSet::new();
        for file in &self.files {
            let mut folder = file.name.as_str();
            while let Some((above, _)) = folder.rsplit_once('/') {
                folder = above;
                if !seen.insert(folder) {
                    break;
                }
                let stem = folder.strip_suffix(extension).and_then(|stem| stem.strip_suffix('.'));
                let (path, output) = (file.path.clone(), folder.to_owned());
                match stem.and_then(|stem| outputs.get(stem)) {
                    Some(first) => {
                        return Err(AudioListError::Collision { first: first.to_path_buf(), second: path, output });
                    }
                    None if reserved.contains(&folder) => return Err(AudioListError::Taken { path, output }),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Writes the list for the trainer. The file goes when it is dropped.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self) -> std::io::Result<NamedTempFile> {
        let mut out = std::io::BufWriter::new(NamedTempFile::with_prefix("reprise-audio-")?);
        for file in &self.files {
            serde_json::to_writer(&mut out, file)?;
            out.write_all(b"\n")?;
        }
        out.into_inner().map_err(std::io::IntoInnerError::into_error)
    }
}

/// A file that was named by its path.
fn file(path: &Path, here: &Path) -> Result<AudioFile, AudioListError> {
    let down = path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_str()),
        _ => None,
    });
    let parts: Option<Vec<&str>> = down.collect();
    let not_text = || AudioListError::Name { path: path.to_path_buf(), reason: "it is not UTF-8".into() };
    audio_file(absolute(&here.join(path)), parts.ok_or_else(not_text)?.join("/"), None)
}

fn audio_file(path: PathBuf, name: String, samples: Option<u64>) -> Result<AudioFile, AudioListError> {
    let refuse = |reason| AudioListError::Name { path: path.clone(), reason };
    // The request is text, and so are tables with whole paths.
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => {}
        _ => return Err(refuse("its path is not UTF-8, or holds a control character".into())),
    }
    let name = AudioName::try_from(name).map_err(refuse)?;
    Ok(AudioFile { path, name, samples })
}

/// The paths of a list, one a line.
fn add_paths(lines: impl BufRead, here: &Path, files: &mut Vec<AudioFile>) -> Result<(), AudioListError> {
    let list = "standard input";
    for (index, line) in lines.lines().enumerate() {
        let line = line.map_err(|error| AudioListError::Unreadable { list: list.into(), error })?;
        let path = line.trim_end_matches('\r');
        if !path.is_empty() {
            let at = |error| placed(list, index + 1, error);
            files.push(file(Path::new(path), here).map_err(at)?);
        }
    }
    Ok(())
}

/// The files of a fairseq list; returns its root.
fn add_list(path: &Path, here: &Path, files: &mut Vec<AudioFile>) -> Result<PathBuf, AudioListError> {
    let list = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|error| AudioListError::Unreadable { list: list.clone(), error })?;
    let mut lines = text.lines().enumerate();
    let (_, root) = lines.next().ok_or_else(|| AudioListError::Empty { named: String::new() })?;
    let root = absolute(&here.join(root));
    for (index, line) in lines {
        let refuse = |message: String| AudioListError::List { list: list.clone(), line: index + 1, message };
        let (name, samples) = line.split_once('\t').ok_or_else(|| refuse("there is no tab in it".into()))?;
        if name.contains(".zip:") {
            return Err(refuse(format!("{name:?} is inside a zip archive, which is not read")));
        }
        let samples = samples.trim().parse().map_err(|_| refuse(format!("{samples:?} is not a number of samples")))?;
        let file = audio_file(root.join(name), name.to_owned(), Some(samples));
        files.push(file.map_err(|error| placed(&list, index + 1, error))?);
    }
    Ok(root)
}

/// Says in which line of a list a name stands.
fn placed(list: &str, line: usize, error: AudioListError) -> AudioListError {
    match error {
        AudioListError::Name { path, reason } => {
            let message = format!("{} cannot be named in the output: {reason}", path.display());
            AudioListError::List { list: list.into(), line, message }
        }
        other => other,
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// The deepest folder that all files lie below.
fn common_folder(files: &[AudioFile]) -> PathBuf {
    let mut folders = files.iter().map(|file| file.path.parent().unwrap_or(Path::new("/")));
    let first = folders.next().unwrap_or(Path::new("/"));
    folders
        .fold(first, |common, folder| {
            common.ancestors().find(|ancestor| folder.starts_with(ancestor)).unwrap_or(Path::new("/"))
        })
        .to_path_buf()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new(files: &[&str]) -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            for name in files {
                let path = place.0.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            place
        }

        fn collect(&self, named: &[&str], stdin: &str) -> Result<AudioList, AudioListError> {
            let named: Vec<PathBuf> = named.iter().map(PathBuf::from).collect();
            AudioList::collect(&named, self.0.path(), stdin.as_bytes())
        }

        fn names(&self, named: &[&str], stdin: &str) -> Vec<String> {
            self.collect(named, stdin).unwrap().files.into_iter().map(|file| file.name.to_string()).collect()
        }

        /// What is wrong, without the path of this place.
        fn wrong(&self, named: &[&str], stdin: &str) -> String {
            let error = match self.collect(named, stdin) {
                Ok(list) => list.check_outputs("npy", &["index.tsv"]).unwrap_err(),
                Err(error) => error,
            };
            error.to_string().replace(&format!("{}/", self.0.path().display()), "")
        }
    }

    #[test]
    fn folders_files_and_lists_give_names_that_lead_down() {
        let place = Place::new(&["a/2/y.wav", "a/1/x.flac", "a/1/x.txt", "a/.hidden/z.wav", "b/z.flac", "odd"]);
        assert_eq!(place.names(&["a"], ""), ["1/x.flac", "2/y.wav"]);
        assert_eq!(place.names(&["b/z.flac", "./odd", "a"], ""), ["b/z.flac", "odd", "1/x.flac", "2/y.wav"]);
        let outside = place.0.path().join("b/z.flac").display().to_string();
        let expected = outside.trim_start_matches('/').to_owned();
        assert_eq!(place.names(&["-"], &format!("{outside}\n\na/1/../2/y.wav\n")), [expected, "a/1/2/y.wav".into()]);
    }

    #[test]
    fn a_fairseq_list_says_root_and_samples() {
        let place = Place::new(&["a/1/x.flac"]);
        fs::write(place.0.path().join("l.tsv"), "a\n1/x.flac\t16000\n").unwrap();
        let list = place.collect(&["l.tsv"], "").unwrap();
        assert_eq!(list.root, place.0.path().join("a"));
        assert_eq!((list.files[0].name.as_str(), list.files[0].samples), ("1/x.flac", Some(16_000)));
        for (text, wrong) in [
            ("a\n1/x.flac 16000\n", "l.tsv:2: there is no tab in it"),
            ("a\n1/x.flac\tlong\n", "l.tsv:2: \"long\" is not a number of samples"),
            ("a\n\n", "l.tsv:2: there is no tab in it"),
            ("a\n../b\t1\n", "l.tsv:2: a/../b cannot be named in the output: \"../b\" is not a path below a folder"),
            (
                "a\n/etc/passwd\t1\n",
                "l.tsv:2: /etc/passwd cannot be named in the output: \"/etc/passwd\" is not a path below a folder",
            ),
            ("a\nb.zip:3:4\t1\n", "l.tsv:2: \"b.zip:3:4\" is inside a zip archive, which is not read"),
            ("a\n", "no audio files: no *.flac and no *.wav below a"),
        ] {
            fs::write(place.0.path().join("l.tsv"), text).unwrap();
            assert_eq!(place.wrong(&["l.tsv"], ""), wrong);
        }
    }

    #[test]
    fn what_would_meet_in_the_output_is_refused() {
        let place = Place::new(&["a/x.flac", "a/x.wav", "b/x.flac", "c/y.npy/z.wav", "c/y.wav", "d/index.tsv/x.wav"]);
        assert_eq!(place.wrong(&["a"], ""), "a/x.flac and a/x.wav would both become x.npy");
        assert_eq!(place.wrong(&["b", "a/x.wav", "b"], ""), "b/x.flac and b/x.flac would both become x.npy");
        assert_eq!(place.wrong(&["c"], ""), "c/y.wav and c/y.npy/z.wav would both become y.npy");
        assert_eq!(
            place.wrong(&["d"], ""),
            "d/index.tsv/x.wav would become index.tsv, which has another use in the output"
        );
        let long = format!("{}.wav", "x".repeat(251));
        let place = Place::new(&[&format!("a/{long}")]);
        let list = place.collect(&["a"], "").unwrap();
        assert!(list.check_outputs("npy", &[]).is_ok(), "255 bytes are a file name");
        assert!(list.check_outputs("safetensors", &[]).unwrap_err().to_string().contains("longer than 255 bytes"));
    }

    #[test]
    fn nothing_at_all_is_refused() {
        let place = Place::new(&["a/x.txt"]);
        assert_eq!(place.wrong(&["a"], ""), "no audio files: no *.flac and no *.wav below a");
        assert_eq!(place.wrong(&["-"], "\n"), "no audio files: the list is empty");
        assert_eq!(place.wrong(&["none.flac"], ""), "there is no none.flac");
        assert_eq!(
            place.wrong(&["-"], "a\tb.flac\n"),
            "standard input:1: a\tb.flac cannot be named in the output: its path is not UTF-8, or holds a control character"
        );
    }

    #[test]
    fn the_root_is_the_folder_that_was_named_or_the_deepest_one() {
        let place = Place::new(&["a/1/x.wav", "a/2/y.wav", "b/z.wav"]);
        let root = |named: &[&str]| {
            let root = place.collect(named, "").unwrap().root;
            root.strip_prefix(place.0.path()).unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(
            [root(&["a"]), root(&["a/1", "a/2"]), root(&["a/1/x.wav"]), root(&["a", "b"])],
            ["a", "a", "a/1", ""]
        );
    }
}
