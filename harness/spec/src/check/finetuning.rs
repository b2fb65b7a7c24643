//! Rules about fine-tuning.

use super::Rules;
use crate::strategy::Strategy;

impl Rules<'_> {
    pub(super) fn finetuning(&mut self) {
        let finetuning = &self.experiment.finetuning;
        if self.experiment.corpus.finetune.is_empty() {
            return;
        }
        if finetuning.steps.get() == 0 {
            self.broken(
                "finetuning.steps",
                &["corpus.finetune"],
                "fine-tuning needs at least 1 step",
                "give it steps, or empty `corpus.finetune`",
            );
        } else if finetuning.freeze_steps > finetuning.steps {
            let message = format!(
                "`finetuning.freeze-steps` ({}) is above `finetuning.steps` ({})",
                finetuning.freeze_steps.get(),
                finetuning.steps.get()
            );
            self.broken(
                "finetuning.freeze-steps",
                &["finetuning.steps"],
                message,
                "freeze for fewer steps or train for more",
            );
        }
        self.tops();
        let schedule = &finetuning.schedule;
        let busy = schedule.warm_up.get() + schedule.hold.get();
        if busy > 1.0 + 1e-9 {
            let message = format!("warm-up and hold take {busy} of the steps, more than all of them");
            self.broken(
                "finetuning.schedule.warm-up",
                &["finetuning.schedule.hold"],
                message,
                "lower one so that they add up to at most 1",
            );
        }
        let width = u64::from(self.experiment.model.encoder.width.get());
        let masking = finetuning.channel_masking.clone();
        self.mask_fits("finetuning.channel-masking", &masking, width, "model.encoder.width", "channels of the encoder");
    }

    /// What is done with top layers fits the network, and there is a pretrained one.
    fn tops(&mut self) {
        let (finetuning, encoder) = (&self.experiment.finetuning, &self.experiment.model.encoder);
        let layers = encoder.layers.get();
        // The last layer stays, because the output layer needs one to read; all of them may be drawn anew.
        let lists = [("reset-top", &finetuning.reset_top, layers), ("remove-top", &finetuning.remove_top, layers - 1)];
        for (word, list, most) in lists {
            let at = format!("finetuning.{word}");
            if list.is_empty() {
                continue;
            }
            if self.experiment.strategy == Strategy::Scratch {
                let message =
                    format!("`{word}` is about the layers of a pretrained network, but nothing is pretrained");
                self.broken(&at, &["strategy"], message, "choose another strategy, or take the list away");
            }
            if self.experiment.model.hierarchy.is_some() {
                let message = format!("`{word}` of a hierarchy isn't supported: it has no single stack with a top");
                self.broken(&at, &["model.hierarchy"], message, "take one of the two away");
            }
            for (index, _) in list.iter().enumerate().filter(|(_, top)| top.get() > most) {
                let message = format!("the network has {layers} layers, and at most {most} of them can be named here");
                self.broken(&format!("{at}[{index}]"), &["model.encoder.layers"], message, "name fewer");
            }
        }
    }
}
