//! INT and TERM: what was asked of this process while it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Counts requests to stop: the first asks the trainer for a checkpoint, a second one ends it.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicU32>);

impl Interrupt {
    /// Starts to count INT, TERM and HUP instead of dying of them.
    ///
    /// # Errors
    /// When the system refuses to install the handlers.
    pub fn install() -> std::io::Result<Self> {
        let interrupt = Self::default();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let counter = interrupt.clone();
        std::thread::spawn(move || signals.forever().for_each(|_| counter.request()));
        Ok(interrupt)
    }

    /// Asks to stop.
    pub fn request(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was asked.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
