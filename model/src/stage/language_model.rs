//! `language-model`: an n-gram model of transcripts, or one that was made elsewhere, as a table that is memory-mapped.

use std::path::Path;

use reprise_spec::contract::Score;
use reprise_spec::decoding::Estimation;
use reprise_spec::stage::LanguageModelStage;
use serde::{Deserialize, Serialize};

use super::Work;
use super::corpus::files::listed;
use crate::corpus::Corpora;
use crate::decoding::kneser_ney;
use crate::decoding::lexicon::WORDS;
use crate::decoding::lm::arpa::{self, BadArpa};
use crate::decoding::lm::{NgramModel, TABLE};
use crate::failure::StageError;
use crate::recogniser::transcript;

/// What `lm.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct About {
    pub order: usize,
    /// N-grams of every order from 1 on; `<s>`, `</s>` and `<unk>` are among the first.
    pub n_grams: Vec<usize>,
    /// Words of `words.txt`.
    pub words: usize,
    /// Sentences that it was estimated from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentences: Option<usize>,
}

/// Writes `lm.table`, `words.txt`, `lm.json` ([`About`]) and, of an estimated model, `lm.arpa`.
///
/// # Errors
/// Refuses transcripts that give no model, a file that changed since it was listed, and one that is no whole ARPA file.
pub fn run(settings: &LanguageModelStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let table = work.output(TABLE);
    let (path, missing_unknown, sentences) = match settings {
        LanguageModelStage::Estimate(estimation) => {
            let (arpa, sentences) = estimate(estimation, work)?;
            work.write("lm.arpa", arpa.as_bytes())?;
            (work.output("lm.arpa"), None, Some(sentences))
        }
        LanguageModelStage::File { missing_unknown, .. } => {
            let files = listed(work)?;
            let [file] = files.as_slice() else {
                return Err(StageError::Failed("a language model is one file".into()));
            };
            (file.check(work.data_root()?)?, missing_unknown.map(|log10| log10.get() as f32), None)
        }
    };
    arpa::convert(&path, &table, missing_unknown).map_err(|error| no_model(&path, &error))?;
    let model = NgramModel::open(&table).map_err(|error| StageError::Failed(error.to_string()))?;
    let ids = (0..model.word_count() as u32).filter(|id| !model.special(*id));
    let words: String = ids.map(|id| format!("{}\n", model.word(id))).collect();
    work.write(WORDS, words.as_bytes())?;
    let about = About { order: model.order(), n_grams: model.counts(), words: words.lines().count(), sentences };
    let json = serde_json::to_vec_pretty(&about).map_err(|error| StageError::Failed(error.to_string()))?;
    work.write("lm.json", &json)?;
    Ok(scores(&model))
}

/// The sizes of a model.
pub fn scores(model: &NgramModel) -> Vec<Score> {
    let score = |name: &str, value: usize| Score { name: name.into(), value: value as f64, interval: None };
    let words = (0..model.word_count() as u32).filter(|&id| !model.special(id)).count();
    vec![score("order", model.order()), score("words", words), score("n-grams", model.counts().iter().sum())]
}

/// Why a file is refused as a language model.
pub fn no_model(path: &Path, error: &BadArpa) -> StageError {
    let help = "where only <unk> is missing, give it a probability with missing-unknown (KenLM takes -100); anything else has to be put right in \
                the file";
    StageError::refused(format!("{} is no language model that can be used: {error}", path.display()), help)
}

/// The ARPA text of a model of the transcripts, and how many sentences they are.
fn estimate(estimation: &Estimation, work: &Work) -> Result<(String, usize), StageError> {
    let corpora = Corpora::read(work, &estimation.on)?;
    let sentences = corpora.iter().map(|(split, _, utterance)| transcript(split, utterance));
    let sentences: Vec<&str> = sentences.collect::<Result<_, _>>()?;
    let fallback = estimation.discount_fallback.map(|discounts| discounts.map(|discount| discount.get()));
    let arpa = kneser_ney::estimate(&sentences.join("\n"), estimation.order.get() as usize, fallback);
    let refused = |error: kneser_ney::CannotEstimate| {
        StageError::refused(
            format!("the transcripts give no language model: {error}"),
            "or give `discount-fallback: [0.5, 1, 1.5]`",
        )
    };
    Ok((arpa.map_err(refused)?, sentences.iter().filter(|sentence| !sentence.trim().is_empty()).count()))
}
