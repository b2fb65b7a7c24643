//! Estimating a language model from text: interpolated modified Kneser-Ney.
//!
//! Source: Chen & Goodman 1998 (TR-10-98) section 3 and its equations 26–29. The highest order counts n-grams, lower orders count the
//! different words before an n-gram, except that n-grams which begin with `<s>` keep their counts, since nothing stands before them. Each
//! order has three discounts, from its counts of counts; the mass they free goes to the order below, and at last evenly to all words and
//! `<unk>`. `<s>` is context only. No n-gram is pruned; all counts are in memory.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::lm::MAX_ORDER;

/// Why no model can be estimated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotEstimate {
    #[error("orders are 1 to {MAX_ORDER}, not {0}")]
    Order(usize),
    #[error("line {line} of the text has the word {word}, which a model keeps for itself")]
    Reserved { line: usize, word: String },
    #[error(
        "no {order}-gram has a count of {count}, so modified Kneser-Ney has no discounts for this order; take more text, or a lower order"
    )]
    Discount { order: usize, count: usize },
}

type Counts = BTreeMap<Vec<u32>, u64>;

/// What is estimated of one order: probabilities and back-off weights, both plain.
type Order = BTreeMap<Vec<u32>, (f64, f64)>;

const UNKNOWN: u32 = 0;
const BEGIN: u32 = 1;
const END: u32 = 2;

/// The ARPA text of a model of `order`, from text with one sentence a line, words parted by white space. Lines without words are skipped.
///
/// `fallback` are the discounts (of counts 1, 2, 3 and more; each at most its count) of orders with too few n-grams to estimate them, as KenLM
/// takes 0.5, 1 and 1.5 under `--discount_fallback`; `None` refuses such text.
///
/// # Errors
/// When the text has a word `<s>`, `</s>` or `<unk>`, or too few n-grams to estimate discounts from.
pub fn estimate(text: &str, order: usize, fallback: Option<[f64; 3]>) -> Result<String, CannotEstimate> {
    if !(1..=MAX_ORDER).contains(&order) {
        return Err(CannotEstimate::Order(order));
    }
    let mut words = vec!["<unk>", "<s>", "</s>"];
    let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
    let mut counts: Vec<Counts> = vec![Counts::new(); order];
    for (line, sentence) in text.lines().enumerate() {
        let mut tokens = vec![BEGIN];
        for word in sentence.split_whitespace() {
            if words[..3].contains(&word) {
                return Err(CannotEstimate::Reserved { line: line + 1, word: word.into() });
            }
            tokens.push(*ids.entry(word).or_insert_with(|| {
                words.push(word);
                words.len() as u32 - 1
            }));
        }
        if tokens.len() == 1 {
            continue;
        }
        tokens.push(END);
        for (length, counts) in (1..).zip(&mut counts) {
            for ngram in tokens.windows(length).filter(|ngram| *ngram != [BEGIN]) {
                *counts.entry(ngram.to_vec()).or_default() += 1;
            }
        }
    }
    let adjusted: Vec<Counts> = (0..order).map(|index| adjusted(&counts, index)).collect();
    let mut orders: Vec<Order> = Vec::new();
    for (index, counts) in adjusted.iter().enumerate() {
        let discounts = discounts(counts, index + 1).or_else(|error| fallback.ok_or(error))?;
        let estimated = interpolate(counts, discounts, &mut orders, words.len());
        orders.push(estimated);
    }
    Ok(arpa(&orders, &words))
}

/// Counts of the highest order, and of lower ones the number of different words before.
fn adjusted(counts: &[Counts], index: usize) -> Counts {
    let Some(longer) = counts.get(index + 1) else { return counts[index].clone() };
    let mut adjusted = Counts::new();
    for ngram in longer.keys() {
        *adjusted.entry(ngram[1..].to_vec()).or_default() += 1;
    }
    adjusted.extend(
        counts[index].iter().filter(|(ngram, _)| ngram[0] == BEGIN).map(|(ngram, &count)| (ngram.clone(), count)),
    );
    adjusted
}

/// D₁, D₂ and D₃₊ of an order.
fn discounts(counts: &Counts, order: usize) -> Result<[f64; 3], CannotEstimate> {
    let with = |count: usize| counts.values().filter(|&&other| other == count as u64).count() as f64;
    let n = [with(1), with(2), with(3), with(4)];
    if let Some(none) = n[..3].iter().position(|&number| number == 0.0) {
        return Err(CannotEstimate::Discount { order, count: none + 1 });
    }
    let y = n[0] / (n[0] + 2.0 * n[1]);
    let discount = |count: usize| count as f64 - (count + 1) as f64 * y * n[count] / n[count - 1];
    // Small texts can give a negative discount, which would take more than all of the mass.
    Ok([1, 2, 3].map(|count| discount(count).max(0.0)))
}

