//! How a proposed change is shown.

use crate::cmd::print;
use crate::golden::{ALONE, Change, Entry};
use crate::inert;
use crate::measures::Address;

/// A metric, with its variant where there are several.
pub fn name(variant: &str, address: &Address) -> String {
    let name = if variant == ALONE { address.to_string() } else { format!("{variant}: {address}") };
    inert::terminal(&name).into_owned()
}

/// What was accepted and what is proposed, one above the other.
pub fn shown(variant: &str, address: &Address, before: Option<&Entry>, change: &Change) -> String {
    let name = name(variant, address);
    let (head, after) = match (change, before) {
        (Change::Set(entry), None) => (format!("{name}: new"), Some(entry)),
        (Change::Set(entry), Some(_)) => (format!("{name}: changed"), Some(entry)),
        (Change::Remove(because), _) => (format!("{name}: to be removed, {}", inert::terminal(because)), None),
    };
    let sides = [("golden", before), ("proposed", after)];
    let rows = sides.iter().flat_map(|(side, entry)| {
        entry.iter().flat_map(|entry| &entry.values).map(move |value| {
            let old = before.filter(|_| *side == "proposed");
            let old = old.and_then(|before| before.values.iter().find(|old| old.seed == value.seed));
            vec![
                (*side).to_owned(),
                value.seed.to_string(),
                value.value.to_string(),
                old.map_or_else(|| "-".into(), |old| format!("{:+}", value.value - old.value)),
                value.stage.short(),
                value.run.to_string(),
                value.made_with.clone(),
            ]
        })
    });
    let header = ["", "seed", "value", "difference", "stage", "run", "made with"];
    let mut lines = vec![head, print::table(&header, &[1, 2, 3], rows.collect())];
    let tolerances = [before, after].map(|entry| entry.map(|entry| entry.tolerance.to_string()));
    lines.push(match tolerances {
        [Some(old), Some(new)] if old != new => format!("allowed: {new}, before: {old}"),
        [Some(one), _] | [None, Some(one)] => format!("allowed: {one}"),
        [None, None] => String::new(),
    });
    if let Some(bypass) = before.and_then(|entry| entry.bypass.as_ref()) {
        lines.push(format!("ends the bypass of {}: {}", bypass.since, inert::terminal(&bypass.because)));
    }
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}
