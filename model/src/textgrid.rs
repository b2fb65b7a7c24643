//! Praat's TextGrid in its long text form, as aligners write it: the interval tiers by name.

use std::collections::BTreeMap;

use crate::alignment::{Interval, samples};

/// The interval tiers of a file; tiers of points are passed over.
pub fn parse(text: &str) -> Result<BTreeMap<String, Vec<Interval>>, String> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut lines = text.lines().map(str::trim).enumerate().map(|(index, line)| (index + 1, line));
    if !lines.next().is_some_and(|(_, line)| line.starts_with("File type") && line.contains("ooTextFile")) {
        return Err("not a TextGrid in text form".into());
    }
    let mut tiers: BTreeMap<String, Vec<Interval>> = BTreeMap::new();
    let mut tier: Option<String> = None;
    let mut times: Option<(Option<u64>, Option<u64>)> = None;
    for (number, line) in lines {
        let at = |problem: String| format!("line {number}: {problem}");
        if line.starts_with("item [") {
            (tier, times) = (None, None);
        } else if line.starts_with("intervals [") {
            times = Some((None, None));
        }
        let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else { continue };
        match (key, &mut times) {
            ("name", None) => {
                let name = quoted(value).map_err(at)?;
                if tiers.insert(name.clone(), Vec::new()).is_some() {
                    return Err(at(format!("a second tier {name:?}")));
                }
                tier = Some(name);
            }
            ("xmin", Some((start, _))) => *start = Some(samples(value).map_err(at)?),
            ("xmax", Some((_, end))) => *end = Some(samples(value).map_err(at)?),
            ("text", Some((start, end))) => {
                let (Some(start), Some(end)) = (*start, *end) else { return Err(at("a text without times".into())) };
                let intervals = tier.as_ref().and_then(|name| tiers.get_mut(name));
                let intervals = intervals.ok_or_else(|| at("an interval in a tier without a name".into()))?;
                intervals.push(Interval { start, end, label: quoted(value).map_err(at)? });
                times = None;
            }
            _ => {}
        }
    }
    if tiers.is_empty() { Err("no tier in the long text form".into()) } else { Ok(tiers) }
}

/// The text between quotation marks, in which two stand for one.
fn quoted(value: &str) -> Result<String, String> {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inner =
        inner.ok_or_else(|| format!("{value} is not a text in quotation marks on one line"))?.replace("\"\"", "\"");
    if inner.contains(char::is_control) { Err(format!("{inner:?} has a control character")) } else { Ok(inner) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0.0
xmax = 0.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0.0
        xmax = 0.5
        intervals: size = 2
            intervals [1]:
                xmin = 0.0
                xmax = 0.2004
                text = "so ""it"" is = x"
            intervals [2]:
                xmin = 0.2004
                xmax = 0.5
                text = ""
    item [2]:
        class = "TextTier"
        name = "bells"
        points: size = 1
            points [1]:
                number = 0.3
                mark = "ding"
"#;

    #[test]
    fn intervals_are_read_with_their_times_to_the_millisecond() {
        let tiers = parse(TEXT).unwrap();
        let words = [(0, 3200, "so \"it\" is = x"), (3200, 8000, "")];
        let words = words.map(|(start, end, label)| Interval { start, end, label: label.into() });
        assert_eq!(tiers["words"], words);
        assert_eq!(tiers["bells"], []);
    }

    #[test]
    fn what_is_no_textgrid_is_refused_with_its_line() {
        let problem = |from: &str, to: &str| parse(&TEXT.replacen(from, to, 1)).unwrap_err();
        insta::assert_snapshot!(problem("ooTextFile", "binary"), @"not a TextGrid in text form");
        insta::assert_snapshot!(problem("xmax = 0.2004", "xmax = NaN"), @r#"line 17: "NaN" is not a time in seconds"#);
        insta::assert_snapshot!(problem("xmax = 0.2004", ""), @"line 18: a text without times");
        insta::assert_snapshot!(problem("text = \"\"", "text = \""), @r#"line 22: " is not a text in quotation marks on one line"#);
        insta::assert_snapshot!(problem("bells", "words"), @r#"line 25: a second tier "words""#);
        insta::assert_snapshot!(parse("File type = \"ooTextFile\"\n").unwrap_err(), @"no tier in the long text form");
    }
}
