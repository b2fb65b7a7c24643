//! As many parameters as published (hubert.md section 0), and as many as `reprise_spec::arithmetic` says of any network.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;
use reprise_model::hubert::Hubert;
use reprise_model::objective::Objective;
use reprise_spec::arithmetic;
use reprise_spec::network::{
    Encoder, FeatureKind, FeatureProjection, FrontEnd, FrontEndNorm, Hierarchy, Initialisation, LayerNormPlacement,
    LinearProjection, LogMelFrontEnd, Network, PositionalConvolution, RelativePositions, Sampling, SamplingForm, Stack,
    Subsampling, SubsamplingConvolution, UnitFrontEnd, WaveFrontEnd,
};
use reprise_spec::stage::PretrainTargets;
use reprise_spec::strategy::Quantiser;
use reprise_spec::training::{CosineHead, Head, LinearHead, PredictAt, Pretraining, ResolutionTargets};
use reprise_spec::values::{Clusters, Count, Fraction, Height};
use tch::Device;
use tch::nn::VarStore;

fn count(value: u64) -> Count {
    Count::try_from(value).unwrap()
}

fn counts(values: &[u64]) -> Vec<Count> {
    values.iter().copied().map(count).collect()
}

/// Numbers in all trainable parameters of `store`, none of which was registered twice.
fn numbers(store: &VarStore) -> u64 {
    let variables = store.variables();
    assert!(variables.keys().all(|name| !name.contains("__")), "a name was registered twice: {:?}", variables.keys());
    variables.values().filter(|parameter| parameter.requires_grad()).map(|parameter| parameter.numel() as u64).sum()
}

/// Without and with what predicts `targets`.
fn built(network: &Network, pretraining: &Pretraining, targets: &PretrainTargets) -> [u64; 2] {
    let store = VarStore::new(Device::Cpu);
    let _hubert = Hubert::new(&store.root(), network);
    let backbone = numbers(&store);
    let _objective = Objective::new(&store.root(), network, pretraining, targets).unwrap();
    [backbone, numbers(&store)]
}

fn units(sets: &[u64]) -> PretrainTargets {
    PretrainTargets::Units(sets.iter().map(|&clusters| Clusters::try_from(clusters).unwrap()).collect())
}

/// LARGE and X-LARGE but for their sizes.
fn pre_norm(width: u64, layers: u64) -> Network {
    Network {
        front_end: FrontEnd::Wave(WaveFrontEnd { norm: FrontEndNorm::Layer, ..WaveFrontEnd::default() }),
        encoder: Encoder {
            layers: count(layers),
            width: count(width),
            heads: count(16),
            feed_forward: count(4 * width),
            norm: LayerNormPlacement::Pre,
            ..Encoder::default()
        },
        ..Network::default()
    }
}

fn base(layers: u64) -> Network {
    Network { encoder: Encoder { layers: count(layers), ..Encoder::default() }, ..Network::default() }
}

/// From networks of one and of two layers, so that X-LARGE needs no 3.9 GB; parity/hidden_states.rs counts BASE and LARGE in full.
#[test]
fn published_sizes_have_their_published_parameters() {
    let large = |layers| pre_norm(1024, layers);
    let extra_large = |layers| pre_norm(1280, layers);
    type Sized<'a> = (&'a dyn Fn(u64) -> Network, u64, u64, [u64; 2]);
    let sizes: [Sized; 3] = [
        (&base, 12, 256, [94_371_712, 94_697_600]),
        (&large, 24, 768, [315_435_136, 316_609_408]),
        (&extra_large, 48, 1024, [962_493_824, 964_321_664]),
    ];
    for (network, layers, dimension, published) in sizes {
        let head = Head::Cosine(CosineHead { dimension: count(dimension), ..CosineHead::default() });
        let pretraining = Pretraining { head, ..Pretraining::default() };
        let [one, two] = [1, 2].map(|layers| built(&network(layers), &pretraining, &units(&[504])));
        assert_eq!([0, 1].map(|part| one[part] + (layers - 1) * (two[part] - one[part])), published);
    }
}

