//! INT and TERM: exit 130, a checkpoint of the newest step, and the same bits and points when the run goes on.

use std::fs;

use super::end_during;
use super::life::{metrics, names, plan};
use crate::place::{Place, TINY};

/// Steps between two points of the metric log of a pretraining.
const LOG_EVERY: u64 = 10;

fn experiment(seed: u64) -> String {
    TINY.replace("clusters: 8 } }, steps: 6 }\nfine", "clusters: 8 } }, steps: 120 }\nfine")
        .replace("finetuning:\n  steps: 6", "finetuning:\n  steps: 250")
        .replace("validate-every: 3", "validate-every: 100")
        .replace("validate-every: 4", "validate-every: 50")
        .replace("seeds: [1]", &format!("seeds: [{seed}]"))
}

#[test]
fn a_stopped_training_has_a_checkpoint_of_its_newest_step_and_goes_on_to_the_same_bits() {
    let place = Place::with_corpus();
    for (seed, signals) in [(1, ["INT", "TERM"]), (2, ["TERM", "INT"])] {
        let file = format!("seed-{seed}.yaml");
        place.write(&file, &experiment(seed));
        let stages = plan(&place, &file, ".reprise");
        let key = |name: &str| stages.iter().find(|stage| stage.name == name).expect("a stage").key.clone();
        let trained = ["pretrain iteration 2", "finetune"];
        for (stage, signal) in trained.into_iter().zip(signals) {
            let (code, err) = end_during(&place, &file, stage, signal, false);
            assert_eq!(code, Some(130), "{signal} in {stage}\n{err}");
            let work = place.path(".reprise/stages").join(key(stage)).join("work");
            let step = |name: &String| name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse::<u64>().ok();
            let steps: Vec<u64> = names(&work.join("checkpoints")).iter().filter_map(step).collect();
            let [step] = steps[..] else { panic!("one checkpoint, because it was asked for: {steps:?}") };
            let log = reprise_spec::metrics::Log::decode(&fs::read(work.join("metrics.log")).unwrap());
            let logged = log.series.get("loss").and_then(|loss| loss.keys().last().copied()).unwrap_or(0);
            let apart = if stage == "finetune" { 1 } else { LOG_EVERY };
            assert!(logged <= step && step - logged < apart, "logged {logged}, checkpoint of {step}");
            assert!(!work.join("lease").exists(), "the lease was given back");
        }
        let said = place.reprise(&["run", &file]);
        assert_eq!(said.code, Some(0), "{said:#?}");
        assert!(said.err.contains("finetune: continuing, attempt 2"), "{}", said.err);
        assert_eq!(place.reprise(&["run", "--store", "straight", &file]).code, Some(0));
        assert_eq!(plan(&place, &file, ".reprise"), plan(&place, &file, "straight"));
        for stage in trained {
            let [stopped, straight] = [".reprise", "straight"].map(|store| metrics(&place.path(store), &key(stage)));
            assert_eq!((stopped.attempts, straight.attempts), (2, 1));
            assert_eq!(stopped.series, straight.series, "{stage}");
        }
    }
}
