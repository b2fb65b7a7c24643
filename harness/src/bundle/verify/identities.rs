//! Hashes and keys.

use std::collections::BTreeSet;

use reprise_spec::canon::Canon;
use reprise_spec::experiment::Setting;
use reprise_spec::identity::{SpecHash, StageKey};
use reprise_spec::read::LoadError;
use reprise_spec::stage::{CorpusPart, LanguageModelStage, LexiconStage, Stage, key_of};

use super::{Area, Read, Verification, name_of};
use crate::bundle::{BundleError, about, text};
use crate::data::FileList;
use crate::plan::{Contents, Part, Plan, RunOf};
use crate::store::{Manifest, RunRecord, Status, StoredOutput};

pub fn check(read: &Read<'_>, verification: &mut Verification) -> Result<(), BundleError> {
    let area = Area::Identities;
    let wrong = experiment(read);
    verification.check(area, "experiment", wrong);
    for output in read.outputs {
        verification.check(area, &name_of(output, read.runs), key(output));
        if let Stage::Corpus(_) = output.manifest.settings {
            let (name, list) = (name_of(output, read.runs), output.path.join("files.txt"));
            match list.is_file() {
                true => verification.check(area, &name, content(output)?),
                false => verification.not_checked(area, name, "its list of files is not there"),
            }
        }
    }
    for (run, said) in read.runs.iter().zip(&read.about.runs) {
        let name = format!("run {}", run.id);
        let RunRecord { spec, variant, variant_name, seed, .. } = run;
        let same = (*spec, *variant, variant_name, *seed) == (said.spec, said.variant, &said.variant_name, said.seed);
        let wrong = match run.status {
            Status::Finished => (!same).then(|| format!("{} says something else of it", about::FILE)),
            _ => Some("it is not finished".into()),
        };
        verification.check(area, &name, wrong);
        let canonical = read.store.canonical(&run.id)?;
        let hash = Canon::from_bytes(&canonical).map(|_| SpecHash::of(&canonical));
        let wrong = match hash {
            Err(error) => Some(error.to_string()),
            Ok(hash) => (hash != run.spec).then(|| "its canonical bytes have another hash than its record says".into()),
        };
        verification.check(area, &name, wrong);
        planned(run, read, &name, verification);
        for stage in &run.stages {
            let output = stage.state.digest().and_then(|digest| read.store.output(&stage.key, &digest));
            let wrong = match output {
                None => Some(format!("its output `{}` is not in the bundle", stage.name)),
                Some(output) => output
                    .manifest
                    .inputs
                    .iter()
                    .find(|input| {
                        !run.stages.iter().any(|s| (s.key, s.state.digest()) == (input.key, Some(input.digest)))
                    })
                    .map(|input| format!("`{}` read as {} what the run doesn't have", stage.name, input.role)),
            };
            verification.check(area, &name, wrong);
        }
    }
    Ok(())
}

/// Whether the experiment's files give the hash that the bundle says.
fn experiment(read: &Read<'_>) -> Option<String> {
    let file = |name: &str| match read.bundle.files().contains_key(&format!("experiment/{name}")) {
        true => read.bundle.text(&format!("experiment/{name}")).map_err(|error| LoadError::Other(error.to_string())),
        false => Err(LoadError::Missing),
    };
    let about = &read.about.experiment;
    let own = match file(&about.file) {
        Ok(text) => text,
        Err(error) => return Some(format!("{:?}: {error}", about.file)),
    };
    match reprise_spec::read::experiment(&about.file, &own, &mut { file }) {
        Ok(resolved) if resolved.experiment.spec_hash() == about.spec => None,
        Ok(_) => Some("its files give another hash than the bundle says".into()),
        Err(errors) => Some(format!("its files can't be read: {errors}")),
    }
}

/// Whether an output's key follows from what its manifest says, and its settings are those of the canonical bytes.
fn key(output: &StoredOutput) -> Option<String> {
    let Manifest { key, kind, settings, canonical, seed, inputs, .. } = &output.manifest;
    let Ok(bytes) = hex::decode(canonical) else { return Some("its canonical bytes are not in hex".into()) };
    let inputs: Vec<_> = inputs.iter().map(|input| (input.role.clone(), input.key)).collect();
    let folder = output.path.parent().and_then(|folder| folder.file_name()).unwrap_or_default();
    match () {
        () if folder.to_str() != Some(&key.hex()) => Some("it lies in the folder of another key".into()),
        () if key_of(kind, &bytes, &inputs, *seed) != *key => {
            Some("settings, inputs and seed give another key than its manifest says".into())
        }
        () if settings.word() != kind.split('/').next().unwrap_or_default() => {
            Some("its settings are of another kind of stage".into())
        }
        // Canonical bytes of another version of the kind are not those that this program writes.
        () if settings.kind() == kind && settings.canonical() != bytes => {
            Some("its settings are not those of its canonical bytes".into())
        }
        () => None,
    }
}

