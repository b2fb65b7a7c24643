//! Rules about the network.

use super::Rules;
use crate::arithmetic::{FRAME_STRIDE, FRAME_WINDOW, conv_window};
use crate::network::{FrontEnd, Hierarchy, LogMelFrontEnd, Subsampling, WaveFrontEnd};

impl Rules<'_> {
    pub(super) fn network(&mut self) {
        let encoder = &self.experiment.model.encoder;
        let width = ("model.encoder.width", encoder.width.get());
        self.divides(("model.encoder.heads", encoder.heads.get()), width);
        self.divides(("model.encoder.positional.groups", encoder.positional.groups.get()), width);
        match &self.experiment.model.front_end {
            FrontEnd::Wave(wave) => self.wave(wave),
            FrontEnd::LogMel(mel) => self.log_mel(mel),
            FrontEnd::Units(_) => {}
        }
        if let Some(relative) = &encoder.relative_positions {
            let at = "model.encoder.relative-positions";
            let (buckets, furthest) = (relative.buckets.get(), relative.max_distance.get());
            if !buckets.is_multiple_of(4) {
                let message = format!("{buckets} buckets can't be shared by two directions, near and far");
                let help = "a quarter of the buckets is for near distances of each direction: use a multiple of 4";
                self.broken(&format!("{at}.buckets"), &[], message, help);
            } else if furthest <= buckets / 4 {
                let near = buckets / 4;
                let message =
                    format!("the largest distance, {furthest}, isn't beyond the {near} that have a bucket each");
                let help = format!("raise it above {near}, or use fewer buckets");
                self.broken(&format!("{at}.max-distance"), &[&format!("{at}.buckets")], message, help);
            }
        }
        if let Some(hierarchy) = &self.experiment.model.hierarchy {
            self.hierarchy(hierarchy);
        }
    }

    fn log_mel(&mut self, mel: &LogMelFrontEnd) {
        let at = "model.front-end.log-mel.subsampling";
        if let Subsampling::Convolution(convolution) = &mel.subsampling {
            let (kernels, strides) = (format!("{at}.convolution.kernels"), format!("{at}.convolution.strides"));
            if convolution.kernels.len() != convolution.strides.len() {
                let message = format!(
                    "there are {} kernels and {} strides",
                    convolution.kernels.len(),
                    convolution.strides.len()
                );
                return self.broken(&kernels, &[&strides], message, "give every convolution one kernel and one stride");
            }
            if convolution.kernels.iter().any(|kernel| kernel.get().is_multiple_of(2)) {
                let help = "an output frame is centred on an input frame: use odd kernels";
                self.broken(&kernels, &[], "a kernel is even", help);
            }
            if !convolution.channels.get().is_multiple_of(2) {
                let at = format!("{at}.convolution.channels");
                self.broken(&at, &[], "gating halves the channels, which are odd in number", "use an even number");
            }
        }
        let factor = mel.subsampling.factor();
        if factor != 2 && factor != 4 {
            let message = format!("{factor} frames of 10 ms become one");
            self.broken(at, &[], message, "frames are 20 or 40 ms: make it 2 or 4");
        }
    }

    fn hierarchy(&mut self, hierarchy: &Hierarchy) {
        let (at, total) = ("model.hierarchy.layers", "model.encoder.layers");
        let (blocks, rates) = (hierarchy.layers.len(), hierarchy.ratios.len());
        if rates == 0 {
            let help = "name one ratio a step down, 1 to keep the rate, or take the hierarchy out";
            return self.broken("model.hierarchy.ratios", &[], "a hierarchy needs at least one ratio", help);
        }
        if blocks != 2 * rates + 1 {
            let message = format!("{rates} ratios make {} blocks, but {blocks} have layers", 2 * rates + 1);
            let help = "list the layers of every block on the way down and up again";
            self.broken(at, &["model.hierarchy.ratios"], message, help);
        }
        let sum: u64 = hierarchy.layers.iter().map(|layers| u64::from(layers.get())).sum();
        let layers = u64::from(self.experiment.model.encoder.layers.get());
        if sum != layers {
            let message = format!("the blocks have {sum} layers together, `{total}` says {layers}");
            self.broken(at, &[total], message, "make both the same");
        }
        let lowest = hierarchy.ratios.iter().fold(1u64, |product, ratio| product.saturating_mul(ratio.get().into()));
        if lowest > 8 {
            let message = format!("{lowest} frames of the front-end become one");
            self.broken("model.hierarchy.ratios", &[], message, "keep their product within 8");
        }
        if hierarchy.sampling.kernel.get().is_multiple_of(2) {
            let help = "use an odd one (1 as released, 7 as the code's default)";
            self.broken("model.hierarchy.sampling.kernel", &[], "the kernel is even", help);
        }
    }

    fn wave(&mut self, wave: &WaveFrontEnd) {
        let (at_kernels, at_strides) = ("model.front-end.wave.kernels", "model.front-end.wave.strides");
        let numbers = |list: &[crate::values::Count]| list.iter().map(|n| u64::from(n.get())).collect::<Vec<_>>();
        let (kernels, strides) = (numbers(&wave.kernels), numbers(&wave.strides));
        if kernels.len() != strides.len() {
            let message = format!("there are {} kernels and {} strides", kernels.len(), strides.len());
            return self.broken(at_kernels, &[at_strides], message, "give every convolution one kernel and one stride");
        }
        let product = strides.iter().fold(1u64, |product, stride| product.saturating_mul(*stride));
        if product != FRAME_STRIDE {
            let message = format!("the strides multiply to {product} samples a frame, not {FRAME_STRIDE}");
            return self.broken(at_strides, &[], message, "frames are 20 ms: choose strides whose product is 320");
        }
        let window = conv_window(&kernels, &strides);
        if window != FRAME_WINDOW {
            let message = format!("a frame covers {window} samples, not {FRAME_WINDOW}");
            let help = "labels go with frames of 400 samples: the published kernels are [10, 3, 3, 3, 3, 2, 2] with strides [5, 2, 2, 2, 2, 2, 2]";
            self.broken(at_kernels, &[at_strides], message, help);
        }
    }
}
