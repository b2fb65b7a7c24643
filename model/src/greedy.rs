//! Greedy CTC decoding: the best path, not the best label.

use tch::Tensor;

use crate::vocabulary::{BLANK, Vocabulary};

/// The text of the most likely symbol of every frame: repeats collapse, blanks drop, `|` becomes a space (hubert.md section 8).
///
/// `logits_tv` holds the valid frames of one utterance only, T frames × V symbols of `vocabulary`; any per-frame constant may be added.
pub fn decode(logits_tv: &Tensor, vocabulary: &Vocabulary) -> String {
    let best = logits_tv.argmax(-1, false).to_device(tch::Device::Cpu);
    vocabulary.decode(&collapse(&Vec::try_from(best).expect("argmax of T × V gives T whole numbers")))
}

/// The symbols of a path: one for each run of equal ones, without blanks.
pub fn collapse(path: &[i64]) -> Vec<i64> {
    path.chunk_by(|left, right| left == right).map(|run| run[0]).filter(|&symbol| symbol != BLANK).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn repeats_collapse_unless_a_blank_parts_them() {
        assert_eq!(collapse(&[0, 3, 3, 0, 3, 4, 4, 0, 0]), [3, 3, 4]);
        assert_eq!(collapse(&[0, 0]), [0i64; 0]);
    }

    #[test]
    fn logits_become_text_without_outer_spaces() {
        let vocabulary = Vocabulary::of(["ab"]).unwrap();
        let path = [1i64, 0, 2, 2, 0, 1, 1, 0, 1, 3, 3, 1];
        let logits = Tensor::from_slice(&path).one_hot(4).to_kind(tch::Kind::Float);
        assert_eq!(decode(&logits, &vocabulary), "a b");
        assert_eq!(decode(&Tensor::zeros([0, 4], (tch::Kind::Float, tch::Device::Cpu)), &vocabulary), "");
    }

    proptest! {
        #[test]
        fn a_label_spelt_with_blanks_between_decodes_to_itself(
            label in prop::collection::vec(1i64..5, 0..20),
            runs in prop::collection::vec(1usize..4, 40),
        ) {
            let spelt = label.iter().flat_map(|&symbol| [BLANK, symbol]);
            let path: Vec<i64> = spelt.zip(runs).flat_map(|(symbol, run)| vec![symbol; run]).collect();
            prop_assert_eq!(collapse(&path), label);
        }
    }
}