/// The probabilities of an order, interpolated with those of the order below, which gets its back-off weights.
fn interpolate(counts: &Counts, discounts: [f64; 3], orders: &mut [Order], words: usize) -> Order {
    let mut contexts: BTreeMap<&[u32], (f64, f64)> = BTreeMap::new();
    let discount = |count: u64| discounts[count.clamp(1, 3) as usize - 1];
    for (ngram, &count) in counts {
        let (sum, freed) = contexts.entry(&ngram[..ngram.len() - 1]).or_default();
        *sum += count as f64;
        *freed += discount(count);
    }
    // `<s>` is never predicted.
    let even = 1.0 / (words - 1) as f64;
    let lower = |ngram: &[u32]| orders.last().map_or(even, |order| order[&ngram[1..]].0);
    let mut estimated = Order::new();
    for (ngram, &count) in counts {
        let (sum, freed) = contexts[&ngram[..ngram.len() - 1]];
        let own = (count as f64 - discount(count)) / sum;
        estimated.insert(ngram.clone(), (own + freed / sum * lower(ngram), 1.0));
    }
    match orders.last_mut() {
        Some(below) => {
            for (context, (sum, freed)) in contexts {
                if let Some(entry) = below.get_mut(context) {
                    entry.1 = freed / sum;
                }
            }
        }
        None => {
            let (sum, freed) = contexts.values().next().copied().unwrap_or((1.0, 1.0));
            estimated.insert(vec![UNKNOWN], (freed / sum * even, 1.0));
            estimated.insert(vec![BEGIN], (0.0, 1.0));
        }
    }
    estimated
}

fn arpa(orders: &[Order], words: &[&str]) -> String {
    let log10 = |value: f64| if value > 0.0 { value.log10().min(0.0) } else { -99.0 };
    let mut text = String::from("\\data\\\n");
    for (order, ngrams) in (1..).zip(orders) {
        writeln!(text, "ngram {order}={}", ngrams.len()).expect("a String takes everything");
    }
    for (order, ngrams) in (1..).zip(orders) {
        write!(text, "\n\\{order}-grams:\n").expect("a String takes everything");
        for (ngram, (probability, back_off)) in ngrams {
            let spelt = ngram.iter().map(|&word| words[word as usize]).collect::<Vec<_>>().join(" ");
            write!(text, "{:.7}\t{spelt}", log10(*probability)).expect("a String takes everything");
            if order < orders.len() {
                write!(text, "\t{:.7}", log10(*back_off)).expect("a String takes everything");
            }
            text.push('\n');
        }
    }
    text + "\n\\end\\\n"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lm::{State, arpa};
    use super::*;

    fn text() -> impl Strategy<Value = String> {
        let word =
            prop_oneof![9 => Just("a"), 5 => Just("b"), 3 => Just("c"), 2 => Just("d"), 1 => Just("e"), 1 => Just("f")];
        let sentence = prop::collection::vec(word, 1..8).prop_map(|words| words.join(" "));
        prop::collection::vec(sentence, 15..60).prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #[test]
        fn probabilities_after_every_history_sum_to_one(text in text(), order in 1usize..4) {
            let estimated = estimate(&text, order, Some([0.5, 1.0, 1.5])).unwrap();
            let model = arpa::read(estimated.as_bytes(), None).unwrap();
            let sum = |state: State| -> f64 {
                let words = (0..model.word_count() as u32).filter(|&word| word != model.sentence_begin());
                words.map(|word| 10f64.powf(model.score(state, word).0)).sum()
            };
            for sentence in text.lines() {
                let mut state = model.begin();
                for word in sentence.split(' ') {
                    prop_assert!((sum(state) - 1.0).abs() < 1e-5, "{}", sum(state));
                    state = model.score(state, model.id(word).unwrap()).1;
                }
            }
        }
    }

    #[test]
    fn a_unigram_model_is_as_by_hand() {
        // Counts: a 1, b 1, c 2, d 3, </s> 1: n₁ = 3, n₂ = 1, n₃ = 1, n₄ = 0; Y = 3/5; D₁ = 1 − 2·3/5·1/3, D₂ = 2 − 3·3/5, D₃₊ = 3.
        let model = arpa::read(estimate("a b c c d d d", 1, None).unwrap().as_bytes(), None).unwrap();
        let discounts = [0.6, 0.2, 3.0];
        let freed = (3.0 * discounts[0] + discounts[1] + discounts[2]) / 8.0 / 6.0;
        for (word, own) in [("a", 0.4), ("c", 1.8), ("d", 0.0), ("</s>", 0.4), ("<unk>", 0.0)] {
            let found = 10f64.powf(model.score(model.begin(), model.id(word).unwrap()).0);
            assert!((found - (own / 8.0 + freed)).abs() < 1e-6, "{word}: {found}");
        }
    }

    #[test]
    fn texts_that_give_no_model_are_refused() {
        assert_eq!(estimate("a <s>", 2, None), Err(CannotEstimate::Reserved { line: 1, word: "<s>".into() }));
        assert_eq!(estimate("a b", 1, None), Err(CannotEstimate::Discount { order: 1, count: 2 }));
        assert_eq!(estimate("", 0, None), Err(CannotEstimate::Order(0)));
    }
}
