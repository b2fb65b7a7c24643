//! The numbers that stages stored as their scores, for many runs at once.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;

use reprise_spec::identity::{OutputDigest, StageKey};

use super::{ID, Names, Reader, Scan, Stamp, Writer, id_bytes, load, read_stamped, side_by_side};
use crate::measures::Address;
use crate::store::{Manifest, RunRecord, Store, StoreError, StoredOutput, Summarised, manifest, run};

const FILE: &str = "numbers";
const MAGIC: [u8; 8] = *b"RPRnums1";

/// The scores of runs by address. They come from the manifests of stored outputs; what a layer-wise analysis found at each layer isn't among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers {
    /// Every address that a run has a number of, sorted.
    pub addresses: Vec<Address>,
    /// For each run that was asked for: places in `addresses`, ascending, and numbers.
    pub rows: Vec<Vec<(usize, f64)>>,
}

/// An entry for an output; its scores are a range of those of the index.
#[derive(Clone, Copy)]
struct Output {
    key: [u8; 32],
    digest: [u8; 32],
    /// Of its manifest; the default, which no file has, where it has to be read again.
    stamp: Stamp,
    scores: (u32, u32),
}

/// An entry for a run; its stages are a range of those of the index.
#[derive(Clone, Copy)]
struct Run {
    id: [u8; ID],
    /// Of its record.
    stamp: Stamp,
    stages: (u32, u32),
}

/// What is known of runs and outputs, and what a listing adds.
#[derive(Default)]
struct Known {
    names: Names,
    outputs: Vec<Output>,
    /// Name of the score, and its value.
    scores: Vec<(u32, f64)>,
    /// Ascending in id as they were stored; those that were read again behind them.
    runs: Vec<Run>,
    stored: usize,
    /// Name of the stage, and its output.
    stages: Vec<(u32, u32)>,
    /// Outputs by key and digest; made when it is first needed.
    by_digest: HashMap<([u8; 32], [u8; 32]), u32>,
}

/// The stages of a run that have an output, as its record names them.
type Stages = Vec<(String, StageKey, OutputDigest)>;

/// The scores of an output, with the stamp of the manifest that they are from where they may be kept.
type Scores = (Vec<(String, f64)>, Option<Stamp>);

