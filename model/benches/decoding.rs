//! Beam search over words with a language model and over symbols, beside flashlight's: `cargo bench -p reprise-model --bench decoding`.
//!
//! Both sides keep as many prefixes within as many nats, and add paths. Their searches differ in what a prefix is (flashlight's last blank makes
//! another one) and in when the language model speaks (flashlight looks ahead to the best word below a prefix), so rates are told beside times.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use reprise_model::decoding::beam::{AnySymbols, LogProbabilities, Width, search};
use reprise_model::decoding::decoder::Words;
use reprise_model::decoding::kneser_ney::estimate;
use reprise_model::decoding::lexicon::Lexicon;
use reprise_model::decoding::lm::arpa;
use reprise_model::decoding::words::Weights;
use reprise_model::random::Draws;
use reprise_model::score::UtteranceAlignment;
use reprise_model::vocabulary::Vocabulary;
use reprise_spec::decoding::Beam;
use reprise_spec::recognition::Edits;

#[path = "../../harness/benches/versus/mod.rs"]
mod versus;

use versus::{Measured, Peer, Record, compare, timed};

const UTTERANCES: u64 = 24;
const LEXICON: usize = 20_000;
const SENTENCES: u64 = 20_000;
const ROUNDS: usize = 5;
const WEIGHTS: Weights = Weights { lm: 2.0, word: -1.0, unknown: f64::NEG_INFINITY, silence: 0.0 };
const THRESHOLD: f64 = 50.0;
/// Prefixes of the search over words and of that over symbols.
const PREFIXES: [u64; 2] = [500, 100];

/// What is decoded.
struct Task {
    vocabulary: Vocabulary,
    words: Words,
    said: Vec<String>,
    frames: Vec<Vec<f32>>,
}

fn main() {
    let threads = versus::threads();
    let folder = tempfile::tempdir().expect("a folder");
    let task = Task::new(folder.path());
    let seconds = task.frames.iter().map(Vec::len).sum::<usize>() as f64 / task.vocabulary.size() as f64 / 50.0;
    let mut record = Record::new(threads);
    for (way, prefixes) in ["words", "symbols"].into_iter().zip(PREFIXES) {
        if !versus::wanted(way) {
            continue;
        }
        let numbers =
            [prefixes as f64, THRESHOLD, WEIGHTS.lm, WEIGHTS.word, threads as f64].map(|number| number.to_string());
        let mut arguments = vec![folder.path().to_str().expect("a plain name"), way];
        arguments.extend(numbers.iter().map(String::as_str));
        let mut peer = Peer::start("model/benches/peers/decoding.py", &arguments, threads);
        let what = format!("Beam search of {seconds:.0} s over {way}, {prefixes} prefixes");
        let mut heard = Vec::new();
        let mut found = compare(&what, "flashlight-text", 0.0, ROUNDS, &mut peer, || {
            let (texts, measured) = timed(|| task.hear(way, prefixes, threads));
            heard = texts;
            measured
        });
        let theirs = fs::read_to_string(folder.path().join(format!("{way}.txt"))).expect("what the peer heard");
        let theirs: Vec<String> = theirs.split('\n').map(String::from).collect();
        task.rate(&mut found.ours, &heard);
        task.rate(&mut found.theirs, &theirs);
        println!("{what}: WER {:.4} and {:.4}", found.ours[0]["wer"], found.theirs[0]["wer"]);
        record.comparisons.push(found);
    }
    record.keep("decoding");
}

