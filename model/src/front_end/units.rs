//! Units instead of waves: every second 10-ms frame's nearest centroid, embedded.
//!
//! Shape suffixes: B utterances, S samples at 16 kHz, F feature frames of 10 ms, T frames of 20 ms, D feature dimensions, K units, C
//! embedding dimensions.
//! Source: DiscreteBERT (arXiv:1911.03912) as the row of HuBERT's table VII: the input is a sequence of k-means units, and a mask replaces
//! embeddings. Departs from it: units are found from the samples of a crop, where the published ones are found once from whole files. The
//! differences in MFCC repeat the outermost frames, so the units of the first and last four frames of 10 ms of a crop may be others than
//! those of the same frames within the utterance; log-mel units are the same everywhere.

use reprise_spec::network::UnitFrontEnd as Settings;
use reprise_spec::stage::UnitSource;
use tch::nn::{Init, Path};
use tch::{Kind, Tensor};

use crate::failure::StageError;
use crate::features::Extractor;
use crate::kmeans::Centroids;
use crate::labels::Codebook;
use crate::layers::parameter;

/// `codebook` (K × D), which belongs to the model and isn't trained, and the parameter `embeddings.weight` (K × C).
#[derive(Debug)]
pub struct UnitFrontEnd {
    settings: Settings,
    extractor: Extractor,
    codebook_kd: Tensor,
    embeddings_kc: Tensor,
}

impl UnitFrontEnd {
    /// Embeddings start from N(0, 0.02), as BERT's; the codebook is zero until [`UnitFrontEnd::adopt`] or a stored model gives it.
    pub fn new(path: &Path, settings: &Settings) -> Self {
        let extractor = Extractor::new(settings.of, path.device());
        let (units, width) = (i64::from(settings.clusters.get()), i64::from(settings.dimension.get()));
        let init = Init::Randn { mean: 0.0, stdev: 0.02 };
        Self {
            codebook_kd: path.zeros_no_train("codebook", &[units, extractor.dimensions() as i64]),
            embeddings_kc: parameter(&(path / "embeddings"), "weight", &[units, width], init),
            extractor,
            settings: settings.clone(),
        }
    }

    pub fn width(&self) -> i64 {
        self.embeddings_kc.size()[1]
    }

    /// Makes the centroids of `codebook` the model's own.
    ///
    /// # Errors
    /// Refuses a codebook of other features or another number of clusters than the settings say.
    pub fn adopt(&self, codebook: &Codebook) -> Result<(), StageError> {
        let expected = (UnitSource::Features(self.settings.of), self.settings.clusters.get());
        let found = (codebook.units.source, codebook.units.clusters);
        let centroids = codebook.centroids.tensor();
        if found != expected || centroids.size() != self.codebook_kd.size() {
            let (of, clusters) = found;
            return Err(StageError::Failed(format!(
                "the input units are {clusters} of {of}, the front-end reads {} of {}",
                expected.1, expected.0
            )));
        }
        tch::no_grad(|| self.codebook_kd.shallow_clone().f_copy_(centroids))?;
        Ok(())
    }

    /// B × S to B × T × C; `samples` are those of each row that aren't padding. Padded rows are read one by one, so that what is behind
    /// them enters no difference.
    pub fn forward(&self, wave_bs: &Tensor, samples: Option<&[u64]>) -> Tensor {
        let units_bt = tch::no_grad(|| self.units(wave_bs, samples));
        Tensor::embedding(&self.embeddings_kc, &units_bt, -1, false, false)
    }

    fn units(&self, wave_bs: &Tensor, samples: Option<&[u64]>) -> Tensor {
        let codebook = Centroids::new(&self.codebook_kd);
        let longest = wave_bs.size()[1];
        match samples {
            Some(samples) if samples.iter().any(|&samples| (samples as i64) < longest) => {
                let rows = samples.iter().enumerate().map(|(row, &samples)| {
                    self.row_units(&codebook, &wave_bs.narrow(0, row as i64, 1).narrow(1, 0, samples as i64))
                });
                let rows: Vec<Tensor> = rows.collect();
                let frames = rows.iter().map(|units_1t| units_1t.size()[1]).max().unwrap_or(0);
                let padded = rows.iter().map(|units_1t| units_1t.constant_pad_nd([0, frames - units_1t.size()[1]]));
                Tensor::cat(&padded.collect::<Vec<_>>(), 0)
            }
            _ => self.row_units(&codebook, wave_bs),
        }
    }

