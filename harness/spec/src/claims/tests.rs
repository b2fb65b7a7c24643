use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Statement {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).statement
}

fn back(text: &str) -> String {
    read(text).to_string()
}

/// What is wrong, with the stretch of the text that is blamed.
fn wrong(text: &str) -> String {
    let Syntax { at, message, help } = parse(text).expect_err(text);
    let help = help.map_or(String::new(), |help| format!(" ({help})"));
    format!("{text}\n  [{}] {message}{help}", &text[at])
}

#[test]
fn statements_are_written_back_in_one_way() {
    let same = [
        "wer(test) of progressive < wer(test) of baseline - 0.005",
        "steps-to-reach(wer(test), mean(wer(test) of baseline) + 0.005) of progressive < 0.6 * steps of baseline",
        "pnmi(2) of baseline ~ pnmi(2) of progressive within 0.01",
        "wer(test) of 'cluster height 4' < wer(test) of baseline",
        "wer('1h/test', top-reset 2) at 80000 < cer(b, top-removed 1) / (1 - 0.5)",
        "-top-drop(cca-word) at 200 < layer(pnmi-100, 3) - (best(abx) - area(abx))",
        "best-layer(cca-word) of a < best-layer(cca-word) of b and metric('decode test, top 2 reset/wer') of a < ser(test)",
        "device-seconds-to-reach(cer(test), 0.1) < audio-seconds-to-reach(cer(test), 0.1) / audio-seconds * device-seconds",
        "masked-accuracy(1) < 0.00000001 * (pnmi(1) + phone-purity(2)) - --cluster-purity(3)",
    ];
    for text in same {
        assert_eq!(back(text), text.replace("0.00000001", "1e-8"));
    }
    let chain = "wer(a) < wer(b) and wer(b) < wer(c)";
    assert_eq!(back("wer(a) < wer(b) < wer(c)"), chain);
    assert_eq!(back(" (wer(c))>wer(b)\n> wer(a)"), "wer(b) < wer(c) and wer(a) < wer(b)");
    assert_eq!(back("wer( a )of x   <\n((wer(a)of y)-.5e-2)"), "wer(a) of x < wer(a) of y - 0.005");
}

#[test]
fn what_is_wrong_is_blamed_where_it_stands() {
    let texts = [
        "",
        "wer(test)",
        "wer(test) <",
        "wer(test) < 0.1 0.2",
        "wer(test < 0.1",
        "wre(test) < 0.1",
        "accuracy(2) < 0.1",
        "wer() < 0.1",
        "wer(../x) < 0.1",
        "wer('../x') < 0.1",
        "wer(test, top-reset 0) < 0.1",
        "pnmi(0) < 0.1",
        "pnmi(1.5) < 0.1",
        "pnmi(2) at 100 < 0.1",
        "wer(test) at 0 < 0.1",
        "wer(test) of < 0.1",
        "0.1 < 0.2",
        "steps of a < steps of b",
        "wer(test) < wer(test)",
        "wer(test) of a < pnmi(2) of a",
        "steps of a + wer(test) of a < 3",
        "steps * steps < 3",
        "1 / steps < 3",
        "wer(test) of a / wer(test) of b < wer(test) of a",
        "wer(test) of a < wer(test) of b > wer(test) of c",
        "wer(a) ~ wer(b)",
        "wer(a) ~ wer(b) within 0",
        "wer(a) ~ wer(b) within 0.1 ~ wer(c)",
        "mean(wer(test)) < 0.1",
        "steps-to-reach(wer(test), wer(test) of baseline) < 3",
        "steps-to-reach(wer(test), mean(0.1)) < 3",
        "steps-to-reach(wer(test), mean(steps)) < 3",
        "steps-to-reach(wer(test), mean(steps-to-reach(wer(test), 0.1))) < 3",
        "steps-to-reach(pnmi(2), 0.1) < 3",
        "metric(wer) < 0.1",
        "metric('wer') < 0.1",
        "wer('test) < 0.1",
        "wer(test) ≤ 0.1",
        "wer(test) < 0.1; exit",
        "wer(test) < 1e999",
    ];
    insta::assert_snapshot!(texts.map(wrong).join("\n"));
}

