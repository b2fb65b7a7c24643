use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::*;

fn toy() -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let split = temp.path().join("data/toy/train");
    fs::create_dir_all(split.join("7/1")).unwrap();
    fs::write(split.join("7/1/7-1-0.flac"), "audio").unwrap();
    fs::write(split.join("7/1/7-1.trans.txt"), "7-1-0 HELLO\n").unwrap();
    fs::write(split.join("README"), "not speech").unwrap();
    fs::write(split.join(".hidden.flac"), "not speech").unwrap();
    (temp, split)
}

fn survey(temp: &Path, corpus: serde_json::Value, part: Part) -> Result<CorpusFiles, DataError> {
    let mut whole = json!({ "name": "toy" });
    for (key, value) in corpus.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let corpus: Corpus = serde_json::from_value(whole).unwrap();
    let splits = BTreeSet::from([(SplitName::try_from("train".to_owned()).unwrap(), part)]);
    let needed = Needed { splits, ..Needed::default() };
    let roots = Roots(vec![temp.join("nothing"), temp.join("data")]);
    CorpusFiles::survey(&corpus, &needed, temp, &roots, &mut Hasher::new(None, false, &mut |_| {}))
}

fn paths(files: &CorpusFiles) -> Vec<&str> {
    files.lists.values().flat_map(FileList::entries).map(|entry| entry.path.as_str()).collect()
}

fn refusal(temp: &Path, part: Part) -> String {
    let error = survey(temp, json!({}), part).unwrap_err();
    error.to_string().replace(&temp.display().to_string(), "[temp]")
}

#[test]
fn a_split_is_its_audio_and_transcripts() {
    let (temp, _) = toy();
    let files = survey(temp.path(), json!({}), Part::Utterances).unwrap();
    assert_eq!(paths(&files), ["train/7/1/7-1-0.flac", "train/7/1/7-1.trans.txt"]);
    let files = survey(temp.path(), json!({ "untranscribed": ["train"] }), Part::Utterances).unwrap();
    assert_eq!(paths(&files), ["train/7/1/7-1-0.flac"]);
}

#[test]
fn moving_a_corpus_keeps_its_content_and_renaming_a_file_does_not() {
    let (temp, split) = toy();
    let content = || survey(temp.path(), json!({}), Part::Utterances).unwrap().contents();
    let before = content();
    fs::rename(temp.path().join("data/toy"), temp.path().join("elsewhere")).unwrap();
    symlink(temp.path().join("elsewhere"), temp.path().join("data/toy")).unwrap();
    assert_eq!(content(), before);
    fs::rename(split.join("7/1/7-1-0.flac"), split.join("7/1/7-1-1.flac")).unwrap();
    assert_ne!(content(), before);
}

#[test]
fn links_are_followed_and_loops_named() {
    let (temp, split) = toy();
    fs::create_dir(temp.path().join("more")).unwrap();
    fs::write(temp.path().join("more/a.wav"), "audio").unwrap();
    symlink(temp.path().join("more"), split.join("linked")).unwrap();
    symlink(temp.path().join("more/a.wav"), split.join("b.wav")).unwrap();
    let files = survey(temp.path(), json!({}), Part::Utterances).unwrap();
    assert!(paths(&files).starts_with(&["train/7/1/7-1-0.flac", "train/7/1/7-1.trans.txt", "train/b.wav"]));
    symlink("..", split.join("7/up")).unwrap();
    assert_eq!(
        refusal(temp.path(), Part::Utterances),
        "the folder [temp]/data/toy/train/7/up contains itself through a symbolic link"
    );
}

#[test]
fn what_cannot_be_used_is_named() {
    let (temp, split) = toy();
    symlink("/nowhere/at/all", split.join("broken.flac")).unwrap();
    assert!(refusal(temp.path(), Part::Utterances).starts_with("cannot read [temp]/data/toy/train/broken.flac"));
    fs::remove_file(split.join("broken.flac")).unwrap();

    fs::write(split.join(OsStr::from_bytes(b"\xff.flac")), "audio").unwrap();
    assert!(refusal(temp.path(), Part::Utterances).ends_with("it is not UTF-8"));
    fs::remove_file(split.join(OsStr::from_bytes(b"\xff.flac"))).unwrap();

    fs::write(split.join("a\nb.flac"), "audio").unwrap();
    assert!(refusal(temp.path(), Part::Utterances).ends_with("it holds a control character or a backslash"));
    fs::remove_file(split.join("a\nb.flac")).unwrap();

    assert!(refusal(temp.path(), Part::Alignments).starts_with("corpus toy has no alignments of split train"));
    fs::remove_dir_all(split.join("7")).unwrap();
    assert!(refusal(temp.path(), Part::Utterances).starts_with("split train of corpus toy is empty"));
    fs::rename(&split, split.with_file_name("training")).unwrap();
    let error = survey(temp.path(), json!({}), Part::Utterances).unwrap_err();
    assert_eq!(error.help().unwrap().to_string(), "its folder holds: training");
}

#[test]
fn tables_of_alignments_come_before_textgrids() {
    let (temp, _) = toy();
    let grids = temp.path().join("data/toy/alignments/textgrid/train");
    fs::create_dir_all(&grids).unwrap();
    fs::write(grids.join("7-1-0.TextGrid"), "").unwrap();
    let files = survey(temp.path(), json!({}), Part::Alignments).unwrap();
    assert_eq!(paths(&files), ["alignments/textgrid/train/7-1-0.TextGrid"]);
    fs::write(temp.path().join("data/toy/alignments/train.phones.tsv"), "").unwrap();
    let files = survey(temp.path(), json!({}), Part::Alignments).unwrap();
    assert_eq!(paths(&files), ["alignments/train.phones.tsv"]);
}

#[test]
fn a_committed_list_stands_for_a_corpus_that_is_not_there() {
    let (temp, _) = toy();
    let here = survey(temp.path(), json!({}), Part::Utterances).unwrap();
    let list = here.lists.values().next().unwrap().to_string();
    fs::write(temp.path().join("train.txt"), list).unwrap();
    fs::remove_dir_all(temp.path().join("data")).unwrap();
    let listed = survey(temp.path(), json!({ "lists": { "train": "train.txt" } }), Part::Utterances).unwrap();
    assert_eq!((listed.root.clone(), listed.contents()), (None, here.contents()));
    let absent = survey(temp.path(), json!({}), Part::Utterances).unwrap();
    assert_eq!(absent.contents(), Contents::default());
}

#[test]
fn roots_are_asked_in_order() {
    let project = Project { root: "/p".into(), data: vec!["/p/data".into()] };
    let roots = Roots::new(&["/flag".into()], Some(OsStr::new("/one::/two")), Some(&project));
    assert_eq!(roots.0, ["/flag", "/one", "/two", "/p/data"].map(PathBuf::from));
}