/// Whether the list of files that a corpus stage read gives the content digest of its settings.
fn content(output: &StoredOutput) -> Result<Option<String>, BundleError> {
    let Stage::Corpus(settings) = &output.manifest.settings else { return Ok(None) };
    let list = FileList::parse(&text(&output.path.join("files.txt"), "files.txt")?);
    Ok(match list {
        Ok(list) if list.digest() == settings.content => None,
        Ok(_) => Some("its list of files gives another content than its settings say".into()),
        Err((line, message)) => Some(format!("line {line} of its list of files: {message}")),
    })
}

/// Whether a plan that is made of the run's setting, seed and files has the run's stages.
fn planned(run: &RunRecord, read: &Read<'_>, name: &str, verification: &mut Verification) {
    let area = Area::Identities;
    let recipe = match read.store.recipe(run) {
        Ok(Some(recipe)) => recipe,
        Ok(None) => return verification.failed(area, name, "it has no recipe"),
        Err(error) => return verification.failed(area, name, error.to_string()),
    };
    let variant = recipe.experiment.variants.iter().find(|variant| variant.setting.hash() == run.variant);
    let Some(variant) = variant else { return verification.failed(area, name, "its recipe doesn't have its variant") };
    let Some(contents) = contents(&variant.setting, run, read) else {
        let says = "its plan: which of several files from elsewhere a stage took in is not recorded";
        return verification.not_checked(area, name, says);
    };
    let plan = match Plan::of(&variant.setting, run.seed, &contents) {
        Ok(plan) => plan,
        Err(error) => return verification.failed(area, name, error.to_string()),
    };
    let nodes = plan.run(RunOf { variant: 0, seed: run.seed });
    let word = |kind: &str| kind.split('/').next().unwrap_or_default().to_owned();
    let other = |kind: &str| run.stages.iter().any(|stage| stage.kind != kind && word(&stage.kind) == word(kind));
    if nodes.iter().any(|(_, node, _)| other(node.kind)) {
        return verification.not_checked(area, name, "its plan: this program has other versions of its stages");
    }
    let keys: Vec<Option<StageKey>> = nodes.iter().map(|(_, node, _)| node.key).collect();
    let recorded: Vec<Option<StageKey>> = run.stages.iter().map(|stage| Some(stage.key)).collect();
    let wrong = (keys != recorded).then(|| "a plan of its setting has other stages than its record".into());
    verification.check(area, name, wrong);
}

/// What the run's stages say of the files that it read; `None` where names can't be told apart.
fn contents(setting: &Setting, run: &RunRecord, read: &Read<'_>) -> Option<Contents> {
    let mut contents = Contents::default();
    let (mut checkpoints, mut models, mut lexicons) = (BTreeSet::new(), Vec::new(), Vec::new());
    for stage in &run.stages {
        let Some(output) = read.store.output(&stage.key, &stage.state.digest()?) else { continue };
        match output.manifest.settings {
            Stage::Corpus(corpus) => {
                let part = match corpus.part {
                    CorpusPart::Utterances { .. } => Part::Utterances,
                    CorpusPart::Alignments => Part::Alignments,
                };
                contents.splits.insert((corpus.split, part), corpus.content);
            }
            Stage::Checkpoint(checkpoint) => drop(checkpoints.insert(checkpoint.content)),
            Stage::LanguageModel(LanguageModelStage::File { content, .. }) => models.push(content),
            Stage::Lexicon(LexiconStage { content }) => lexicons.push(content),
            _ => {}
        }
    }
    let names: BTreeSet<_> = setting.checkpoints().collect();
    if names.len() > 1 || checkpoints.len() > 1 {
        return None;
    }
    contents.checkpoints.extend(names.into_iter().cloned().zip(checkpoints));
    // The files of a decoding are named in this order: the language model, then the lexicon.
    contents.files.extend(setting.decoding.files().cloned().zip(models.into_iter().chain(lexicons)));
    Some(contents)
}