impl Known {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut known = Self { names: reader.names()?, ..Self::default() };
        let range = |count: usize, of: usize| Some((u32::try_from(of).ok()?, u32::try_from(of + count).ok()?));
        let outputs = reader.count(64 + Stamp::BYTES + 4)?;
        known.outputs.reserve_exact(outputs);
        known.scores.reserve(outputs);
        for _ in 0..outputs {
            let (key, digest, stamp) = (reader.bytes()?, reader.bytes()?, reader.stamp()?);
            let count = reader.count(12)?;
            let scores = range(count, known.scores.len())?;
            for _ in 0..count {
                let (name, value) = (reader.u32()?, reader.f64()?);
                known.names.get(name)?;
                known.scores.push((name, value));
            }
            known.outputs.push(Output { key, digest, stamp, scores });
        }
        let runs = reader.count(ID + Stamp::BYTES + 4)?;
        known.runs.reserve_exact(runs);
        known.stages.reserve(reader.0.len().saturating_sub(runs * (ID + Stamp::BYTES + 4)) / 8);
        for _ in 0..runs {
            let (id, stamp) = (reader.bytes()?, reader.stamp()?);
            let count = reader.count(8)?;
            let stages = range(count, known.stages.len())?;
            for _ in 0..count {
                let (name, output) = (reader.u32()?, reader.u32()?);
                known.names.get(name).and(known.outputs.get(output as usize))?;
                known.stages.push((name, output));
            }
            known.runs.push(Run { id, stamp, stages });
        }
        known.stored = known.runs.len();
        (reader.0.is_empty() && known.runs.is_sorted_by(|a, b| a.id < b.id)).then_some(known)
    }

    /// The body of a file with these runs, and with the outputs that they have.
    fn body(&self, runs: &[Run]) -> Vec<u8> {
        let mut places = vec![u32::MAX; self.outputs.len()];
        let mut used = Vec::new();
        for (_, output) in runs.iter().flat_map(|run| self.stages_of(run)) {
            if places[*output as usize] == u32::MAX {
                places[*output as usize] = used.len() as u32;
                used.push(&self.outputs[*output as usize]);
            }
        }
        let mut writer = Writer::default();
        writer.names(&self.names);
        writer.u32(used.len() as u32);
        for output in used {
            writer.bytes(&output.key);
            writer.bytes(&output.digest);
            writer.stamp(output.stamp);
            let scores = self.scores_of(output);
            writer.u32(scores.len() as u32);
            for (name, value) in scores {
                writer.u32(*name);
                writer.f64(*value);
            }
        }
        writer.u32(runs.len() as u32);
        for run in runs {
            writer.bytes(&run.id);
            writer.stamp(run.stamp);
            let stages = self.stages_of(run);
            writer.u32(stages.len() as u32);
            for (name, output) in stages {
                writer.u32(*name);
                writer.u32(places[*output as usize]);
            }
        }
        writer.0
    }

    fn stages_of(&self, run: &Run) -> &[(u32, u32)] {
        &self.stages[run.stages.0 as usize..run.stages.1 as usize]
    }

    fn scores_of(&self, output: &Output) -> &[(u32, f64)] {
        &self.scores[output.scores.0 as usize..output.scores.1 as usize]
    }

    /// The place of a run that was stored; it is looked for at `near` first.
    fn run(&self, id: &str, near: usize) -> Option<usize> {
        let stored = &self.runs[..self.stored];
        match stored.get(near) {
            Some(run) if run.id == *id.as_bytes() => Some(near),
            _ => stored.binary_search_by(|run| run.id.as_slice().cmp(id.as_bytes())).ok(),
        }
    }

    /// Adds a run that was read, and its place.
    fn add_run(&mut self, id: [u8; ID], stamp: Stamp, stages: &Stages) -> usize {
        if self.by_digest.is_empty() {
            let outputs = (0..).zip(&self.outputs);
            self.by_digest = outputs.map(|(place, output)| ((output.key, output.digest), place)).collect();
        }
        let from = self.stages.len() as u32;
        for (name, key, digest) in stages {
            let name = self.names.number(name);
            let output = *self.by_digest.entry((key.0, digest.0)).or_insert_with(|| {
                self.outputs.push(Output { key: key.0, digest: digest.0, stamp: Stamp::default(), scores: (0, 0) });
                self.outputs.len() as u32 - 1
            });
            self.stages.push((name, output));
        }
        self.runs.push(Run { id, stamp, stages: (from, self.stages.len() as u32) });
        self.runs.len() - 1
    }

    /// Replaces what is known of an output.
    fn set_output(&mut self, place: usize, scores: &[(String, f64)], stamp: Stamp) {
        let from = self.scores.len() as u32;
        for (name, value) in scores {
            let name = self.names.number(name);
            self.scores.push((name, *value));
        }
        self.outputs[place].scores = (from, self.scores.len() as u32);
        self.outputs[place].stamp = stamp;
    }
}

/// How far what the index says of outputs is believed. What it says of runs is always compared with their records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    /// Only while the manifest is the one that was read.
    Checked,
    /// Whatever became of the manifest: an output is never written twice, but somebody may have removed it. To be followed by a look at what is shown.
    Unchecked,
}

