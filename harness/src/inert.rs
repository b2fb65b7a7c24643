//! Text from data, shown so that it can do nothing.
//!
//! Names, notes, transcripts, file contents and messages come from whoever wrote them. On a terminal a control character moves the cursor, a
//! bidirectional control makes a line read as another, and a line feed makes two lines of one; in Markdown a name becomes a link, in a
//! spreadsheet a formula. Here each becomes its own visible name, `\u{202e}`, or plain text.
//!
//! HTML is escaped by the templates that it is written with.

use std::borrow::Cow;

/// Characters that [`terminal`] shows of one text; of a longer one it says how many more there are.
pub const LONGEST: usize = 1_000;

/// Room for saying how many characters are left out.
const NOTE: usize = 40;

/// One line of a terminal: every character that isn't plain as its code, line feeds and tabs among them, and at most [`LONGEST`] of them.
pub fn terminal(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST && !text.contains(is_active) {
        return text.into();
    }
    let shown = escaped(text, is_active);
    let length = shown.chars().count();
    if length <= LONGEST {
        return shown.into();
    }
    let kept: String = shown.chars().take(LONGEST - NOTE).collect();
    format!("{kept}… ({} more characters)", grouped(length - (LONGEST - NOTE))).into()
}

/// Lines of a terminal: as [`terminal`], but with line feeds and tabs as they are, and whole.
pub fn lines(text: &str) -> Cow<'_, str> {
    let active = |c: char| is_active(c) && !matches!(c, '\n' | '\t');
    if text.contains(active) { escaped(text, active).into() } else { text.into() }
}

/// Lines of a terminal that the program itself has coloured: as [`lines`], but with sequences that set colour and weight.
pub fn coloured(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (index, part) in text.split('\u{1b}').enumerate() {
        let style = if index == 0 { None } else { style(part) };
        match style {
            Some(length) => {
                shown.push('\u{1b}');
                shown.push_str(&part[..length]);
                shown.push_str(&lines(&part[length..]));
            }
            None => {
                shown.push_str(if index == 0 { "" } else { "\\u{1b}" });
                shown.push_str(&lines(part));
            }
        }
    }
    shown
}

/// A piece of a line of Markdown: no markup, no HTML, no cell's end, no link. It stands alone in a cell, or inside a line.
pub fn markdown(text: &str) -> String {
    let shown = terminal(text);
    let shown = shown.trim_start();
    let digits = shown.len() - shown.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let mut safe = String::with_capacity(shown.len());
    for (index, c) in shown.char_indices() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            _ if "\\`*_[]{}|~$#!@".contains(c) => safe.extend(['\\', c]),
            // A list, a heading's underline, a rule.
            '-' | '+' | '=' if index == 0 => safe.extend(['\\', c]),
            '.' | ')' if index == digits && digits > 0 => safe.extend(['\\', c]),
            // What is made a link without being written as one.
            ':' if shown[index..].starts_with("://") => safe.extend(['\\', c]),
            '.' if shown[..index].to_ascii_lowercase().ends_with("www") => safe.extend(['\\', c]),
            c => safe.push(c),
        }
    }
    safe
}

/// A cell of a CSV file, quoted where it must be: characters that aren't plain as their code, and an apostrophe before what a spreadsheet would
/// compute. For text alone: a number is written as it is.
pub fn csv(text: &str) -> String {
    let shown = escaped(text, is_active);
    let computed = shown.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
        || text.starts_with(['\t', '\r', '\n']);
    let guarded = if computed { format!("'{shown}") } else { shown };
    match guarded.contains(['"', ',', ';']) {
        true => format!("\"{}\"", guarded.replace('"', "\"\"")),
        false => guarded,
    }
}

/// JSON, as it was printed, that says the same in characters that are plain.
pub fn json(text: &str) -> Cow<'_, str> {
    let active = |c: char| is_active(c) && !matches!(c, '\n' | '\t' | '\r');
    if !text.contains(active) {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match active(c) {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| plain.push_str(&format!("\\u{unit:04x}"))),
            false => plain.push(c),
        }
    }
    plain.into()
}

/// Whether a character does something else than be seen where it stands: controls, line and paragraph separators, what changes the direction of
/// text, and what takes no room.
pub fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn escaped(text: &str, active: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if !active(c) => shown.push(c),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c => shown.extend(c.escape_unicode()),
        }
    }
    shown
}

/// The length of `[…m` at the start of what follows an escape character, where it sets nothing but colour, weight, slant or underline.
fn style(text: &str) -> Option<usize> {
    let end = text.strip_prefix('[')?.find('m')? + 1;
    let mut codes =
        text[1..end].split(';').map(|code| if code.is_empty() { Some(0) } else { code.parse::<u16>().ok() });
    while let Some(code) = codes.next() {
        match code? {
            // Of a palette, or red, green and blue.
            38 | 48 => {
                let components = if codes.next()?? == 2 { 3 } else { 1 };
                (0..components).try_for_each(|_| codes.next()?.map(drop))?;
            }
            0..=4 | 22..=24 | 30..=37 | 39..=47 | 49 | 90..=97 | 100..=107 => {}
            _ => return None,
        }
    }
    Some(end + 1)
}