#[test]
fn statements_are_bounded() {
    let deep = |levels: usize| format!("{}wer(test){} < 0.1", "(".repeat(levels), ")".repeat(levels));
    assert!(parse(&deep(parser::DEEPEST)).is_ok());
    assert!(parse(&deep(parser::DEEPEST + 1)).unwrap_err().message.contains("16 levels deep"));
    assert!(parse(&format!("{}wer(test) < 0.1", "-".repeat(3_000))).unwrap_err().message.contains("16 levels deep"));
    let many = |terms: usize| format!("0{} < wer(a)", " + 1".repeat(terms - 2));
    assert!(parse(&many(parser::MOST_TERMS)).is_ok());
    assert!(parse(&many(parser::MOST_TERMS + 1)).unwrap_err().message.contains("has 65 terms"));
    assert!(parse(&"(".repeat(1_000_000)).unwrap_err().message.contains("1000000 bytes"));
}

/// A statement with white space and brackets that it doesn't need, told by the bits of `noise`.
fn noisy(text: &str, noise: u64) -> String {
    let mut spelt = text.to_owned();
    for (index, sign) in ["+", "-", "*", "/", "<"].into_iter().enumerate() {
        let space = ["  ", "\n", "\t ", " "][(noise >> (2 * index)) as usize % 4];
        spelt = spelt.replace(&format!(" {sign} "), &format!("{space}{sign}{space}"));
    }
    if noise.is_multiple_of(3) { spelt.replace("pnmi(1)", "((pnmi( 1 )))") } else { spelt }
}

fn term() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (0.0f64..1e9).prop_map(|value| format!("{value}")),
        Just("1e-12".into()),
        Just("pnmi(2)".into()),
        Just("pnmi(2) of 'height 4'".into()),
        "[a-z][a-z0-9-]{0,6}".prop_map(|name| format!("phone-purity(1) of '{name}'")),
        Just("metric('unit quality iteration 1.2/pnmi') of \"it's\"".into()),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} + {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) - ({b})")),
            inner.clone().prop_map(|a| format!("({a}) * 2 / 3")),
            inner.prop_map(|a| format!("-({a})")),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_back_reads_as_the_same(left in term(), right in term(), noise: u64) {
        let text = format!("{left} < pnmi(1) + {right}");
        let statement = read(&text);
        let back = statement.to_string();
        prop_assert_eq!(&read(&back), &statement, "{}", back);
        let spelt = read(&noisy(&text, noise));
        prop_assert_eq!(&spelt, &statement);
        let told = |name: Option<&str>| name.map(str::to_uppercase);
        prop_assert_eq!(spelt.meaning(&told).to_bytes(), statement.meaning(&told).to_bytes());
    }

    #[test]
    fn any_text_is_read_or_blamed_within(text in "\\PC{0,80}") {
        if let Err(Syntax { at, .. }) = parse(&text) {
            prop_assert!(text.get(at).is_some());
        }
    }

    #[test]
    fn any_row_of_tokens_is_read_or_blamed_within(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "wer", "(", ")", "test", ",", "top-reset", "2", "at", "of", "<", ">", "~", "within", "and", "-", "*", "/", "mean",
                "steps-to-reach", "steps", "layer", "'a b'", "metric", "0.5", "pnmi",
            ]),
            0..30,
        ),
    ) {
        let text = tokens.join(" ");
        match parse(&text) {
            Ok(parsed) => prop_assert_eq!(read(&parsed.statement.to_string()), parsed.statement),
            Err(Syntax { at, .. }) => prop_assert!(text.get(at).is_some()),
        }
    }
}

#[test]
fn comparisons_mean_the_same_in_any_order_and_variants_whatever_they_are_called() {
    let meaning = |text: &str| {
        read(text).meaning(&|name| name.map(|name| if name == "short" { "long" } else { name }.to_owned())).to_bytes()
    };
    assert_eq!(meaning("wer(a) < wer(b) < wer(c)"), meaning("wer(b) < wer(c) and wer(a) < wer(b) and wer(b) > wer(a)"));
    assert_eq!(meaning("wer(a) of short < 0.1"), meaning("wer(a) of long < 0.1"));
    assert_ne!(meaning("wer(a) of other < 0.1"), meaning("wer(a) of long < 0.1"));
    assert_ne!(meaning("wer(a) < 0.1"), meaning("0.1 < wer(a)"));
    let reached = |of: &str| meaning(&format!("steps-to-reach(wer(a), mean(wer(a) of {of})) of x < 3"));
    assert_eq!(reached("short"), reached("long"));
}
