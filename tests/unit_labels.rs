//! `reprise units`: labels of any audio with a codebook, equal to those that the experiment itself stored.

use std::collections::BTreeMap;
use std::fs;

use crate::place::Place;

/// The labels that a stage of the newest run stored, by id, for one split.
fn stored(place: &Place, stage: &str, split: &str) -> BTreeMap<String, Vec<u16>> {
    let shown = place.json(&["show", "--json"]);
    let stages = shown["record"]["stages"].as_array().unwrap();
    let stage = stages.iter().find(|one| one["name"].as_str().unwrap().starts_with(stage)).expect(stage);
    let hex = |text: &serde_json::Value| text.as_str().unwrap().split_once(':').unwrap().1.to_owned();
    let (key, digest) = (hex(&stage["key"]), hex(&stage["state"]["executed"]["digest"]));
    let out = place.path(&format!(".reprise/stages/{key}/{}/out", &digest[..12]));
    let labels = fs::read(out.join("labels.npy")).unwrap();
    let mut labels = labels[128..].chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]));
    let table = fs::read_to_string(out.join("utterances.tsv")).unwrap();
    let mut all = BTreeMap::new();
    for line in table.lines().skip(1) {
        let [of, id, frames] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let mine = labels.by_ref().take(frames.parse().unwrap()).collect();
        if of == split {
            all.insert(id.to_owned(), mine);
        }
    }
    assert!(labels.next().is_none() && all.values().all(|labels: &Vec<u16>| labels.len() > 20));
    all
}

#[test]
fn labels_equal_those_that_the_units_stage_stored() {
    let place = Place::with_corpus();
    assert_eq!(place.reprise(&["run", "tiny.yaml"]).code, Some(0));
    for (iteration, rate) in [("1", 100), ("2", 50)] {
        for split in ["train", "dev"] {
            let expected = stored(&place, &format!("units iteration {iteration}"), split);
            let (folder, out) = (format!("corpora/small/{split}"), format!("labels/{split}{iteration}.jsonl"));
            let said = place.reprise(&["units", "--codebook", "2", "--iteration", iteration, &folder, "--out", &out]);
            assert_eq!(said.code, Some(0), "{said:#?}");
            let text = fs::read_to_string(place.path(&out)).unwrap();
            let mut found = BTreeMap::new();
            for line in text.lines() {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(row["rate"], rate);
                let id = row["id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
                found.insert(id, serde_json::from_value::<Vec<u16>>(row["labels"].clone()).unwrap());
            }
            assert_eq!(found, expected, "iteration {iteration}, {split}");
        }
    }

    // fairseq's files: line i of one belongs to line i of the other.
    let arguments = ["units", "--codebook", "2", "corpora/small/dev", "--out", "fairseq/"];
    let done = place.json(&[&arguments[..], &["--json"]].concat());
    assert_eq!((&done["about"]["of"], &done["about"]["clusters"]), (&"layer 1".into(), &8.into()));
    let (km, tsv) =
        ["units.km", "units.tsv"].map(|name| fs::read_to_string(place.path("fairseq").join(name)).unwrap()).into();
    let expected = stored(&place, "units iteration 2", "dev");
    let mut lines = tsv.lines();
    assert_eq!(lines.next(), place.path("corpora/small/dev").to_str());
    for (line, labels) in lines.by_ref().zip(km.lines()) {
        let (path, samples) = line.split_once('\t').unwrap();
        assert!(place.path("corpora/small/dev").join(path).is_file(), "{path}");
        let id = path.rsplit('/').next().unwrap().trim_end_matches(".flac");
        let labels: Vec<u16> = labels.split(' ').map(|label| label.parse().unwrap()).collect();
        assert_eq!(labels, expected[id]);
        assert_eq!(labels.len() as u64, (samples.parse::<u64>().unwrap() - 400) / 320 + 1);
    }
    assert_eq!((lines.next(), km.lines().count()), (None, expected.len()));

    // The list that was written can be read, and a part that was torn off is made again.
    let listed = ["units", "--codebook", "2", "fairseq/units.tsv", "--out", "again.km"];
    assert_eq!(place.reprise(&listed).code, Some(0));
    assert_eq!(fs::read_to_string(place.path("again.km")).unwrap(), km);
    assert_eq!(fs::read_to_string(place.path("again.tsv")).unwrap(), tsv);
    let ledger = place.path("fairseq/.units.km.finished.jsonl");
    let rows = fs::read_to_string(&ledger).unwrap();
    fs::write(&ledger, &rows[..rows.len() / 2]).unwrap();
    fs::remove_file(place.path("fairseq/units.km")).unwrap();
    let done = place.json(&[&arguments[..], &["--json"]].concat());
    let before = done["finished-before"].as_u64().unwrap();
    assert!(before > 0 && before < done["files"].as_u64().unwrap(), "{done}");
    assert_eq!(fs::read_to_string(place.path("fairseq/units.km")).unwrap(), km);

    refusals(&place);
}

fn refusals(place: &Place) {
    let dev = "corpora/small/dev";
    let mut all = String::new();
    let mut refuse = |arguments: &[&str]| {
        let said = place.reprise(&[&["units"], arguments].concat());
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{arguments:?}: {said:#?}");
        all += &format!("──── units {} ────\n{}\n", arguments.join(" "), place.redacted(&said.err));
    };
    place.write("mine.km", "1 2 3\n");
    refuse(&["--codebook", "2", dev, "--out", "mine.km"]);
    refuse(&["--codebook", "2", dev, "--out", "labels/dev1.jsonl"]);
    refuse(&["--codebook", "2", dev, "--out", "a.km", "--format", "jsonl"]);
    refuse(&["--codebook", "2", dev, "--set", "1", "--out", "a.km"]);
    refuse(&["--codebook", "2", dev, "--iteration", "3", "--out", "a.km"]);
    refuse(&["--codebook", "corpora", dev, "--out", "a.km"]);
    // A codebook of a layer says nothing without the model that it was fitted on.
    let shown = place.json(&["show", "--json"]);
    let stages = shown["record"]["stages"].as_array().unwrap().clone();
    let digest = |name: &str| {
        let stage = stages.iter().find(|stage| stage["name"].as_str().unwrap().starts_with(name)).unwrap();
        let hex = |text: &serde_json::Value| text.as_str().unwrap().split_once(':').unwrap().1.to_owned();
        format!(".reprise/stages/{}/{}", hex(&stage["key"]), &hex(&stage["state"]["executed"]["digest"])[..12])
    };
    let units = place.path(&digest("units iteration 2")).join("out");
    fs::create_dir(place.path("alone")).unwrap();
    for file in fs::read_dir(units).unwrap().flatten() {
        fs::copy(file.path(), place.path("alone").join(file.file_name())).unwrap();
    }
    refuse(&["--codebook", "alone", dev, "--out", "a.km"]);
    fs::remove_dir_all(place.path(&digest("pretrain iteration 1"))).unwrap();
    refuse(&["--codebook", "2", "--iteration", "2", dev, "--out", "a.km"]);
    let filters = vec![(r"\b\d{8}-\d{6}-[0-9a-f]{6}\b", "[RUN]"), (r"\b[0-9a-f]{12,64}\b", "[HEX]")];
    insta::with_settings!({ filters => filters }, { insta::assert_snapshot!("units_that_are_refused", all) });
}
