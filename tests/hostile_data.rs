//! Corpora that are not what they should be: named, refused with exit 2, and nothing lost.

use std::fs;

use crate::place::{Place, SHORTEST, Said, TINY};

fn refused(place: &Place, experiment: &str, words: &[&str]) -> Said {
    let said = place.reprise(&["run", experiment]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    for word in words {
        assert!(said.err.contains(word), "{word:?} is not in\n{}", said.err);
    }
    said
}

#[test]
fn a_missing_corpus_says_where_it_was_looked_for() {
    let place = Place::empty();
    place.write("tiny.yaml", TINY);
    let said = refused(&place, "tiny.yaml", &["small", "--data"]);
    insta::assert_snapshot!(place.redacted(&said.err));
}

#[test]
fn a_truncated_file_is_named() {
    let place = Place::with_corpus();
    let file = place.audio("train").remove(2);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    refused(&place, "tiny.yaml", &[file.file_name().unwrap().to_str().unwrap(), "exclude-at-most"]);

    place.write("lenient.yaml", &SHORTEST.replace("test: [test]", "test: [test]\n  exclude-at-most: 1"));
    let run = place.reprise(&["run", "lenient.yaml"]);
    assert_eq!(run.code, Some(0), "a stated number of exclusions is allowed: {run:#?}");
}

#[test]
fn an_empty_file_is_named() {
    let place = Place::with_corpus();
    let file = place.audio("dev").remove(0);
    fs::write(&file, b"").unwrap();
    refused(&place, "tiny.yaml", &[file.file_name().unwrap().to_str().unwrap()]);
}

#[test]
fn transcript_and_audio_must_go_together() {
    let place = Place::with_corpus();
    let file = place.audio("train").remove(0);
    let id = place.utterances("train").remove(0);
    fs::remove_file(&file).unwrap();
    refused(&place, "tiny.yaml", &[&id, "audio"]);

    let place = Place::with_corpus();
    let transcripts = place.path("corpora/small/train/101/1/101-1.trans.txt");
    let text = fs::read_to_string(&transcripts).unwrap();
    fs::write(&transcripts, text.split_once('\n').unwrap().1).unwrap();
    refused(&place, "tiny.yaml", &[&id, "transcript"]);
}

#[test]
fn a_transcript_that_is_not_utf_8_is_named() {
    let place = Place::with_corpus();
    let transcripts = place.path("corpora/small/train/101/1/101-1.trans.txt");
    let mut bytes = fs::read(&transcripts).unwrap();
    bytes[12] = 0xff;
    fs::write(&transcripts, bytes).unwrap();
    refused(&place, "tiny.yaml", &["101-1.trans.txt", "UTF-8"]);
}

/// A WAV file of a tone.
fn wav(rate: u32, channels: u16, seconds: f64) -> Vec<u8> {
    let frames = (f64::from(rate) * seconds) as u32;
    let size = frames * u32::from(channels) * 2;
    let mut bytes = Vec::new();
    bytes.extend(b"RIFF");
    bytes.extend((36 + size).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(1u16.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * u32::from(channels) * 2).to_le_bytes());
    bytes.extend((channels * 2).to_le_bytes());
    bytes.extend(16u16.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend(size.to_le_bytes());
    for frame in 0..frames {
        let value = (f64::from(frame) * 440.0 * std::f64::consts::TAU / f64::from(rate)).sin() * 8000.0;
        (0..channels).for_each(|_| bytes.extend((value as i16).to_le_bytes()));
    }
    bytes
}

#[test]
fn other_rates_and_channels_need_leave() {
    for (rate, channels, word) in [(8_000, 1, "8000"), (16_000, 2, "2 channels")] {
        let place = Place::with_corpus();
        let file = place.audio("train").remove(0);
        fs::remove_file(&file).unwrap();
        fs::write(file.with_extension("wav"), wav(rate, channels, 2.0)).unwrap();
        refused(&place, "tiny.yaml", &[word, "conversion"]);
        place.write("converting.yaml", &SHORTEST.replace("test: [test]", "test: [test]\n  conversion: allow"));
        let run = place.reprise(&["run", "converting.yaml"]);
        assert_eq!(run.code, Some(0), "{run:#?}");
    }
}

#[test]
fn swapped_audio_under_an_old_name_is_not_reused() {
    let place = Place::with_corpus();
    assert_eq!(place.reprise(&["run", "tiny.yaml"]).code, Some(0));
    let files = place.audio("test");
    let (first, second) = (fs::read(&files[0]).unwrap(), fs::read(&files[1]).unwrap());
    fs::write(&files[0], second).unwrap();
    fs::write(&files[1], first).unwrap();
    let left = place.to_execute("tiny.yaml");
    assert!(
        left.iter().any(|name| name == "corpus test") && left.iter().any(|name| name.starts_with("decode")),
        "{left:?}"
    );
    assert!(
        !left.iter().any(|name| name.starts_with("pretrain")),
        "training does not depend on the test split: {left:?}"
    );
}

#[test]
fn a_store_below_a_file_is_refused() {
    let place = Place::with_corpus();
    place.write("not-a-folder", "");
    let said = place.reprise(&["run", "--store", "not-a-folder/store", "tiny.yaml"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    insta::assert_snapshot!(place.redacted(&said.err));
    let listed = place.reprise(&["list", "--store", "not-a-folder/store"]);
    assert_eq!((listed.code, listed.err), (Some(2), said.err));
}
