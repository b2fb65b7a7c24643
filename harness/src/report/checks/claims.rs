//! Claims in a report: what the experiment stated before its runs, and whether they bear it out.

use super::super::parts::{Cell, Mark, Part, Section, Table};
use super::super::shown::probability;
use super::super::subject::Subject;
use super::super::verdict::Tally;
use super::Checks;
use crate::claims::{self, ALPHA, Decided, Verdict};

impl Checks {
    /// Decides the claims of the subject's experiment.
    pub fn claims(&mut self, subject: &Subject<'_>) {
        let decided =
            subject.experiment.as_ref().map(|experiment| claims::decide(experiment, &subject.cohort, subject.store));
        let decided = decided.unwrap_or_default();
        let count = |verdict| decided.iter().filter(|claim| claim.verdict == verdict).count();
        let outcomes = [Verdict::Supported, Verdict::Contradicted, Verdict::Undecided]
            .map(|verdict| (word(verdict), count(verdict), mark(verdict)));
        self.tallies.push(Tally::new("claims", &outcomes));
        if decided.is_empty() {
            return;
        }
        let columns = ["Claim", "Verdict", "What must hold", "#p", "#among all", "Why"];
        let caption = format!(
            "Claims that were declared before the runs; two-sided tests at {:.0} %, p adjusted by Holm over all claims",
            100.0 * ALPHA
        );
        let claims = Part::Table(Table::new("claims", caption, &columns, decided.iter().map(shown).collect()));
        let rows: Vec<Vec<Cell>> = decided.iter().flat_map(compared).collect();
        let columns =
            ["Claim", "Comparison", "#Pairs", "#Right less left", "Interval", "#Smallest detectable", "#Seeds needed"];
        let caption =
            "What each comparison rests on: the mean over paired seeds, and what so many seeds could have shown";
        let evidence = Part::Table(Table::new("claims-evidence", caption, &columns, rows));
        self.sections.push(Section::new("claims", "Claims", vec![claims, evidence]));
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Supported => "supported",
        Verdict::Contradicted => "contradicted",
        Verdict::Undecided => "undecided",
    }
}

fn mark(verdict: Verdict) -> Mark {
    match verdict {
        Verdict::Supported => Mark::Good,
        Verdict::Contradicted => Mark::Bad,
        Verdict::Undecided => Mark::Unsure,
    }
}

fn shown(claim: &Decided) -> Vec<Cell> {
    let named =
        if claim.says.is_empty() { claim.name.clone() } else { format!("{}: {}", claim.name, claim.says.trim()) };
    let mut why = claim.because.clone();
    why.extend(claim.source.as_ref().map(|source| format!("After {}.", source.paper)));
    vec![
        Cell::text(named),
        Cell::text(word(claim.verdict)).marked(mark(claim.verdict)),
        Cell::text(&claim.holds),
        Cell::number(claim.p, probability),
        Cell::number(claim.adjusted, probability),
        Cell::text(why.join("; ")),
    ]
}

fn compared(claim: &Decided) -> Vec<Vec<Cell>> {
    let row = |compared: &claims::Compared| {
        let number = |value: f64| super::super::shown::signed(value, 4);
        let difference = compared.difference.as_ref();
        let interval = difference.and_then(|difference| difference.interval);
        let seeds = difference.and_then(|difference| difference.seeds_needed);
        vec![
            Cell::text(&claim.name),
            Cell::text(&compared.holds),
            Cell::count(difference.map_or(0, |difference| difference.n as u64)),
            difference.map_or_else(Cell::none, |difference| Cell::text(difference.mean.to_string())),
            interval.map_or_else(Cell::none, |(low, high)| Cell::text(format!("{} to {}", number(low), number(high)))),
            Cell::maybe(difference.and_then(|difference| difference.smallest_detectable), |size| format!("{size:.4}")),
            seeds.map_or_else(Cell::none, |seeds| Cell::count(seeds as u64)),
        ]
    };
    claim.comparisons.iter().map(row).collect()
}