impl Store {
    /// The scores of these runs; only those at one address where one is given.
    ///
    /// # Errors
    /// When the folder of runs is there and can't be listed.
    pub fn numbers(&self, runs: &[Summarised], only: Option<&Address>, belief: Belief) -> Result<Numbers, StoreError> {
        let mut known = load(self, FILE, MAGIC, Known::read).unwrap_or_default();
        let mut near = known.stored;
        let kept_of = |run: &Summarised| {
            near = known.run(&run.id, near.wrapping_sub(1))?;
            (run.stamp == Some(known.runs[near].stamp)).then_some(near)
        };
        let mut places: Vec<Option<usize>> = runs.iter().map(kept_of).collect();
        let unread: Vec<usize> = (0..runs.len()).filter(|at| places[*at].is_none()).collect();
        // Whether it is worth keeping is known before outputs are looked at only of the runs: each has one to read as a rule.
        let mut scan = Scan::begin(self, unread.len());
        let read = side_by_side(&unread, |at| self.stages_of(&runs[*at].id));
        let mut kept = Vec::new();
        for (at, (stages, stamp)) in unread.iter().zip(&read) {
            let settled = stamp.filter(|stamp| scan.as_ref().is_some_and(|scan| scan.settled(*stamp)));
            let id = id_bytes(&runs[*at].id);
            let place = known.add_run(id.unwrap_or([0; ID]), stamp.unwrap_or_default(), stages);
            kept.extend(id.and(settled).map(|_| place));
            places[*at] = Some(place);
        }
        // A stage that isn't asked for isn't looked at.
        let stage = only.map(|only| known.names.find(&only.stage));
        let asked = |name: u32| stage.is_none_or(|stage| stage == Some(name));
        let mut wanted = vec![false; known.outputs.len()];
        for place in places.iter().flatten() {
            let stages = known.stages_of(&known.runs[*place]).iter();
            stages.filter(|(name, _)| asked(*name)).for_each(|(_, output)| wanted[*output as usize] = true);
        }
        let wanted: Vec<usize> = (0..wanted.len()).filter(|place| wanted[*place]).collect();
        let fresh = side_by_side(&wanted, |place| {
            let output = &known.outputs[*place];
            let found = || belief == Belief::Unchecked || Stamp::of(&self.manifest_of(output)) == Some(output.stamp);
            output.stamp != Stamp::default() && found()
        });
        let stale: Vec<usize> =
            wanted.iter().zip(fresh).filter_map(|(place, fresh)| (!fresh).then_some(*place)).collect();
        scan = scan.or_else(|| Scan::begin(self, stale.len()));
        let found = side_by_side(&stale, |place| self.scores_of(&known.outputs[*place]));
        let mut learnt = 0;
        for (place, (scores, stamp)) in stale.iter().zip(&found) {
            let settled = stamp.filter(|stamp| scan.as_ref().is_some_and(|scan| scan.settled(*stamp)));
            learnt += usize::from(settled.is_some());
            known.set_output(*place, scores, settled.unwrap_or_default());
        }
        let numbers = Numbers::of(&known, &places, only);
        if let Some(scan) = scan.filter(|_| learnt + kept.len() >= super::WORTH) {
            self.keep(&known, &kept, scan)?;
        }
        Ok(numbers)
    }

    /// Writes the index: what is known of runs that are still there, and those that were read again.
    fn keep(&self, known: &Known, read: &[usize], scan: Scan) -> Result<(), StoreError> {
        let mut runs: BTreeMap<[u8; ID], Run> = BTreeMap::new();
        for id in self.run_ids()? {
            runs.extend(known.run(&id, usize::MAX).map(|place| (known.runs[place].id, known.runs[place])));
        }
        runs.extend(read.iter().map(|place| (known.runs[*place].id, known.runs[*place])));
        scan.save(self, FILE, MAGIC, &known.body(&runs.into_values().collect::<Vec<_>>()));
        Ok(())
    }

    /// The stages of a run that have an output, with the stamp of its record. None of a damaged one.
    fn stages_of(&self, id: &str) -> (Stages, Option<Stamp>) {
        let path = self.root().join("runs").join(id).join(run::FILE);
        let Ok((bytes, stamp)) = read_stamped(&path) else { return (Stages::new(), None) };
        let Ok(record) = Store::checked(id, RunRecord::parse(&path, &bytes)) else { return (Stages::new(), None) };
        let stages = record.stages.into_iter();
        let made = stages.filter_map(|stage| stage.state.digest().map(|digest| (stage.name, stage.key, digest)));
        (made.collect(), stamp)
    }

