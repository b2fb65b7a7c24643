//! Word error rate of 5,000 utterances with a bootstrap interval of 10,000 draws, beside jiwer and NumPy:
//! `cargo bench -p reprise-model --bench scoring`.

use std::fs;
use std::sync::Mutex;

use reprise_model::bootstrap::{Contribution, interval};
use reprise_model::random::Draws;
use reprise_model::score::align;
use reprise_spec::decoding::{Bootstrap, ResamplingUnit};
use reprise_spec::recognition::Edits;

#[path = "../../harness/benches/versus/mod.rs"]
mod versus;

use versus::{Measured, Peer, Record, compare, timed};

const UTTERANCES: u64 = 5_000;
const WORDS: u64 = 8_000;
const ROUNDS: usize = 15;
const WANTED: f64 = 20.0;
/// Pairs that a thread takes at once.
const PART: usize = 64;

fn main() {
    let pairs = pairs();
    let threads = versus::threads();
    let settings = Bootstrap { unit: ResamplingUnit::Utterance, ..Bootstrap::default() };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pairs.tsv");
    fs::write(&path, pairs.iter().map(|(said, heard)| format!("{said}\t{heard}\n")).collect::<String>())
        .expect("a file");
    let mut record = Record::new(threads);
    for (way, name) in
        [("fastest", "jiwer and NumPy, the fastest way tried"), ("plain", "jiwer and NumPy, the plain way")]
    {
        let path = path.to_str().expect("a plain name");
        let arguments = [path, &settings.draws.get().to_string(), &threads.to_string(), way];
        let mut peer = Peer::start("model/benches/peers/scoring.py", &arguments, threads);
        let what = format!("WER of {UTTERANCES} utterances with {} bootstrap draws", settings.draws.get());
        let found = compare(&what, name, WANTED, ROUNDS, &mut peer, || ours(&pairs, &settings, threads));
        agree(&found.ours[0], &found.theirs[0]);
        record.comparisons.push(found);
    }
    record.keep("scoring");
}

fn ours(pairs: &[(String, String)], settings: &Bootstrap, threads: usize) -> Measured {
    let ((edits, aligned, (low, high)), mut measured) = timed(|| {
        let (edits, aligned) = timed(|| aligned(pairs, threads));
        let contribution = |edits: &Edits| Contribution { speaker: "", errors: edits.total(), units: edits.reference };
        let contributions: Vec<_> = edits.iter().map(contribution).collect();
        let draws = Draws::new(0, "bootstrap", &[], "");
        let found = interval(&contributions, settings.unit, settings, draws, threads);
        (edits, aligned["seconds"], found)
    });
    let bootstrap = measured["seconds"] - aligned;
    let numbers = [
        ("wer", edits.into_iter().sum::<Edits>().rate()),
        ("low", low),
        ("high", high),
        ("alignment-seconds", aligned),
        ("bootstrap-seconds", bootstrap),
    ];
    measured.extend(numbers.map(|(name, number)| (name.to_owned(), number)));
    measured
}

/// The edits of each pair's words.
fn aligned(pairs: &[(String, String)], threads: usize) -> Vec<Edits> {
    let edits = |(said, heard): &(String, String)| {
        let [said, heard] = [said, heard].map(|text| text.split_whitespace().collect::<Vec<_>>());
        align(&said, &heard).edits()
    };
    let mut all = vec![Edits::default(); pairs.len()];
    let parts = Mutex::new(all.chunks_mut(PART).zip(pairs.chunks(PART)));
    let next = || parts.lock().expect("no thread panics with it").next();
    let work = || {
        while let Some((all, pairs)) = next() {
            all.iter_mut().zip(pairs).for_each(|(found, pair)| *found = edits(pair));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    all
}

/// Both sides have counted the same, and their intervals differ by no more than 10,000 draws do.
fn agree(ours: &Measured, theirs: &Measured) {
    assert_eq!(ours["wer"], theirs["wer"]);
    let width = ours["high"] - ours["low"];
    for end in ["low", "high"] {
        assert!((ours[end] - theirs[end]).abs() < 0.05 * width, "{end}: {} against {}", ours[end], theirs[end]);
    }
}

/// References of 4 to 35 words and hypotheses with 2 % deletions, 5 % substitutions and 1 % insertions.
fn pairs() -> Vec<(String, String)> {
    let pair = |number: u64| {
        let mut draws = Draws::new(1, "pair", &[number], "");
        let word = |draws: &mut Draws| {
            // Frequent words are more frequent, as in speech.
            let rank = (WORDS as f64).powf(draws.unit()) as u64;
            format!("{}{rank}", ["a", "the", "wo", "rec", "in"][(rank % 5) as usize])
        };
        let said: Vec<String> = (0..4 + draws.below(32)).map(|_| word(&mut draws)).collect();
        let mut heard = Vec::new();
        for spoken in &said {
            match draws.below(100) {
                0 | 1 => {}
                2..7 => heard.push(word(&mut draws)),
                7 => heard.extend([spoken.clone(), word(&mut draws)]),
                _ => heard.push(spoken.clone()),
            }
        }
        (said.join(" "), heard.join(" "))
    };
    (0..UTTERANCES).map(pair).collect()
}
