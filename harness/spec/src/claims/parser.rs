//! The text of a statement to what it says, with the place of whatever is wrong in it.

use std::ops::Range;

use thiserror::Error;

use super::lexer::{Kind, Token, tokens};
use super::{Axis, Comparison, Dimension, ErrorRate, Errors, Quantity, Statement, Summary, Term, UnitScore, What};
use crate::finetuning::Top;
use crate::schema::{nearest, quoted};
use crate::values::{Layers, SplitName};

/// Most bytes of a statement as it is written.
pub const MOST_BYTES: usize = 4_000;
/// Most bytes of a statement as it is written back.
const MOST_BYTES_BACK: usize = 2_000;
/// Most numbers and quantities of a statement; those that stand between two signs of order count twice.
pub const MOST_TERMS: usize = 64;
/// Deepest nesting of brackets.
pub const DEEPEST: usize = 16;

/// What is wrong with the text of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Syntax {
    /// In bytes of the text.
    pub at: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

impl Syntax {
    pub(super) fn new(at: Range<usize>, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), help: None }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// A statement, and where its quantities stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub statement: Statement,
    pub mentions: Vec<Mention>,
}

/// A quantity where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Mention {
    /// In bytes of the text.
    pub at: Range<usize>,
    pub quantity: Quantity,
}

/// A term, where it stands, and what it is of; written numbers are of anything.
struct Typed {
    term: Term,
    at: Range<usize>,
    dimension: Option<Dimension>,
}

/// Where a term stands.
#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Comparison,
    /// A level to be reached, which is one number.
    Level,
    /// The mean of a level.
    Mean,
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    depth: usize,
    inside: Inside,
    mentions: Vec<Mention>,
}

type Read<T> = Result<T, Syntax>;

/// Reads a statement.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn parse(text: &str) -> Result<Parsed, Syntax> {
    if text.len() > MOST_BYTES {
        let message = format!("the statement has {} bytes; one has at most {MOST_BYTES}", text.len());
        return Err(Syntax::new(0..text.len(), message).help("make several claims of it"));
    }
    let mut parser =
        Parser { text, tokens: tokens(text)?, next: 0, depth: 0, inside: Inside::Comparison, mentions: Vec::new() };
    let statement = parser.statement()?;
    let terms: usize = statement.0.iter().flat_map(Comparison::sides).map(leaves).sum();
    let long = statement.to_string().len() > MOST_BYTES_BACK;
    if terms > MOST_TERMS || long {
        let message = match long {
            true => format!("the statement is longer than {MOST_BYTES_BACK} bytes"),
            false => format!("the statement has {terms} terms; one has at most {MOST_TERMS}"),
        };
        return Err(Syntax::new(0..text.len(), message).help("make several claims of it"));
    }
    Ok(Parsed { statement, mentions: parser.mentions })
}

fn leaves(term: &Term) -> usize {
    match term {
        Term::Number(_) => 1,
        Term::Quantity(Quantity { what: What::Reach { level, .. }, .. }) => 1 + leaves(level),
        Term::Quantity(_) => 1,
        Term::Mean(term) | Term::Negative(term) => leaves(term),
        Term::Plus(one, other) | Term::Minus(one, other) | Term::Times(one, other) | Term::Over(one, other) => {
            leaves(one) + leaves(other)
        }
    }
}

impl<'a> Parser<'a> {
    fn statement(&mut self) -> Read<Statement> {
        let mut comparisons = self.comparison()?;
        while self.takes_word("and") {
            comparisons.extend(self.comparison()?);
        }
        match self.peek() {
            None => Ok(Statement(comparisons)),
            Some(_) => Err(self.expected("`and`, or the end")),
        }
    }

