//! The text of a statement as words, numbers and signs.

use std::ops::Range;

use super::Syntax;

/// One word, number or sign.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'a> {
    /// In bytes.
    pub at: Range<usize>,
    pub kind: Kind<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// Finite and not negative.
    Number(f64),
    /// Letters, digits, `-`, `_`, `.` and `=`, so that split and variant names need no quotes.
    Word(&'a str),
    /// What stands between quotes.
    Quoted(&'a str),
    Sign(char),
}

/// Whether a text is one word.
pub(super) fn is_word(text: &str) -> bool {
    matches!(tokens(text).as_deref(), Ok([Token { at, kind: Kind::Word(_) }]) if *at == (0..text.len()))
}

/// The tokens of a text.
///
/// # Errors
/// A character that no statement has, a quote that isn't closed, and a number that is too large.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Syntax> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (length, kind) = match first {
            ' ' | '\t' | '\n' | '\r' => {
                at += 1;
                continue;
            }
            '<' | '>' | '~' | '+' | '-' | '*' | '/' | '(' | ')' | ',' => (1, Kind::Sign(first)),
            '\'' | '"' => {
                let Some(end) = rest[1..].find(first) else {
                    let help = "close it with the same quote";
                    return Err(Syntax::new(at..at + 1, "this quote isn't closed").help(help));
                };
                let inside = &rest[1..=end];
                if inside.chars().any(char::is_control) {
                    return Err(Syntax::new(at..at + end + 2, "a name has no control characters"));
                }
                (end + 2, Kind::Quoted(inside))
            }
            '0'..='9' | '.' if number(rest).is_some() => {
                let digits = number(rest).unwrap_or_default();
                let value: f64 = digits.parse().unwrap_or(f64::INFINITY);
                if !value.is_finite() {
                    return Err(Syntax::new(at..at + digits.len(), "this number is too large, or none"));
                }
                (digits.len(), Kind::Number(value))
            }
            first if first.is_ascii_alphanumeric() => {
                let end = rest.find(|c| !belongs_to_word(c)).unwrap_or(rest.len());
                (end, Kind::Word(&rest[..end]))
            }
            other => {
                let message = format!("`{}` isn't part of a statement", other.escape_debug());
                let help = "a statement has words, numbers, `+ - * / ( )`, and one of `<`, `>`, `~`; put other names in quotes";
                return Err(Syntax::new(at..at + other.len_utf8(), message).help(help));
            }
        };
        tokens.push(Token { at: at..at + length, kind });
        at += length;
    }
    Ok(tokens)
}

fn belongs_to_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.=".contains(c)
}

/// The number that a text starts with, unless a word starts with it.
fn number(text: &str) -> Option<&str> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(text);
    if text[end..].starts_with('.') {
        end += 1 + digits(&text[end + 1..]);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(&text[end + 1 + sign..]);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    let ends = !text[end..].starts_with(|c: char| c.is_ascii_alphabetic() || "_.=".contains(c));
    (ends && text[..end].bytes().any(|byte| byte.is_ascii_digit())).then(|| &text[..end])
}
