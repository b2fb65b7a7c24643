//! SIGKILL at twenty points over a whole experiment: the outputs are those of a run that nobody disturbed, and nothing is left behind.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use super::life::{Chance, Life, Planned, Word, assert_clean, is_at_work, kill, metrics, names, plan};
use crate::place::{Place, TINY};

const SEED: u64 = 20;

const KILLS: usize = 20;

/// When to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Once the stage has said that it is finished.
    Between,
    /// So long after its trainer was started.
    Within(Duration),
    /// While its trainer writes a checkpoint: one that is due, or after so long one that it is asked for.
    Checkpoint(Duration),
    /// So long after its trainer has ended: while the output is digested, flushed and renamed.
    End(Duration),
}

/// Which processes to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Harness,
    Trainer,
    Both,
}

/// Where a kill landed, by what it left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Landing {
    Between,
    Within,
    Checkpoint,
    End,
}

/// The tiny experiment with training that lasts for some checkpoints, and weights that take a while to write.
fn experiment() -> String {
    TINY.replace("feed-forward: 64", "feed-forward: 2048")
        .replace("clusters: 8 } }, steps: 6 }", "clusters: 8 } }, steps: 90 }")
        .replace("finetuning:\n  steps: 6", "finetuning:\n  steps: 150")
        .replace("validate-every: 3", "validate-every: 50")
        .replace("validate-every: 4", "validate-every: 30")
}

/// What is to be killed when, by the number of the stage. The last stage takes those that are left of twenty.
fn kills(plan: &[Planned], chance: &mut Chance) -> BTreeMap<usize, VecDeque<(Moment, Victim)>> {
    let trains = |name: &str| name.starts_with("pretrain") || name == "finetune";
    let mut all = BTreeMap::new();
    for (number, stage) in (1..=plan.len()).zip(plan) {
        let either = if chance.below(2) == 0 { Victim::Harness } else { Victim::Trainer };
        let writer = if chance.below(2) == 0 { Victim::Trainer } else { Victim::Both };
        let within = (Moment::Within(chance.milliseconds(350)), either);
        let end = (Moment::End(chance.milliseconds(60)), Victim::Harness);
        let kills = match () {
            () if number == plan.len() => vec![within; KILLS],
            () if trains(&stage.name) => {
                let later = Moment::Within(Duration::from_millis(300) + chance.milliseconds(900));
                vec![(later, either), (Moment::Checkpoint(chance.milliseconds(1200)), writer), end]
            }
            () => match chance.below(4) {
                0 => vec![(Moment::Between, Victim::Harness)],
                1 => vec![within],
                2 => vec![end],
                _ => Vec::new(),
            },
        };
        all.insert(number, VecDeque::from(kills));
    }
    all
}

