//! Names of files in a bundle: such as every file system keeps apart and none takes for another place.

use std::collections::BTreeMap;

/// The most files of a bundle.
pub const MOST_FILES: usize = 100_000;

/// The most bytes of a name, its folders included.
pub const LONGEST: usize = 240;

/// The most parts of a name.
pub const DEEPEST: usize = 12;

/// Names that some systems keep for devices, whatever follows a dot.
const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "lpt1", "lpt2",
    "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// Whether a name may stand in a bundle: parts of ASCII letters, digits, `.`, `_` and `-` with `/` between them, relative, not too long and
/// not too deep. Such names have one spelling in Unicode and need no escaping anywhere.
///
/// # Errors
/// Why not.
pub fn portable(name: &str) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("{name:?} {why}", name = start(name)));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let device = |part: &str| {
        let stem = part.split('.').next().unwrap_or_default().to_ascii_lowercase();
        DEVICES.contains(&stem.as_str())
    };
    match () {
        () if name.is_empty() => refuse("is no name"),
        () if name.starts_with('/') => refuse("starts at the root"),
        () if name.split('/').any(|part| part == "..") => refuse("leads out of its folder"),
        () if name.len() > LONGEST => refuse(&format!("is longer than {LONGEST} bytes")),
        () if name.split('/').count() > DEEPEST => refuse(&format!("lies more than {DEEPEST} folders deep")),
        () if name.split('/').any(|part| part.is_empty() || part == ".") => refuse("has a part that says nothing"),
        () if !name.split('/').all(plain) => refuse("has other signs than ASCII letters, digits, `.`, `_` and `-`"),
        () if name.split('/').any(|part| part.ends_with('.') || device(part)) => {
            refuse("has a part that some file systems read as another")
        }
        () => Ok(()),
    }
}

/// The beginning of a name that may be very long.
fn start(name: &str) -> String {
    match name.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Names of files in ascending order of their bytes, none of which any file system takes for another.
#[derive(Debug, Default)]
pub struct Names {
    last: String,
    count: usize,
    /// Files and folders in lower case: how each is spelt, and whether it is a folder.
    taken: BTreeMap<String, (String, bool)>,
}

impl Names {
    /// Adds the next file.
    ///
    /// # Errors
    /// Why it can't stand there.
    pub fn add(&mut self, name: &str) -> Result<(), String> {
        portable(name)?;
        self.count += 1;
        match () {
            () if self.count > MOST_FILES => return Err(format!("it holds more than {MOST_FILES} files")),
            () if name == self.last => return Err(format!("{name:?} appears twice")),
            () if *name < *self.last => return Err(format!("{name:?} stands behind {:?}: names ascend", self.last)),
            () => {}
        }
        self.last = name.to_owned();
        for (end, _) in name.match_indices('/') {
            self.take(&name[..end], true)?;
        }
        self.take(name, false)
    }

    fn take(&mut self, name: &str, folder: bool) -> Result<(), String> {
        let known = self.taken.entry(name.to_ascii_lowercase()).or_insert_with(|| (name.to_owned(), folder));
        match (known.0 == name, known.1 == folder) {
            (true, true) => Ok(()),
            (true, false) => Err(format!("{name:?} is both a file and a folder")),
            (false, _) => Err(format!("{name:?} and {:?} are one file on some file systems", known.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_or_mean_another_file_are_refused() {
        let deep = vec!["a"; 13].join("/");
        let long = "a".repeat(241);
        for name in [
            "",
            "/a",
            "../a",
            "a/../b",
            "a//b",
            "a/./b",
            "a/",
            "a\\b",
            "a b",
            "é",
            "a\u{202e}b",
            "\u{1b}[31m",
            "a.",
            "nul",
            "x/COM1.txt",
            &deep,
            &long,
        ] {
            assert!(portable(name).is_err(), "{name:?}");
        }
        for name in ["a", "store/runs/20260101-000000-000000/run.json", ".hidden", "a-b_c.d"] {
            assert!(portable(name).is_ok(), "{name:?}");
        }
        assert!(portable(&long).unwrap_err().len() < 160);
    }

    #[test]
    fn no_two_names_are_one_file_anywhere() {
        let all = |names: &[&str]| {
            let mut known = Names::default();
            names.iter().try_for_each(|name| known.add(name))
        };
        assert_eq!(all(&["A/b", "A/c", "d"]), Ok(()));
        for (names, why) in [
            (&["a", "a"][..], "twice"),
            (&["b", "a"], "ascend"),
            (&["A", "a"], "one file"),
            (&["A/b", "a/c"], "one file"),
            (&["a", "a/b"], "both"),
        ] {
            assert!(all(names).unwrap_err().contains(why), "{names:?}");
        }
    }
}