/// A count with a comma between thousands.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let comma = |index: usize| index > 0 && (digits.len() - index).is_multiple_of(3);
    digits.char_indices().flat_map(|(index, digit)| comma(index).then_some(',').into_iter().chain([digit])).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Text that is made of what does harm, and some that doesn't.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            any::<char>().prop_map(String::from),
            prop::sample::select(vec![
                "\u{1b}[2J",
                "\u{1b}[31m",
                "\u{1b}[8m",
                "\u{1b}]8;;http://x\u{7}",
                "\u{9b}1A",
                "\u{202e}",
                "\u{2066}",
                "\u{200b}",
                "\r",
                "\n",
                "\t",
                "\0",
                "\u{feff}",
                "\u{2028}",
                "\u{e0041}",
                "=1+1",
                "@sum",
                "<script>",
                "</td>",
                "&lt;",
                "[x](http://y)",
                "**",
                "`",
                "|",
                "\"",
                "'",
                ",",
                "www.x.org",
                "wort",
                "ö",
                "语",
                " ",
            ])
            .prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn what_isn_t_plain_is_named() {
        assert_eq!(terminal("a\u{1b}[2Jb\u{202e}c\nd\te\rf"), "a\\u{1b}[2Jb\\u{202e}c\\nd\\te\\rf");
        assert_eq!(terminal("ein Wörterbuch, 语音 🙂"), "ein Wörterbuch, 语音 🙂");
        assert_eq!(lines("a\tb\nc\r\u{9b}d"), "a\tb\nc\\r\\u{9b}d");
    }

    #[test]
    fn what_is_long_is_cut_with_what_is_left_out() {
        let shown = terminal(&"x".repeat(10_000)).into_owned();
        assert!(shown.ends_with("x… (9,040 more characters)"), "{shown}");
        assert!(shown.chars().count() <= LONGEST);
        assert!(terminal(&"x".repeat(LONGEST)).chars().all(|c| c == 'x'));
        assert!(
            terminal(&"\u{202e}".repeat(LONGEST)).chars().count() <= LONGEST,
            "codes are longer than what they name"
        );
    }

    #[test]
    fn only_colours_pass_where_the_program_colours() {
        for kept in ["\u{1b}[31mred\u{1b}[0m", "\u{1b}[1;38;5;200mx\u{1b}[m", "\u{1b}[38;2;1;2;3mx\u{1b}[22;39m"] {
            assert_eq!(coloured(kept), kept);
        }
        assert_eq!(coloured("\u{1b}[8mhidden\u{1b}[2Jx\u{1b}"), "\\u{1b}[8mhidden\\u{1b}[2Jx\\u{1b}");
        assert_eq!(coloured("a\u{1b}]0;title\u{7}"), "a\\u{1b}]0;title\\u{7}");
        assert_eq!(coloured("\u{1b}[38;5mx"), "\\u{1b}[38;5mx");
    }

    #[test]
    fn markdown_is_text() {
        assert_eq!(
            markdown("a|b <b>*x*</b> [y](http://z) `c`"),
            "a\\|b &lt;b&gt;\\*x\\*&lt;/b&gt; \\[y\\](http\\://z) \\`c\\`"
        );
        assert_eq!(markdown("- a - b"), "\\- a - b");
        assert_eq!(markdown("12. x www.y.org"), "12\\. x www\\.y.org");
        assert_eq!(markdown("decode test/wer 0.25"), "decode test/wer 0.25");
        assert_eq!(markdown("    code\n# head"), "code\\\\n\\# head");
    }

    #[test]
    fn cells_compute_nothing() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("-2", "'-2"),
            ("@SUM(A1,B1)", "\"'@SUM(A1,B1)\""),
            ("\tx", "'\\tx"),
            (" +x", "' +x"),
            ("say \"x\", y", "\"say \"\"x\"\", y\""),
            ("plain - text", "plain - text"),
            ("a\nb", "a\\nb"),
        ] {
            assert_eq!(csv(text), cell, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_active_character_is_ever_printed(text in hostile()) {
            for shown in [terminal(&text).into_owned(), markdown(&text), csv(&text)] {
                prop_assert!(!shown.contains(is_active), "{shown:?}");
            }
            prop_assert!(!lines(&text).contains(|c| is_active(c) && c != '\n' && c != '\t'));
            prop_assert!(terminal(&text).chars().count() <= LONGEST);
        }

        #[test]
        fn what_is_inert_stays_as_it_is(text in hostile()) {
            let (once, block, styled) = (terminal(&text).into_owned(), lines(&text).into_owned(), coloured(&text));
            prop_assert_eq!(terminal(&once), once.as_str());
            prop_assert_eq!(lines(&block), block.as_str());
            prop_assert_eq!(coloured(&styled), styled);
        }

        #[test]
        fn markdown_keeps_no_live_mark(text in hostile()) {
            let safe = markdown(&text);
            let mut characters = safe.chars().peekable();
            while let Some(c) = characters.next() {
                match c {
                    '\\' => prop_assert!(characters.next().is_some_and(|next| next.is_ascii_punctuation())),
                    c => prop_assert!(!"<>`*_[]|".contains(c), "{safe:?}"),
                }
            }
        }

        #[test]
        fn json_says_the_same(text in hostile()) {
            let printed = serde_json::to_string_pretty(&vec![&text]).unwrap();
            let plain = json(&printed);
            prop_assert!(!plain.contains(|c| is_active(c) && c != '\n'));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&plain).unwrap(), vec![text]);
        }
    }
}
