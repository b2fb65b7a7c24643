//! What words mean, from files that others made: vectors of words, and how alike people find two words.
//!
//! These files are large and come from anywhere, so they are read line by line; a line has a longest length and what is wrong is told with its
//! number.

use std::io::{BufRead, Read};

pub mod pairs;
pub mod vectors;

/// The lines of a text with their numbers from 1 on, without their ends; each at most `longest` bytes.
fn lines(mut text: impl BufRead, longest: u64) -> impl Iterator<Item = Result<(usize, String), String>> {
    (1..).map_while(move |number| {
        let mut line = Vec::new();
        let at = |problem: &str| Some(Err(format!("line {number}: {problem}")));
        match text.by_ref().take(longest + 1).read_until(b'\n', &mut line) {
            Err(error) => return at(&error.to_string()),
            Ok(0) => return None,
            Ok(_) => {}
        }
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        if line.len() as u64 > longest {
            return at(&format!("is longer than {longest} bytes"));
        }
        match String::from_utf8(line) {
            Ok(line) => Some(Ok((number, line))),
            Err(_) => at("is not UTF-8"),
        }
    })
}