impl Task {
    /// Makes everything up, and leaves in `folder` what the peer needs.
    fn new(folder: &Path) -> Self {
        let mut draws = Draws::new(1, "lexicon", &[], "");
        let mut lexicon: Vec<String> = Vec::new();
        let mut known = std::collections::BTreeSet::new();
        while lexicon.len() < LEXICON {
            let word = word(&mut draws);
            if known.insert(word.clone()) {
                lexicon.push(word);
            }
        }
        let text = (0..SENTENCES).map(|number| sentence(&lexicon, number)).collect::<Vec<_>>().join("\n");
        let model = estimate(&text, 3, Some([0.5, 1.0, 1.5])).expect("a text to estimate from");
        let letters: Vec<String> = ('a'..='z').map(String::from).collect();
        let symbols: Vec<&str> = ["<pad>", "|"].into_iter().chain(letters.iter().map(String::as_str)).collect();
        let vocabulary = Vocabulary::of_symbols(symbols.iter().copied()).expect("symbols");
        let said: Vec<String> = (0..UTTERANCES).map(|number| sentence(&lexicon, SENTENCES + number)).collect();
        let frames: Vec<Vec<f32>> = (0..).zip(&said).map(|(number, said)| frames(said, &symbols, number)).collect();
        let write = |name: &str, text: &[u8]| fs::write(folder.join(name), text).expect("a file");
        write("lexicon.txt", lexicon.join("\n").as_bytes());
        write("model.arpa", model.as_bytes());
        write("symbols.txt", symbols.join("\n").as_bytes());
        write("frames.f32", &frames.iter().flatten().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
        let lengths = frames.iter().map(|values| format!("{}\n", values.len() / symbols.len()));
        write("lengths.txt", lengths.collect::<String>().as_bytes());
        let lexicon = Lexicon::read(&lexicon.join("\n"), &vocabulary).expect("a lexicon");
        let words = Words::new(lexicon, Some(arpa::read(model.as_bytes(), None).expect("a language model")));
        Self { vocabulary, words, said, frames }
    }

    /// The best text of every utterance, which `threads` threads take one by one.
    fn hear(&self, way: &str, prefixes: u64, threads: usize) -> Vec<String> {
        let one = |values: &Vec<f32>| {
            let scores_tv = LogProbabilities::new(values, self.vocabulary.size()).expect("whole frames");
            if way == "words" {
                let beam = Beam {
                    prefixes: count(prefixes),
                    threshold: THRESHOLD.try_into().expect("positive"),
                    n_best: count(1),
                };
                let found = self.words.search(scores_tv, &beam, WEIGHTS);
                return found.first().map_or(String::new(), |best| self.words.text(&best.label));
            }
            let width = Width { prefixes: prefixes as usize, threshold: THRESHOLD };
            let found = search(scores_tv, &mut AnySymbols::new(scores_tv.symbols()), width, 1);
            found.first().map_or(String::new(), |best| self.vocabulary.decode(&best.label))
        };
        let next = AtomicUsize::new(0);
        let mine = || {
            let mut heard = Vec::new();
            while let Some((place, values)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, self.frames.get(at)?)))
            {
                heard.push((place, one(values)));
            }
            heard
        };
        let mut heard: Vec<(usize, String)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(mine)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("a search")).collect()
        });
        heard.sort();
        heard.into_iter().map(|(_, text)| text).collect()
    }

    /// Puts the word error rate beside each repetition's time.
    fn rate(&self, repetitions: &mut [Measured], heard: &[String]) {
        let edits =
            self.said.iter().zip(heard).map(|(said, heard)| UtteranceAlignment::between(said, heard).words.edits());
        let rate = edits.sum::<Edits>().rate();
        repetitions.iter_mut().for_each(|measured| _ = measured.insert("wer".into(), rate));
    }
}

fn count(number: u64) -> reprise_spec::values::Count {
    number.try_into().expect("a positive number")
}

/// One to four syllables.
fn word(draws: &mut Draws) -> String {
    let syllables = 1 + draws.below(3) + draws.below(2);
    let mut pick = |of: &str| of.as_bytes()[draws.below(of.len() as u64) as usize] as char;
    (0..syllables).flat_map(|_| [pick("bcdfghjklmnprstvwz"), pick("aeiouy"), pick("nrstlm")]).collect()
}

/// Four to 24 words; each is likely after the one before, as in a language.
fn sentence(lexicon: &[String], number: u64) -> String {
    let mut draws = Draws::new(1, "sentence", &[number], "");
    let mut before = 0;
    let word = |_| {
        let frequent = (LEXICON as f64).powf(draws.unit()) as usize % LEXICON;
        before =
            if draws.below(2) == 0 { frequent } else { (before * 31 + 7 * draws.below(20) as usize + 1) % LEXICON };
        lexicon[before].as_str()
    };
    (0..4 + number % 21).map(word).collect::<Vec<_>>().join(" ")
}

/// Log-probabilities of a recogniser that is unsure: T × V, two to four frames a letter, of which one is a blank.
fn frames(said: &str, symbols: &[&str], number: u64) -> Vec<f32> {
    let mut draws = Draws::new(1, "frames", &[number], "");
    let mut values = Vec::new();
    for letter in said.replace(' ', "|").chars().chain(['|']) {
        let spoken = symbols.iter().position(|symbol| *symbol == letter.to_string()).expect("a symbol");
        for frame in 0..2 + draws.below(3) {
            let likely = if frame == 0 { spoken } else { 0 };
            let logits: Vec<f64> = (0..symbols.len())
                .map(|symbol| {
                    let noise = (0..4).map(|_| draws.unit()).sum::<f64>() - 2.0;
                    2.5 * noise + if symbol == likely { 2.0 + 6.0 * draws.unit() } else { 0.0 }
                })
                .collect();
            let total = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            values.extend(logits.iter().map(|logit| (logit - total) as f32));
        }
    }
    values
}
