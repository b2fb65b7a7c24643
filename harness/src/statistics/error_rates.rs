//! How often the tests err, by simulation: many experiments of normal values with a known difference, judged as goldens and claims are.

use std::fmt::Write;

use reprise_spec::random::Draws;
use statrs::distribution::{Binomial, DiscreteCDF};

use super::power::{POWER, power, power_beyond, power_of_equivalence, seeds_for_equivalence, smallest_detectable};
use super::{Design, Equivalence, MeanDifference, equivalence::Outcome, p_of_new_value};

/// The α that the tables are for.
const ALPHA: f64 = 0.05;
const SEEDS: [usize; 3] = [3, 5, 10];
/// In standard deviations.
const MARGINS: [f64; 2] = [1.0, 3.0];
/// In margins.
const SHIFTS: [f64; 3] = [0.0, 1.0, 2.0];
/// A count as far off as this happens to one cell in a thousand.
const OUTSIDE_BAND: f64 = 0.001;

/// What became of the simulated experiments of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    pub design: Design,
    pub seeds: usize,
    /// In standard deviations: of the differences of pairs, or the common one of two samples.
    pub margin: f64,
    /// The true difference, in margins.
    pub shift: f64,
    pub experiments: u64,
    pub equivalent: u64,
    pub different: u64,
}

/// What became of single new runs that were held against the interval of their predecessors.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// Runs before it.
    pub seeds: usize,
    /// How far the mean had moved, in standard deviations.
    pub shift: f64,
    pub experiments: u64,
    pub unexpected: u64,
}

/// Simulates as many experiments of each kind, all of them functions of `seed`.
pub fn simulate(experiments: u64, seed: u64) -> (Vec<Cell>, Vec<NewRun>) {
    let mut cells = Vec::new();
    let mut new_runs = Vec::new();
    for seeds in SEEDS {
        for design in [Design::Paired, Design::Welch] {
            for (margin, shift) in MARGINS.into_iter().flat_map(|margin| SHIFTS.map(|shift| (margin, shift))) {
                let stream =
                    |number| Normals::new(seed, design, &[seeds as u64, margin.to_bits(), shift.to_bits(), number]);
                let outcomes = (0..experiments).map(|number| judge(design, seeds, margin, shift, &mut stream(number)));
                let outcomes: Vec<Outcome> = outcomes.collect();
                let count = |wanted| outcomes.iter().filter(|&&outcome| outcome == wanted).count() as u64;
                let (equivalent, different) = (count(Outcome::Equivalent), count(Outcome::Different));
                cells.push(Cell { design, seeds, margin, shift, experiments, equivalent, different });
            }
        }
        for shift in [0.0f64, 1.0, 3.0, 6.0] {
            let unexpected = (0..experiments).filter(|&number| {
                let mut normals = Normals::new(seed, Design::Welch, &[seeds as u64, shift.to_bits(), number]);
                let before: Vec<f64> = (0..seeds).map(|_| normals.next()).collect();
                p_of_new_value(&before, normals.next() + shift).is_some_and(|p| p < ALPHA)
            });
            new_runs.push(NewRun { seeds, shift, experiments, unexpected: unexpected.count() as u64 });
        }
    }
    (cells, new_runs)
}

/// One simulated experiment. Pairs share what their seed does, which is larger than what they don't.
fn judge(design: Design, seeds: usize, margin: f64, shift: f64, normals: &mut Normals) -> Outcome {
    let mut first = Vec::with_capacity(seeds);
    let mut second = Vec::with_capacity(seeds);
    for _ in 0..seeds {
        let shared = match design {
            Design::Paired => 5.0 * normals.next(),
            Design::Welch => 0.0,
        };
        // Two independent parts of deviation √½ make differences of deviation 1.
        let own = match design {
            Design::Paired => std::f64::consts::FRAC_1_SQRT_2,
            Design::Welch => 1.0,
        };
        first.push(20.0 + shared + own * normals.next());
        second.push(20.0 + shared + own * normals.next() - shift * margin);
    }
    let difference = MeanDifference::of(design, &first, &second);
    let tested = difference.and_then(|difference| Equivalence::of(&difference, margin, ALPHA));
    tested.map_or(Outcome::Undecided, |tested| tested.outcome)
}

/// Standard normal values (Box and Muller).
struct Normals {
    draws: Draws,
    spare: Option<f64>,
}

impl Normals {
    fn new(seed: u64, design: Design, numbers: &[u64]) -> Self {
        let name = match design {
            Design::Paired => "paired",
            Design::Welch => "welch",
        };
        Self { draws: Draws::new(seed, "error rates", numbers, name), spare: None }
    }