    fn comparison(&mut self) -> Read<Vec<Comparison>> {
        let mut left = self.sum()?;
        let Some(sign) = ['<', '>', '~'].into_iter().find(|sign| self.takes(*sign)) else {
            return Err(self.expected("`<`, `>` or `~`"));
        };
        if sign == '~' {
            let right = self.sum()?;
            alike(&left, &right, "compared")?;
            if !self.takes_word("within") {
                return Err(self.expected("`within` and a margin"));
            }
            let at = self.here();
            let margin = match self.advance() {
                Some(Kind::Number(margin)) if margin > 0.0 => margin,
                _ => return Err(Syntax::new(at, "a margin is a number above 0")),
            };
            return Ok(vec![compared(left, right, |one, other| Comparison::Near(one, other, margin))?]);
        }
        let mut comparisons = Vec::new();
        loop {
            let right = self.sum()?;
            alike(&left, &right, "compared")?;
            let again = Typed { term: right.term.clone(), at: right.at.clone(), dimension: right.dimension };
            comparisons.push(match sign {
                '<' => compared(left, right, Comparison::Below)?,
                _ => compared(left, right, |one, other| Comparison::Below(other, one))?,
            });
            left = again;
            if !self.takes(sign) {
                break;
            }
        }
        match self.peek() {
            Some(Kind::Sign('<' | '>' | '~')) => {
                let message = format!("`{sign}` and another sign of order stand in one row");
                Err(Syntax::new(self.here(), message).help("part the comparisons with `and`"))
            }
            _ => Ok(comparisons),
        }
    }

    fn sum(&mut self) -> Read<Typed> {
        let mut left = self.product()?;
        while let Some(sign) = ['+', '-'].into_iter().find(|sign| self.takes(*sign)) {
            let right = self.product()?;
            let dimension = alike(&left, &right, if sign == '+' { "added" } else { "subtracted" })?;
            let make = if sign == '+' { Term::Plus } else { Term::Minus };
            left = joined(left, right, dimension, make);
        }
        Ok(left)
    }

    fn product(&mut self) -> Read<Typed> {
        let mut left = self.factor()?;
        while let Some(sign) = ['*', '/'].into_iter().find(|sign| self.takes(*sign)) {
            let right = self.factor()?;
            let dimension = match (sign, left.dimension, right.dimension) {
                (_, one, None) => one,
                ('*', None, other) => other,
                ('*', one, Some(Dimension::Ratio)) => one,
                ('*', Some(Dimension::Ratio), other) => other,
                ('/', one, Some(Dimension::Ratio)) => one,
                ('/', Some(one), Some(other)) if one == other => Some(Dimension::Ratio),
                (_, one, Some(other)) => {
                    let by = if sign == '*' { "multiplied" } else { "divided" };
                    let one = one.map_or("a number".into(), |one| one.to_string());
                    let message = format!("{one} can't be {by} by {other}");
                    let help = "multiply with numbers and ratios; divide by them, or what is alike";
                    return Err(Syntax::new(left.at.start..right.at.end, message).help(help));
                }
            };
            let make = if sign == '*' { Term::Times } else { Term::Over };
            left = joined(left, right, dimension, make);
        }
        Ok(left)
    }

    fn factor(&mut self) -> Read<Typed> {
        let at = self.here();
        match self.peek() {
            Some(Kind::Number(value)) => {
                self.next += 1;
                Ok(Typed { term: Term::Number(value), at, dimension: None })
            }
            Some(Kind::Sign('-')) => {
                self.next += 1;
                let term = self.deeper(Self::factor)?;
                let at = at.start..term.at.end;
                Ok(Typed { term: Term::Negative(Box::new(term.term)), at, dimension: term.dimension })
            }
            Some(Kind::Sign('(')) => {
                self.next += 1;
                let inner = self.deeper(Self::sum)?;
                self.need(')')?;
                Ok(Typed { at: at.start..self.before(), ..inner })
            }
            Some(Kind::Word("mean")) => self.mean(),
            Some(Kind::Word(word)) => self.quantity(word),
            _ => Err(self.expected("a number, a quantity such as `wer(test)`, or `(`")),
        }
    }

    fn mean(&mut self) -> Read<Typed> {
        let at = self.here();
        if self.inside != Inside::Level {
            let help = "leave `mean` out: comparisons are of means over the seeds; it makes one number of a level to be reached";
            return Err(Syntax::new(at, "`mean` stands in a level of `…-to-reach` alone").help(help));
        }
        self.next += 1;
        self.need('(')?;
        self.inside = Inside::Mean;
        let inner = self.deeper(Self::sum)?;
        self.inside = Inside::Level;
        self.need(')')?;
        if inner.dimension.is_none() {
            return Err(Syntax::new(inner.at, "this is one number already").help("leave `mean` out"));
        }
        let at = at.start..self.before();
        Ok(Typed { term: Term::Mean(Box::new(inner.term)), at, dimension: inner.dimension })
    }

