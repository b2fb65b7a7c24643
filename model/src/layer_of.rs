//! Which layer a parameter belongs to, for what treats layers apart.

use reprise_spec::network::{LayerNormPlacement, Network};

/// The layer of the parameter `name` of a network, counted as hidden states are: 0 is everything below the first block of the stack
/// (front-end, projection, mask embedding, positions), n the n-th block, in a hierarchy counted through all of its encoders in the order in
/// which they run.
///
/// What stands between two blocks (a change of rate, the input norm of a post-norm encoder) or behind one (a final norm), and what all
/// blocks of an encoder share (relative positions), belongs to the last block that it stands behind or serves.
pub fn layer_of(name: &str, network: &Network) -> u32 {
    let blocks = blocks(network);
    let mut below = 0;
    for (block, layers) in &blocks {
        if let Some(rest) = name.strip_prefix(block.as_str()).and_then(|rest| rest.strip_prefix('.')) {
            let input_norm = network.encoder.norm == LayerNormPlacement::Post && rest.starts_with("layer_norm.");
            let index = rest.strip_prefix("layers.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
            return match index {
                Some(index) => below + index + 1,
                None if input_norm || rest.starts_with("pos_conv_embed.") => below,
                None => below + layers,
            };
        }
        below += layers;
    }
    let behind = samplers(network).into_iter().find(|(sampler, _)| name.starts_with(sampler.as_str()));
    behind.map_or(0, |(_, block)| blocks[..=block].iter().map(|(_, layers)| layers).sum())
}

/// The encoders in the order in which they run, with their layers.
fn blocks(network: &Network) -> Vec<(String, u32)> {
    let Some(hierarchy) = &network.hierarchy else {
        return vec![("encoder".into(), network.encoder.layers.get())];
    };
    let rates = hierarchy.ratios.len();
    let name = |block: usize| match block {
        block if block < rates => format!("encoders.{block}"),
        block if block == rates => "middle_encoder".into(),
        block => format!("decoders.{}", block - rates - 1),
    };
    hierarchy.layers.iter().enumerate().map(|(block, layers)| (name(block), layers.get())).collect()
}

/// What changes the rate between the encoders of a hierarchy, with the index of the encoder that it stands behind.
fn samplers(network: &Network) -> Vec<(String, usize)> {
    let rates = network.hierarchy.as_ref().map_or(0, |hierarchy| hierarchy.ratios.len());
    let down = (0..rates).map(|rate| (format!("downsample_modules.{rate}."), rate));
    let up = (0..rates).map(|rate| (format!("upsample_modules.{rate}."), 2 * rates - 1 - rate));
    down.chain(up).collect()
}

#[cfg(test)]
mod tests {
    use reprise_spec::network::{Hierarchy, RelativePositions};
    use reprise_spec::values::Count;

    use super::*;

    fn count(value: u64) -> Count {
        Count::try_from(value).unwrap()
    }

    fn layers(network: &Network, names: &[&str]) -> Vec<u32> {
        names.iter().map(|name| layer_of(name, network)).collect()
    }

    #[test]
    fn an_encoder_s_parts_belong_to_the_layer_that_they_stand_behind() {
        let mut network = Network::default();
        network.encoder.relative_positions = Some(RelativePositions::default());
        let names = [
            "feature_extractor.conv_layers.0.conv.weight",
            "feature_projection.projection.bias",
            "masked_spec_embed",
            "encoder.pos_conv_embed.conv.bias",
            "encoder.layer_norm.weight",
            "encoder.layers.0.attention.k_proj.weight",
            "encoder.layers.11.final_layer_norm.bias",
            "encoder.rel_attn_embed.weight",
        ];
        assert_eq!(layers(&network, &names), [0, 0, 0, 0, 0, 1, 12, 12]);
        network.encoder.norm = LayerNormPlacement::Pre;
        assert_eq!(layers(&network, &names), [0, 0, 0, 0, 12, 1, 12, 12]);
    }

    #[test]
    fn layers_of_a_hierarchy_are_counted_through() {
        let names = [
            "encoders.0.pos_conv_embed.conv.bias",
            "encoders.0.layer_norm.bias",
            "encoders.0.layers.1.attention.k_proj.weight",
            "downsample_modules.0.upsample_conv.0.weight",
            "encoders.1.layers.0.attention.k_proj.weight",
            "middle_encoder.layer_norm.bias",
            "middle_encoder.layers.2.attention.k_proj.weight",
            "upsample_modules.1.upsample_conv.0.weight",
            "decoders.0.layers.0.attention.k_proj.weight",
            "upsample_modules.0.upsample_conv.0.weight",
            "decoders.1.layers.0.attention.k_proj.weight",
            "decoders.1.layer_norm.bias",
        ];
        let mut network = Network::default();
        let layers_of_blocks = [2, 1, 3, 1, 1].map(count).to_vec();
        let ratios = [2, 2].map(count).to_vec();
        network.hierarchy = Some(Hierarchy { layers: layers_of_blocks, ratios, ..Hierarchy::default() });
        assert_eq!(layers(&network, &names), [0, 0, 2, 2, 3, 3, 6, 6, 7, 7, 8, 7]);
        network.encoder.norm = LayerNormPlacement::Pre;
        assert_eq!(layers(&network, &names), [0, 2, 2, 2, 3, 6, 6, 6, 7, 7, 8, 8]);
    }
}
