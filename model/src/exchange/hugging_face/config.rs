//! `config.json` of `HubertConfig` and `Wav2Vec2Config`, to and from the network here.
//!
//! A key that isn't there has the default of its class. Keys that say nothing about what the encoder computes (masks in training, losses,
//! classifiers) are not read; those that ask for something that Reprise doesn't compute are refused.

use reprise_spec::network::{FrontEnd, FrontEndNorm, LayerNormPlacement, LinearProjection, Network, WaveFrontEnd};
use reprise_spec::stage::PretrainTargets;
use reprise_spec::strategy::Quantiser;
use reprise_spec::training::{CosineHead, Head, PredictAt};
use serde_json::{Map, Value, json};

use crate::exchange::keys::Keys;
use crate::exchange::{architecture, contrastive, symbols};
use crate::failure::StageError;
use crate::model_folder::{About, Family, Output};
use crate::vocabulary::Vocabulary;

/// Reads the network; whether the wave is normalised stands elsewhere.
pub fn read(keys: &Keys, family: Family) -> Result<Network, StageError> {
    for (key, only) in [
        ("hidden_act", json!("gelu")),
        ("feat_extract_activation", json!("gelu")),
        ("layer_norm_eps", json!(1e-5)),
        ("conv_pos_batch_norm", json!(false)),
        ("add_adapter", json!(false)),
    ] {
        keys.only(key, &only)?;
    }
    for (key, what) in [("adapter_attn_dim", "adapters"), ("quantization_config", "quantised weights")] {
        if keys.get(key).is_some() {
            return Err(keys.wrong(key, format!("null: {what} are not supported")));
        }
    }
    let defaults = WaveFrontEnd::default();
    let norm = [("group", FrontEndNorm::Group), ("layer", FrontEndNorm::Layer)];
    let channels = keys.counts("conv_dim", &[512; 7])?;
    let wave = WaveFrontEnd {
        channels: architecture::same(&channels).ok_or_else(|| keys.wrong("conv_dim", "as many channels everywhere"))?,
        kernels: keys.counts("conv_kernel", &[10, 3, 3, 3, 3, 2, 2])?,
        strides: keys.counts("conv_stride", &[5, 2, 2, 2, 2, 2, 2])?,
        norm: keys.one_of("feat_extract_norm", "group", &norm)?,
        bias: keys.flag("conv_bias", false)?,
        ..defaults
    };
    if channels.len() != wave.kernels.len() {
        return Err(keys.wrong("conv_dim", "as long as `conv_kernel`"));
    }
    architecture::check_convolutions(keys, "conv_kernel", &wave)?;
    let mut network = Network { front_end: FrontEnd::Wave(wave), ..Network::default() };
    network.projection.linear = LinearProjection::Always;
    network.projection.layer_norm = family == Family::Wav2vec2 || keys.flag("feat_proj_layer_norm", true)?;
    let encoder = &mut network.encoder;
    encoder.layers = keys.count("num_hidden_layers", Some(12))?;
    encoder.width = keys.count("hidden_size", Some(768))?;
    encoder.heads = keys.count("num_attention_heads", Some(12))?;
    encoder.feed_forward = keys.count("intermediate_size", Some(3072))?;
    let stable = keys.flag("do_stable_layer_norm", false)?;
    encoder.norm = if stable { LayerNormPlacement::Pre } else { LayerNormPlacement::Post };
    encoder.positional.kernel = keys.count("num_conv_pos_embeddings", Some(128))?;
    encoder.positional.groups = keys.count("num_conv_pos_embedding_groups", Some(16))?;
    encoder.layer_drop = keys.fraction("layerdrop", 0.1)?;
    let dropout = &mut network.dropout;
    dropout.residual = keys.fraction("hidden_dropout", 0.1)?;
    dropout.attention = keys.fraction("attention_dropout", 0.1)?;
    dropout.activation = keys.fraction("activation_dropout", 0.1)?;
    dropout.input = keys.fraction("feat_proj_dropout", 0.0)?;
    architecture::check_encoder(keys, "num_attention_heads", "num_conv_pos_embedding_groups", &network)?;
    Ok(network)
}

/// What stands above the encoder of a `Wav2Vec2ForPreTraining`. The config doesn't say how the temperature of the Gumbel softmax falls.
pub fn pretraining(keys: &Keys) -> Result<Output, StageError> {
    let quantiser = Quantiser {
        groups: keys.count("num_codevector_groups", Some(2))?,
        entries: keys.count("num_codevectors_per_group", Some(320))?,
        dimension: keys.count("codevector_dim", Some(256))?,
        dropout: keys.fraction("feat_quantizer_dropout", 0.0)?,
        negatives: keys.count("num_negatives", Some(100))?,
        diversity: keys.number("diversity_loss_weight", 0.1, "a number of 0 or more")?,
        ..Quantiser::default()
    };
    if !quantiser.dimension.get().is_multiple_of(quantiser.groups.get()) {
        return Err(keys.wrong("codevector_dim", "a multiple of `num_codevector_groups`"));
    }
    let head = CosineHead {
        dimension: keys.count("proj_codevector_dim", Some(256))?,
        temperature: keys.number("contrastive_logits_temperature", 0.1, "a number above 0")?,
        ..CosineHead::default()
    };
    let targets = PretrainTargets::Quantiser(quantiser);
    Ok(Output::Pretrained { targets, head: Head::Cosine(head), predict_at: PredictAt::Output })
}

