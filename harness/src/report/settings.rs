//! What variants and runs were made of and with: settings, environments, and how to make them again.

use std::collections::{BTreeMap, BTreeSet};

use reprise_spec::canon::differences;
use reprise_spec::contract::Device;
use reprise_spec::experiment::Variant;

use super::parts::{Cell, Folded, Part, Section, Table};
use super::subject::{Kind, Run, Subject};
use crate::store::Means;

/// Settings: where variants differ from the first, and all of each.
pub fn section(subject: &Subject<'_>) -> Option<Section> {
    let mut variants: Vec<(&str, &Variant)> = Vec::new();
    for group in &subject.groups {
        if let Some(variant) = &group.variant
            && !variants.iter().any(|(_, known)| known.setting == variant.setting)
        {
            variants.push((&group.name, variant));
        }
    }
    let ((first_name, first), others) = variants.split_first()?;
    let mut rows = Vec::new();
    for (name, variant) in others {
        for found in differences(&first.setting.meaning(), &variant.setting.meaning()) {
            let shown =
                |value: Option<reprise_spec::canon::Canon>| value.map_or("–".into(), |value| value.to_string());
            rows.push([(*name).to_owned(), found.path, shown(found.left), shown(found.right)].map(Cell::text).to_vec());
        }
    }
    let mut parts = Vec::new();
    let identities = variants.iter().map(|(name, variant)| {
        [(*name).to_owned(), variant.strategy.clone(), variant.setting.hash().to_string()].map(Cell::text).to_vec()
    });
    let columns = ["Variant", "Strategy", "Identity"];
    parts.push(Part::Table(Table::new(
        "variants",
        "Variants and what identifies their settings",
        &columns,
        identities.collect(),
    )));
    if !rows.is_empty() {
        let caption = format!("Every field in which a variant’s settings differ from those of {first_name}");
        parts.push(Part::Table(Table::new("settings", caption, &["Variant", "Field", first_name, "Here"], rows)));
    }
    for (name, variant) in &variants {
        // Settings are maps with names for keys, which YAML can spell.
        let text = serde_yaml::to_string(&variant.setting).unwrap_or_else(|error| error.to_string());
        parts.push(Part::Folded(Folded {
            summary: format!("All settings of {name}"),
            open: false,
            parts: vec![Part::Code(text)],
        }));
    }
    Some(Section::new("settings", "Settings", parts))
}

/// What a run was made with, without anything that says where on a machine things lay.
pub fn facts(run: &Run) -> BTreeMap<String, String> {
    let record = &run.record;
    let mut facts: BTreeMap<String, String> = record.environment.clone();
    facts.retain(|name, value| !name.ends_with("-path") && !value.starts_with('/') && !name.starts_with("env-"));
    let mut add = |name: &str, value: Option<String>| {
        value.map(|value| facts.insert(name.to_owned(), value));
    };
    let provenance = &record.provenance;
    add("build", Some(provenance.build.clone()));
    add("commit", provenance.experiment.as_ref().and_then(|state| state.commit.clone()));
    let dirty = provenance.experiment.as_ref().map(|state| if state.dirty { "yes" } else { "no" });
    add("uncommitted changes", dirty.map(str::to_owned));
    if let Some(host) = &provenance.host {
        add("system", Some(format!("{}, {}", host.system, host.kernel)));
        add("processor", Some(format!("{}, {} cores", host.cpu, host.cores)));
        add("memory", host.memory.map(crate::cmd::print::bytes));
    }
    if let Some(Means { device, threads, loader_threads, recompute, .. }) =
        record.attempts.iter().rev().find_map(|attempt| attempt.means)
    {
        add("device", Some(asked(device)));
        add("threads of a stage", Some(threads.to_string()));
        add("threads that load audio", Some(loader_threads.to_string()));
        add("layers computed twice", recompute.then(|| "yes".into()));
    }
    facts
}