    fn next(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // One less a number below 1 has a logarithm.
        let radius = (-2.0 * (1.0 - self.draws.unit()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * self.draws.unit()).sin_cos();
        self.spare = Some(radius * sine);
        radius * cosine
    }
}

impl Cell {
    /// The probabilities of *equivalent* and of *different*. Welch's test has fewer degrees of freedom than the two samples of one deviation
    /// deserve, so that these are the most it can have; of pairs they are exact.
    pub fn expected(&self) -> (f64, f64) {
        let n = self.seeds as f64;
        let (standard_error, freedom) = match self.design {
            Design::Paired => (1.0 / n.sqrt(), n - 1.0),
            Design::Welch => ((2.0 / n).sqrt(), 2.0 * (n - 1.0)),
        };
        let (shift, margin) = (self.shift * self.margin / standard_error, self.margin / standard_error);
        (power_of_equivalence(shift, margin, freedom, ALPHA), power_beyond(shift, margin, freedom, ALPHA))
    }

    /// Whether both counts lie where chance puts them: around what is expected of pairs, and not above it in Welch's test.
    pub fn agrees(&self) -> bool {
        let (equivalent, different) = self.expected();
        [(self.equivalent, equivalent), (self.different, different)].into_iter().all(|(count, probability)| {
            let (least, most) = band(probability, self.experiments);
            count <= most && (self.design == Design::Welch || count >= least)
        })
    }

    /// Whether *equivalent* is wrong here: the true difference is the margin or more.
    fn is_beyond(&self) -> bool {
        self.shift >= 1.0
    }

    /// Whether *different* is wrong here: the true difference is the margin or less.
    fn is_within(&self) -> bool {
        self.shift <= 1.0
    }
}

impl NewRun {
    /// The probability that the run is unexpected.
    pub fn expected(&self) -> f64 {
        let n = self.seeds as f64;
        power(self.shift / (1.0 + 1.0 / n).sqrt(), n - 1.0, ALPHA)
    }

    /// Whether the count lies where chance puts it.
    pub fn agrees(&self) -> bool {
        let (least, most) = band(self.expected(), self.experiments);
        (least..=most).contains(&self.unexpected)
    }
}

/// The counts between which a binomial one of `experiments` lies in all but [`OUTSIDE_BAND`] of cases.
fn band(probability: f64, experiments: u64) -> (u64, u64) {
    // A probability was clamped to 0 and 1 where it was computed.
    Binomial::new(probability, experiments)
        .map_or((0, 0), |counts| (counts.inverse_cdf(OUTSIDE_BAND / 2.0), counts.inverse_cdf(1.0 - OUTSIDE_BAND / 2.0)))
}

/// The whole account in Markdown: design, tables, and what they mean for three seeds.
pub fn markdown(experiments: u64, seed: u64) -> String {
    let (cells, new_runs) = simulate(experiments, seed);
    let percent = |count: u64| format!("{:.1} %", 100.0 * count as f64 / experiments as f64);
    let expected = |probability: f64| format!("{:.1} %", 100.0 * probability);
    let bold = |wrong: bool, text: String| if wrong { format!("**{text}**") } else { text };
    let most = |wanted: fn(&Cell) -> Option<u64>| percent(cells.iter().filter_map(wanted).max().unwrap_or_default());
    let false_equivalent = most(|cell| cell.is_beyond().then_some(cell.equivalent));
    let false_different = most(|cell| cell.is_within().then_some(cell.different));
    let at_zero = most(|cell| (cell.shift == 0.0).then_some(cell.different));
    let (_, highest) = band(ALPHA, experiments);
    let agreeing =
        cells.iter().filter(|cell| cell.agrees()).count() + new_runs.iter().filter(|run| run.agrees()).count();
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = write!(
        text,
        "# How often the statistical check errs\n\n\
         Made by `cargo run -p reprise --example error-rates > golden/error-rates.md`; a test makes it again and compares.\n\n\
         {experiments} simulated experiments a row, from seed {seed}. In each, two settings are run over so many seeds and give normal values; \
         *paired* values share what their seed does (deviation 5) and differ by a deviation of 1, those for *Welch's* test are independent with \
         a deviation of 1. The true difference is 0, the margin, or twice the margin. Every experiment is judged as a golden metric is: two \
         one-sided t tests at α = {alpha} show *equivalent*, an interval of confidence {confidence} beyond the margin shows *different*, and else it \
         is *undecided*. *Expected* is the exact probability for pairs (noncentral t, integrated), and the most it can be for Welch's test.\n\n\
         Stated: *equivalent* at the margin or beyond, and *different* at the margin or within, in {percent_alpha} of experiments at most. Found: \
         {false_equivalent} at most of the one, {false_different} at most of the other, and {at_zero} at most where there is no difference; chance \
         alone gives up to {highest} in one row of {experiments} (99.95 %). {agreeing} of {rows} rows lie where the binomial \
         distribution puts 99.9 % of them around what is expected. Wrong answers are set in bold.\n\n\
         | design | seeds | margin (deviations) | true difference (margins) | equivalent | expected | different | expected | undecided |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        alpha = ALPHA,
        confidence = 1.0 - ALPHA,
        percent_alpha = expected(ALPHA),
        highest = percent(highest),
        rows = cells.len() + new_runs.len(),
    );
    for cell in &cells {
        let (equivalent, different) = cell.expected();
        let least = if cell.design == Design::Welch { "≤ " } else { "" };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {least}{} | {} | {least}{} | {} |",
            if cell.design == Design::Paired { "paired" } else { "Welch" },
            cell.seeds,
            cell.margin,
            cell.shift,
            bold(cell.is_beyond(), percent(cell.equivalent)),
            expected(equivalent),
            bold(cell.is_within(), percent(cell.different)),
            expected(different),
            percent(experiments - cell.equivalent - cell.different),
        );
    }
    text.push_str(
        "\n## One new run against its predecessors\n\nThe run is unexpected where it lies outside of the 95 % prediction interval.\n\n\
         | runs before | the mean moved by (deviations) | unexpected | expected |\n|---|---|---|---|\n",
    );
    for run in &new_runs {
        let found = percent(run.unexpected);
        let _ = writeln!(text, "| {} | {} | {found} | {} |", run.seeds, run.shift, expected(run.expected()));
    }
    text.push_str(&what_seeds_can_do());
    text
}

