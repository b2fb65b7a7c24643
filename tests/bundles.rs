//! Bundles from outside: published, verified, and executed again where only the program and the corpus are.

use std::fs;

use serde_json::Value;

use crate::place::Place;

#[test]
fn a_stranger_verifies_a_bundle_and_replays_it_to_the_bit() {
    let author = Place::with_corpus();
    let run = author.json(&["run", "--json", "tiny.yaml"])[0]["record"].clone();
    let published = author.reprise(&["publish", "tiny.yaml", "--to", "tiny.tar", "--data-licence", "CC0-1.0"]);
    assert_eq!(published.code, Some(0), "{published:#?}");
    let id = published.out.trim();
    assert!(id.starts_with("bundle:"), "{published:#?}");

    let stranger = Place::empty();
    fs::rename(author.path("tiny.tar"), stranger.path("tiny.tar")).unwrap();
    fs::rename(author.path("corpora"), stranger.path("corpora")).unwrap();
    let verified: Value = stranger.json(&["verify", "tiny.tar", "--json", "--expect", id]);
    for (area, tally) in verified["areas"].as_object().unwrap() {
        assert!(tally["passed"].as_u64().unwrap() > 0, "{area}: {verified:#}");
    }
    let other = format!("bundle:{}", "0".repeat(64));
    assert_eq!(stranger.reprise(&["verify", "tiny.tar", "--expect", &other]).code, Some(1));

    let replayed: Value = stranger.json(&["replay", "tiny.tar", "--json", "--into", "again"]);
    assert_eq!(replayed["runs"][0]["verdict"]["grade"], "bitwise", "{replayed:#}");
    assert_eq!(replayed["runs"][0]["run"], run["id"]);
    assert!(stranger.path("again/verdict.json").is_file());

    // Another corpus under the same name is refused, and what differs is named.
    let audio = stranger.audio("test").remove(0);
    fs::write(&audio, [fs::read(&audio).unwrap(), vec![0]].concat()).unwrap();
    let refused = stranger.reprise(&["replay", "tiny.tar", "--into", "once-more"]);
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    let name = audio.file_name().unwrap().to_string_lossy().into_owned();
    assert!(refused.err.contains(&format!("{name}: other content")), "{}", refused.err);
    assert!(!stranger.path("once-more").exists());
}

#[test]
fn a_bundle_is_a_store_for_other_verbs() {
    let place = Place::with_corpus();
    let run = place.json(&["run", "--json", "shortest.yaml"])[0]["record"].clone();
    let id = run["id"].as_str().unwrap();
    let published = place.reprise(&["publish", id, "--to", "bundle", "--with", "nothing"]);
    assert_eq!(published.code, Some(0), "{published:#?}");
    let shown = |store: &str| place.json(&["show", id, "--json", "--store", store])["results"].clone();
    assert_eq!(shown("bundle/store"), shown(".reprise"));
    let plan = place.reprise(&["plan", "bundle/experiment/shortest.yaml"]);
    assert_eq!(plan.code, Some(0), "{plan:#?}");
    assert_eq!(place.reprise(&["publish", id, "--to", "bundle"]).code, Some(2), "nothing is written over");
    fs::write(place.path("bundle/README.md"), "another").unwrap();
    let verified = place.reprise(&["verify", "bundle"]);
    assert_eq!(verified.code, Some(1), "{verified:#?}");
    assert!(verified.out.contains("it is not what its checksum says"), "{}", verified.out);
}
