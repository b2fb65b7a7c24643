//! `reprise extract`: hidden states of any audio with a trained model, to files that the field can open.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use safetensors::SafeTensors;

use crate::killed::{signal, trainer_of};
use crate::place::{Place, SHORTEST, TINY};

/// A place with a run of one short iteration of a pre-norm network of two layers, each 32 wide.
fn trained() -> Place {
    let place = Place::with_corpus();
    let one = TINY.replace("      - { targets: { layer: { height: 1, clusters: 8 } }, steps: 6 }\n", "");
    place.write("pre.yaml", &one.replace("layer-drop: 0.1", "layer-drop: 0.1, norm: pre"));
    assert_eq!(place.reprise(&["run", "pre.yaml"]).code, Some(0));
    place
}

fn run_id(place: &Place) -> String {
    place.json(&["list", "--json"])[0]["id"].as_str().unwrap().to_owned()
}

/// Runs `reprise extract --model 2 …`, where 2 is the beginning of every run's id.
fn extract(place: &Place, arguments: &[&str]) -> crate::place::Said {
    place.reprise(&[&["extract", "--model", "2"], arguments].concat())
}

/// The files below a folder by their relative paths, the hidden ones left out.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn add(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            match path.is_dir() {
                true => add(root, &path, found),
                false if entry.file_name().to_str().unwrap().starts_with('.') => {}
                false => drop(found.insert(name, fs::read(&path).unwrap())),
            }
        }
    }
    let mut found = BTreeMap::new();
    add(folder, folder, &mut found);
    found
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

/// Shape and numbers of every tensor of a file.
fn tensors(path: PathBuf) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, (view.shape().to_vec(), floats(view.data())))).collect()
}