/// The front-end of a network that `transformers` has.
///
/// # Errors
/// Refuses every other network and says what of it `transformers` doesn't have.
pub fn representable(about: &About) -> Result<&WaveFrontEnd, StageError> {
    let network = &about.network;
    let without = |what: &str| {
        Err(StageError::refused(
            format!("the models of transformers have no {what}"),
            "use the Reprise model folder itself: its tensors are in model.safetensors under the names of transformers",
        ))
    };
    if network.hierarchy.is_some() {
        return without("layers at several frame rates (`model.hierarchy`)");
    }
    if network.encoder.relative_positions.is_some() {
        return without("relative positions (`model.encoder.relative-positions`)");
    }
    if !network.projection.layer_norm && about.family == Family::Wav2vec2 {
        return without("Wav2Vec2 without a norm below the projection (`model.projection.layer-norm: false`)");
    }
    match &network.front_end {
        FrontEnd::Wave(wave) => Ok(wave),
        FrontEnd::LogMel(_) => without("log-mel front-end (`model.front-end: log-mel`)"),
        FrontEnd::Units(_) => without("units as input (`model.front-end: units`)"),
    }
}

/// `config.json` of a model. Masks in training are those of `transformers`, which no model folder keeps; none where there is no embedding
/// of masked frames.
pub fn write(about: &About, wave: &WaveFrontEnd, vocabulary: Option<&Vocabulary>) -> Value {
    let Network { encoder, dropout, projection, .. } = &about.network;
    let mut config = Map::from_iter(
        [
            ("architectures", json!([class(about)])),
            ("model_type", json!(family(about))),
            ("dtype", json!("float32")),
            ("conv_dim", json!(vec![wave.channels; wave.kernels.len()])),
            ("conv_kernel", json!(wave.kernels)),
            ("conv_stride", json!(wave.strides)),
            ("num_feat_extract_layers", json!(wave.kernels.len())),
            ("conv_bias", json!(wave.bias)),
            ("feat_extract_norm", json!(if wave.norm == FrontEndNorm::Group { "group" } else { "layer" })),
            ("feat_extract_activation", json!("gelu")),
            ("hidden_act", json!("gelu")),
            ("layer_norm_eps", json!(1e-5)),
            ("hidden_size", json!(encoder.width)),
            ("num_hidden_layers", json!(encoder.layers)),
            ("num_attention_heads", json!(encoder.heads)),
            ("intermediate_size", json!(encoder.feed_forward)),
            ("do_stable_layer_norm", json!(encoder.norm == LayerNormPlacement::Pre)),
            ("num_conv_pos_embeddings", json!(encoder.positional.kernel)),
            ("num_conv_pos_embedding_groups", json!(encoder.positional.groups)),
            ("layerdrop", json!(encoder.layer_drop)),
            ("hidden_dropout", json!(dropout.residual)),
            ("attention_dropout", json!(dropout.attention)),
            ("activation_dropout", json!(dropout.activation)),
            ("feat_proj_dropout", json!(dropout.input)),
            ("mask_time_prob", json!(if about.mask_embedding { 0.05 } else { 0.0 })),
            ("mask_feature_prob", json!(0.0)),
            ("pad_token_id", json!(0)),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    if about.family == Family::Hubert {
        config.insert("feat_proj_layer_norm".into(), json!(projection.layer_norm));
        config.insert("conv_pos_batch_norm".into(), json!(false));
    }
    if let Some((_, quantiser, head)) = contrastive(&about.network, &about.output) {
        config.extend(
            [
                ("num_codevector_groups", json!(quantiser.groups)),
                ("num_codevectors_per_group", json!(quantiser.entries)),
                ("codevector_dim", json!(quantiser.dimension)),
                ("feat_quantizer_dropout", json!(quantiser.dropout)),
                ("num_negatives", json!(quantiser.negatives)),
                ("diversity_loss_weight", json!(quantiser.diversity)),
                ("proj_codevector_dim", json!(head.dimension)),
                ("contrastive_logits_temperature", json!(head.temperature)),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
    }
    if let Some(vocabulary) = vocabulary {
        config.insert("vocab_size".into(), json!(vocabulary.size()));
        config.extend(symbols::roles(vocabulary).map(|(key, value)| (key.to_owned(), value)));
    }
    config.into()
}

/// The name of the family there, which also stands before the encoder's parameters.
pub fn family(about: &About) -> &'static str {
    Family::NAMES.iter().find(|(_, family)| *family == about.family).map_or("", |(name, _)| name)
}

/// The class that has such parameters.
pub fn class(about: &About) -> &'static str {
    let quantises = contrastive(&about.network, &about.output).is_some();
    match (about.family, &about.output) {
        (Family::Hubert, Output::Characters { .. }) => "HubertForCTC",
        (Family::Hubert, _) => "HubertModel",
        (Family::Wav2vec2, Output::Characters { .. }) => "Wav2Vec2ForCTC",
        (Family::Wav2vec2, _) if quantises => "Wav2Vec2ForPreTraining",
        (Family::Wav2vec2, _) => "Wav2Vec2Model",
    }
}
