//! How numbers are shown: the same everywhere in a report.

/// A share in percent: `37.5 %`.
pub fn percent(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

/// A difference of two shares in points of a percent, signed: `−1.2`.
pub fn points(value: f64) -> String {
    signed(100.0 * value, 1)
}

/// With three decimals.
pub fn score(value: f64) -> String {
    let text = if value.abs() < 1e6 { format!("{value:.3}") } else { format!("{value:.3e}") };
    if text == "-0.000" { "0.000".into() } else { text.replace('-', "−") }
}

/// With a sign, and no zero that has one.
pub fn signed(value: f64, decimals: usize) -> String {
    let text = format!("{value:+.decimals$}");
    match text.trim_start_matches(['+', '-', '0', '.']).is_empty() {
        true => text[1..].to_owned(),
        false => text.replace('-', "−"),
    }
}

/// Probabilities below a thousandth as that.
pub fn probability(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }
}

/// Seconds in the unit that people use: `0.4 s`, `3 min 20 s`, `1 h 05 min`.
pub fn duration(seconds: f64) -> String {
    crate::cmd::print::duration(seconds)
}

pub fn hours(seconds: f64) -> String {
    match seconds / 3600.0 {
        0.0 => "0".into(),
        hours if hours < 0.01 => "< 0.01".into(),
        hours if hours < 10.0 => format!("{hours:.2}"),
        hours => format!("{hours:.1}"),
    }
}

/// An interval of shares in percent, without the sign: `26.0 to 47.0`.
pub fn between((low, high): (f64, f64)) -> String {
    format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high)
}

/// A word in its number: `1 run`, `3 runs`.
pub fn counted(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

/// A name that a file or an anchor can bear: letters and digits, joined.
pub fn slug(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let mapped: String = text.chars().take(80).map(plain).collect();
    let parts: Vec<&str> = mapped.split('-').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "unnamed".into() } else { parts.join("-") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_has_no_sign() {
        assert_eq!([points(-0.0001), points(0.012), points(-0.012)], ["0.0", "+1.2", "−1.2"]);
    }

    #[test]
    fn any_text_gives_a_name_for_a_file() {
        assert_eq!(slug("Layer 3, <b>../../etc"), "layer-3-b-etc");
        assert_eq!(slug("\u{202e}"), "unnamed");
    }
}