/// hubert.md section 0.
#[test]
fn positions_of_base_have_their_published_parameters() {
    let store = VarStore::new(Device::Cpu);
    let _hubert = Hubert::new(&store.root(), &base(1));
    let variables = store.variables();
    let positions = variables.iter().filter(|(name, _)| name.starts_with("encoder.pos_conv_embed."));
    assert_eq!(positions.map(|(_, parameter)| parameter.numel()).sum::<usize>(), 4_719_488);
}

fn wave_front_ends() -> impl Strategy<Value = FrontEnd> {
    let convolutions = prop::collection::vec((1..6u64, 1..4u64), 1..5);
    let norm = select(vec![FrontEndNorm::Group, FrontEndNorm::Layer]);
    (1..13u64, convolutions, norm, any::<bool>()).prop_map(|(channels, convolutions, norm, bias)| {
        let (kernels, strides): (Vec<u64>, Vec<u64>) = convolutions.into_iter().unzip();
        let (kernels, strides) = (counts(&kernels), counts(&strides));
        FrontEnd::Wave(WaveFrontEnd {
            channels: count(channels),
            kernels,
            strides,
            norm,
            bias,
            ..WaveFrontEnd::default()
        })
    })
}

fn front_ends() -> impl Strategy<Value = FrontEnd> {
    let log_mel = |bins, subsampling| FrontEnd::LogMel(LogMelFrontEnd { bins: count(bins), subsampling });
    let stack = (1..9u64, select(vec![2, 4]))
        .prop_map(move |(bins, frames)| log_mel(bins, Subsampling::Stack(Stack { frames: count(frames) })));
    let layers = select(vec![[1, 2], [2, 1], [2, 2], [4, 1]]);
    let convolved = (1..9u64, [0..4u64, 0..4u64], layers, 1..5u64, 1..9u64).prop_map(
        move |(bins, halves, strides, pairs, width)| {
            let kernels = counts(&halves.map(|half| 2 * half + 1));
            let (strides, channels, width) = (counts(&strides), count(2 * pairs), count(width));
            log_mel(bins, Subsampling::Convolution(SubsamplingConvolution { kernels, strides, channels, width }))
        },
    );
    let units = (2..20u64, 1..9u64).prop_map(|(clusters, dimension)| {
        let (clusters, fit) = (Clusters::try_from(clusters).unwrap(), Fraction::try_from(1.0).unwrap());
        FrontEnd::Units(UnitFrontEnd { of: FeatureKind::Mfcc, clusters, fit, dimension: count(dimension) })
    });
    prop_oneof![3 => wave_front_ends(), 1 => stack, 1 => convolved, 1 => units]
}

fn encoders() -> impl Strategy<Value = Encoder> {
    let norm = select(vec![LayerNormPlacement::Post, LayerNormPlacement::Pre]);
    let sizes = (1..4u64, 1..4u64, 1..7u64, 1..20u64);
    let initialisation = select(vec![Initialisation::Fairseq, Initialisation::HuggingFace]);
    (sizes, norm, initialisation, 1..10u64, any::<prop::sample::Index>()).prop_map(
        |((layers, heads, head_width, feed_forward), norm, initialisation, kernel, groups)| {
            let width = heads * head_width;
            let divisors: Vec<u64> = (1..=width).filter(|groups| width % groups == 0).collect();
            let positional = PositionalConvolution { kernel: count(kernel), groups: count(*groups.get(&divisors)) };
            let [layers, width, heads, feed_forward] = [layers, width, heads, feed_forward].map(count);
            Encoder { layers, width, heads, feed_forward, norm, positional, initialisation, ..Encoder::default() }
        },
    )
}

/// Blocks of one to three layers for one or two ratios.
fn hierarchies() -> impl Strategy<Value = Hierarchy> {
    let form = select(vec![SamplingForm::Residual, SamplingForm::Plain]);
    let ratios = prop::collection::vec(1..4u64, 1..3);
    (prop::collection::vec(1..4u64, 5), ratios, form, 0..3u64).prop_map(|(layers, ratios, form, half)| Hierarchy {
        layers: counts(&layers[..2 * ratios.len() + 1]),
        ratios: counts(&ratios),
        sampling: Sampling { form, kernel: count(2 * half + 1) },
    })
}

