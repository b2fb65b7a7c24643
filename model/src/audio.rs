//! Audio files to waves: FLAC and WAV to mono `f32` at 16 kHz, with whole numbers of 16 bits divided by 32768.
//!
//! Decoding is symphonia's and resampling is rubato's. Files come from strangers, so every way to be broken has a name.

use std::io::{Cursor, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use reprise_spec::arithmetic::SAMPLE_RATE;
use reprise_spec::corpus::Conversion;
use rubato::{FftFixedIn, Resampler};
use symphonia::core::audio::SampleBuffer;
use symphonia::core::codecs::{CodecParameters, Decoder, DecoderOptions};
use symphonia::core::errors::Error as Broken;
use symphonia::core::formats::{FormatOptions, FormatReader};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::default::codecs::{FlacDecoder, PcmDecoder};
use symphonia::default::formats::{FlacReader, WavReader};

/// Sample rates that conversion accepts; speech has none outside.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=384_000;
/// Samples that the resampler takes at a time; more make its filter steeper.
const CHUNK: usize = 4096;

/// Why a file gives no wave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AudioError {
    #[error("the file is empty")]
    Empty,
    #[error("neither FLAC nor WAV")]
    UnknownFormat,
    #[error("damaged: {0}")]
    Damaged(String),
    #[error("truncated: {found} of {expected} samples are there")]
    Truncated { expected: u64, found: u64 },
    #[error("damaged: the samples do not have the checksum that the file states")]
    Checksum,
    #[error("no samples")]
    Silent,
    #[error("a sample is not a finite number")]
    NotFinite,
    #[error("{rate} Hz and {channels} channel{}, not 16000 Hz mono, and `corpus.conversion` is `refuse`", if *.channels == 1 { "" } else { "s" })]
    OtherLayout { rate: u32, channels: usize },
    #[error("a sample rate of {0} Hz is not between 1000 and 384000")]
    AbsurdRate(u32),
}

/// Decodes a whole file to 16 kHz mono.
///
/// With [`Conversion::Allow`], channels are averaged and other rates are resampled to ⌈n · 16000 / rate⌉ samples.
pub fn decode(bytes: Vec<u8>, conversion: Conversion) -> Result<Vec<f32>, AudioError> {
    // The decoder's own assertions end in panics on some damaged files; such a file is damaged, whatever the reason.
    let decoded = catch_unwind(AssertUnwindSafe(|| read(bytes, conversion)));
    let (wave, rate) = decoded.unwrap_or_else(|_| Err(AudioError::Damaged("the decoder gave up".into())))?;
    if wave.is_empty() {
        return Err(AudioError::Silent);
    }
    if !wave.iter().all(|sample| sample.is_finite()) {
        return Err(AudioError::NotFinite);
    }
    if rate == SAMPLE_RATE { Ok(wave) } else { resample(&wave, rate) }
}

/// The mean of the channels at the file's own rate.
fn read(bytes: Vec<u8>, conversion: Conversion) -> Result<(Vec<f32>, u32), AudioError> {
    let (mut format, mut decoder) = open(bytes)?;
    let params = decoder.codec_params().clone();
    let (rate, channels) = layout(&params)?;
    if conversion == Conversion::Refuse && (rate, channels) != (SAMPLE_RATE, 1) {
        return Err(AudioError::OtherLayout { rate, channels });
    }
    if !RATES.contains(&rate) {
        return Err(AudioError::AbsurdRate(rate));
    }
    let mut wave = Vec::new();
    loop {
        let packet = match format.next_packet() {
            Ok(packet) => packet,
            Err(Broken::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(damaged(error)),
        };
        let decoded = decoder.decode(&packet).map_err(damaged)?;
        let mut samples = SampleBuffer::<f32>::new(decoded.capacity() as u64, *decoded.spec());
        samples.copy_interleaved_ref(decoded);
        wave.extend(samples.samples().chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32));
    }
    let found = wave.len() as u64;
    match params.n_frames {
        Some(expected) if found < expected => Err(AudioError::Truncated { expected, found }),
        Some(expected) if found > expected => {
            Err(AudioError::Damaged(format!("{found} samples instead of {expected}")))
        }
        _ if decoder.finalize().verify_ok == Some(false) => Err(AudioError::Checksum),
        _ => Ok((wave, rate)),
    }
}

type Opened = (Box<dyn FormatReader>, Box<dyn Decoder>);