    fn manifest_of(&self, output: &Output) -> PathBuf {
        let digest = OutputDigest(output.digest).short();
        self.stage_folder(&StageKey(output.key)).join(digest).join(manifest::FILE)
    }

    /// The scores of an output, read from its manifest.
    fn scores_of(&self, output: &Output) -> Scores {
        let scores =
            |manifest: &Manifest| manifest.summary.iter().map(|score| (score.name.clone(), score.value)).collect();
        let (key, digest) = (StageKey(output.key), OutputDigest(output.digest));
        let path = self.manifest_of(output);
        let stamped = read_stamped(&path).ok().and_then(|(bytes, stamp)| {
            let manifest = Manifest::parse(&path, &bytes).ok()?;
            let folder = path.parent()?.to_path_buf();
            let stored = StoredOutput { path: folder, manifest };
            let whole = stored.manifest.key == key && stored.manifest.digest == digest && stored.is_readable();
            whole.then(|| (scores(&stored.manifest), stamp))
        });
        // Where the folder of that name is damaged or gone, the same output may lie in another.
        stamped.unwrap_or_else(|| {
            let elsewhere = fs::symlink_metadata(self.stage_folder(&key)).ok().and_then(|_| self.output(&key, &digest));
            (elsewhere.map(|stored| scores(&stored.manifest)).unwrap_or_default(), None)
        })
    }
}

impl Numbers {
    fn of(known: &Known, places: &[Option<usize>], only: Option<&Address>) -> Self {
        let mut columns: HashMap<(u32, u32), usize> = HashMap::new();
        let mut all: Vec<Address> = Vec::new();
        let only = only.map(|only| (known.names.find(&only.stage), known.names.find(&only.metric)));
        let wanted = |stage: u32, score: u32| only.is_none_or(|only| only == (Some(stage), Some(score)));
        let mut rows: Vec<Vec<(usize, f64)>> = Vec::with_capacity(places.len());
        for place in places {
            let mut row = Vec::new();
            for (stage, output) in place.iter().flat_map(|place| known.stages_of(&known.runs[*place])) {
                for (score, value) in known.scores_of(&known.outputs[*output as usize]) {
                    let pair = (*stage, *score);
                    let column = match columns.get(&pair) {
                        Some(column) => *column,
                        None if !wanted(*stage, *score) => continue,
                        None => {
                            let name = |number| known.names.get(number).unwrap_or_default();
                            all.push(Address::new(name(*stage), name(*score)));
                            *columns.entry(pair).or_insert(all.len() - 1)
                        }
                    };
                    row.push((column, *value));
                }
            }
            rows.push(row);
        }
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_unstable_by(|a, b| all[*a].cmp(&all[*b]));
        let mut ranks = vec![0; all.len()];
        order.iter().enumerate().for_each(|(rank, column)| ranks[*column] = rank);
        for row in &mut rows {
            row.iter_mut().for_each(|(column, _)| *column = ranks[*column]);
            row.sort_by_key(|(column, _)| *column);
            // Of a score that a stage told twice the later value.
            row.dedup_by(|later, earlier| {
                let same = later.0 == earlier.0;
                if same {
                    *earlier = *later;
                }
                same
            });
        }
        let addresses = order.into_iter().map(|column| all[column].clone()).collect();
        Self { addresses, rows }
    }

    /// A run's number at an address.
    pub fn get(&self, row: usize, address: &Address) -> Option<f64> {
        let column = self.addresses.binary_search(address).ok()?;
        let row = self.rows.get(row)?;
        row.binary_search_by_key(&column, |(column, _)| *column).ok().map(|at| row[at].1)
    }
}
