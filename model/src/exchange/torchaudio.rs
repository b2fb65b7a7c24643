//! Models of `torchaudio.models`: a state dict as `.safetensors`, and beside it a `.json` of the same name with the arguments that
//! `torchaudio.models.wav2vec2_model` was given, for a state dict doesn't tell heads, strides or where a block normalises.
//!
//! ```python
//! bundle = torchaudio.pipelines.HUBERT_BASE                      # or a model and its arguments
//! safetensors.torch.save_file(bundle.get_model().state_dict(), "m.safetensors")
//! json.dump({"model_type": "hubert", **bundle._params, "normalize_waveform": bundle._normalize_waveform}, open("m.json", "w"))
//! ```
//!
//! Beside torchaudio's own, three keys are read: `model_type` (`hubert` or `wav2vec2`), `normalize_waveform`, and `labels`, the symbols of
//! the `aux` head, the CTC blank first.

use std::path::Path;

use reprise_spec::network::{FrontEnd, FrontEndNorm, LayerNormPlacement, LinearProjection, Network, WaveFrontEnd};

use super::keys::Keys;
use super::{Foreign, Place, Rows, architecture};
use crate::failure::StageError;

/// Understands the state dict `file` and the arguments beside it.
pub fn open(file: &Path) -> Result<Foreign, StageError> {
    let keys = Keys::read(&file.with_extension("json"))?;
    let network = network(&keys)?;
    let rows = Rows { key: "labels", before: &[], must: "the symbols of the `aux` head, the CTC blank first" };
    Foreign::beside(file, &keys, network, place, &rows)
}

/// Arguments of `wav2vec2_model`.
fn network(keys: &Keys) -> Result<Network, StageError> {
    let norm = [("group_norm", FrontEndNorm::Group), ("layer_norm", FrontEndNorm::Layer)];
    let mut wave = WaveFrontEnd {
        norm: keys.one_of("extractor_mode", "", &norm)?,
        bias: keys.flag("extractor_conv_bias", false)?,
        normalise_waveform: keys.flag("normalize_waveform", false)?,
        ..WaveFrontEnd::default()
    };
    architecture::convolutions(keys, "extractor_conv_layer_config", &mut wave)?;
    let mut network = Network { front_end: FrontEnd::Wave(wave), ..Network::default() };
    network.projection.linear = LinearProjection::Always;
    let encoder = &mut network.encoder;
    encoder.layers = keys.count("encoder_num_layers", None)?;
    encoder.width = keys.count("encoder_embed_dim", None)?;
    encoder.heads = keys.count("encoder_num_heads", None)?;
    encoder.feed_forward = keys.count("encoder_ff_interm_features", None)?;
    let first = keys.get("encoder_layer_norm_first").and_then(|value| value.as_bool());
    encoder.norm = match first.ok_or_else(|| keys.wrong("encoder_layer_norm_first", "true or false"))? {
        true => LayerNormPlacement::Pre,
        false => LayerNormPlacement::Post,
    };
    encoder.positional.kernel = keys.count("encoder_pos_conv_kernel", None)?;
    encoder.positional.groups = keys.count("encoder_pos_conv_groups", None)?;
    encoder.layer_drop = keys.fraction("encoder_layer_drop", encoder.layer_drop.get())?;
    let dropout = &mut network.dropout;
    dropout.residual = keys.fraction("encoder_dropout", dropout.residual.get())?;
    dropout.attention = keys.fraction("encoder_attention_dropout", dropout.attention.get())?;
    dropout.activation = keys.fraction("encoder_ff_interm_dropout", dropout.activation.get())?;
    dropout.input = keys.fraction("encoder_projection_dropout", dropout.input.get())?;
    architecture::check_encoder(keys, "encoder_num_heads", "encoder_pos_conv_groups", &network)?;
    Ok(network)
}

/// hubert.md section 7.1; `model.` stands before everything in bundles that normalise the wave.
fn place(theirs: &str) -> Place {
    let name = theirs.strip_prefix("model.").unwrap_or(theirs);
    let name = name.strip_prefix("wav2vec2.").unwrap_or(name);
    if let Some(head) = name.strip_prefix("aux.") {
        return Place::Ours(format!("lm_head.{head}"));
    }
    if name == "mask_generator.mask_embedding" {
        return Place::Ours("masked_spec_embed".into());
    }
    if name.starts_with("logit_generator.") {
        return Place::LeftOut("the head of pretraining");
    }
    if let Some(projection) = name.strip_prefix("encoder.feature_projection.") {
        return Place::Ours(format!("feature_projection.{projection}"));
    }
    match name.strip_prefix("encoder.transformer.") {
        Some(inner) => Place::encoder(&format!("encoder.{inner}")),
        None => Place::encoder(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_without_what_stands_around_them() {
        for (theirs, ours) in [
            (
                "wav2vec2.encoder.transformer.layers.0.attention.k_proj.weight",
                "encoder.layers.0.attention.k_proj.weight",
            ),
            (
                "model.encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original0",
                "encoder.pos_conv_embed.conv.weight_g",
            ),
            ("encoder.transformer.layer_norm.bias", "encoder.layer_norm.bias"),
            ("encoder.feature_projection.projection.bias", "feature_projection.projection.bias"),
            ("feature_extractor.conv_layers.0.conv.weight", "feature_extractor.conv_layers.0.conv.weight"),
            ("aux.weight", "lm_head.weight"),
        ] {
            assert_eq!(place(theirs), Place::Ours(ours.into()));
        }
        assert!(matches!(place("logit_generator.label_embeddings"), Place::LeftOut(_)));
    }
}