/// Runs the experiment until a stage is started in which something is to be killed, and kills. Gives the stage, the kill and where it landed;
/// `None` when the run has ended before.
fn run_and_kill(
    place: &Place,
    plan: &[Planned],
    kills: &mut BTreeMap<usize, VecDeque<(Moment, Victim)>>,
) -> Option<(usize, (Moment, Victim), Landing)> {
    let mut life = Life::start(place, "some.yaml");
    let number = life.until(|number, word| word == Word::Started && !kills[&number].is_empty())?;
    let (moment, victim) = kills.get_mut(&number)?.pop_front()?;
    let stages = place.path(".reprise/stages");
    let stage = stages.join(&plan[number - 1].key);
    let checkpoints = stage.join("work/checkpoints");
    let before = partial(&checkpoints);
    let is_writing = || partial(&checkpoints).iter().any(|file| !before.contains(file));
    let trainer = trainer_at_work(&mut life);
    match moment {
        Moment::Between => {
            life.until(|_, word| word == Word::Finished);
        }
        Moment::Within(delay) => std::thread::sleep(delay),
        Moment::Checkpoint(patience) => {
            let ended = || !trainer.is_some_and(is_at_work);
            life.until(|_, word| matches!(word, Word::Other | Word::Finished)); // what it trains on
            let begun = Instant::now();
            life.watch(|| (is_writing() || ended() || begun.elapsed() >= patience).then_some(()));
            if !is_writing() {
                trainer.and_then(Pid::from_raw).map(|pid| kill_process(pid, Signal::TERM));
            }
            life.watch(|| (is_writing() || ended()).then_some(()));
        }
        Moment::End(delay) => {
            life.watch(|| (!trainer.is_some_and(is_at_work)).then_some(()));
            std::thread::sleep(delay);
        }
    }
    let computed = !trainer.is_some_and(is_at_work);
    let (harness, trainer) = (life.pid(), trainer.unwrap_or_default());
    match victim {
        Victim::Trainer if !computed => kill(trainer),
        Victim::Both => [trainer, harness].map(kill).into_iter().for_each(drop),
        Victim::Trainer | Victim::Harness => kill(harness),
    }
    let is_at_work = |stage: &Path| stage.join("work/request.json").exists();
    let published = |name: &String| name != "work" && stage.join(name).join("lease").exists();
    let landing = match () {
        () if is_writing() => Landing::Checkpoint,
        () if computed && (is_at_work(&stage) || names(&stage).iter().any(published)) => Landing::End,
        () if !names(&stages).iter().any(|key| is_at_work(&stages.join(key))) => Landing::Between,
        () => Landing::Within,
    };
    let (status, said) = life.end();
    let expected = match status.code() {
        None | Some(0) => true,
        Some(3) => said.contains("killed by signal 9"),
        Some(_) => false,
    };
    assert!(expected, "{status}\n{said}");
    (status.code() != Some(0)).then_some((number, (moment, victim), landing))
}

/// Checkpoints that are being written, or were when somebody was killed: names and when they last changed.
fn partial(checkpoints: &Path) -> Vec<(String, Option<SystemTime>)> {
    let changed = |name: &String| fs::metadata(checkpoints.join(name)).and_then(|file| file.modified()).ok();
    let written = names(checkpoints).into_iter().filter(|name| name.ends_with(".partial"));
    written.map(|name| (name.clone(), changed(&name))).collect()
}

/// The trainer of a stage that was just announced.
fn trainer_at_work(life: &mut Life) -> Option<i32> {
    let pid = life.pid() as u32;
    life.watch(|| super::trainer_of(pid))
}

#[test]
fn an_experiment_that_is_killed_at_twenty_points_ends_with_the_bits_of_one_that_was_not() {
    let place = Place::with_corpus();
    place.write("some.yaml", &experiment());
    let planned = plan(&place, "some.yaml", ".reprise");
    let mut landed: BTreeMap<Landing, usize> = BTreeMap::new();
    println!("seed {SEED}");
    let mut kills = kills(&planned, &mut Chance(SEED));
    for _ in 0..KILLS {
        let Some((number, kill, landing)) = run_and_kill(&place, &planned, &mut kills) else { break };
        println!("{}: {kill:?} landed {landing:?}", planned[number - 1].name);
        *landed.entry(landing).or_default() += 1;
    }
    println!("{landed:?}");
    assert_eq!(landed.values().sum::<usize>(), KILLS, "{landed:?}");
    assert_eq!(landed.len(), 4, "every kind of point was hit: {landed:?}");

    let said = place.reprise(&["run", "some.yaml"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(place.reprise(&["run", "--store", "straight", "some.yaml"]).code, Some(0));
    let (killed, straight) = (plan(&place, "some.yaml", ".reprise"), plan(&place, "some.yaml", "straight"));
    assert!(killed.iter().all(|stage| stage.digest.is_some()));
    assert_eq!(killed, straight);
    for stage in &planned {
        let [killed, straight] = [".reprise", "straight"].map(|store| metrics(&place.path(store), &stage.key).series);
        assert_eq!(killed, straight, "{}: no point is lost, doubled or superseded by another value", stage.name);
    }
    assert_clean(&place.path(".reprise"), &[planned]);
    let runs = place.json(&["list", "--json"]);
    let states: Vec<_> = runs.as_array().unwrap().iter().map(|run| &run["status"]).collect();
    assert_eq!(states, ["finished"], "one run went on through all of its lives");
}
