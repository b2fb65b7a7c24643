//! Models of fairseq, as `experiments/convert/fairseq_to_safetensors.py` leaves them: `.safetensors` with fairseq's names, and beside it a
//! `.json` of the same name with the settings. A fairseq checkpoint itself is a pickle, which may run code when it is read; nothing
//! here reads it.

use std::path::Path;

use reprise_spec::network::{FrontEnd, FrontEndNorm, LayerNormPlacement, Network, WaveFrontEnd};
use serde_json::{Value, json};

use super::keys::Keys;
use super::{Foreign, Place, Rows, architecture};
use crate::failure::StageError;

/// Symbols that every dictionary of fairseq starts with; the first is the CTC blank.
const SPECIAL: [&str; 4] = ["<s>", "<pad>", "</s>", "<unk>"];

/// Understands the tensors in `file` and the settings beside it.
pub fn open(file: &Path) -> Result<Foreign, StageError> {
    let keys = Keys::read(&file.with_extension("json"))?;
    let mut network = network(&keys.below("model")?)?;
    if let FrontEnd::Wave(wave) = &mut network.front_end {
        let normalize = keys.get("normalize").and_then(Value::as_bool);
        wave.normalise_waveform = normalize.ok_or_else(|| keys.wrong("normalize", "true or false"))?;
    }
    let rows = Rows {
        key: "dictionary",
        before: &SPECIAL,
        must: "the symbols of the dictionary that it was fine-tuned with, in order",
    };
    Foreign::beside(file, &keys, network, place, &rows)
}

/// Fields of `HubertConfig` and `Wav2Vec2Config`; what isn't there has fairseq's default.
fn network(keys: &Keys) -> Result<Network, StageError> {
    for (key, only) in [
        ("activation_fn", json!("gelu")),
        ("layer_type", json!("transformer")),
        ("pos_conv_depth", json!(1)),
        ("conv_pos_batch_norm", json!(false)),
        ("quantize_input", json!(false)),
        ("target_glu", json!(false)),
        ("adp_num", json!(-1)),
    ] {
        keys.only(key, &only)?;
    }
    let norm = [("default", FrontEndNorm::Group), ("layer_norm", FrontEndNorm::Layer)];
    let mut wave = WaveFrontEnd {
        norm: keys.one_of("extractor_mode", "default", &norm)?,
        bias: keys.flag("conv_bias", false)?,
        ..WaveFrontEnd::default()
    };
    architecture::convolutions(keys, "conv_feature_layers", &mut wave)?;
    wave.gradient_scale = keys.number("feature_grad_mult", 1.0, "a number of 0 or more")?;
    let mut network = Network { front_end: FrontEnd::Wave(wave), ..Network::default() };
    let encoder = &mut network.encoder;
    encoder.layers = keys.count("encoder_layers", Some(12))?;
    encoder.width = keys.count("encoder_embed_dim", Some(768))?;
    encoder.heads = keys.count("encoder_attention_heads", Some(12))?;
    encoder.feed_forward = keys.count("encoder_ffn_embed_dim", Some(3072))?;
    let pre = keys.flag("layer_norm_first", false)?;
    encoder.norm = if pre { LayerNormPlacement::Pre } else { LayerNormPlacement::Post };
    encoder.positional.kernel = keys.count("conv_pos", Some(128))?;
    encoder.positional.groups = keys.count("conv_pos_groups", Some(16))?;
    encoder.layer_drop = keys.fraction("encoder_layerdrop", 0.0)?;
    let dropout = &mut network.dropout;
    dropout.residual = keys.fraction("dropout", 0.1)?;
    dropout.attention = keys.fraction("attention_dropout", 0.1)?;
    dropout.activation = keys.fraction("activation_dropout", 0.0)?;
    dropout.input = keys.fraction("dropout_input", 0.0)?;
    architecture::check_encoder(keys, "encoder_attention_heads", "conv_pos_groups", &network)?;
    Ok(network)
}

/// hubert.md section 7.1.
fn place(theirs: &str) -> Place {
    let name = match theirs.strip_prefix("w2v_encoder.") {
        Some(inner) => match inner.strip_prefix("proj.") {
            Some(head) => return Place::Ours(format!("lm_head.{head}")),
            None => inner.strip_prefix("w2v_model.").unwrap_or(theirs),
        },
        None => theirs,
    };
    if name == "mask_emb" {
        return Place::Ours("masked_spec_embed".into());
    }
    for part in ["final_proj", "label_embs_concat", "quantizer.", "project_q."] {
        if name.starts_with(part) {
            return Place::LeftOut("the head of pretraining");
        }
    }
    let parts: Vec<&str> = name.split('.').collect();
    Place::encoder(&match parts[..] {
        ["feature_extractor", "conv_layers", layer, "0", end] => {
            format!("feature_extractor.conv_layers.{layer}.conv.{end}")
        }
        ["feature_extractor", "conv_layers", layer, "2", end]
        | ["feature_extractor", "conv_layers", layer, "2", "1", end] => {
            format!("feature_extractor.conv_layers.{layer}.layer_norm.{end}")
        }
        ["layer_norm", end] => format!("feature_projection.layer_norm.{end}"),
        ["post_extract_proj", end] => format!("feature_projection.projection.{end}"),
        ["encoder", "pos_conv", "0", ref rest @ ..] => format!("encoder.pos_conv_embed.conv.{}", rest.join(".")),
        ["encoder", "layers", layer, part, ref rest @ ..] => {
            let part = match part {
                "self_attn" => "attention",
                "self_attn_layer_norm" => "layer_norm",
                "fc1" => "feed_forward.intermediate_dense",
                "fc2" => "feed_forward.output_dense",
                other => other,
            };
            format!("encoder.layers.{layer}.{part}.{}", rest.join("."))
        }
        _ => name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_published_table() {
        for (theirs, ours) in [
            ("feature_extractor.conv_layers.3.0.weight", "feature_extractor.conv_layers.3.conv.weight"),
            ("feature_extractor.conv_layers.0.2.bias", "feature_extractor.conv_layers.0.layer_norm.bias"),
            ("feature_extractor.conv_layers.6.2.1.weight", "feature_extractor.conv_layers.6.layer_norm.weight"),
            ("layer_norm.weight", "feature_projection.layer_norm.weight"),
            ("post_extract_proj.bias", "feature_projection.projection.bias"),
            ("mask_emb", "masked_spec_embed"),
            ("encoder.pos_conv.0.weight_g", "encoder.pos_conv_embed.conv.weight_g"),
            ("encoder.layer_norm.bias", "encoder.layer_norm.bias"),
            ("encoder.layers.11.self_attn.out_proj.bias", "encoder.layers.11.attention.out_proj.bias"),
            ("encoder.layers.0.self_attn_layer_norm.bias", "encoder.layers.0.layer_norm.bias"),
            ("encoder.layers.0.fc1.weight", "encoder.layers.0.feed_forward.intermediate_dense.weight"),
            ("w2v_encoder.w2v_model.encoder.layers.0.fc2.bias", "encoder.layers.0.feed_forward.output_dense.bias"),
            ("w2v_encoder.w2v_model.encoder.layers.0.final_layer_norm.bias", "encoder.layers.0.final_layer_norm.bias"),
            ("w2v_encoder.proj.weight", "lm_head.weight"),
        ] {
            assert_eq!(place(theirs), Place::Ours(ours.into()));
        }
        assert!(matches!(place("label_embs_concat"), Place::LeftOut(_)));
        assert!(matches!(place("w2v_encoder.w2v_model.final_proj.weight"), Place::LeftOut(_)));
    }
}
