//! What a person sees while a run works: a bar on a terminal, plain lines elsewhere. All on standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reprise_spec::contract::{Level, Score};

use super::print;
use crate::data::hashing::Hashing;
use crate::execute::Happening;

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Shows what happens in a run.
pub struct Display {
    terminal: bool,
    bar: Option<ProgressBar>,
    stage: String,
    began: Instant,
    first: Option<(u64, Instant)>,
    printed: Instant,
    comparing: HashingBar,
}

impl Default for Display {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            terminal: std::io::stderr().is_terminal(),
            bar: None,
            stage: String::new(),
            began: now,
            first: None,
            printed: now,
            comparing: hashing(),
        }
    }
}

impl Display {
    /// Shows work that belongs to no run, under a name.
    pub fn of(name: &str) -> Self {
        let mut display = Self { stage: name.to_owned(), ..Self::default() };
        display.start_bar();
        display
    }

    /// Shows one happening.
    pub fn show(&mut self, happening: Happening<'_>) {
        match happening {
            Happening::Reused { number, total, name, digest } => {
                self.say(format!("[{number}/{total}] {name}: reused output:{}", digest.short()));
            }
            Happening::Waiting { number, total, name, .. } => {
                self.say(format!("[{number}/{total}] {name}: another process is executing it; waiting for its result"));
            }
            Happening::Started { number, total, name, attempt } => {
                self.stage = format!("[{number}/{total}] {name}");
                (self.began, self.first, self.printed) = (Instant::now(), None, Instant::now());
                if attempt > 1 {
                    self.say(format!("{}: continuing, attempt {attempt}", self.stage));
                } else if !self.terminal {
                    self.say(format!("{}: started", self.stage));
                }
                self.start_bar();
            }
            Happening::Progress { done, total, unit, note } => self.progress(done, total, unit, note),
            Happening::Comparing(state) => self.comparing.show(state),
            Happening::Checkpoint { .. } => {}
            Happening::Log { level, message } => {
                let mark = if level == Level::Warning { "warning: " } else { "" };
                self.say(format!("{}: {mark}{message}", self.stage));
            }
            Happening::Finished { number, total, name, seconds, summary, .. } => {
                self.clear();
                self.say(
                    format!("[{number}/{total}] {name}: {} {}", print::duration(seconds), scores(summary))
                        .trim_end()
                        .to_owned(),
                );
            }
        }
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn start_bar(&mut self) {
        self.clear();
        if self.terminal {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(
                ProgressStyle::with_template("{prefix} {spinner} {msg}").unwrap_or(ProgressStyle::default_spinner()),
            );
            bar.set_prefix(self.stage.clone());
            bar.enable_steady_tick(Duration::from_millis(200));
            self.bar = Some(bar);
        }
    }

    fn progress(&mut self, done: u64, total: u64, unit: &str, note: &str) {
        let (first, since) = *self.first.get_or_insert((done, Instant::now()));
        let rate = (done - first.min(done)) as f64 / since.elapsed().as_secs_f64().max(1e-3);
        let left = if rate > 0.0 { print::duration((total - done.min(total)) as f64 / rate) } else { "?".into() };
        if let Some(bar) = &self.bar {
            if bar.length() != Some(total) {
                bar.set_length(total);
                let style =
                    ProgressStyle::with_template("{prefix} {bar:24} {msg}").unwrap_or(ProgressStyle::default_bar());
                bar.set_style(style.progress_chars("━╸ "));
            }
            bar.set_position(done);
            bar.set_message(format!("{done}/{total} {unit}, {rate:.1}/s, {left} left  {note}"));
        } else if self.printed.elapsed() >= LINE_EVERY {
            self.printed = Instant::now();
            self.say(
                format!("{}: {done}/{total} {unit}, {rate:.1}/s, {left} left  {note}", self.stage)
                    .trim_end()
                    .to_owned(),
            );
        }
    }

    fn say(&self, line: String) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}

/// Scores on one line: `wer 21.4 % (18.0 to 25.1)`.
pub fn scores(summary: &[Score]) -> String {
    summary.iter().map(|score| format!("{} {}", score.name, number(score))).collect::<Vec<_>>().join(", ")
}

/// A score as people read it: error rates and shares in percent, with the interval where there is one.
pub fn number(score: &Score) -> String {
    let percent = ["wer", "cer", "ser"].iter().any(|name| score.name.split('-').any(|part| part == *name))
        || score.name.ends_with("accuracy");
    let show = |value: f64| match () {
        () if percent => format!("{:.1}", value * 100.0),
        () if value == value.round() && value.abs() < 1e9 => format!("{value:.0}"),
        () => format!("{value:.3}"),
    };
    let unit = if percent { " %" } else { "" };
    match score.interval {
        Some((low, high)) => format!("{}{unit} ({} to {})", show(score.value), show(low), show(high)),
        None => format!("{}{unit}", show(score.value)),
    }
}

/// A bar for reading the files of a corpus.
pub fn hashing() -> HashingBar {
    HashingBar { bar: None }
}

/// Shows how far the files of a corpus are read; silent when there is little to read.
pub struct HashingBar {
    bar: Option<ProgressBar>,
}

impl HashingBar {
    pub fn show(&mut self, state: Hashing) {
        if state.total < 64 << 20 || !std::io::stderr().is_terminal() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(
                "reading the corpus {bar:24} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
            );
            ProgressBar::new(state.total).with_style(style.unwrap_or(ProgressStyle::default_bar()))
        });
        bar.set_position(state.done);
        if state.done >= state.total {
            bar.finish_and_clear();
        }
    }
}
