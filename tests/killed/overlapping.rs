//! Two processes on experiments that share most of their stages, killed and started again at random.

use std::collections::BTreeMap;
use std::time::Duration;

use super::life::{Chance, DEADLINE, Life, Planned, Word, assert_clean, kill, plan, read};
use crate::place::{Place, TINY};

const SEED: u64 = 10;

const ROUNDS: usize = 10;

/// Two experiments that share all but their fine-tuning; others for every generation.
fn experiments(generation: usize) -> [(String, String); 2] {
    [80, 110].map(|steps| {
        let text = TINY
            .replace("clusters: 8 } }, steps: 6 }", &format!("clusters: 8 }} }}, steps: {} }}", 60 + generation))
            .replace("finetuning:\n  steps: 6", &format!("finetuning:\n  steps: {steps}"))
            .replace("validate-every: 3", "validate-every: 50")
            .replace("validate-every: 4", "validate-every: 30");
        (format!("{generation}-{steps}.yaml"), text)
    })
}

/// One experiment, and the process that is at it.
struct Side {
    file: String,
    plan: Vec<Planned>,
    life: Option<Life>,
    /// Whether the trainer of the present life was killed.
    bereft: bool,
    done: bool,
    /// How often a process said that it finished a stage, by key.
    completed: BTreeMap<String, usize>,
}

impl Side {
    fn new(place: &Place, (file, text): (String, String)) -> Self {
        place.write(&file, &text);
        let plan = plan(place, &file, ".reprise");
        Self { file, plan, life: None, bereft: false, done: false, completed: BTreeMap::new() }
    }

    /// Starts a process unless one is at it, or it is done.
    fn start(&mut self, place: &Place) {
        if self.life.is_none() && !self.done {
            self.life = Some(Life::start(place, &self.file));
            self.bereft = false;
        }
    }

    /// Hears what the process says, for at most `patience`; the number of stages that it started.
    fn hear(&mut self, patience: Duration) -> usize {
        let mut started = 0;
        while let Some(line) = self.life.as_mut().and_then(|life| life.line(patience)) {
            started += usize::from(self.count(&line) == Some(Word::Started));
        }
        started
    }

    fn count(&mut self, line: &str) -> Option<Word> {
        let (number, word) = read(line)?;
        if word == Word::Finished {
            *self.completed.entry(self.plan[number - 1].key.clone()).or_default() += 1;
        }
        Some(word)
    }

    /// Takes note of a process that has ended, which it may only have done well, or because of what was done to it.
    fn reap(&mut self, killed: bool) {
        if !killed && !self.life.as_mut().is_some_and(Life::has_ended) {
            return;
        }
        let Some(life) = self.life.take() else { return };
        let before = life.said.len();
        let (status, said) = life.end();
        for line in said[before..].lines() {
            self.count(line);
        }
        self.done = status.code() == Some(0);
        let expected = match status.code() {
            Some(0) => true,
            Some(3) => self.bereft && said.contains("killed by signal 9"),
            Some(_) => false,
            None => killed,
        };
        assert!(expected, "{}: {status}\n{said}", self.file);
    }
}

#[test]
fn two_processes_on_overlapping_experiments_lose_nothing_and_complete_nothing_twice() {
    let place = Place::with_corpus();
    let mut chance = Chance(SEED);
    println!("seed {SEED}");
    let mut sides: Vec<Side> = Vec::new();
    let mut rounds = 0;
    let mut generation = 0;
    while rounds < ROUNDS {
        generation += 1;
        let mut pair = experiments(generation).map(|experiment| Side::new(&place, experiment));
        while rounds < ROUNDS && !pair.iter().all(|side| side.done) {
            pair.iter_mut().for_each(|side| side.start(&place));
            let mut started = 0;
            while started == 0 && pair.iter().any(|side| side.life.is_some()) {
                started = pair.iter_mut().map(|side| side.hear(Duration::from_millis(2))).sum();
                pair.iter_mut().for_each(|side| side.reap(false));
            }
            let longest = if chance.below(3) == 0 { 1200 } else { 250 };
            std::thread::sleep(chance.milliseconds(longest));
            let (first, what) = (chance.below(2) as usize, chance.below(5));
            let both = what == 0;
            let mut landed = Vec::new();
            for at in [first, 1 - first].into_iter().take(if both { 2 } else { 1 }) {
                let side = &mut pair[at];
                let Some(life) = &mut side.life else { continue };
                match (what, life.trainer()) {
                    (1 | 2, Some(trainer)) => {
                        kill(trainer);
                        side.bereft = true;
                        landed.push(format!("trainer of {}", side.file));
                    }
                    _ => {
                        kill(life.pid());
                        side.reap(true);
                        landed.push(side.file.clone());
                    }
                }
            }
            if !landed.is_empty() {
                rounds += 1;
                println!("round {rounds}: killed {}", landed.join(" and "));
            }
        }
        sides.extend(pair);
    }
    let start = std::time::Instant::now();
    while !sides.iter().all(|side| side.done) {
        assert!(start.elapsed() < DEADLINE, "a deadlock");
        for side in &mut sides {
            side.start(&place);
            side.hear(Duration::from_millis(2));
            side.reap(false);
        }
    }
    let mut completed: BTreeMap<&String, usize> = BTreeMap::new();
    for (key, count) in sides.iter().flat_map(|side| &side.completed) {
        *completed.entry(key).or_default() += count;
    }
    assert!(completed.values().all(|&count| count == 1), "{completed:?}");
    let plans: Vec<Vec<Planned>> = sides.iter().map(|side| side.plan.clone()).collect();
    assert_clean(&place.path(".reprise"), &plans);
    for side in &sides {
        assert_eq!(place.reprise(&["run", "--store", "straight", &side.file]).code, Some(0));
        let [both, straight] = [".reprise", "straight"].map(|store| plan(&place, &side.file, store));
        assert!(both.iter().all(|stage| stage.digest.is_some()));
        assert_eq!(both, straight);
    }
    let runs = place.json(&["list", "--json"]);
    let runs: Vec<_> = runs.as_array().unwrap().iter().map(|run| &run["status"]).collect();
    assert_eq!(runs, vec!["finished"; sides.len()], "one run an experiment");
}
