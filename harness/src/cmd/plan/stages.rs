//! The stages of a plan, as people read them.

use std::collections::BTreeSet;

use reprise_spec::experiment::Experiment;

use super::super::print;
use crate::outlook::Outlook;
use crate::plan::{Node, Plan};

/// One row a stage: what it is, which variants and seed need it, what it reads, and what a run would do with it.
pub fn shown(experiment: &Experiment, plan: &Plan, outlooks: &[Outlook]) -> String {
    let (many, several) = (experiment.seeds.len() > 1, experiment.variants.len() > 1);
    let names: Vec<&str> = experiment.variants.iter().map(|variant| variant.name.as_str()).collect();
    let mut header = vec!["#", "stage"];
    header.extend(several.then_some("of"));
    header.extend(many.then_some("seed"));
    header.extend(["reads", "key", "outlook"]);
    let rows = plan
        .nodes
        .iter()
        .zip(outlooks)
        .enumerate()
        .map(|(index, (node, outlook))| {
            let mut inputs: Vec<String> = node.inputs.iter().map(|edge| (edge.node + 1).to_string()).collect();
            // A language model can be the lexicon as well.
            inputs.dedup();
            let mut row = vec![(index + 1).to_string(), node.name.clone()];
            row.extend(several.then(|| needing(node, &names)));
            row.extend(many.then(|| node.seed.map_or(String::new(), |seed| seed.to_string())));
            row.push(inputs.join(" "));
            row.push(node.key.map_or("unknown".into(), |key| key.short()));
            row.push(outlook.to_string());
            row
        })
        .collect();
    print::table(&header, &[0], rows)
}

/// The variants that need a stage, or those that don't where that is shorter to say.
fn needing(node: &Node, variants: &[&str]) -> String {
    let needed: BTreeSet<usize> = node.runs.iter().map(|need| need.run.variant).collect();
    named(&needed, variants)
}

fn named(needed: &BTreeSet<usize>, variants: &[&str]) -> String {
    let listed = |wanted: bool| -> String {
        let places = (0..variants.len()).filter(|place| needed.contains(place) == wanted);
        places.map(|place| variants[place]).collect::<Vec<_>>().join(", ")
    };
    if needed.len() == variants.len() {
        return "all".into();
    }
    let (of, others) = (listed(true), format!("all but {}", listed(false)));
    if others.len() < of.len() { others } else { of }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_way_to_name_variants_is_taken() {
        let variants = ["baseline", "height 4", "height 6", "scratch"];
        let said = |needed: &[usize]| named(&needed.iter().copied().collect(), &variants);
        assert_eq!(said(&[0, 1, 2, 3]), "all");
        assert_eq!(said(&[0, 1, 2]), "all but scratch");
        assert_eq!(said(&[1, 3]), "height 4, scratch");
        assert_eq!(said(&[0]), "baseline");
    }
}
