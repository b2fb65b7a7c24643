//! Rules about splits.

use std::collections::BTreeSet;

use super::{Rules, path};
use crate::node::Path;
use crate::problem::Problem;
use crate::strategy::Strategy;
use crate::values::SplitName;

impl Rules<'_> {
    pub(super) fn corpus(&mut self) {
        let corpus = self.experiment.corpus.clone();
        let roles = [
            ("pretrain", &corpus.pretrain),
            ("finetune", &corpus.finetune),
            ("validate", &corpus.validate),
            ("test", &corpus.test),
            ("untranscribed", &corpus.untranscribed),
        ];
        for (role, splits) in roles {
            for (index, split) in splits.iter().enumerate() {
                if let Some(first) = splits[..index].iter().position(|earlier| earlier == split) {
                    let at = |index| format!("corpus.{role}[{index}]");
                    self.broken(
                        &at(index),
                        &[&at(first)],
                        format!("the split `{split}` is listed twice"),
                        "keep one of the two",
                    );
                }
            }
        }
        if corpus.pretrain.is_empty() && self.experiment.strategy != Strategy::Scratch {
            let message = "there is nothing to pretrain on: `corpus.pretrain` is empty";
            self.broken("corpus.pretrain", &["strategy"], message, "name a split, or write `strategy: scratch`");
        }
        if corpus.finetune.is_empty() && !corpus.test.is_empty() {
            let message = "`corpus.test` can't be decoded: nothing is fine-tuned, because `corpus.finetune` is empty";
            self.broken(
                "corpus.test",
                &["corpus.finetune"],
                message,
                "name a split to fine-tune on, or empty `corpus.test`",
            );
        }
        let measures = !self.experiment.probing.codebooks.is_empty();
        if corpus.validate.is_empty() && (!corpus.finetune.is_empty() || self.experiment.strategy != Strategy::Scratch)
        {
            let message = "there is nothing to watch training on: `corpus.validate` is empty";
            self.broken("corpus.validate", &[], message, "name a split that is neither learnt from nor tested on");
        }
        if corpus.finetune.is_empty() && self.experiment.strategy == Strategy::Scratch && !measures {
            let message = "the experiment trains nothing: it neither pretrains nor fine-tunes";
            self.broken(
                "strategy",
                &["corpus.finetune"],
                message,
                "name a split in `corpus.finetune`, or choose another strategy",
            );
        }
        for learnt in [roles[0], roles[1]] {
            for judged in [roles[2], roles[3]] {
                self.apart(learnt, judged, |split| format!("`{split}` is both learnt from and judged on"));
            }
        }
        self.apart(roles[2], roles[3], |split| format!("`{split}` is both watched while training and tested on"));
        for transcribed in [roles[1], roles[2], roles[3]] {
            let needed = transcribed.0 != "validate" || !corpus.finetune.is_empty();
            if needed {
                self.apart(transcribed, roles[4], |split| {
                    format!("`{split}` needs transcripts and is said to have none")
                });
            }
        }
        let probed = self.experiment.probing.splits();
        let read = self.experiment.decoding.splits();
        let used: BTreeSet<&SplitName> =
            roles[..4].iter().flat_map(|(_, splits)| *splits).chain(probed).chain(read).collect();
        for split in corpus.lists.keys().filter(|split| !used.contains(split)) {
            let help = format!(
                "take it out, or use the split: {}",
                crate::schema::quoted(used.iter().map(|split| split.as_str()))
            );
            let at = self.tree.locate_key(&Path(
                [path("corpus.lists").0, vec![crate::node::Segment::Key(split.to_string())]].concat(),
            ));
            self.problems.push(
                Problem::new(at, format!("`corpus.lists` names the split `{split}`, which nothing uses")).help(help),
            );
        }
        for (index, split) in corpus.untranscribed.iter().enumerate().filter(|(_, split)| !used.contains(split)) {
            let message = format!("`corpus.untranscribed` names the split `{split}`, which nothing uses");
            self.broken(&format!("corpus.untranscribed[{index}]"), &[], message, "take it out, or use the split");
        }
    }

    fn apart(
        &mut self,
        one: (&str, &Vec<SplitName>),
        other: (&str, &Vec<SplitName>),
        message: impl Fn(&SplitName) -> String,
    ) {
        for (index, split) in one.1.iter().enumerate() {
            if let Some(position) = other.1.iter().position(|candidate| candidate == split) {
                let (here, there) = (format!("corpus.{}[{index}]", one.0), format!("corpus.{}[{position}]", other.0));
                self.broken(&there, &[&here], message(split), "take it out of one of the two lists");
            }
        }
    }
}
