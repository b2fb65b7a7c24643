//! The metric log: an append-only file of 24-byte records, each with its own checksum.
//!
//! A record is `crc32 (4) | kind (1) | zero (1) | name (2) | step or chunk (8) | payload (8)`, little-endian; the checksum covers the
//! other 20 bytes. Records of kind *name* spell a metric's name in chunks of 8 bytes before its first point. Records of kind *attempt* say
//! after which step a new attempt continues: earlier points beyond it are superseded. A torn or damaged record is skipped and counted,
//! because every record starts at a multiple of 24.

use std::collections::BTreeMap;

/// Bytes of one record.
pub const RECORD: usize = 24;

const NAME: u8 = 1;
const POINT: u8 = 2;
const ATTEMPT: u8 = 3;

/// Turns points into records. Keep one for each life of a file: it remembers which names the file already spells.
#[derive(Debug, Default)]
pub struct Encoder {
    names: BTreeMap<String, u16>,
}

impl Encoder {
    /// An encoder that continues `log`, with the names that it already spells.
    pub fn continuing(log: &Log) -> Self {
        Self { names: log.names.clone() }
    }

    /// The records of one point; a new name is spelt first. Names are cut at 255 bytes, and a log holds at most 65,535 of them.
    pub fn point(&mut self, name: &str, step: u64, value: f64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD);
        self.append(&mut bytes, name, step, value);
        bytes
    }

    /// [`Encoder::point`] behind what waits in a buffer already.
    pub fn append(&mut self, bytes: &mut Vec<u8>, name: &str, step: u64, value: f64) {
        let id = match self.names.get(name) {
            Some(id) => *id,
            None => {
                let id = self.names.values().max().map_or(0, |id| id + 1);
                let spelt = &name.as_bytes()[..name.len().min(255)];
                bytes.extend(record(NAME, id, u64::MAX, (spelt.len() as u64).to_le_bytes()));
                for (index, chunk) in spelt.chunks(8).enumerate() {
                    let mut payload = [0; 8];
                    payload[..chunk.len()].copy_from_slice(chunk);
                    bytes.extend(record(NAME, id, index as u64, payload));
                }
                self.names.insert(name.to_owned(), id);
                id
            }
        };
        bytes.extend(record(POINT, id, step, value.to_le_bytes()));
    }

    /// The record that starts attempt `number`, which continues after `step`.
    pub fn attempt(&mut self, number: u32, step: u64) -> Vec<u8> {
        record(ATTEMPT, 0, step, u64::from(number).to_le_bytes()).to_vec()
    }
}

fn record(kind: u8, name: u16, step: u64, payload: [u8; 8]) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[4] = kind;
    bytes[6..8].copy_from_slice(&name.to_le_bytes());
    bytes[8..16].copy_from_slice(&step.to_le_bytes());
    bytes[16..].copy_from_slice(&payload);
    let crc = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What a metric log says: for every name its points by step, superseded ones left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    /// Points by metric, ascending in step.
    pub series: BTreeMap<String, BTreeMap<u64, f64>>,
    /// Attempts that wrote to the log, at least 1 if it has any point.
    pub attempts: u32,
    /// Records that were damaged or torn and are left out.
    pub damaged: usize,
    names: BTreeMap<String, u16>,
}

impl Log {
    /// Reads the bytes of a log, whatever state they are in.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut spelling: BTreeMap<u16, (usize, Vec<u8>)> = BTreeMap::new();
        // In the order of the log, which ascends as a rule: maps of whole series are built in one go.
        let mut points: BTreeMap<u16, Vec<(u64, f64)>> = BTreeMap::new();
        let mut log = Log { damaged: usize::from(!bytes.len().is_multiple_of(RECORD)), ..Log::default() };
        for bytes in bytes.chunks_exact(RECORD) {
            let field = |range: std::ops::Range<usize>| {
                let mut word = [0; 8];
                word[..range.len()].copy_from_slice(&bytes[range]);
                u64::from_le_bytes(word)
            };
            if crc32fast::hash(&bytes[4..]) as u64 != field(0..4) {
                log.damaged += 1;
                continue;
            }
            let (name, step) = (field(6..8) as u16, field(8..16));
            match bytes[4] {
                NAME if step == u64::MAX => {
                    spelling.insert(name, (field(16..24).min(255) as usize, Vec::new()));
                }
                NAME => {
                    if let Some((_, spelt)) = spelling.get_mut(&name) {
                        spelt.extend_from_slice(&bytes[16..24]);
                    }
                }
                POINT => {
                    points.entry(name).or_default().push((step, f64::from_bits(field(16..24))));
                }
                ATTEMPT => {
                    log.attempts = log.attempts.max(field(16..24) as u32);
                    for series in points.values_mut() {
                        series.retain(|(at, _)| *at <= step);
                    }
                }
                _ => log.damaged += 1,
            }
        }
        for (id, (length, mut spelt)) in spelling {
            spelt.truncate(length);
            let whole = spelt.len() == length;
            match String::from_utf8(spelt) {
                Ok(name) if whole => {
                    log.names.insert(name.clone(), id);
                    if let Some(series) = points.remove(&id) {
                        // Of a step that was logged twice the later value.
                        log.series.insert(name, series.into_iter().collect());
                    }
                }
                _ => log.damaged += 1,
            }
        }
        log.damaged += points.values().map(Vec::len).sum::<usize>();
        log.attempts = log.attempts.max(u32::from(!log.series.is_empty()));
        log
    }
}
