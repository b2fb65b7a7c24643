//! What a listing shows of a run, of a fixed size whatever the run has stored.

use std::path::Path;

use reprise_spec::identity::{SpecHash, VariantHash};

use super::{ID, Names, Reader, Scan, Stamp, Writer, id_bytes, load, read_stamped, side_by_side};
use crate::store::{ListedRun, RunRecord, Seen, Store, StoreError, run};

const FILE: &str = "runs";
const MAGIC: [u8; 8] = *b"RPRruns1";

/// What a listing shows of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub experiment: String,
    pub spec: SpecHash,
    pub variant: VariantHash,
    /// Empty where the experiment has one variant alone.
    pub variant_name: String,
    pub seed: u64,
    pub seen: Seen,
    /// Stages that have an output, and all.
    pub done: u32,
    pub stages: u32,
    /// See [`RunRecord::seconds`].
    pub seconds: Option<f64>,
}

impl Summary {
    pub fn of(record: &RunRecord) -> Self {
        Self {
            experiment: record.experiment.clone(),
            spec: record.spec,
            variant: record.variant,
            variant_name: record.variant_name.clone(),
            seed: record.seed,
            seen: record.seen(),
            done: record.stages.iter().filter(|stage| stage.state.digest().is_some()).count() as u32,
            stages: record.stages.len() as u32,
            seconds: record.seconds(),
        }
    }

    /// Whether nothing but another record changes it: a run that goes on is judged by its process.
    fn lasts(&self) -> bool {
        matches!(self.seen, Seen::Finished | Seen::Failed | Seen::Interrupted)
    }
}

/// A run of a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct Summarised {
    /// The name of its folder.
    pub id: String,
    /// What is shown of it, or what is wrong with its record.
    pub summary: Result<Summary, String>,
    /// Of the record as it was looked at, where it could be read and stood still meanwhile.
    pub(super) stamp: Option<Stamp>,
}

impl Summarised {
    /// The state as an observer sees it.
    pub fn seen(&self) -> Seen {
        self.summary.as_ref().map_or(Seen::Damaged, |summary| summary.seen)
    }
}

/// An entry of the index; names are numbers of its table.
#[derive(Clone, Copy)]
struct Entry {
    id: [u8; ID],
    stamp: Stamp,
    experiment: u32,
    variant_name: u32,
    spec: [u8; 32],
    variant: [u8; 32],
    seed: u64,
    seen: Seen,
    done: u32,
    stages: u32,
    /// NaN where none is known.
    seconds: f64,
}

impl Entry {
    const BYTES: usize = ID + Stamp::BYTES + 4 + 4 + 32 + 32 + 8 + 4 + 4 + 4 + 8;

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            id: reader.bytes()?,
            stamp: reader.stamp()?,
            experiment: reader.u32()?,
            variant_name: reader.u32()?,
            spec: reader.bytes()?,
            variant: reader.bytes()?,
            seed: reader.u64()?,
            seen: match reader.u32()? {
                0 => Seen::Finished,
                1 => Seen::Failed,
                2 => Seen::Interrupted,
                _ => return None,
            },
            done: reader.u32()?,
            stages: reader.u32()?,
            seconds: reader.f64()?,
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer.bytes(&self.id);
        writer.stamp(self.stamp);
        writer.u32(self.experiment);
        writer.u32(self.variant_name);
        writer.bytes(&self.spec);
        writer.bytes(&self.variant);
        writer.u64(self.seed);
        writer.u32(match self.seen {
            Seen::Failed => 1,
            Seen::Interrupted => 2,
            _ => 0,
        });
        writer.u32(self.done);
        writer.u32(self.stages);
        writer.f64(self.seconds);
    }
}

/// The entries of the index, newest run first.
#[derive(Default)]
struct Summaries {
    names: Names,
    entries: Vec<Entry>,
}

impl Summaries {
    fn load(store: &Store) -> Self {
        load(store, FILE, MAGIC, Self::read).unwrap_or_default()
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let names = reader.names()?;
        let count = reader.count(Entry::BYTES)?;
        let entries = (0..count).map(|_| Entry::read(reader)).collect::<Option<Vec<_>>>()?;
        let named = |entry: &Entry| names.get(entry.experiment).and(names.get(entry.variant_name)).is_some();
        let whole = reader.0.is_empty() && entries.is_sorted_by(|a, b| a.id > b.id) && entries.iter().all(named);
        whole.then_some(Self { names, entries })
    }

    fn body(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.names(&self.names);
        writer.u32(self.entries.len() as u32);
        self.entries.iter().for_each(|entry| entry.write(&mut writer));
        writer.0
    }

