//! What the configs of all programs say under different keys, and what of it the network here can be.

use reprise_spec::arithmetic::{FRAME_STRIDE, FRAME_WINDOW, conv_window};
use reprise_spec::network::{Network, WaveFrontEnd};
use reprise_spec::values::Count;
use serde_json::Value;

use super::keys::Keys;
use crate::failure::StageError;

/// Channels, kernels and strides of convolutions that are written as `[channels, kernel, stride]` each; the published ones where the
/// key isn't there.
pub fn convolutions(keys: &Keys, key: &str, wave: &mut WaveFrontEnd) -> Result<(), StageError> {
    let Some(value) = keys.get(key) else { return Ok(()) };
    let number = |value: &Value| value.as_u64().and_then(|value| Count::try_from(value).ok());
    let triple = |value: &Value| match value.as_array()?.as_slice() {
        [channels, kernel, stride] => Some((number(channels)?, number(kernel)?, number(stride)?)),
        _ => None,
    };
    let layers: Option<Vec<_>> = value.as_array().and_then(|layers| layers.iter().map(triple).collect());
    let layers = layers.ok_or_else(|| keys.wrong(key, "a list of [channels, kernel, stride]"))?;
    let channels = layers.iter().map(|layer| layer.0).collect::<Vec<_>>();
    wave.channels = same(&channels).ok_or_else(|| keys.wrong(key, "of as many channels everywhere"))?;
    wave.kernels = layers.iter().map(|layer| layer.1).collect();
    wave.strides = layers.iter().map(|layer| layer.2).collect();
    check_convolutions(keys, key, wave)
}

/// The one value of a list.
pub fn same(values: &[Count]) -> Option<Count> {
    values.iter().all(|value| value == &values[0]).then(|| values.first().copied()).flatten()
}

/// Refuses convolutions whose frames are not those that everything here counts in.
pub fn check_convolutions(keys: &Keys, key: &str, wave: &WaveFrontEnd) -> Result<(), StageError> {
    let numbers = |counts: &[Count]| counts.iter().map(|count| u64::from(count.get())).collect::<Vec<_>>();
    let (kernels, strides) = (numbers(&wave.kernels), numbers(&wave.strides));
    let stride = strides.iter().try_fold(1u64, |product, stride| product.checked_mul(*stride));
    let fits = kernels.len() == strides.len()
        && stride == Some(FRAME_STRIDE)
        && conv_window(&kernels, &strides) == FRAME_WINDOW;
    let must = format!(
        "such that with the strides a frame covers {FRAME_WINDOW} samples and the next starts {FRAME_STRIDE} later"
    );
    if fits { Ok(()) } else { Err(keys.wrong(key, must)) }
}

/// Refuses numbers that do not go together; the keys are those of heads and of groups of the positional convolution.
pub fn check_encoder(keys: &Keys, heads: &str, groups: &str, network: &Network) -> Result<(), StageError> {
    let width = network.encoder.width.get();
    for (key, parts) in [(heads, network.encoder.heads), (groups, network.encoder.positional.groups)] {
        if !width.is_multiple_of(parts.get()) {
            return Err(keys.wrong(key, format!("a divisor of the width {width}")));
        }
    }
    Ok(())
}
