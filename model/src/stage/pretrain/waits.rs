//! How long training waited for audio.

use std::time::{Duration, Instant};

use reprise_spec::contract::Level;

use super::Work;

/// The time of training so far, and how much of it was spent waiting.
#[derive(Debug)]
pub struct Waits {
    since: Instant,
    waited: Duration,
    steps: u64,
    first: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self { since: Instant::now(), waited: Duration::ZERO, steps: 0, first: Duration::ZERO }
    }
}

impl Waits {
    /// Waits for what `arrive` gives.
    pub fn of<T>(&mut self, arrive: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let arrived = arrive();
        let waited = start.elapsed();
        if self.steps == 0 {
            self.first = waited;
        } else {
            self.waited += waited;
        }
        self.steps += 1;
        arrived
    }

    /// Says it in the stage's log.
    pub fn tell(&self, work: &mut Work) {
        if self.steps == 0 {
            return;
        }
        let (first, waited, all) =
            (self.first.as_secs_f64(), self.waited.as_secs_f64(), self.since.elapsed().as_secs_f64());
        let share = 100.0 * waited / all.max(f64::MIN_POSITIVE);
        let message = format!(
            "waited {first:.2} s for the first audio, and {waited:.2} s ({share:.1} %) of {all:.0} s of training after that"
        );
        work.report.say(Level::Info, message);
    }
}