#[test]
fn every_numbering_means_what_its_reference_means() {
    let place = trained();
    let speaker = "corpora/small/test/301";
    let name = place.utterances("test").into_iter().find(|id| id.starts_with("301")).unwrap();
    let states = |numbering: &str, layers: &str| {
        let said = extract(&place, &[speaker, "--numbering", numbering, "--layers", layers, "--out", numbering]);
        assert_eq!(said.code, Some(0), "{said:#?}");
        tensors(place.path(&format!("{numbering}/1/{name}.safetensors")))
    };
    let ours = states("reprise", "all");
    assert_eq!(ours.keys().collect::<Vec<_>>(), ["layer.0", "layer.1", "layer.2"]);
    let samples = place.json(&["extract", "--model", "2", speaker, "--layers", "all", "--out", "reprise", "--json"]);
    assert_eq!(samples["finished-before"], samples["files"], "nothing is computed twice");
    assert_eq!(samples["about"]["layers"]["2"]["frames-a-second"], 50.0);
    assert_eq!(samples["about"]["numbering"], "reprise");
    for (shape, numbers) in ours.values() {
        assert_eq!((shape[1], shape[0] * 32), (32, numbers.len()));
        assert!(numbers.iter().all(|number| number.is_finite()));
    }
    let (hugging_face, s3prl) = (states("hugging-face", "all"), states("s3prl", "all"));
    assert_eq!(hugging_face, s3prl);
    assert_eq!([&hugging_face["layer.0"], &hugging_face["layer.1"]], [&ours["layer.0"], &ours["layer.1"]]);
    assert_ne!(hugging_face["layer.2"], ours["layer.2"], "the last layer is taken after the final norm");
    let normed = &hugging_face["layer.2"].1[..32];
    let square = normed.iter().map(|x| x * x).sum::<f32>() / 32.0;
    assert!((square - 1.0).abs() < 0.05, "a normalised frame: {square}");
    let (fairseq, torchaudio) = (states("fairseq", "1,2"), states("torchaudio", "all"));
    assert_eq!(fairseq, torchaudio);
    assert_eq!([&fairseq["layer.1"], &fairseq["layer.2"]], [&ours["layer.1"], &ours["layer.2"]]);

    let said = extract(&place, &[speaker, "--numbering", "fairseq", "--layers", "0", "--out", "none"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("there is no layer 0: fairseq numbers this network's 1 to 2"), "{}", said.err);
    let said = extract(&place, &[speaker, "--layers", "3", "--out", "none"]);
    assert!(said.err.contains("there is no layer 3: reprise numbers this network's 0 to 2"), "{}", said.err);
    assert!(!place.path("none/extract.json").exists());

    // The same model by the run's whole id, its stage's output and key, the folder in the store, and a copy of it.
    let shown = place.json(&["show", "--json"]);
    let stages = shown["record"]["stages"].as_array().unwrap();
    let stage = stages.iter().find(|stage| stage["name"].as_str().unwrap().starts_with("pretrain")).unwrap();
    let (key, digest) = (stage["key"].as_str().unwrap(), stage["state"]["executed"]["digest"].as_str().unwrap());
    let hex = |text: &str| text.split_once(':').unwrap().1.to_owned();
    let stored = format!(".reprise/stages/{}/{}", hex(key), &hex(digest)[..12]);
    let copy = place.path("copy");
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(place.path(&stored).join("out")).unwrap().flatten() {
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    for model in [&run_id(&place), digest, &hex(digest)[..10], key, &stored, &format!("{stored}/out"), "copy"] {
        let arguments = ["extract", "--model", model, speaker, "--layers", "all", "--out", "reprise", "--json"];
        let done = place.json(&arguments);
        assert_eq!(done["finished-before"], done["files"], "{model} is the same model");
        assert_eq!(done["about"]["model"], digest);
    }
}

#[test]
fn npy_holds_the_same_numbers() {
    let place = trained();
    for (format, layers, out) in [("safetensors", "all", "st"), ("npy", "all", "stack"), ("npy", "1", "one")] {
        let said = extract(&place, &["corpora/small/test", "--format", format, "--layers", layers, "--out", out]);
        assert_eq!(said.code, Some(0), "{said:#?}");
    }
    for path in place.audio("test") {
        let name = path.strip_prefix(place.path("corpora/small/test")).unwrap().with_extension("");
        let expected = tensors(place.path("st").join(&name).with_extension("safetensors"));
        let array = |folder: &str| {
            let bytes = fs::read(place.path(folder).join(&name).with_extension("npy")).unwrap();
            (String::from_utf8_lossy(&bytes[10..128]).into_owned(), floats(&bytes[128..]))
        };
        let ([frames, width], all) = (expected["layer.0"].0[..].try_into().unwrap(), array("stack"));
        assert!(all.0.contains(&format!("'descr': '<f4', 'fortran_order': False, 'shape': (3, {frames}, {width})")));
        assert_eq!(all.1, expected.values().flat_map(|(_, numbers)| numbers.clone()).collect::<Vec<f32>>());
        let one = array("one");
        assert!(one.0.contains(&format!("'shape': ({frames}, {width})")), "{}", one.0);
        assert_eq!(one.1, expected["layer.1"].1);
    }
    let index = fs::read_to_string(place.path("one/index.tsv")).unwrap();
    let audio = place.audio("test");
    assert_eq!(index.lines().count(), audio.len() + 1);
    let bytes = fs::metadata(&audio[0]).unwrap().len().to_string();
    let row: Vec<&str> = index.lines().nth(1).unwrap().split('\t').collect();
    assert_eq!((row[0].ends_with(".flac"), row[1].ends_with(".npy"), row[4]), (true, true, bytes.as_str()), "{index}");
}

/// Copies the test split until there is enough to be met at work.
fn many(place: &Place) {
    for copy in 0..24 {
        for path in place.audio("test") {
            let to = place.path(&format!("many/{copy}")).join(path.file_name().unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(path, to).unwrap();
        }
    }
}

#[test]
fn a_killed_or_stopped_extraction_continues_to_the_same_files() {
    let place = trained();
    many(&place);
    let arguments = ["extract", "--model", "2", "many", "--layers", "0,2", "--out", "out"];
    for (name, code) in [("KILL", Some(3)), ("TERM", Some(130))] {
        let rows = || fs::read_to_string(place.path("out/.finished.jsonl")).unwrap_or_default().lines().count();
        let before = rows();
        let mut child =
            place.command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("reprise starts");
        let deadline = Instant::now() + Duration::from_secs(60);
        while rows() < before + 3 {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "nothing is finished");
            std::thread::sleep(Duration::from_millis(1));
        }
        // A kill meets the trainer, which has no time to react; a request to stop meets reprise, which passes it on.
        signal(name, if name == "KILL" { trainer_of(child.id()).expect("a trainer") } else { child.id() as i32 });
        let said = crate::place::said(child.wait_with_output().unwrap());
        assert_eq!(said.code, code, "{said:#?}");
        assert!(!place.path("out/index.tsv").exists(), "the table comes with the end");
    }
    // What a machine that lost power leaves: half a row, and a file under way.
    let ledger = place.path("out/.finished.jsonl");
    let mut torn = fs::read_to_string(&ledger).unwrap();
    torn.truncate(torn.len() - 9);
    fs::write(&ledger, torn).unwrap();
    fs::write(place.path("out/0/.partial"), "half a file").unwrap();
    let done = place.json(&[&arguments[..], &["--json"]].concat());
    let before = done["finished-before"].as_u64().unwrap();
    assert!(before >= 5 && before < done["files"].as_u64().unwrap(), "{done}");

    let straight: Vec<&str> = arguments.iter().map(|word| if *word == "out" { "straight" } else { word }).collect();
    assert_eq!(place.reprise(&straight).code, Some(0));
    assert_eq!(files(&place.path("out")), files(&place.path("straight")));
    assert!(!place.path("straight/0/.partial").exists());

    // An output that went and an audio file that changed are made again, nothing else is.
    let of = |copy: &str| fs::read_dir(place.path(copy)).unwrap().flatten().next().unwrap().path();
    fs::remove_file(of("out/3")).unwrap();
    let (from, to) = (of("many/4"), of("many/5"));
    fs::copy(place.audio("train").remove(0), &to).unwrap();
    let done = place.json(&[&arguments[..], &["--json"]].concat());
    assert_eq!(done["files"].as_u64().unwrap() - done["finished-before"].as_u64().unwrap(), 2, "{done}");
    let made = |audio: &Path, out: &str| {
        let name = audio.strip_prefix(place.path("many")).unwrap().with_extension("safetensors");
        fs::read(place.path(out).join(name)).unwrap()
    };
    assert_ne!(made(&to, "out"), made(&to, "straight"));
    assert_eq!(made(&from, "out"), made(&from, "straight"));
}

#[test]
fn what_cannot_be_done_is_refused_and_says_what_to_do() {
    let place = Place::with_corpus();
    place.write("one.yaml", SHORTEST);
    assert_eq!(place.reprise(&["run", "one.yaml"]).code, Some(0));
    let speaker = "corpora/small/test/301";
    place.write("empty/readme.txt", "no audio");
    place.write("full/readme.txt", "not ours");
    place.write("twice/a.flac", "");
    place.write("twice/a.wav", "");
    place.write("odd/tab\tin a name.wav", "");
    place.write("up.tsv", "corpora\n../../etc/passwd\t16000\n");
    let mut all = String::new();
    let mut refuse = |arguments: &[&str]| {
        let said = extract(&place, arguments);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{arguments:?}: {said:#?}");
        all +=
            &format!("──── extract {} ────\n{}\n", arguments.join(" ").replace('\t', "⇥"), place.redacted(&said.err));
    };
    for audio in ["empty", "twice", "odd", "up.tsv", "nowhere.flac"] {
        refuse(&[audio, "--out", "out"]);
    }
    refuse(&["-", "--out", "out"]);
    refuse(&[speaker, "--out", "full"]);
    refuse(&[speaker, "--iteration", "1", "--out", "out"]);
    refuse(&[speaker, "--layers", "first", "--out", "out"]);
    refuse(&[speaker, "--numbering", "esspnet", "--out", "out"]);
    assert_eq!(extract(&place, &[speaker, "--out", "out"]).code, Some(0));
    refuse(&[speaker, "--layers", "0", "--out", "out"]);
    for model in ["nothing", "feed", "corpora", "3"] {
        let said = place.reprise(&["extract", "--model", model, speaker, "--out", "out"]);
        assert_eq!(said.code, Some(2), "{said:#?}");
        all += &format!("──── extract --model {model} ────\n{}\n", place.redacted(&said.err));
    }
    insta::with_settings!({ filters => vec![(r"\b\d{8}-\d{6}-[0-9a-f]{6}\b", "[RUN]")] }, {
        insta::assert_snapshot!(all);
    });

    let said = place.reprise(&["extract", "--model", "corpora", "--iteration", "1", speaker, "--out", "out"]);
    assert!(said.err.contains("is not a run of the store"), "{}", said.err);

    // A link in the output that leads out of it.
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::remove_dir_all(place.path("out/1")).unwrap();
    std::os::unix::fs::symlink(place.path("elsewhere"), place.path("out/1")).unwrap();
    let said = extract(&place, &[speaker, "--out", "out"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("leads out of"), "{}", said.err);
    assert_eq!(fs::read_dir(place.path("elsewhere")).unwrap().count(), 0);
}

#[test]
fn unreadable_audio_is_named_and_the_rest_is_done() {
    let place = Place::with_corpus();
    place.write("one.yaml", SHORTEST);
    assert_eq!(place.reprise(&["run", "one.yaml"]).code, Some(0));
    let audio = place.audio("test");
    let bytes = fs::read(&audio[1]).unwrap();
    fs::write(&audio[1], &bytes[..bytes.len() / 2]).unwrap();
    let name = audio[1].file_stem().unwrap().to_str().unwrap();
    let arguments = ["corpora/small/test", "--out", "out"];
    let strict = extract(&place, &[&arguments[..], &["--strict"]].concat());
    assert_eq!(strict.code, Some(2));
    assert!(strict.err.contains(name) && strict.err.contains("truncated"), "{}", strict.err);
    let said = extract(&place, &arguments);
    assert_eq!(said.code, Some(2));
    let count = audio.len();
    for words in [&format!("1 of {count} audio files could not be used"), name, "truncated", "unreadable.tsv"] {
        assert!(said.err.contains(words), "{}", said.err);
    }
    assert!(said.out.contains(&format!("{} of {count} files finished, 1 of them before", count - 1)), "{}", said.out);
    let table = fs::read_to_string(place.path("out/unreadable.tsv")).unwrap();
    assert!(table.contains(&format!("{name}.flac\ttruncated: ")), "{table}");
    assert_eq!(fs::read_to_string(place.path("out/index.tsv")).unwrap().lines().count(), count);

    fs::write(&audio[1], bytes).unwrap();
    let said = extract(&place, &arguments);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(!place.path("out/unreadable.tsv").exists());
    assert_eq!(fs::read_to_string(place.path("out/index.tsv")).unwrap().lines().count(), count + 1);
}