/// The smallest detectable difference and the seeds needed, in words and a table.
fn what_seeds_can_do() -> String {
    let smallest =
        |design, seeds| smallest_detectable(design, seeds, ALPHA, POWER).map_or("none".into(), |d| format!("{d:.2}"));
    let needed = |design, margin| {
        seeds_for_equivalence(design, margin, ALPHA, POWER).map_or("more than 10,000".into(), |seeds| seeds.to_string())
    };
    let mut text = format!(
        "\n## What three seeds can and can't do\n\n\
         Three paired seeds find (power {POWER}, two-sided α = {ALPHA}) a difference of {} deviations of the paired differences; three independent seeds a \
         side one of {} deviations. Smaller differences mostly end *undecided*, and that is the answer to expect. Three seeds can't show that two \
         settings are equal within one deviation: that takes {} pairs, or {} runs a side. They can show it within a margin of several deviations, and they can \
         show a difference that is larger than that. The numbers for Welch's test are those of two samples with one deviation: it finds somewhat less.\n\n\
         | seeds | smallest detectable, paired | by Welch's test |\n|---|---|---|\n",
        smallest(Design::Paired, 3),
        smallest(Design::Welch, 3),
        needed(Design::Paired, 1.0),
        needed(Design::Welch, 1.0),
    );
    for seeds in [2, 3, 5, 10, 20] {
        let _ =
            writeln!(text, "| {seeds} | {} | {} |", smallest(Design::Paired, seeds), smallest(Design::Welch, seeds));
    }
    text.push_str("\n| margin (deviations) | pairs that show equal means to be equal | runs a side, by Welch's test |\n|---|---|---|\n");
    for margin in [0.5, 1.0, 2.0, 3.0, 5.0] {
        let _ = writeln!(text, "| {margin} | {} | {} |", needed(Design::Paired, margin), needed(Design::Welch, margin));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_experiments_err_as_often_as_is_stated() {
        let (cells, new_runs) = simulate(300, 5);
        for cell in &cells {
            assert!(cell.agrees(), "{cell:?} for {:?}", cell.expected());
            let (_, most) = band(ALPHA, cell.experiments);
            assert!(!cell.is_beyond() || cell.equivalent <= most, "{cell:?}");
            assert!(!cell.is_within() || cell.different <= most, "{cell:?}");
        }
        for run in &new_runs {
            assert!(run.agrees(), "{run:?} for {}", run.expected());
        }
    }

    #[test]
    fn the_committed_account_is_what_the_simulation_gives() {
        assert!(
            include_str!("../../../golden/error-rates.md") == markdown(2_000, 1),
            "make golden/error-rates.md again"
        );
    }
}
