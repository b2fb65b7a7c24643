//! Rules about what is measured.

use super::Rules;
use crate::probing::{CodebookLayers, CodebookSource};
use crate::strategy::{Origin, Strategy};

/// Most codebooks that one variant measures beside those it trains on.
const MOST_CODEBOOKS: usize = 10_000;

impl Rules<'_> {
    pub(super) fn probing(&mut self) {
        self.codebooks();
        let Some(quality) = self.experiment.probing.unit_quality.clone() else { return };
        let at = "probing.unit-quality.splits";
        if quality.splits.is_empty() {
            self.broken(
                at,
                &[],
                "unit quality needs a split to measure on",
                "name an aligned split that isn't pretrained on",
            );
        }
        if self.experiment.strategy == Strategy::Scratch && self.alone && self.experiment.probing.codebooks.is_empty() {
            let message = "there are no units to measure: the strategy is `scratch`";
            self.broken(
                "probing.unit-quality",
                &["strategy"],
                message,
                "take the probe out, or choose another strategy",
            );
        }
        for (index, split) in quality.splits.iter().enumerate() {
            let here = format!("{at}[{index}]");
            if let Some(first) = quality.splits[..index].iter().position(|earlier| earlier == split) {
                self.broken(
                    &here,
                    &[&format!("{at}[{first}]")],
                    format!("the split `{split}` is listed twice"),
                    "keep one of the two",
                );
            }
            if let Some(position) = self.experiment.corpus.pretrain.iter().position(|fitted| fitted == split) {
                let message = format!("`{split}` both fits the codebook and measures it");
                self.broken(
                    &here,
                    &[&format!("corpus.pretrain[{position}]")],
                    message,
                    "measure on a split that isn't pretrained on",
                );
            }
        }
    }

    /// Whether the codebooks that are only measured can be fitted.
    fn codebooks(&mut self) {
        let all = self.experiment.probing.codebooks.clone();
        if all.is_empty() {
            return;
        }
        let at = "probing.codebooks";
        if self.experiment.probing.unit_quality.is_none() {
            let help = "write `probing.unit-quality` with the aligned splits to measure on";
            self.broken(at, &[], "nothing says on which splits the codebooks are measured", help);
        }
        if self.experiment.corpus.pretrain.is_empty() && self.alone {
            let message = "there is nothing to fit the codebooks on: `corpus.pretrain` is empty";
            self.broken("corpus.pretrain", &[at], message, "name a split");
        }
        let mut count = 0usize;
        for (index, codebooks) in all.iter().enumerate() {
            let here = format!("{at}[{index}]");
            for (word, empty) in [("clusters", codebooks.clusters.is_empty()), ("fit", codebooks.fit.is_empty())] {
                if empty {
                    self.broken(&format!("{here}.{word}"), &[], "the list is empty", "name at least one value");
                }
            }
            if codebooks.fit.iter().any(|fit| fit.get() == 0.0) {
                self.broken(&format!("{here}.fit"), &[], "no utterance fits the codebook", "raise the share above 0");
            }
            if let CodebookSource::Layers(layers) = &codebooks.of {
                self.codebook_layers(&format!("{here}.of.layers"), layers);
            }
            let heights = if let CodebookSource::Layers(layers) = &codebooks.of { layers.heights.len() } else { 1 };
            let lengths = [heights, codebooks.clusters.len(), codebooks.fit.len(), codebooks.seeds.len().max(1)];
            count = count.saturating_add(lengths.into_iter().fold(1, usize::saturating_mul));
        }
        if count > MOST_CODEBOOKS {
            let message = format!("{count} codebooks to measure; a variant has at most {MOST_CODEBOOKS}");
            self.broken(at, &[], message, "split the experiment");
        }
    }

    fn codebook_layers(&mut self, at: &str, layers: &CodebookLayers) {
        if layers.heights.is_empty() {
            self.broken(&format!("{at}.heights"), &[], "no layer is named", "name at least one");
        }
        let most = self.experiment.model.encoder.layers.get();
        let scratch = self.experiment.strategy == Strategy::Scratch;
        let iterations =
            self.experiment.strategy.expand().iter().map(|variant| variant.iterations.len()).min().unwrap_or(0);
        match &layers.of {
            // A checkpoint's network is known when its folder is read.
            Origin::Checkpoint(_) => return,
            Origin::Previous if scratch && self.alone => {
                let help = "name a checkpoint, or choose another strategy";
                self.broken(at, &["strategy"], "there is no pretrained model whose layers could be clustered", help);
            }
            Origin::Iteration(number) if number.get() as usize > iterations && (!scratch || self.alone) => {
                let message = format!("there is no iteration {}: the strategy has {iterations}", number.get());
                self.broken(&format!("{at}.of"), &["strategy"], message, "name an earlier one, or a checkpoint");
            }
            Origin::Previous | Origin::Iteration(_) => {}
        }
        for (place, height) in layers.heights.iter().enumerate().filter(|(_, height)| height.get() > most) {
            let message = format!("height {} is above the {most} layers of the model", height.get());
            let here = format!("{at}.heights[{place}]");
            self.broken(&here, &["model.encoder.layers"], message, format!("use 0 to {most}"));
        }
    }
}