fn networks() -> impl Strategy<Value = Network> {
    let linear = select(vec![LinearProjection::WhereWidthsDiffer, LinearProjection::Always]);
    let buckets = prop::option::of(
        (1..5u64).prop_map(|pairs| RelativePositions { buckets: count(2 * pairs), max_distance: count(9) }),
    );
    let above = (encoders(), buckets, prop::option::of(hierarchies()));
    (front_ends(), any::<bool>(), linear, above).prop_map(
        |(front_end, layer_norm, linear, (mut encoder, relative_positions, hierarchy))| {
            encoder.relative_positions = relative_positions;
            if let Some(hierarchy) = &hierarchy {
                encoder.layers = count(hierarchy.layers.iter().map(|layers| u64::from(layers.get())).sum());
            }
            let projection = FeatureProjection { layer_norm, linear };
            Network { front_end, projection, encoder, hierarchy, ..Network::default() }
        },
    )
}

fn heads() -> impl Strategy<Value = Head> {
    let cosine = (1..9u64, 0..5u32, any::<bool>()).prop_map(|(dimension, extra_rows, tied)| {
        Head::Cosine(CosineHead { dimension: count(dimension), extra_rows, tied, ..CosineHead::default() })
    });
    let linear = (0..5u32).prop_map(|extra_rows| Head::Linear(LinearHead { extra_rows, ..LinearHead::default() }));
    prop_oneof![cosine, linear]
}

/// Where `network` can be asked, and how many sets for.
fn places(network: &Network, taps: BTreeSet<u64>, sets: &mut Vec<u64>) -> PredictAt {
    let depth = u64::from(network.encoder.layers.get());
    let layers: Vec<Height> =
        taps.iter().filter(|&&layer| layer <= depth).map(|&layer| Height::try_from(layer).unwrap()).collect();
    match &network.hierarchy {
        Some(_) if taps.is_empty() => PredictAt::Output,
        Some(hierarchy) if taps.contains(&1) => {
            sets.resize(hierarchy.ratios.len() + 1, 5);
            PredictAt::Resolutions(ResolutionTargets::Separate)
        }
        Some(_) => PredictAt::Resolutions(ResolutionTargets::Shared),
        None if layers.is_empty() => PredictAt::Output,
        None => PredictAt::Layers(layers),
    }
}

proptest! {
    #[test]
    fn arithmetic_tells_the_parameters_of_any_network(
        network in networks(),
        head in heads(),
        taps in prop::collection::btree_set(1..4u64, 0..3),
        mut sets in prop::collection::vec(2..30u64, 1..4),
    ) {
        let predict_at = places(&network, taps, &mut sets);
        let pretraining = Pretraining { head, predict_at, ..Pretraining::default() };
        let backbone = arithmetic::parameters(&network);
        let heads = arithmetic::head_parameters(&network, &pretraining.head, &pretraining.predict_at, &sets);
        prop_assert_eq!(built(&network, &pretraining, &units(&sets)), [backbone, backbone + heads]);
    }
    #[test]
    fn arithmetic_tells_the_parameters_of_any_quantiser(
        front_end in wave_front_ends(),
        encoder in encoders(),
        (groups, entries, part) in (1..4u64, 1..9u64, 1..5u64),
        dimension in 1..9u64,
    ) {
        let network = Network { front_end, encoder, ..Network::default() };
        let [groups, entries, vector] = [groups, entries, groups * part].map(count);
        let quantiser = Quantiser { groups, entries, dimension: vector, ..Quantiser::default() };
        let head = Head::Cosine(CosineHead { dimension: count(dimension), ..CosineHead::default() });
        let pretraining = Pretraining { head, ..Pretraining::default() };
        let backbone = arithmetic::parameters(&network);
        let above = arithmetic::quantiser_parameters(&network, &quantiser, dimension);
        prop_assert_eq!(built(&network, &pretraining, &PretrainTargets::Quantiser(quantiser)), [backbone, backbone + above]);
    }
}
