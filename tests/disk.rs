//! A store on a disk that is full or read-only.
//!
//! These tests mount a small disk of memory, which only root may. Elsewhere they say so and check nothing.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::place::{Place, SHORTEST, Said, TINY, said};

/// A disk of its own in a place, unmounted at the end.
struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// `None` where this user may not mount.
    fn mount(place: &Place, bytes: u64) -> Option<Self> {
        let folder = place.path("disk");
        fs::create_dir_all(&folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(&folder)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("not checked: this user may not mount a disk");
        }
        mounted.then_some(Self { folder })
    }

    fn remount(&self, mode: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(&self.folder).status();
        assert!(status.unwrap().success());
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.folder).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Takes all but `left` bytes.
    fn fill(&self, left: u64) {
        let _ = fs::remove_file(self.folder.join("ballast"));
        let taken = vec![1; usize::try_from(self.free().saturating_sub(left)).unwrap()];
        fs::File::create(self.folder.join("ballast")).unwrap().write_all_at(&taken, 0).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.folder).status();
    }
}

fn run(place: &Place, experiment: &str) -> Said {
    place.reprise(&["run", "--store", "disk/store", experiment])
}

fn runs(place: &Place) -> serde_json::Value {
    place.json(&["list", "--json", "--store", "disk/store"])
}

#[test]
fn a_full_disk_loses_nothing_that_was_finished() {
    let place = Place::with_corpus();
    let Some(disk) = Disk::mount(&place, 16 << 20) else { return };
    let mut executed = 0;
    for left in [0, 12 << 10, 64 << 10, 300 << 10] {
        disk.fill(left);
        let said = run(&place, "tiny.yaml");
        assert_eq!(said.code, Some(2), "{left} bytes: {said:#?}");
        assert!(said.err.contains("space"), "{left} bytes: {}", said.err);
        let plan = place.json(&["plan", "--json", "--store", "disk/store", "tiny.yaml"]);
        let stored = plan["stages"].as_array().unwrap().iter().filter(|stage| stage["outlook"].get("stored").is_some());
        let stored = stored.count();
        assert!(stored >= executed, "{left} bytes: {executed} stages were stored, now {stored}");
        executed = stored;
        runs(&place);
    }
    assert!(executed > 0, "some stage was executed before the disk was full");
    fs::remove_file(disk.folder.join("ballast")).unwrap();
    let said = run(&place, "tiny.yaml");
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(said.err.matches("reused").count(), executed, "{}", said.err);
    let runs = runs(&place);
    let states: Vec<_> = runs.as_array().unwrap().iter().map(|run| run["status"].as_str().unwrap()).collect();
    assert!(states.contains(&"finished") && !states.contains(&"damaged"), "{states:?}");
}

#[test]
fn a_disk_that_fills_up_while_checkpoints_are_written_costs_only_what_came_after_them() {
    let place = Place::with_corpus();
    let Some(disk) = Disk::mount(&place, 32 << 20) else { return };
    // Long enough for several checkpoints, each of them large enough not to fit beside the others.
    let experiment = TINY
        .replace("feed-forward: 64", "feed-forward: 2048")
        .replace("steps: 6 }\n      - ", "steps: 400 }\n      - ")
        .replace("validate-every: 4", "validate-every: 100");
    place.write("some.yaml", &experiment);
    let arguments = ["run", "--store", "disk/store", "--checkpoint-every", "1", "some.yaml"];
    let mut child = place.command(&arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let stages = place.path("disk/store/stages");
    let whole = || {
        let stages = fs::read_dir(&stages).into_iter().flatten().flatten();
        let mut files =
            stages.flat_map(|stage| fs::read_dir(stage.path().join("work/checkpoints")).into_iter().flatten());
        files.any(|file| file.is_ok_and(|file| file.path().extension().is_some_and(|ends| ends == "safetensors")))
    };
    while !whole() {
        assert!(child.try_wait().unwrap().is_none(), "it ended without a checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    disk.fill(64 << 10);
    let said = said(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("pretrain iteration 1: ") && said.err.contains("space"), "{}", said.err);
    assert!(whole(), "the checkpoint before is kept");
    fs::remove_file(disk.folder.join("ballast")).unwrap();
    let said = run(&place, "some.yaml");
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.err.contains("pretrain iteration 1: continuing, attempt 2"), "{}", said.err);
    let digests = |store: &str| {
        let plan = place.json(&["plan", "--json", "--store", store, "some.yaml"]);
        let stages = plan["stages"].as_array().unwrap().iter();
        stages.map(|stage| stage["outlook"]["stored"]["digest"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(place.reprise(&["run", "--store", "straight", "some.yaml"]).code, Some(0));
    assert_eq!(digests("disk/store"), digests("straight"));
}

#[test]
fn a_read_only_store_still_answers_and_takes_no_run() {
    let place = Place::with_corpus();
    let Some(disk) = Disk::mount(&place, 16 << 20) else { return };
    assert_eq!(run(&place, "shortest.yaml").code, Some(0));
    disk.remount("ro");
    assert_eq!(runs(&place)[0]["status"], "finished");
    assert_eq!(run(&place, "shortest.yaml").code, Some(0), "every result is stored");
    place.write("longer.yaml", &SHORTEST.replace("steps: 3", "steps: 4"));
    let said = run(&place, "longer.yaml");
    assert_eq!(said.code, Some(2), "{said:#?}");
    insta::assert_snapshot!(place.redacted(&said.err));
}