    fn entry(&self, id: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| id.as_bytes().cmp(&entry.id)).ok()?;
        Some(&self.entries[at])
    }

    /// What is known of a run whose record has this stamp.
    fn fresh(&self, id: &str, stamp: Stamp) -> Option<Summary> {
        let entry = self.entry(id).filter(|entry| entry.stamp == stamp)?;
        Some(Summary {
            experiment: self.names.get(entry.experiment)?.to_owned(),
            spec: SpecHash(entry.spec),
            variant: VariantHash(entry.variant),
            variant_name: self.names.get(entry.variant_name)?.to_owned(),
            seed: entry.seed,
            seen: entry.seen,
            done: entry.done,
            stages: entry.stages,
            seconds: Some(entry.seconds).filter(|seconds| !seconds.is_nan()),
        })
    }

    /// The same with these entries, without runs that are gone. `ids` are all runs there are, newest first.
    fn with(self, new: Vec<(&str, Stamp, &Summary)>, ids: &[String]) -> Self {
        let mut names = Names::default();
        let mut new = new.into_iter().peekable();
        let mut entries = Vec::with_capacity(ids.len());
        for id in ids {
            let entry = match new.next_if(|(of, ..)| of == id) {
                Some((_, stamp, summary)) => id_bytes(id).map(|id| Entry {
                    id,
                    stamp,
                    experiment: names.number(&summary.experiment),
                    variant_name: names.number(&summary.variant_name),
                    spec: summary.spec.0,
                    variant: summary.variant.0,
                    seed: summary.seed,
                    seen: summary.seen,
                    done: summary.done,
                    stages: summary.stages,
                    seconds: summary.seconds.unwrap_or(f64::NAN),
                }),
                None => self.entry(id).and_then(|entry| {
                    let (experiment, variant_name) =
                        (self.names.get(entry.experiment)?, self.names.get(entry.variant_name)?);
                    let (experiment, variant_name) = (names.number(experiment), names.number(variant_name));
                    Some(Entry { experiment, variant_name, ..*entry })
                }),
            };
            entries.extend(entry);
        }
        Self { names, entries }
    }
}

impl Store {
    /// What listings show of the runs, newest first, damaged ones included; of the newest `limit` runs where one is given. A store that doesn't exist
    /// has none.
    ///
    /// # Errors
    /// When the folder of runs is there and can't be listed.
    pub fn summaries(&self, limit: Option<usize>) -> Result<Vec<Summarised>, StoreError> {
        let ids = self.run_ids()?;
        let shown = &ids[..limit.unwrap_or(ids.len()).min(ids.len())];
        let runs = self.root().join("runs");
        let record = |id: &String| runs.join(id).join(run::FILE);
        let index = Summaries::load(self);
        let mut known = side_by_side(shown, |id| {
            let stamp = index.entry(id).and(Stamp::of(&record(id)))?;
            index.fresh(id, stamp).map(|summary| (Ok(summary), Some(stamp)))
        });
        let unread: Vec<usize> = (0..shown.len()).filter(|at| known[*at].is_none()).collect();
        let scan = Scan::begin(self, unread.len());
        let read = side_by_side(&unread, |at| self.summarised(&shown[*at], &record(&shown[*at])));
        if let Some(scan) = scan {
            let lasting = |(at, (summary, stamp)): (&usize, &(Result<Summary, String>, Option<Stamp>))| {
                let (summary, stamp) = (summary.as_ref().ok()?, stamp.filter(|stamp| scan.settled(*stamp))?);
                summary.lasts().then(|| (shown[*at].as_str(), stamp, summary.clone()))
            };
            let new: Vec<_> = unread.iter().zip(&read).filter_map(lasting).collect();
            if !new.is_empty() {
                let index = index.with(new.iter().map(|(id, stamp, summary)| (*id, *stamp, summary)).collect(), &ids);
                scan.save(self, FILE, MAGIC, &index.body());
            }
        }
        let mut read = read.into_iter();
        let listed = shown.iter().zip(&mut known).filter_map(|(id, known)| {
            let (summary, stamp) = known.take().or_else(|| read.next())?;
            Some(Summarised { id: id.clone(), summary, stamp })
        });
        Ok(listed.collect())
    }

    /// The records of those runs whose summary passes, newest first. Damaged runs have none.
    ///
    /// # Errors
    /// When the folder of runs is there and can't be listed.
    pub fn records(&self, wanted: impl Fn(&Summary) -> bool) -> Result<impl Iterator<Item = RunRecord>, StoreError> {
        let runs = self.summaries(None)?.into_iter();
        let wanted = runs.filter(move |run| run.summary.as_ref().is_ok_and(&wanted)).map(|run| run.id);
        Ok(wanted.filter_map(|id| self.listed(id).record.ok()))
    }

    /// The summary of a run by its record, with the stamp of the file that says so.
    fn summarised(&self, id: &str, path: &Path) -> (Result<Summary, String>, Option<Stamp>) {
        match read_stamped(path) {
            Err(_) => {
                let listed: ListedRun = self.listed(id.to_owned());
                (listed.record.map(|record| Summary::of(&record)), None)
            }
            Ok((bytes, stamp)) => {
                let record = Store::checked(id, RunRecord::parse(path, &bytes));
                (record.map(|record| Summary::of(&record)), stamp)
            }
        }
    }
}
