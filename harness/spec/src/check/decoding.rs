//! Rules about decoding.

use super::{Rules, path};
use crate::decoding::{Decoding, Estimation, LanguageModel, Lexicon, Search, Tuning};
use crate::finetuning::Symbols;
use crate::values::SplitName;

/// Most settings that one tuning tries.
const MOST_SETTINGS: usize = 10_000;

impl Rules<'_> {
    pub(super) fn decoding(&mut self) {
        let decoding = self.experiment.decoding.clone();
        let Decoding { search, lexicon, language_model, tune, .. } = &decoding;
        match search {
            Search::Greedy => {
                let parts = [
                    ("lexicon", lexicon.is_some()),
                    ("language-model", language_model.is_some()),
                    ("tune", tune.is_some()),
                ];
                for (word, _) in parts.into_iter().filter(|(_, there)| *there) {
                    let message = "greedy search takes the best symbol of every frame and knows no words";
                    let help = "write `search: { beam: {} }`, or take it out";
                    self.broken(&format!("decoding.{word}"), &["decoding.search"], message, help);
                }
            }
            Search::Beam(beam) if beam.n_best > beam.prefixes => {
                let message = format!("{} hypotheses out of {} prefixes", beam.n_best.get(), beam.prefixes.get());
                let at = ["n-best", "prefixes"].map(|word| format!("decoding.search.beam.{word}"));
                self.broken(&at[0], &[&at[1]], message, "lower `n-best` or raise `prefixes`");
            }
            Search::Beam(_) => {}
        }
        if language_model.is_some() && lexicon.is_none() {
            let message = "the language model scores words, but nothing says which words there are";
            self.broken("decoding.language-model", &[], message, "write `lexicon: language-model`, or name a file");
        }
        if lexicon.is_some() && matches!(self.experiment.finetuning.symbols, Symbols::WordPieces(_)) {
            let message = "a lexicon spells words with characters, but the model tells pieces of words apart";
            let help = "write `finetuning: { symbols: characters }`, or search without a lexicon";
            self.broken("decoding.lexicon", &["finetuning.symbols"], message, help);
        }
        if *lexicon == Some(Lexicon::LanguageModel) && language_model.is_none() {
            let message = "there is no language model whose words could be the lexicon";
            self.broken("decoding.lexicon", &[], message, "add `language-model`, or name a file");
        }
        self.weights(&decoding);
        if let Some(LanguageModel::Estimate(estimation)) = language_model {
            self.estimation(estimation);
        }
        if let Some(tuning) = tune {
            self.tuning(tuning, &decoding);
        }
    }

    /// Whether a word below `decoding` is written, be it with its default.
    fn written(&self, word: &str) -> bool {
        self.tree.find(&path(&format!("decoding.{word}"))).is_some()
    }

    fn weights(&mut self, decoding: &Decoding) {
        if decoding.lexicon.is_none() {
            if self.written("weights") {
                let message = "weights are of words, and without a lexicon none are known";
                self.broken("decoding.weights", &[], message, "add `lexicon`, or take the weights out");
            }
            return;
        }
        if decoding.language_model.is_none() {
            for word in ["weights.lm", "weights.unknown"] {
                if self.written(word) {
                    let message = "there is no language model that it could weigh";
                    self.broken(&format!("decoding.{word}"), &[], message, "add `language-model`, or take it out");
                }
            }
        } else if decoding.lexicon == Some(Lexicon::LanguageModel) && self.written("weights.unknown") {
            let message = "no word of the lexicon is unknown: they are the language model's";
            self.broken("decoding.weights.unknown", &["decoding.lexicon"], message, "take it out");
        }
    }

    fn estimation(&mut self, estimation: &Estimation) {
        let at = "decoding.language-model.estimate";
        self.transcripts(&format!("{at}.on"), &estimation.on);
        self.not_tested(&format!("{at}.on"), &estimation.on, |split| {
            format!("`{split}` is tested on, and a language model of its transcripts would know them")
        });
        for (index, discount) in estimation.discount_fallback.iter().flatten().enumerate() {
            if discount.get() > (index + 1) as f64 {
                let message = format!("{} is more than the count {} that it is taken from", discount.get(), index + 1);
                self.broken(&format!("{at}.discount-fallback[{index}]"), &[], message, "KenLM takes 0.5, 1 and 1.5");
            }
        }
    }

    fn tuning(&mut self, tuning: &Tuning, decoding: &Decoding) {
        let at = "decoding.tune";
        if decoding.lexicon.is_none() && decoding.search != Search::Greedy {
            self.broken(at, &[], "without a lexicon there are no weights to tune", "add `lexicon`, or take it out");
        }
        if decoding.language_model.is_none() && !tuning.lm.is_empty() {
            let help = "add `language-model`, or take it out";
            self.broken(&format!("{at}.lm"), &[], "there is no language model that it could weigh", help);
        }
        let listed = [
            ("lm", tuning.lm.iter().map(|weight| weight.get()).collect::<Vec<_>>()),
            ("word", tuning.word.iter().map(|nats| nats.get()).collect()),
            ("silence", tuning.silence.iter().map(|nats| nats.get()).collect()),
        ];
        if listed.iter().all(|(_, values)| values.is_empty()) {
            self.broken(at, &[], "nothing is tuned: no weight is listed", "list values of `lm`, `word` or `silence`");
        }
        for (word, values) in &listed {
            let here = format!("{at}.{word}");
            if values.is_empty() && self.written(&format!("tune.{word}")) {
                self.broken(&here, &[], "the list is empty", "name at least one value, or take it out");
            }
            let again = (1..values.len()).find(|&index| values[..index].contains(&values[index]));
            if let Some(index) = again {
                let message = format!("{} is listed twice", values[index]);
                self.broken(&format!("{here}[{index}]"), &[], message, "keep one of the two");
            }
            let fixed = format!("weights.{word}");
            if !values.is_empty() && self.written(&fixed) {
                let message = format!("`{word}` is both tuned and fixed");
                self.broken(&here, &[&format!("decoding.{fixed}")], message, "keep one of the two");
            }
        }
        let settings = listed.iter().fold(1usize, |product, (_, values)| product.saturating_mul(values.len().max(1)));
        if settings > MOST_SETTINGS {
            let message = format!("the grid has {settings} settings; a tuning tries at most {MOST_SETTINGS}");
            self.broken(at, &[], message, "list fewer values");
        }
        let on = format!("{at}.on");
        self.transcripts(&on, &tuning.on);
        self.not_tested(&on, &tuning.on, |split| format!("`{split}` is both tuned and tested on"));
        let finetune = self.experiment.corpus.finetune.clone();
        self.disjoint(&on, &tuning.on, "corpus.finetune", &finetune, |split| {
            format!("`{split}` is both learnt from and tuned on")
        });
        if let Some(LanguageModel::Estimate(estimation)) = &decoding.language_model {
            let estimated = "decoding.language-model.estimate.on";
            self.disjoint(&on, &tuning.on, estimated, &estimation.on, |split| {
                format!(
                    "the language model knows the transcripts of `{split}`, so what is tuned on them trusts it too much"
                )
            });
        }
    }

    /// Refuses no splits, the same one twice, and ones without transcripts.
    fn transcripts(&mut self, at: &str, splits: &[SplitName]) {
        if splits.is_empty() {
            self.broken(at, &[], "no split is named", "name at least one with transcripts");
        }
        let again = (1..splits.len()).find(|&index| splits[..index].contains(&splits[index]));
        if let Some(index) = again {
            let message = format!("the split `{}` is listed twice", splits[index]);
            self.broken(&format!("{at}[{index}]"), &[], message, "keep one of the two");
        }
        let untranscribed = self.experiment.corpus.untranscribed.clone();
        self.disjoint(at, splits, "corpus.untranscribed", &untranscribed, |split| {
            format!("`{split}` needs transcripts and is said to have none")
        });
    }

    fn not_tested(&mut self, at: &str, splits: &[SplitName], message: impl Fn(&SplitName) -> String) {
        let test = self.experiment.corpus.test.clone();
        self.disjoint(at, splits, "corpus.test", &test, message);
    }

    fn disjoint(
        &mut self,
        here: &str,
        splits: &[SplitName],
        there: &str,
        others: &[SplitName],
        message: impl Fn(&SplitName) -> String,
    ) {
        for (index, split) in splits.iter().enumerate() {
            if let Some(place) = others.iter().position(|other| other == split) {
                let also = format!("{there}[{place}]");
                self.broken(
                    &format!("{here}[{index}]"),
                    &[&also],
                    message(split),
                    "take it out of one of the two lists",
                );
            }
        }
    }
}
