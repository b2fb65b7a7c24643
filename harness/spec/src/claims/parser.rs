//! The text of a statement to what it says, with the place of whatever is wrong in it.

use std::ops::Range;

use thiserror::Error;

use super::lexer::{Kind, Token, tokens};
use super::{Axis, Comparison, Dimension, Quantity, Statement, Term, What};

mod quantity;

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