fn open(bytes: Vec<u8>) -> Result<Opened, AudioError> {
    let flac = bytes.starts_with(b"fLaC");
    let wav = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE");
    match (bytes.is_empty(), flac || wav) {
        (true, _) => return Err(AudioError::Empty),
        (_, false) => return Err(AudioError::UnknownFormat),
        _ => {}
    }
    let stream = MediaSourceStream::new(Box::new(Cursor::new(bytes)), MediaSourceStreamOptions::default());
    let format: Box<dyn FormatReader> = if flac {
        Box::new(FlacReader::try_new(stream, &FormatOptions::default()).map_err(damaged)?)
    } else {
        Box::new(WavReader::try_new(stream, &FormatOptions::default()).map_err(damaged)?)
    };
    let track = format.default_track().ok_or_else(|| AudioError::Damaged("no audio in it".into()))?;
    let verify = DecoderOptions { verify: true };
    let decoder: Box<dyn Decoder> = if flac {
        Box::new(FlacDecoder::try_new(&track.codec_params, &verify).map_err(damaged)?)
    } else {
        Box::new(PcmDecoder::try_new(&track.codec_params, &verify).map_err(damaged)?)
    };
    Ok((format, decoder))
}

fn layout(params: &CodecParameters) -> Result<(u32, usize), AudioError> {
    match (params.sample_rate, params.channels.map(|channels| channels.count())) {
        (Some(rate), Some(channels)) if channels > 0 => Ok((rate, channels)),
        _ => Err(AudioError::Damaged("its header states no rate or no channels".into())),
    }
}

fn damaged(error: Broken) -> AudioError {
    AudioError::Damaged(match error {
        Broken::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => "it ends within its header".into(),
        error => error.to_string(),
    })
}

