//! Quantities: which number of which runs.

use std::ops::Range;

use super::super::lexer::Kind;
use super::super::{Axis, Dimension, ErrorRate, Errors, Quantity, Summary, Term, UnitScore, What};
use super::{Inside, Mention, Parser, Read, Syntax, Typed};
use crate::finetuning::Top;
use crate::schema::{nearest, quoted};
use crate::values::{Layers, SplitName};

impl Parser<'_> {
    pub(super) fn quantity(&mut self, word: &str) -> Read<Typed> {
        let start = self.here();
        self.next += 1;
        let what = self.what(word, &start)?;
        let what = if self.takes_word("at") { at_steps(what, self.steps()?, &start)? } else { what };
        let of = match self.takes_word("of") {
            true => Some(self.name("the name of a variant")?.to_owned()),
            false => None,
        };
        let at = start.start..self.before();
        if self.inside == Inside::Level {
            let help = format!("write `mean({})`", self.text.get(at.clone()).unwrap_or(word));
            return Err(Syntax::new(at, "a level is one number, and this is one of every seed").help(help));
        }
        let quantity = Quantity { what, of };
        self.mentions.push(Mention { at: at.clone(), quantity: quantity.clone() });
        let dimension = Some(Dimension::of(&quantity));
        Ok(Typed { term: Term::Quantity(quantity), at, dimension })
    }

    fn what(&mut self, word: &str, at: &Range<usize>) -> Read<What> {
        if let Some(axis) = Axis::ALL.into_iter().find(|axis| axis.word() == word) {
            return Ok(What::Total(axis));
        }
        if !quantities().iter().any(|known| known == word) {
            let message = format!("`{word}` isn't a quantity");
            let names = quantities();
            let names = names.iter().map(String::as_str);
            let help = match nearest(word, names.clone()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known here: {}", quoted(names)),
            };
            return Err(Syntax::new(at.clone(), message).help(help));
        }
        self.need('(')?;
        let what = if let Some(rate) = ErrorRate::ALL.into_iter().find(|rate| rate.word() == word) {
            What::Errors { of: self.errors(rate)?, at: None }
        } else if let Some(score) = UnitScore::ALL.into_iter().find(|score| score.word() == word) {
            What::Units { score, iteration: self.count("an iteration, counted from 1", 1)? }
        } else if let Some(summary) = Summary::ALL.into_iter().find(|summary| summary.word() == word) {
            let metric = self.name("the name of what is measured on layers, such as `cca-word`")?.to_owned();
            What::Curve { summary, metric, at: None }
        } else if let Some(axis) = Axis::ALL.into_iter().find(|axis| word == format!("{}-to-reach", axis.word())) {
            self.reach(axis, at)?
        } else if word == "masked-accuracy" {
            What::MaskedAccuracy { iteration: self.count("an iteration, counted from 1", 1)? }
        } else if word == "layer" {
            let metric = self.name("the name of what is measured on layers, such as `cca-word`")?.to_owned();
            self.need(',')?;
            What::Layer { metric, layer: self.count("a layer; 0 is the input of the stack", 0)?, at: None }
        } else {
            self.address()?
        };
        self.need(')')?;
        Ok(what)
    }

    /// `test`, or `test, top-reset 2`.
    fn errors(&mut self, rate: ErrorRate) -> Read<Errors> {
        let at = self.here();
        let split = self.name("a split that is tested on")?.to_owned();
        let split = SplitName::try_from(split).map_err(|message| Syntax::new(at, message))?;
        // The level of a reach stands behind a comma too.
        let tops = ["top-reset", "top-removed"];
        let top = match self.tokens.get(self.next + 1).map(|token| token.kind) {
            Some(Kind::Word(word)) if self.peek() == Some(Kind::Sign(',')) && tops.contains(&word) => {
                self.next += 2;
                let layers = self.count("a number of layers, at least 1", 1)?;
                let layers = Layers::try_from(u64::from(layers));
                let layers = layers.map_err(|message| Syntax::new(self.last(), message))?;
                if word == tops[0] { Top::Reset(layers) } else { Top::Removed(layers) }
            }
            _ => Top::Kept,
        };
        Ok(Errors { rate, split, top })
    }

    /// `wer(test), LEVEL`.
    fn reach(&mut self, axis: Axis, at: &Range<usize>) -> Read<What> {
        if self.inside != Inside::Comparison {
            return Err(Syntax::new(at.clone(), "a level is made of numbers that are measured, not reached"));
        }
        let rates = ErrorRate::ALL;
        let rate = match self.advance() {
            Some(Kind::Word(word)) => rates.into_iter().find(|rate| rate.word() == word),
            _ => None,
        };
        let Some(rate) = rate else {
            let help = format!("known here: {}", quoted(rates.map(ErrorRate::word)));
            return Err(Syntax::new(self.last(), "what is reached is an error rate").help(help));
        };
        self.need('(')?;
        let of = self.errors(rate)?;
        self.need(')')?;
        self.need(',')?;
        self.inside = Inside::Level;
        let level = self.deeper(Self::sum)?;
        self.inside = Inside::Comparison;
        if let Some(dimension) = level.dimension.filter(|dimension| *dimension != Dimension::ErrorRate) {
            return Err(Syntax::new(level.at, format!("the level of an error rate is {dimension}")));
        }
        Ok(What::Reach { axis, of, level: Box::new(level.term) })
    }

    fn address(&mut self) -> Read<What> {
        let at = self.here();
        let help = "write STAGE/METRIC in quotes as `reprise show` names them, such as `metric('decode test/wer')`";
        match self.advance() {
            Some(Kind::Quoted(text)) => match text.rsplit_once('/') {
                Some((stage, metric)) if !stage.is_empty() && !metric.is_empty() => {
                    Ok(What::Metric { stage: stage.to_owned(), metric: metric.to_owned() })
                }
                _ => Err(Syntax::new(at, "this names no number").help(help)),
            },
            _ => Err(Syntax::new(at, "expected the address of a number").help(help)),
        }
    }
}

/// The names of quantities.
fn quantities() -> Vec<String> {
    let rates = ErrorRate::ALL.map(|rate| rate.word().to_owned());
    let units = UnitScore::ALL.map(|score| score.word().to_owned());
    let summaries = Summary::ALL.map(|summary| summary.word().to_owned());
    let totals = Axis::ALL.map(|axis| axis.word().to_owned());
    let reached = Axis::ALL.map(|axis| format!("{}-to-reach", axis.word()));
    let others = ["masked-accuracy", "layer", "metric"].map(String::from);
    [&rates[..], &units, &others, &summaries, &totals, &reached].concat()
}

fn at_steps(what: What, steps: u64, start: &Range<usize>) -> Read<What> {
    match what {
        What::Errors { of, .. } => Ok(What::Errors { of, at: Some(steps) }),
        What::Layer { metric, layer, .. } => Ok(What::Layer { metric, layer, at: Some(steps) }),
        What::Curve { summary, metric, .. } => Ok(What::Curve { summary, metric, at: Some(steps) }),
        other => {
            let message = format!("`{other}` is not of a point in pretraining");
            Err(Syntax::new(start.clone(), message).help("take `at` out"))
        }
    }
}
