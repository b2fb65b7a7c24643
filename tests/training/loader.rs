//! The number of threads that load audio changes no bit of what is trained.

use reprise_model::stage::pretrain::run;
use reprise_model::tensors;

use super::{CONVOLVED, WAVE, data, settings, turn, work};

#[test]
fn a_pretraining_is_equal_to_the_bit_with_any_number_of_loader_threads() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    for (name, front_end) in [("wave", WAVE), ("convolved", CONVOLVED)] {
        let settings = settings(front_end, 8);
        let trained = |threads: u32| {
            let folder_name = format!("{name}-{threads}");
            let mut work = work(folder.path(), &folder_name, &settings, 1);
            work.request.loader_threads = threads;
            let scores = run(&settings, &mut work).unwrap();
            work.report.keep().unwrap();
            let out = work.output("");
            let log = std::fs::read(work.request.work.join("metrics.log")).unwrap();
            (scores, tensors::read(&out.join("model.safetensors")).unwrap().tensors, log)
        };
        let one = trained(1);
        for threads in [2, 4] {
            let many = trained(threads);
            assert_eq!((&many.0, &many.2), (&one.0, &one.2), "{name}, {threads} threads");
            assert!(many.1 == one.1, "{name}, {threads} threads: the weights differ");
        }
    }
}