/// Resamples to 16 kHz by a windowed-sinc filter applied in the Fourier domain, in step with the input (the filter's delay is taken off).
fn resample(wave: &[f32], rate: u32) -> Result<Vec<f32>, AudioError> {
    let fail = |error: String| AudioError::Damaged(format!("cannot resample: {error}"));
    let length = (wave.len() as u64 * u64::from(SAMPLE_RATE)).div_ceil(u64::from(rate)) as usize;
    let mut resampler = FftFixedIn::<f32>::new(rate as usize, SAMPLE_RATE as usize, CHUNK, 1, 1)
        .map_err(|error| fail(error.to_string()))?;
    let delay = resampler.output_delay();
    let mut output = Vec::with_capacity(length + delay);
    let mut rest = wave;
    while output.len() < delay + length {
        let (now, later) = rest.split_at(rest.len().min(resampler.input_frames_next()));
        rest = later;
        let part = resampler.process_partial((!now.is_empty()).then_some(&[now]), None);
        output.extend_from_slice(&part.map_err(|error| fail(error.to_string()))?[0]);
    }
    output.truncate(delay + length);
    Ok(output.split_off(delay))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A WAV file of 16-bit samples, channels interleaved.
    pub(crate) fn wav(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
        let data: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
        let mut bytes = b"RIFF".to_vec();
        bytes.extend((36 + data.len() as u32).to_le_bytes());
        bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0");
        bytes.extend(channels.to_le_bytes());
        bytes.extend(rate.to_le_bytes());
        bytes.extend((rate * u32::from(channels) * 2).to_le_bytes());
        bytes.extend((channels * 2).to_le_bytes());
        bytes.extend(b"\x10\0data");
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes
    }

    /// 0.3 s of a rising tone, 16 kHz mono, 16 bits, with its checksum; made by `tests/fixtures/generate/features.py`.
    pub(crate) const FLAC: &[u8] = include_bytes!("../../tests/fixtures/audio/chirp.flac");
    const CHIRP: &[u8] = include_bytes!("../../tests/fixtures/audio/chirp.pcm");

    fn chirp() -> Vec<f32> {
        CHIRP.chunks_exact(2).map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0).collect()
    }

    fn sine(rate: u32, hz: f64, seconds: f64) -> Vec<f32> {
        let count = (f64::from(rate) * seconds) as usize;
        (0..count).map(|n| (0.5 * (std::f64::consts::TAU * hz * n as f64 / f64::from(rate)).sin()) as f32).collect()
    }

    #[test]
    fn flac_and_wav_give_the_samples_that_went_in() {
        assert_eq!(decode(FLAC.to_vec(), Conversion::Refuse), Ok(chirp()));
        let shorts: Vec<i16> = (i16::MIN..=i16::MAX).step_by(7).collect();
        let wave: Vec<f32> = shorts.iter().map(|&s| f32::from(s) / 32768.0).collect();
        assert_eq!(decode(wav(16_000, 1, &shorts), Conversion::Refuse), Ok(wave));
    }

    #[test]
    fn every_way_to_be_broken_has_a_name() {
        let whole = wav(16_000, 1, &[1; 1000]);
        let cut = |bytes: &[u8], keep: usize| decode(bytes[..keep].to_vec(), Conversion::Refuse).unwrap_err();
        assert_eq!(cut(&whole, 0), AudioError::Empty);
        assert_eq!(cut(b"ID3 or a text", 10), AudioError::UnknownFormat);
        assert_eq!(cut(&whole, whole.len() / 2), AudioError::Truncated { expected: 1000, found: 489 });
        assert_eq!(cut(&whole, 30), AudioError::Damaged("it ends within its header".into()));
        assert_eq!(decode(wav(16_000, 1, &[]), Conversion::Refuse), Err(AudioError::Silent));
        let mut lying = whole.clone();
        lying[4..8].copy_from_slice(&0xFFFF_FFF0u32.to_le_bytes());
        lying[40..44].copy_from_slice(&0xFFFF_FF00u32.to_le_bytes());
        assert_eq!(
            decode(lying, Conversion::Refuse),
            Err(AudioError::Truncated { expected: 0x7FFF_FF80, found: 1000 })
        );
        let truncated = cut(FLAC, FLAC.len() - 200);
        assert!(matches!(truncated, AudioError::Truncated { expected: 4800, .. }), "{truncated}");
        let mut other = FLAC.to_vec();
        other[26] ^= 1;
        assert_eq!(decode(other, Conversion::Refuse), Err(AudioError::Checksum));
    }

    #[test]
    fn another_layout_is_refused_unless_conversion_is_allowed() {
        let stereo = wav(16_000, 2, &[100, 300, -100, -300]);
        let error = decode(stereo.clone(), Conversion::Refuse).unwrap_err();
        insta::assert_snapshot!(error, @"16000 Hz and 2 channels, not 16000 Hz mono, and `corpus.conversion` is `refuse`");
        assert_eq!(decode(stereo, Conversion::Allow), Ok(vec![200.0 / 32768.0, -200.0 / 32768.0]));
        let slow = decode(wav(8_000, 1, &[0; 80]), Conversion::Refuse).unwrap_err();
        insta::assert_snapshot!(slow, @"8000 Hz and 1 channel, not 16000 Hz mono, and `corpus.conversion` is `refuse`");
        assert_eq!(decode(wav(8_000, 1, &[0; 81]), Conversion::Allow).map(|wave| wave.len()), Ok(162));
        assert_eq!(decode(wav(7, 1, &[0; 80]), Conversion::Allow), Err(AudioError::AbsurdRate(7)));
    }

    #[test]
    fn a_resampled_sine_is_the_sine_at_16_khz() {
        for rate in [8_000, 11_025, 22_050, 32_000, 44_100, 48_000] {
            let wave = resample(&sine(rate, 440.0, 1.0), rate).unwrap();
            let wanted = sine(SAMPLE_RATE, 440.0, 1.0);
            assert_eq!(wave.len(), wanted.len());
            let inner = 400..wave.len() - 400;
            let worst = wave[inner.clone()].iter().zip(&wanted[inner]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-4, "{rate} Hz: {worst}");
        }
    }

    #[test]
    fn what_16_khz_cannot_hold_is_filtered_away() {
        let wave = resample(&sine(48_000, 11_000.0, 1.0), 48_000).unwrap();
        assert!(wave[400..15_600].iter().all(|sample| sample.abs() < 1e-3));
    }

    proptest! {
        #[test]
        fn resampling_gives_the_length_that_was_promised(count in 1usize..3000, rate in 4_000u32..50_000) {
            let length = (count as u64 * 16_000).div_ceil(u64::from(rate)) as usize;
            prop_assert_eq!(resample(&vec![0.25; count], rate).map(|wave| wave.len()), Ok(length));
        }

        #[test]
        fn no_bytes_make_decoding_panic(
            changes in prop::collection::vec((0usize..2000, any::<u8>()), 0..6), keep in 0usize..4000, flac: bool,
        ) {
            let mut bytes = if flac { FLAC.to_vec() } else { wav(16_000, 1, &[7; 400]) };
            for (at, byte) in changes {
                let length = bytes.len();
                bytes[at % length] = byte;
            }
            bytes.truncate(keep.max(1));
            let _ = decode(bytes, Conversion::Allow);
        }
    }
}