/// What runs were made with: where they differ, and what they share.
pub fn environment(subject: &Subject<'_>) -> Option<Section> {
    let runs: Vec<(&Run, BTreeMap<String, String>)> = subject.all().map(|(_, run)| (run, facts(run))).collect();
    let names: BTreeSet<&String> = runs.iter().flat_map(|(_, facts)| facts.keys()).collect();
    let (mut same, mut differ) = (Vec::new(), Vec::new());
    for name in names {
        let mut values: BTreeMap<Option<&String>, Vec<&Run>> = BTreeMap::new();
        for (run, facts) in &runs {
            values.entry(facts.get(name)).or_default().push(run);
        }
        if let (1, Some((Some(value), _))) = (values.len(), values.first_key_value()) {
            same.push(vec![Cell::text(name), Cell::text(*value)]);
            continue;
        }
        for (value, of) in values {
            let ids: Vec<&str> = of.iter().map(|run| run.record.id.as_str()).take(3).collect();
            let more = if of.len() > ids.len() { format!(" and {} more", of.len() - ids.len()) } else { String::new() };
            let value = value.map_or("not recorded", String::as_str);
            differ.push([name.clone(), value.to_owned(), ids.join(", ") + &more].map(Cell::text).to_vec());
        }
    }
    let mut parts = Vec::new();
    match (differ.is_empty(), runs.len()) {
        (_, 0) => return None,
        (_, 1) => {}
        (true, _) => parts.push(Part::Text("All runs were made with the same.".into())),
        (false, _) => {
            let caption = "What runs were made with where it differs";
            parts.push(Part::Table(Table::new("environment-differences", caption, &["Fact", "Value", "Runs"], differ)));
        }
    }
    let table = Part::Table(Table::new("environment", "What all shown runs were made with", &["Fact", "Value"], same));
    parts.push(Part::Folded(Folded {
        summary: "What all shown runs were made with".into(),
        open: false,
        parts: vec![table],
    }));
    Some(Section::new("environment", "Environment", parts))
}

/// The commands that make the same again.
pub fn again(subject: &Subject<'_>) -> Section {
    let commits: BTreeSet<&str> =
        subject.all().filter_map(|(_, run)| run.record.provenance.experiment.as_ref()?.commit.as_deref()).collect();
    let mut lines = Vec::new();
    if let [commit] = commits.iter().copied().collect::<Vec<_>>()[..] {
        lines.push(format!("git checkout {commit}"));
    }
    lines.push("cargo build --release --workspace".into());
    let means = subject.all().find_map(|(_, run)| run.record.attempts.iter().rev().find_map(|attempt| attempt.means));
    let means = means.unwrap_or_default();
    let device = format!(" --device {} --threads {}", asked(means.device), means.threads);
    if let Some(file) = &subject.file {
        let file = quoted(file);
        lines.push(format!("reprise plan {file}"));
        lines.push(match (subject.kind, subject.groups.as_slice()) {
            (Kind::Run, [group]) if group.variant.as_ref().is_some_and(|variant| !variant.name.is_empty()) => {
                let variant = group.variant.as_ref().map_or("", |variant| &variant.name);
                format!("reprise run {file} --variant {}{device}", quoted(variant))
            }
            _ => format!("reprise run {file}{device}"),
        });
    }
    lines.extend(subject.all().take(3).map(|(_, run)| format!("reprise rerun {}", run.record.id)));
    let mut parts = vec![Part::Code(lines.join("\n"))];
    if let Some(experiment) = &subject.experiment {
        parts.push(Part::Text(format!("The experiment is {}.", experiment.spec_hash())));
    }
    parts.push(Part::Text(
        "The verb run executes what the store lacks; rerun executes a stored run again, reusing nothing, and grades how near it comes. Bits are equal \
         only under an equal environment."
            .into(),
    ));
    if commits.len() > 1 {
        parts.push(Part::Note(format!("The runs were made at {} commits; see their environments.", commits.len())));
    }
    Section::new("again", "How to run it again", parts)
}

/// A device as a command line asks for it.
fn asked(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".into(),
        Device::Cuda(index) => format!("cuda:{index}"),
    }
}

/// A word of a command line, in quotes where a shell would read something else.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+:,@".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_stays_one_word_of_a_command() {
        assert_eq!(quoted("experiments/a.yaml"), "experiments/a.yaml");
        assert_eq!(quoted("x; rm -rf ~"), "'x; rm -rf ~'");
        assert_eq!(quoted("it's $(id)"), r"'it'\''s $(id)'");
    }
}