    fn quantity(&mut self, word: &str) -> Read<Typed> {
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

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        if self.depth >= DEEPEST {
            return Err(Syntax::new(self.here(), format!("brackets and signs nest more than {DEEPEST} levels deep")));
        }
        self.depth += 1;
        let inner = read(self);
        self.depth -= 1;
        inner
    }

    fn peek(&self) -> Option<Kind<'a>> {
        self.tokens.get(self.next).map(|token| token.kind)
    }

    fn advance(&mut self) -> Option<Kind<'a>> {
        let kind = self.peek();
        self.next += usize::from(kind.is_some());
        kind
    }

    fn takes(&mut self, sign: char) -> bool {
        let takes = self.peek() == Some(Kind::Sign(sign));
        self.next += usize::from(takes);
        takes
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let takes = self.peek() == Some(Kind::Word(word));
        self.next += usize::from(takes);
        takes
    }

    fn need(&mut self, sign: char) -> Read<()> {
        if self.takes(sign) { Ok(()) } else { Err(self.expected(&format!("`{sign}`"))) }
    }

    fn name(&mut self, what: &str) -> Read<&'a str> {
        match self.peek() {
            Some(Kind::Word(name) | Kind::Quoted(name)) if !name.is_empty() => {
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.expected(what)),
        }
    }

    fn steps(&mut self) -> Read<u64> {
        self.count("a number of steps, counted over all iterations", 1).map(u64::from)
    }

    /// A whole number, at least `least`.
    fn count(&mut self, what: &str, least: u32) -> Read<u32> {
        match self.peek() {
            Some(Kind::Number(value))
                if value.fract() == 0.0 && (f64::from(least)..=f64::from(u32::MAX)).contains(&value) =>
            {
                self.next += 1;
                Ok(value as u32)
            }
            _ => Err(self.expected(what)),
        }
    }

    fn expected(&self, what: &str) -> Syntax {
        let found = match self.tokens.get(self.next) {
            Some(token) => {
                format!("`{}`", self.text[token.at.clone()].chars().take(60).collect::<String>().escape_debug())
            }
            None => "the end".into(),
        };
        Syntax::new(self.here(), format!("expected {what}, found {found}"))
    }

    /// Where the next token stands, or the text ends.
    fn here(&self) -> Range<usize> {
        let end = self.text.trim_end().len();
        self.tokens.get(self.next).map_or(end..end, |token| token.at.clone())
    }

    /// Where the last token that was read stands.
    fn last(&self) -> Range<usize> {
        self.next.checked_sub(1).and_then(|last| self.tokens.get(last)).map_or(0..0, |token| token.at.clone())
    }

    fn before(&self) -> usize {
        self.last().end
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

fn joined(left: Typed, right: Typed, dimension: Option<Dimension>, make: fn(Box<Term>, Box<Term>) -> Term) -> Typed {
    let at = left.at.start..right.at.end;
    Typed { term: make(Box::new(left.term), Box::new(right.term)), at, dimension }
}

/// The dimension that two terms share, or why they are not alike.
fn alike(left: &Typed, right: &Typed, done: &str) -> Read<Option<Dimension>> {
    match (left.dimension, right.dimension) {
        (Some(one), Some(other)) if one != other => {
            let message = format!("{one} and {other} can't be {done}");
            Err(Syntax::new(left.at.start..right.at.end, message))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// A comparison that numbers of runs decide.
fn compared(left: Typed, right: Typed, make: impl FnOnce(Term, Term) -> Comparison) -> Read<Comparison> {
    let at = left.at.start..right.at.end;
    let known = |quantity: &&Quantity| quantity.what == What::Total(Axis::Steps);
    if [&left.term, &right.term].into_iter().flat_map(|term| term.quantities(false)).all(|quantity| known(&quantity)) {
        return Err(Syntax::new(at, "nothing that runs measure is compared here"));
    }
    if left.term == right.term {
        return Err(Syntax::new(at, "both sides are the same"));
    }
    Ok(make(left.term, right.term))
}
