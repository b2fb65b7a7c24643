//! What was made of the store: made again, it is the same.

use std::collections::BTreeMap;

use super::{Area, Read, Verification, cells};
use crate::bundle::derived::{self, RunMetrics, json};
use crate::bundle::publish::{Renderer, Written};
use crate::bundle::ro_crate::{self, Descriptions};
use crate::bundle::{BundleError, Sums, sums};
use crate::provenance::BUILD;

pub fn check(
    read: &Read<'_>,
    sums: &Sums,
    report: Renderer<'_>,
    verification: &mut Verification,
) -> Result<(), BundleError> {
    let same_build = read.about.build == BUILD;
    metrics(read, verification)?;
    let again = derived::metrics(read.runs, read.store);
    again_the_same(derived::METRICS, &json(&again), read, verification, Area::Report, same_build)?;
    again_the_same(
        derived::METRICS_TABLE,
        derived::table(&again).as_bytes(),
        read,
        verification,
        Area::Report,
        same_build,
    )?;
    again_the_same(derived::PLAN, &derived::plan(read.runs, read.store), read, verification, Area::Report, same_build)?;
    let rendered = report(read.bundle.root(), read.about)?;
    let there = read.bundle.files().keys().filter_map(|name| name.strip_prefix("report/"));
    for name in there.clone().filter(|name| !rendered.contains_key(*name)) {
        let area = Area::Report;
        match same_build {
            true => verification.failed(area, format!("report/{name}"), "the report of this store has no such file"),
            false => verification.not_checked(area, format!("report/{name}"), "another build wrote it"),
        }
    }
    for (name, bytes) in &rendered {
        again_the_same(&format!("report/{name}"), bytes, read, verification, Area::Report, same_build)?;
    }
    if !same_build {
        cells::check(read, verification)?;
    }
    metadata(read, sums, same_build, verification)
}

/// Whether a file has the bytes that the store gives; another build may give others, which says nothing.
fn again_the_same(
    name: &str,
    bytes: &[u8],
    read: &Read<'_>,
    verification: &mut Verification,
    area: Area,
    same_build: bool,
) -> Result<(), BundleError> {
    if !read.bundle.files().contains_key(name) {
        verification.failed(area, name, "it is missing");
        return Ok(());
    }
    let path = read.bundle.root().join(name);
    let found = std::fs::read(&path).map_err(|error| BundleError::io("read", &path, error))?;
    match found == bytes {
        true => verification.passed(area),
        false if same_build => verification.failed(area, name, "the store gives another one"),
        false => {
            verification.not_checked(area, name, "this build writes it in another way than the one that published")
        }
    }
    Ok(())
}

/// Every number of `metrics.json` against the store, whichever build wrote it.
fn metrics(read: &Read<'_>, verification: &mut Verification) -> Result<(), BundleError> {
    let text = read.bundle.text(derived::METRICS)?;
    let published: Vec<RunMetrics> = match serde_json::from_str(&text) {
        Ok(published) => published,
        Err(error) => {
            verification.failed(Area::Report, derived::METRICS, error.to_string());
            return Ok(());
        }
    };
    let stored = derived::metrics(read.runs, read.store);
    let key = |of: &RunMetrics| -> BTreeMap<String, (Option<u64>, _)> {
        let bits = |value: Option<f64>| value.map(f64::to_bits);
        let metric = |m: &derived::Metric| (format!("{} {}", of.run, m.address), (bits(m.value), (m.key, m.digest)));
        of.metrics.iter().map(metric).collect()
    };
    let published: BTreeMap<_, _> = published.iter().flat_map(key).collect();
    let stored: BTreeMap<_, _> = stored.iter().flat_map(key).collect();
    for (address, said) in &published {
        let wrong = match stored.get(address) {
            Some(found) if found == said => None,
            Some(_) => Some("the store has another number".into()),
            None => Some("the store doesn't have it".into()),
        };
        verification.check(Area::Report, address, wrong);
    }
    for address in stored.keys().filter(|address| !published.contains_key(*address)) {
        verification.failed(Area::Report, address, format!("{} doesn't have it", derived::METRICS));
    }
    Ok(())
}

/// Whether the RO-Crate describes the files that are there, and nothing else.
fn metadata(
    read: &Read<'_>,
    sums: &Sums,
    same_build: bool,
    verification: &mut Verification,
) -> Result<(), BundleError> {
    let area = Area::Metadata;
    let described: Descriptions = match serde_json::from_str(&read.bundle.text(ro_crate::FILE)?) {
        Ok(described) => described,
        Err(error) => {
            verification.failed(area, ro_crate::FILE, error.to_string());
            return Ok(());
        }
    };
    let files = described.graph.iter().filter(|entity| entity.kind == "File");
    let mut described: BTreeMap<&str, _> = files.map(|entity| (entity.id.as_str(), entity)).collect();
    let mut written = BTreeMap::new();
    for (name, size) in
        read.bundle.files().iter().filter(|(name, _)| ![ro_crate::FILE, sums::FILE].contains(&name.as_str()))
    {
        let sha256 = sums.0.get(name).cloned().unwrap_or_default();
        let wrong = match described.remove(name.as_str()) {
            None => Some("it is not described".into()),
            Some(entity) => (entity.sha256.as_ref() != Some(&sha256) || entity.content_size != Some(size.to_string()))
                .then(|| "it is described with another size or checksum".into()),
        };
        verification.check(area, name, wrong);
        written.insert(name.clone(), Written { size: *size, sha256 });
    }
    for name in described.keys() {
        verification.failed(area, *name, "it is described, but not there");
    }
    let again = ro_crate::describe(read.about, read.runs, read.store, &written);
    again_the_same(ro_crate::FILE, &json(&again), read, verification, area, same_build)
}
