use super::*;

fn taken(folder: &Path, watch: &mut Watch) -> Option<Lease> {
    match claim(folder, watch).unwrap() {
        Claim::Taken(lease) => Some(lease),
        Claim::Held(_) => None,
    }
}

/// A lease as a process on another machine would have left it.
fn foreign(folder: &Path, count: u64) {
    let owner = Owner { host: "elsewhere".into(), boot: Some("other".into()), ..Owner::current() };
    let record = Record { format: FORMAT, owner, token: "theirs".into(), count, worker: None };
    fs::create_dir_all(folder.join(WORK)).unwrap();
    files::write_json(&folder.join(WORK).join(FILE), &record).unwrap();
}

#[test]
fn a_lease_has_one_holder_until_it_is_dropped() {
    let temp = tempfile::tempdir().unwrap();
    let first = taken(temp.path(), &mut Watch::default()).unwrap();
    assert!(taken(temp.path(), &mut Watch::new(Duration::ZERO)).is_none(), "its owner lives");
    drop(first);
    assert!(taken(temp.path(), &mut Watch::default()).is_some());
}

#[test]
fn only_one_of_many_threads_gets_a_lease() {
    let temp = tempfile::tempdir().unwrap();
    let leases: Vec<Option<Lease>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| taken(temp.path(), &mut Watch::default()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(leases.iter().flatten().count(), 1);
}

#[test]
fn the_lease_of_a_process_that_is_gone_is_taken_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let process = Process { pid: child.id(), start: Some(1) };
    child.wait().unwrap();
    let owner = Owner { process, ..Owner::current() };
    let record = Record { format: FORMAT, owner, token: "theirs".into(), count: 3, worker: None };
    fs::create_dir_all(temp.path().join(WORK)).unwrap();
    files::write_json(&temp.path().join(WORK).join(FILE), &record).unwrap();
    assert!(taken(temp.path(), &mut Watch::default()).is_some());
}

#[test]
fn a_trainer_that_outlives_its_harness_keeps_the_lease_until_it_ends() {
    let temp = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let worker = Some(Process::with_pid(child.id()));
    let owner = Owner { process: Process { pid: u32::MAX, start: Some(1) }, ..Owner::current() };
    let record = Record { format: FORMAT, owner, token: "theirs".into(), count: 3, worker };
    fs::create_dir_all(temp.path().join(WORK)).unwrap();
    files::write_json(&temp.path().join(WORK).join(FILE), &record).unwrap();
    assert!(taken(temp.path(), &mut Watch::new(Duration::ZERO)).is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(taken(temp.path(), &mut Watch::default()).is_some());
}

#[test]
fn a_trainer_whose_number_its_harness_could_not_say_keeps_the_lease_until_it_ends() {
    let temp = tempfile::tempdir().unwrap();
    let work = temp.path().join(WORK);
    fs::create_dir_all(&work).unwrap();
    let log = File::create(work.join(LOG)).unwrap();
    log.try_lock().unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").stderr(log).spawn().unwrap();
    let owner = Owner { process: Process { pid: u32::MAX, start: Some(1) }, ..Owner::current() };
    // Not yet named, or named and gone but for a thread that still has its files.
    for worker in [Some(Process::starting()), Some(owner.process)] {
        let record = Record { format: FORMAT, owner: owner.clone(), token: "theirs".into(), count: 3, worker };
        files::write_json(&work.join(FILE), &record).unwrap();
        assert!(taken(temp.path(), &mut Watch::new(Duration::ZERO)).is_none());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(taken(temp.path(), &mut Watch::default()).is_some());
}

#[test]
fn what_a_killed_process_had_begun_to_write_is_not_published() {
    let temp = tempfile::tempdir().unwrap();
    let lease = taken(temp.path(), &mut Watch::default()).unwrap();
    fs::write(lease.work().join(".new-torn"), "{").unwrap();
    assert!(lease.commit("0123456789ab").unwrap());
    let names: Vec<_> = fs::read_dir(temp.path().join("0123456789ab")).unwrap().collect();
    assert!(names.is_empty(), "{names:?}");
    let lease = taken(temp.path(), &mut Watch::default()).unwrap();
    drop(lease);
    assert!(!temp.path().join(WORK).exists(), "a lease that was of no use leaves nothing");
}

#[test]
fn a_lease_from_elsewhere_is_dead_when_its_count_stands_still() {
    let temp = tempfile::tempdir().unwrap();
    let mut watch = Watch::new(Duration::from_millis(200));
    foreign(temp.path(), 1);
    assert!(taken(temp.path(), &mut watch).is_none());
    std::thread::sleep(Duration::from_millis(250));
    foreign(temp.path(), 2);
    assert!(taken(temp.path(), &mut watch).is_none(), "it counted");
    std::thread::sleep(Duration::from_millis(250));
    let lease = taken(temp.path(), &mut watch).expect("it stood still");
    assert!(!lease.is_lost());
}

#[test]
fn a_torn_lease_is_dead_when_it_stands_still() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join(WORK)).unwrap();
    fs::write(temp.path().join(WORK).join(FILE), b"{\"format\": 1, \"own").unwrap();
    assert!(taken(temp.path(), &mut Watch::default()).is_none());
    assert!(taken(temp.path(), &mut Watch::new(Duration::ZERO)).is_some());
}

#[test]
fn an_owner_whose_lease_was_taken_notices_and_commits_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let lease = taken(temp.path(), &mut Watch::default()).unwrap();
    foreign(temp.path(), 1);
    lease.set_worker(None).unwrap();
    assert!(lease.is_lost());
    assert!(!lease.commit("0123456789ab").unwrap());
    assert!(temp.path().join(WORK).is_dir());
}

#[test]
fn the_count_of_a_held_lease_grows() {
    let temp = tempfile::tempdir().unwrap();
    let _lease = taken(temp.path(), &mut Watch::default()).unwrap();
    let before = fs::read(temp.path().join(WORK).join(FILE)).unwrap();
    std::thread::sleep(BEAT + Duration::from_millis(600));
    assert_ne!(fs::read(temp.path().join(WORK).join(FILE)).unwrap(), before);
}
