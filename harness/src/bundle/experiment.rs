//! The texts of an experiment as files of a bundle, below `experiment/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use reprise_spec::experiment::Experiment;
use reprise_spec::read::{LoadError, beside};

use super::BundleError;
use super::names::portable;
use crate::store::Recipe;

/// How the line begins that names a file in the texts of a run.
const HEADING: &str = "# ── ";

/// The texts that an experiment was read from, each under a comment with its name.
pub fn joined<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let text = |(name, text): (&str, &str)| format!("{HEADING}{name}\n{}\n", text.trim_end());
    sources.into_iter().map(text).collect::<Vec<_>>().join("\n")
}

/// Names and texts of what [`joined`] gave.
pub fn separated(text: &str) -> Vec<(String, String)> {
    let mut sources: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix(HEADING), sources.last_mut()) {
            (Some(name), _) => sources.push((name.to_owned(), String::new())),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    for (_, text) in &mut sources {
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    sources
}

/// An experiment with every file that it needs beside its corpus.
#[derive(Debug)]
pub struct Files {
    pub experiment: Experiment,
    /// The name of its own file.
    pub entry: String,
    /// Texts and committed lists by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Files {
    /// Of texts by the absolute paths that they were read from, the experiment's own first. Committed lists are read from where they are.
    ///
    /// # Errors
    /// When the texts don't give `experiment`, a list can't be read, or a name isn't portable.
    pub fn new(sources: &[(String, String)], experiment: Experiment) -> Result<Self, BundleError> {
        let nothing = || BundleError::unpublishable("the experiment has no text", "give its file to `reprise publish`");
        let (own, _) = sources.first().ok_or_else(nothing)?;
        let mut files: BTreeMap<String, Vec<u8>> =
            sources.iter().map(|(path, text)| (path.clone(), text.clone().into_bytes())).collect();
        for list in experiment.corpus().into_iter().flat_map(|corpus| corpus.lists.into_values()) {
            let path = beside(own, list.as_str());
            let bytes = fs::read(&path).map_err(|error| BundleError::io("read", Path::new(&path), error))?;
            files.insert(path, bytes);
        }
        let common = common_folder(files.keys());
        let name = |path: &str| path[common..].to_owned();
        let (entry, files) = (name(own), files.iter().map(|(path, bytes)| (name(path), bytes.clone())));
        let files: BTreeMap<String, Vec<u8>> = files.collect();
        for name in files.keys() {
            portable(name).map_err(|why| {
                BundleError::unpublishable(
                    format!("the experiment can't be published: the name of its file {why}"),
                    "rename the file, and what names it",
                )
            })?;
        }
        let files = Self { experiment, entry, files };
        files.gives_the_experiment().map(|()| files)
    }

    /// Of a run, from its recorded texts.
    ///
    /// # Errors
    /// As [`Files::new`].
    pub fn of_run(text: &str, recipe: &Recipe) -> Result<Self, BundleError> {
        let file = recipe.file.to_string_lossy();
        let sources = separated(text);
        let own = sources.first().map_or("", |(name, _)| name.as_str());
        // Names are relative to the folder that the run was started in, and the recipe has the whole path of the first.
        let folder = file.strip_suffix(&beside("", own)).unwrap_or("/");
        let absolute = |(name, text): (String, String)| (beside(&format!("{folder}."), &name), text);
        let sources: Vec<(String, String)> = match own.starts_with('/') {
            true => sources,
            false => sources.into_iter().map(absolute).collect(),
        };
        Self::new(&sources, recipe.experiment.clone())
    }

    /// Whether the texts, read again by their new names, mean the experiment.
    fn gives_the_experiment(&self) -> Result<(), BundleError> {
        let text = |name: &str| self.files.get(name).and_then(|bytes| String::from_utf8(bytes.clone()).ok());
        let mut load = |name: &str| text(name).ok_or(LoadError::Missing);
        let read = reprise_spec::read::experiment(&self.entry, &text(&self.entry).unwrap_or_default(), &mut load);
        match read.is_ok_and(|read| read.experiment.spec_hash() == self.experiment.spec_hash()) {
            true => Ok(()),
            false => Err(BundleError::unpublishable(
                "the recorded texts of the experiment don't give it any more",
                "give the experiment's file to `reprise publish` in place of its runs",
            )),
        }
    }
}

/// The texts of a run under names without the folder that all of them lie in.
pub fn without_folder(text: &str) -> String {
    let sources = separated(text);
    let common = common_folder(sources.iter().map(|(name, _)| name));
    joined(sources.iter().map(|(name, text)| (&name[common..], text.as_str())))
}

/// Bytes of the longest folder, its `/` included, that all of these paths lie in.
fn common_folder<'a>(mut paths: impl Iterator<Item = &'a String>) -> usize {
    let folder = |path: &str| path.rfind('/').map_or(0, |at| at + 1);
    let Some(first) = paths.next() else { return 0 };
    let mut common = &first[..folder(first)];
    for path in paths {
        while !path.starts_with(common) {
            common = &common[..folder(common.trim_end_matches('/'))];
        }
    }
    common.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_separated_as_they_were_joined() {
        let sources = [("a/b.yaml", "x: 1\n"), ("a/c.yaml", "y: 2\n\nz: 3\n")];
        let separated = separated(&joined(sources));
        let separated: Vec<(&str, &str)> =
            separated.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(separated, sources);
    }

    #[test]
    fn names_lose_the_folder_that_they_share() {
        let text = joined([("/root/me/x/a.yaml", "x: 1"), ("/root/me/presets/b.yaml", "y: 2")]);
        let expected = joined([("x/a.yaml", "x: 1"), ("presets/b.yaml", "y: 2")]);
        assert_eq!(without_folder(&text), expected);
        assert_eq!(without_folder(&joined([("/root/a.yaml", "x: 1")])), joined([("a.yaml", "x: 1")]));
    }
}
