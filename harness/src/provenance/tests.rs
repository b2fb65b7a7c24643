use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::changes::{Because, PATCH_BYTES};
use super::*;

/// A repository with one commit.
struct Place {
    temp: tempfile::TempDir,
    repository: Repository,
}

impl Place {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let repository = Repository::init(temp.path().join("here")).unwrap();
        let place = Self { temp, repository };
        files.iter().for_each(|(name, bytes)| place.write(name, bytes));
        place.stage(&files.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        let tree = place.repository.index().unwrap().write_tree().unwrap();
        let tree = place.repository.find_tree(tree).unwrap();
        let author = git2::Signature::new("A", "a@example.org", &git2::Time::new(0, 0)).unwrap();
        place.repository.commit(Some("HEAD"), &author, &author, "first", &tree, &[]).unwrap();
        drop(tree);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join("here").join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    fn stage(&self, names: &[&str]) {
        let mut index = self.repository.index().unwrap();
        names.iter().for_each(|name| index.add_path(Path::new(name)).unwrap());
        index.write().unwrap();
    }

    fn changes(&self) -> Changes {
        Changes::of(&self.path("")).unwrap()
    }

    /// Every file of a checkout of the commit, after the patch.
    fn applied(&self, patch: &[u8]) -> Vec<(String, Vec<u8>)> {
        let clean = self.temp.path().join("clean");
        let git = |arguments: &[&str], folder: &Path| {
            let output = Command::new("git").args(arguments).current_dir(folder).output().expect("git is there");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        git(&["clone", "-q", "--no-hardlinks", "here", "clean"], self.temp.path());
        fs::write(self.temp.path().join("changes.patch"), patch).unwrap();
        git(&["apply", "--whitespace=nowarn", "../changes.patch"], &clean);
        files(&clean)
    }
}

fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut found, mut below) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = below.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.file_name() != ".git") {
            match entry.file_type().unwrap().is_dir() {
                true => below.push(entry.path()),
                false => {
                    let name = entry.path().strip_prefix(root).unwrap().display().to_string();
                    found.push((name, fs::read(entry.path()).unwrap()));
                }
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_changed_file_makes_a_repository_dirty() {
    let place = Place::new(&[("a", b"a")]);
    let state = GitState::of(&place.path("")).unwrap();
    let commit = place.repository.head().unwrap().peel_to_commit().unwrap().id().to_string();
    assert_eq!((state.commit, state.dirty), (Some(commit), false));
    assert!(state.branch.is_some());
    assert_eq!(Changes::of(&place.path("")), None);
    place.write("a", b"b");
    assert!(GitState::of(&place.path("a")).unwrap().dirty);
}

#[test]
fn a_patch_gives_a_clean_checkout_the_files_that_the_run_saw() {
    use std::os::unix::fs::PermissionsExt;
    let long: Vec<u8> = (0..400).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
    let place = Place::new(&[
        ("both.yaml", &long),
        ("staged.yaml", b"a\n"),
        ("unstaged.yaml", b"a\r\nb\r\n"),
        ("gone.yaml", b"a\n"),
        ("taken out.yaml", b"a\n"),
        ("same.yaml", b"a\n"),
        ("run.sh", b"true\n"),
    ]);
    place.write("staged.yaml", b"b\n");
    place.write("both.yaml", &[b"first\n", &long[..]].concat());
    place.write("staged and new/name.yaml", b"new\n");
    place.stage(&["staged.yaml", "both.yaml", "staged and new/name.yaml"]);
    place.write("both.yaml", &[b"first\n", &long[..], b"last, without an end of line"].concat());
    place.write("staged and new/name.yaml", b"new, and then changed\n");
    place.write("unstaged.yaml", b"a\r\nc\r\n");
    place.write("untracked/a \"quoted\" name.txt", b"x\n");
    place.write("untracked/\u{fc}ber.txt", b"umlaut\n\nx");
    place.write("untracked/latin-1.txt", b"caf\xe9\n");
    place.write("untracked/empty.txt", b"");
    fs::remove_file(place.path("gone.yaml")).unwrap();
    let mut index = place.repository.index().unwrap();
    index.remove_path(Path::new("taken out.yaml")).unwrap();
    index.write().unwrap();
    fs::set_permissions(place.path("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();

    let changes = place.changes();
    assert_eq!((changes.left_out.len(), changes.not_looked_at), (0, 0), "{:?}", changes.left_out);
    assert_eq!(changes.bytes, changes.patch.len() as u64);
    assert!(place.applied(&changes.patch) == files(&place.path("")), "{}", String::from_utf8_lossy(&changes.patch));
    let mode = fs::metadata(place.temp.path().join("clean/run.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
}

#[test]
fn secrets_and_binary_files_are_left_out_and_ignored_ones_are_not_even_named() {
    let place = Place::new(&[(".gitignore", b"ignored/\n*.log\n"), (".env", b"A=1\n"), ("weights.bin", b"\0\x01")]);
    for name in ["id_rsa", "server.pem", "nested/credentials.json", "ignored/x.txt", "train.log"] {
        place.write(name, b"t0ps3cret\n");
    }
    place.write("notes.txt", b"to fetch: https://me:t0ps3cret@host/data\n");
    place.write(".env", b"A=t0ps3cret\n");
    place.stage(&["id_rsa"]);
    place.write("weights.bin", b"\0\x02");
    place.write("good.yaml", b"steps: 3\n");
    let changes = place.changes();
    let mut left_out: Vec<_> = changes.left_out.iter().map(|left| (left.path.as_str(), left.because)).collect();
    left_out.sort_by_key(|(path, _)| *path);
    let secret = |path| (path, Because::Secret);
    let expected = [
        secret(".env"),
        secret("id_rsa"),
        secret("nested/credentials.json"),
        secret("notes.txt"),
        secret("server.pem"),
        ("weights.bin", Because::Binary),
    ];
    assert_eq!((left_out.as_slice(), changes.files), (&expected[..], 1));
    let all = format!("{} {}", String::from_utf8_lossy(&changes.patch), serde_json::to_string(&changes).unwrap());
    assert!(all.contains("steps: 3") && !all.contains("t0ps3cret") && !all.contains("ignored"), "{all}");
}

#[test]
fn a_patch_has_a_limit_and_says_what_it_left_out() {
    let place = Place::new(&[("a", b"a\n")]);
    let lines = |bytes: usize| b"0123456789abcde\n".repeat(bytes / 16);
    place.write("1.txt", &lines(PATCH_BYTES / 2));
    place.write("2.txt", &lines(PATCH_BYTES / 2));
    place.write("3.txt", b"short\n");
    place.write("4.txt", &lines(2 * PATCH_BYTES));
    let changes = place.changes();
    assert!(changes.patch.len() <= PATCH_BYTES);
    let left_out: Vec<_> = changes.left_out.iter().map(|left| (left.path.as_str(), left.because)).collect();
    assert_eq!((left_out, changes.files), (vec![("2.txt", Because::Large), ("4.txt", Because::Large)], 2));
    assert_eq!(place.applied(&changes.patch).len(), 3, "what is in it applies");
}

#[test]
fn a_record_of_a_program_that_knew_less_is_read() {
    let old = r#"{ "build": "0.1.0", "experiment": { "commit": null, "branch": null, "dirty": true } }"#;
    let provenance: Provenance = serde_json::from_str(old).unwrap();
    assert_eq!((provenance.command.len(), provenance.host), (0, None));
}

#[test]
fn this_process_is_recorded_without_its_patch() {
    let place = Place::new(&[("a", b"a\n")]);
    place.write("a", b"t0 be found in the patch alone\n");
    let provenance = Provenance::of(&place.path("a"));
    assert!(!provenance.command.is_empty() && provenance.host.is_some());
    assert!(!provenance.changes.as_ref().unwrap().patch.is_empty());
    let text = serde_json::to_string(&provenance).unwrap();
    assert!(!text.contains("t0 be found"), "{text}");
}
