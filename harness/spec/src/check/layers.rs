//! Rules about layer-wise analysis.

use super::Rules;
use crate::probing::{Analysis, Layers, TokenRange};
use crate::strategy::Strategy;
use crate::values::Clusters;

const ANALYSES: &str = "probing.analyses";
const LAYERS: &str = "probing.layers";

impl Rules<'_> {
    pub(super) fn layers(&mut self) {
        let probing = self.experiment.probing.clone();
        let (analyses, layers) = (&probing.analyses, &probing.layers);
        if analyses.is_empty() {
            let idle = [
                ("probing.every", probing.every.is_some()),
                ("probing.at", !probing.at.is_empty()),
                (LAYERS, layers.is_some()),
            ];
            for (at, _) in idle.into_iter().filter(|(_, written)| *written) {
                let help = "write for example `analyses: [cca-word, cca-phone, cca-mel, pnmi]`";
                self.broken(at, &[ANALYSES], "nothing says what is measured on layers", help);
            }
            return;
        }
        for (index, analysis) in analyses.iter().enumerate() {
            if let Some(first) = analyses[..index].iter().position(|earlier| earlier == analysis) {
                let (at, first) = (format!("{ANALYSES}[{index}]"), format!("{ANALYSES}[{first}]"));
                let message = format!("`{}` is listed twice", analysis.word());
                self.broken(&at, &[&first], message, "keep one of the two");
            }
        }
        if self.experiment.strategy == Strategy::Scratch && self.alone {
            let message = "there is no pretrained model to analyse: the strategy is `scratch`";
            self.broken(ANALYSES, &["strategy"], message, "take the analyses out, or choose another strategy");
        }
        match layers {
            Some(layers) => self.settings_of_layers(analyses, layers),
            None => {
                let help = "write `layers: { splits: [SPLIT] }` below `probing`";
                self.broken(ANALYSES, &[], "nothing says on which splits layers are analysed", help);
            }
        }
    }

    fn settings_of_layers(&mut self, analyses: &[Analysis], layers: &Layers) {
        let at = |word: &str| format!("{LAYERS}.{word}");
        let any = |of: fn(Analysis) -> bool| analyses.iter().any(|analysis| of(*analysis));
        if layers.splits.is_empty() {
            self.broken(&at("splits"), &[], "layers need a split to be analysed on", "name at least one");
        }
        for (index, split) in layers.splits.iter().enumerate() {
            if let Some(first) = layers.splits[..index].iter().position(|earlier| earlier == split) {
                let [this, first] = [index, first].map(|index| format!("{}[{index}]", at("splits")));
                let message = format!("the split `{split}` is listed twice");
                self.broken(&this, &[&first], message, "keep one of the two");
            }
        }
        let (folds, trials) = (layers.folds.get(), layers.trials.get());
        if folds < 3 || folds < 2 * trials {
            let message =
                format!("{trials} trials with {folds} folds: each takes two folds of its own, and fits on others");
            self.broken(&at("folds"), &[&at("trials")], message, format!("use at least {} folds", (2 * trials).max(3)));
        }
        for (kind, range) in [("words", layers.tokens.words), ("phones", layers.tokens.phones)] {
            let TokenRange { minimum, maximum } = range;
            if minimum > maximum {
                let message = format!("at least {} tokens a label, but at most {}", minimum.get(), maximum.get());
                let [lower, upper] =
                    ["minimum", "maximum"].map(|end| format!("{}.{end}", at(&format!("tokens.{kind}"))));
                self.broken(&lower, &[&upper], message, "lower the first or raise the second");
            }
        }
        let fit = layers.fit.get();
        if fit == 0.0 && any(|analysis| analysis.samples_frames() || analysis.clusters()) {
            self.broken(&at("fit"), &[], "no utterance is left to sample frames from", "raise the share above 0");
        }
        if fit == 1.0 && any(Analysis::clusters) {
            let help = "lower the share below 1";
            self.broken(&at("fit"), &[ANALYSES], "no utterance is left to measure codebooks on", help);
        }
        let clusters = &layers.clusters;
        let sizes = [
            (Analysis::Pnmi, "frames", &clusters.frames),
            (Analysis::MiWord, "words", &clusters.words),
            (Analysis::MiPhone, "phones", &clusters.phones),
        ];
        for (analysis, kind, sizes) in sizes {
            self.sizes_of_codebooks(analysis, &at(&format!("clusters.{kind}")), sizes, analyses);
        }
        let largest = clusters.frames.iter().max().filter(|_| analyses.contains(&Analysis::Pnmi));
        if let Some(largest) = largest.filter(|largest| largest.get() > layers.frames.get()) {
            let message = format!("{} frames cannot make {} clusters", layers.frames.get(), largest.get());
            self.broken(&at("clusters.frames"), &[&at("frames")], message, "raise `frames`, or lower the clusters");
        }
        self.files_of_layers(analyses, layers);
        let width = self.experiment.model.encoder.width.get();
        if let Some(components) = layers.components.filter(|components| components.get() >= width) {
            let message = format!("{} components of layers that have {width} dimensions", components.get());
            self.broken(&at("components"), &["model.encoder.width"], message, "lower them, or take them out");
        }
    }

    fn files_of_layers(&mut self, analyses: &[Analysis], layers: &Layers) {
        let written = [
            (Analysis::CcaSemantic, "word-vectors", layers.word_vectors.is_some()),
            (Analysis::WordSimilarity, "word-pairs", layers.word_pairs.is_some()),
        ];
        for (analysis, word, written) in written {
            let (at, asked, name) = (format!("{LAYERS}.{word}"), analyses.contains(&analysis), analysis.word());
            if asked && !written {
                let message = format!("`{name}` reads a file, and none is named");
                self.broken(ANALYSES, &[], message, format!("write `{word}: FILE` below `{LAYERS}`"));
            }
            if written && !asked {
                let message = format!("only `{name}` reads this file");
                self.broken(&at, &[ANALYSES], message, format!("add `{name}` to the analyses, or take the file out"));
            }
        }
        if layers.word_vector_components.is_some() && layers.word_vectors.is_none() {
            let (at, message) =
                (format!("{LAYERS}.word-vector-components"), "there are no vectors of words to be reduced");
            self.broken(&at, &[], message, "name `word-vectors`, or take it out");
        }
    }

    fn sizes_of_codebooks(&mut self, analysis: Analysis, at: &str, sizes: &[Clusters], analyses: &[Analysis]) {
        if sizes.is_empty() && analyses.contains(&analysis) {
            let message = format!("`{}` needs the size of a codebook", analysis.word());
            self.broken(at, &[ANALYSES], message, "name at least one");
        }
        for (index, size) in sizes.iter().enumerate() {
            if let Some(first) = sizes[..index].iter().position(|earlier| earlier == size) {
                let [this, first] = [index, first].map(|index| format!("{at}[{index}]"));
                self.broken(
                    &this,
                    &[&first],
                    format!("{} clusters are listed twice", size.get()),
                    "keep one of the two",
                );
            }
        }
    }
}
