//! Threads that wait for blocks of work, each with one thread of libtorch.
//!
//! A product of a block, and what is done with it while it lies in the cache of one core, take no turns with other threads; and a block's
//! numbers depend on nothing but the block.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::failure::StageError;

type Job = &'static (dyn Fn() + Sync);
type Outcome = Result<(), Box<dyn Any + Send>>;

/// As many threads as libtorch may use. While they live, libtorch itself uses one thread in each of them and in the one that made them.
pub struct Crew {
    workers: Vec<(Sender<Job>, JoinHandle<()>)>,
    done: Receiver<Outcome>,
    threads: i32,
}

impl Crew {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn new() -> Result<Self, StageError> {
        let threads = tch::get_num_threads().max(1);
        let (finished, done) = channel();
        let mut crew = Self { workers: Vec::new(), done, threads };
        tch::set_num_threads(1);
        for _ in 0..threads {
            let (jobs, queue) = channel::<Job>();
            let finished = finished.clone();
            let work = move || {
                tch::set_num_threads(1);
                let _no_grad = tch::no_grad_guard();
                for job in queue {
                    let _ = finished.send(catch_unwind(AssertUnwindSafe(job)));
                }
            };
            let thread = Builder::new().name("k-means".into()).spawn(work);
            let thread = thread.map_err(|error| StageError::Failed(format!("cannot start a thread: {error}")))?;
            crew.workers.push((jobs, thread));
        }
        Ok(crew)
    }

    /// Does `work` for every item, whoever is free the next one, and returns what was made in the order of the items.
    pub fn each<I: Send, T: Send>(&self, items: impl IntoIterator<Item = I>, work: impl Fn(I) -> T + Sync) -> Vec<T> {
        let items: Vec<I> = items.into_iter().collect();
        let made = Mutex::new(Vec::with_capacity(items.len()));
        let queue = Mutex::new(items.into_iter().enumerate());
        self.together(&|| {
            loop {
                let next = locked(&queue).next();
                let Some((at, item)) = next else { break };
                let one = work(item);
                locked(&made).push((at, one));
            }
        });
        let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        made.sort_unstable_by_key(|(at, _)| *at);
        made.into_iter().map(|(_, one)| one).collect()
    }

    /// Lets every thread call `job` once, and waits for them; a panic goes on here.
    fn together(&self, job: &(dyn Fn() + Sync)) {
        // SAFETY: this function doesn't return, and unwinds only, after as many threads have finished as were given the job, so that `job`
        // outlives every use of it. A thread drops its copy, a reference, before it says that it has finished.
        let job: Job = unsafe { std::mem::transmute::<&(dyn Fn() + Sync), Job>(job) };
        let given = self.workers.iter().filter(|(jobs, _)| jobs.send(job).is_ok()).count();
        let mut panicked = None;
        for _ in 0..given {
            // A thread ends only after its queue does, and the queue lives as long as `self`.
            match self.done.recv() {
                Ok(Ok(())) => {}
                Ok(Err(panic)) => panicked = Some(panic),
                Err(_) => std::process::abort(),
            }
        }
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for (jobs, thread) in self.workers.drain(..) {
            drop(jobs);
            let _ = thread.join();
        }
        tch::set_num_threads(self.threads);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_and_comes_back_in_its_place() {
        let crew = Crew::new().unwrap();
        for count in [0, 1, 7, 1000] {
            let mut numbers: Vec<usize> = (0..count).collect();
            let doubled = crew.each(numbers.iter_mut(), |number| {
                *number *= 2;
                *number
            });
            assert_eq!(doubled, numbers);
            assert_eq!(doubled, (0..count).map(|n| 2 * n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_panic_comes_back_and_the_threads_go_on() {
        let crew = Crew::new().unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| crew.each(0..9, |n| assert!(n != 4, "four"))));
        assert!(panicked.is_err());
        assert_eq!(crew.each(0..3, |n| n + 1), [1, 2, 3]);
    }
}
