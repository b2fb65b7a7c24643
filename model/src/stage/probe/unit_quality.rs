//! Agreement of units with aligned phones.

use std::fmt::Write;

use reprise_spec::arithmetic::{FRAME_STRIDE, SAMPLE_RATE, frame_centre};
use reprise_spec::contract::{Level, Score};
use reprise_spec::probing::UnitQuality;
use reprise_spec::stage::Role;
use reprise_spec::values::SplitName;
use serde::{Deserialize, Serialize};

use crate::alignment::{Alignments, phone_at};
use crate::failure::StageError;
use crate::labels::Codebook;
use crate::phone::INVENTORY;
use crate::quality::{self, Joint, Quality, Setting, Verdict};
use crate::source::{Source, Span};
use crate::stage::Work;

/// What the [`INVENTORY`] is called in the identity of a metric.
pub const INVENTORY_NAME: &str = "39 ARPAbet phones and silence";
/// Frames a second at which units are measured, whatever the rate of their labels.
pub const RATE: u32 = SAMPLE_RATE / FRAME_STRIDE as u32;

/// `quality.json`: units against the phones of some splits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measured {
    /// Pooled.
    pub splits: Vec<SplitName>,
    /// Utterances that were measured.
    pub utterances: u64,
    /// Utterances without alignment, left out.
    pub unaligned: u64,
    /// Frames where the aligner found no phone (`spn`), left out.
    pub unknown_frames: u64,
    pub quality: Quality,
}

/// Executes the stage.
pub fn run(settings: &UnitQuality, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let codebook = Codebook::read(work.input(&Role::Units)?, work.device)?;
    if let Some(split) = settings.splits.iter().find(|split| codebook.units.fit_on.contains(split)) {
        return Err(StageError::refused(
            format!("the units were fitted on {split}, so they cannot be measured on it"),
            "name other splits in `probing.unit-quality.splits`",
        ));
    }
    let mut source = Source::open(codebook.units.source, &settings.splits, work)?;
    let mut pairs = Vec::new();
    let (mut utterances, mut unaligned, mut unknown_frames) = (0, 0, 0);
    let mut alignments: Option<(SplitName, Alignments)> = None;
    for index in 0..source.spans.len() {
        work.report.check_stop()?;
        let Span { split, id, measured, .. } = source.spans[index].clone();
        if alignments.as_ref().is_none_or(|(of, _)| of != &split) {
            let read = Alignments::read(work.input(&Role::Alignments(split.clone()))?)?;
            alignments = Some((split.clone(), read));
        }
        let Some(phones) = alignments.as_ref().and_then(|(_, alignments)| alignments.phones(&id)) else {
            unaligned += 1;
            continue;
        };
        utterances += 1;
        let labels = codebook.assign(&source.read(index)?);
        for t in 0..measured {
            match phone_at(phones, frame_centre(t as u64)) {
                Some(phone) => pairs.push((phone.index() as u8, labels[label_of(t, codebook.units.rate)])),
                None => unknown_frames += 1,
            }
        }
        work.report.progress(index as u64 + 1, source.spans.len() as u64, "utterances", &id);
    }
    let setting = Setting {
        clusters: codebook.units.clusters,
        phones: INVENTORY.len() as u32,
        inventory: INVENTORY_NAME.into(),
        rate: RATE,
        frames: pairs.len() as u64,
    };
    let (quality, joint) = quality::measure(setting, &pairs, settings.null_draws.get());
    let scores = scores(&quality);
    if let Verdict::Refused { reason } = &quality.verdict {
        work.report.say(Level::Warning, reason.clone());
    }
    let splits = settings.splits.clone();
    let measured = Measured { splits, utterances, unaligned, unknown_frames, quality };
    let json = serde_json::to_vec_pretty(&measured).map_err(|error| StageError::Failed(error.to_string()))?;
    work.write("quality.json", &json)?;
    work.write("usage.tsv", usage(&joint).as_bytes())?;
    Ok(scores)
}

/// The label of frame `t` of 20 ms among labels of which there are `rate` a second: at 100 Hz every second one, at 25 Hz each twice.
fn label_of(t: usize, rate: u32) -> usize {
    t * rate as usize / RATE as usize
}

/// What listings show; a refused number is in `quality.json` only.
fn scores(quality: &Quality) -> Vec<Score> {
    let mut scores =
        vec![("frames", quality.setting.frames as f64), ("dead-clusters", f64::from(quality.dead_clusters))];
    if quality.verdict == Verdict::Sound {
        scores.extend([
            ("pnmi", quality.scores.pnmi),
            ("pnmi-null", quality.null.pnmi.mean),
            ("pnmi-corrected", quality.pnmi_corrected),
            ("phone-purity", quality.scores.phone_purity),
            ("phone-purity-null", quality.null.phone_purity.mean),
            ("cluster-purity", quality.scores.cluster_purity),
            ("cluster-purity-null", quality.null.cluster_purity.mean),
        ]);
    }
    scores.into_iter().map(|(name, value)| Score { name: name.into(), value, interval: None }).collect()
}

/// `usage.tsv`: frames of every cluster, the phone that most of them have, and how many do.
fn usage(joint: &Joint) -> String {
    let mut text = "cluster\tframes\tphone\tof-phone\n".to_owned();
    for (cluster, (frames, likeliest)) in joint.by_cluster().into_iter().zip(joint.likeliest_phones()).enumerate() {
        let (phone, most) = likeliest.map_or(("", 0), |(phone, most)| (INVENTORY[phone], most));
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{cluster}\t{frames}\t{phone}\t{most}");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reprise_spec::arithmetic::{frames, frames_at};

    use super::*;

    proptest! {
        #[test]
        fn every_frame_is_measured_once_with_the_label_that_covers_it(samples in 400u64..300_000) {
            for rate in [100, 50, 25] {
                let stride = u64::from(SAMPLE_RATE / rate);
                for t in 0..frames(samples) {
                    let label = label_of(t as usize, rate) as u64;
                    prop_assert!(label < frames_at(samples, stride));
                    prop_assert!((label * stride..(label + 1) * stride).contains(&(t * FRAME_STRIDE)));
                }
            }
        }
    }
}