    /// The unit of every second feature frame of rows of equal length: B × T, `i64`.
    fn row_units(&self, codebook: &Centroids, wave_bs: &Tensor) -> Tensor {
        let features_bfd = self.extractor.forward(wave_bs);
        let features_btd = features_bfd.slice(1, 0, None::<i64>, 2);
        let (rows, frames, dimensions) = features_btd.size3().expect("features have three dimensions");
        let nearest = codebook.assign(&features_btd.reshape([-1, dimensions])).nearest;
        nearest.to_kind(Kind::Int64).view([rows, frames])
    }

    /// What pretraining moves.
    pub fn parameters(&self) -> Vec<&Tensor> {
        vec![&self.embeddings_kc]
    }
}

#[cfg(test)]
mod tests {
    use reprise_spec::arithmetic::frames;
    use reprise_spec::network::FeatureKind;
    use reprise_spec::values::{Clusters, Count, Fraction};
    use tch::Device;
    use tch::nn::VarStore;

    use super::*;
    use crate::labels::Units;

    fn settings() -> Settings {
        Settings {
            of: FeatureKind::Mfcc,
            clusters: Clusters::try_from(5).unwrap(),
            fit: Fraction::try_from(1.0).unwrap(),
            dimension: Count::try_from(3).unwrap(),
        }
    }

    fn codebook(source: FeatureKind, centroids: &Tensor) -> Codebook {
        let units = Units {
            clusters: centroids.size()[0] as u32,
            rate: 100,
            source: UnitSource::Features(source),
            fit_on: Vec::new(),
        };
        Codebook { units, centroids: Centroids::new(centroids) }
    }

    #[test]
    fn every_second_frame_s_unit_is_embedded_and_padding_changes_none() {
        tch::manual_seed(4);
        let store = VarStore::new(Device::Cpu);
        let front_end = UnitFrontEnd::new(&store.root(), &settings());
        let wave_bs = Tensor::randn([2, 9_001], (Kind::Float, Device::Cpu)) * 0.1;
        let features = front_end.extractor.forward(&wave_bs.narrow(0, 0, 1).narrow(1, 0, 7_003)).squeeze_dim(0);
        let codebook = codebook(FeatureKind::Mfcc, &features.narrow(0, 7, 5));
        front_end.adopt(&codebook).unwrap();
        let labels: Vec<i64> = codebook.assign(&features).into_iter().step_by(2).map(i64::from).collect();
        assert_eq!(labels.len() as u64, frames(7_003));
        assert!(labels.iter().any(|label| *label != labels[0]));
        let rows_btc = front_end.forward(&wave_bs, Some(&[7_003, 9_001]));
        assert_eq!(rows_btc.size(), [2, frames(9_001) as i64, 3]);
        let expected = front_end.embeddings_kc.index_select(0, &Tensor::from_slice(&labels));
        assert!(rows_btc.get(0).narrow(0, 0, labels.len() as i64).equal(&expected));
        assert!(front_end.forward(&wave_bs, None).get(1).equal(&rows_btc.get(1)));
    }

    #[test]
    fn the_codebook_is_stored_but_not_trained() {
        let store = VarStore::new(Device::Cpu);
        let front_end = UnitFrontEnd::new(&(store.root() / "feature_extractor"), &settings());
        let codebook = codebook(FeatureKind::Mfcc, &Tensor::ones([5, 39], (Kind::Float, Device::Cpu)));
        front_end.adopt(&codebook).unwrap();
        let variables = store.variables();
        let stored = &variables["feature_extractor.codebook"];
        assert!(stored.equal(codebook.centroids.tensor()) && !stored.requires_grad());
        assert!(variables["feature_extractor.embeddings.weight"].requires_grad());
        assert_eq!(variables.len(), 2);
    }

    #[test]
    fn a_codebook_of_other_features_is_refused() {
        let store = VarStore::new(Device::Cpu);
        let front_end = UnitFrontEnd::new(&store.root(), &settings());
        let zeros = |units, dimensions| Tensor::zeros([units, dimensions], (Kind::Float, Device::Cpu));
        let error = front_end.adopt(&codebook(FeatureKind::LogMel, &zeros(5, 80))).unwrap_err();
        insta::assert_snapshot!(error, @"the input units are 5 of log-mel, the front-end reads 5 of mfcc");
        assert!(front_end.adopt(&codebook(FeatureKind::Mfcc, &zeros(6, 39))).is_err());
    }
}
