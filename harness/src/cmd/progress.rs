//! What a person sees while a run works: a bar on a terminal, plain lines elsewhere. All on standard error.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use reprise_spec::contract::{Level, Score};

use super::print;
use crate::data::hashing::Hashing;
use crate::execute::{Happening, Place};
use crate::inert;

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Shows what happens in runs, or in work that belongs to none: a line for each stage at work.
pub struct Display {
    terminal: bool,
    bars: MultiProgress,
    /// The stages at work, by run and number; work that belongs to no run is the first of run 0.
    lanes: BTreeMap<(usize, usize), Lane>,
    comparing: HashingBar,
}

/// One stage at work.
struct Lane {
    title: String,
    bar: Option<ProgressBar>,
    first: Option<(u64, Instant)>,
    printed: Instant,
}

impl Default for Display {
    fn default() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            lanes: BTreeMap::new(),
            comparing: hashing(),
        }
    }
}

impl Display {
    /// Shows work that belongs to no run, under a name.
    pub fn of(name: &str) -> Self {
        let mut display = Self::default();
        display.start((0, 0), name.to_owned());
        display
    }

    /// Shows a happening of work that belongs to no run.
    pub fn show(&mut self, happening: Happening<'_>) {
        self.show_lane((0, 0), String::new(), happening);
    }

    /// Shows a happening of a stage, or of no stage.
    pub fn show_at(&mut self, place: Option<Place<'_>>, happening: Happening<'_>) {
        match place {
            Some(Place { run, label, number, total, name }) => {
                let space = if label.is_empty() { "" } else { " " };
                self.show_lane((run, number), format!("{label}{space}[{number}/{total}] {name}"), happening);
            }
            None => self.show(happening),
        }
    }

    fn show_lane(&mut self, at: (usize, usize), title: String, happening: Happening<'_>) {
        match happening {
            Happening::Reused { digest } => self.say(format!("{title}: reused output:{}", digest.short())),
            Happening::Waiting { .. } => {
                self.say(format!("{title}: another process is executing it; waiting for its result"));
            }
            Happening::Started { attempt, stale } => {
                let again = if stale { "; what is stored was made from other inputs" } else { "" };
                if attempt > 1 {
                    self.say(format!("{title}: continuing, attempt {attempt}{again}"));
                } else if !self.terminal || stale {
                    self.say(format!("{title}: started{again}"));
                }
                self.start(at, title);
            }
            Happening::Progress { done, total, unit, note } => self.progress(at, done, total, unit, note),
            Happening::Comparing(state) => self.comparing.show(state),
            Happening::Checkpoint { .. } => {}
            Happening::Log { level, message } => {
                let mark = if level == Level::Warning { "warning: " } else { "" };
                let title = self.lanes.get(&at).map_or(title, |lane| lane.title.clone());
                self.say(format!("{title}: {mark}{message}"));
            }
            Happening::Finished { seconds, summary, .. } => {
                self.end(at);
                self.say(format!("{title}: {} {}", print::duration(seconds), scores(summary)).trim_end().to_owned());
            }
            Happening::Failed => {
                self.end(at);
                self.say(format!("{title}: failed"));
            }
            Happening::Ended(_) => {}
        }
    }

    /// Takes the bars away.
    pub fn clear(&mut self) {
        for at in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.end(at);
        }
    }

    fn start(&mut self, at: (usize, usize), title: String) {
        let title = inert::terminal(&title).into_owned();
        self.end(at);
        let bar = self.terminal.then(|| {
            let bar = self.bars.add(ProgressBar::no_length());
            let style = ProgressStyle::with_template("{prefix} {spinner} {msg}");
            bar.set_style(style.unwrap_or(ProgressStyle::default_spinner()));
            bar.set_prefix(title.clone());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        self.lanes.insert(at, Lane { title, bar, first: None, printed: Instant::now() });
    }

    fn end(&mut self, at: (usize, usize)) {
        if let Some(bar) = self.lanes.remove(&at).and_then(|lane| lane.bar) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn progress(&mut self, at: (usize, usize), done: u64, total: u64, unit: &str, note: &str) {
        let Some(lane) = self.lanes.get_mut(&at) else { return };
        let (first, since) = *lane.first.get_or_insert((done, Instant::now()));
        let rate = (done - first.min(done)) as f64 / since.elapsed().as_secs_f64().max(1e-3);
        let left = if rate > 0.0 { print::duration((total - done.min(total)) as f64 / rate) } else { "?".into() };
        if let Some(bar) = &lane.bar {
            if bar.length() != Some(total) {
                bar.set_length(total);
                let style =
                    ProgressStyle::with_template("{prefix} {bar:24} {msg}").unwrap_or(ProgressStyle::default_bar());
                bar.set_style(style.progress_chars("━╸ "));
            }
            bar.set_position(done);
            let message = format!("{done}/{total} {unit}, {rate:.1}/s, {left} left  {note}");
            bar.set_message(inert::terminal(&message).into_owned());
        } else if lane.printed.elapsed() >= LINE_EVERY {
            lane.printed = Instant::now();
            let line = format!("{}: {done}/{total} {unit}, {rate:.1}/s, {left} left  {note}", lane.title);
            self.say(line.trim_end().to_owned());
        }
    }

    /// Prints something without disturbing the bars.
    pub fn suspend(&self, print: impl FnOnce()) {
        self.bars.suspend(print);
    }

    fn say(&self, line: String) {
        self.suspend(|| print::message(line));
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
