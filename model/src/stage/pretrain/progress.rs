//! How far training is, and what the metric log is told of it.

use reprise_spec::arithmetic::SAMPLE_RATE;
use serde::{Deserialize, Serialize};

use super::Work;
use super::validation::Validation;
use crate::failure::StageError;
use crate::guards::Watch;

/// Steps that one point of the metric log averages over.
const LOG_EVERY: u64 = 10;

/// What a checkpoint knows beside parameters and moments. It is a function of the steps so far alone, whatever step the stage ends at.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Steps of this iteration.
    pub step: u64,
    /// Samples trained on in this iteration, repetitions counted.
    pub samples: u64,
    pub window: Window,
    /// Those that were due, not the one at a stage's end.
    pub validations: Vec<Validation>,
    pub watch: Watch,
}

/// Sums since the last point of the metric log, over the steps that moved something.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Window {
    pub steps: u64,
    pub loss: f64,
    pub correct: u64,
    pub masked: u64,
    pub frames: u64,
    pub penalty: f64,
    pub gradient_norm: f64,
    pub codebooks: Option<Codebooks>,
}

/// Sums since the last point of the metric log over the codebooks of a quantiser, and the last temperature.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Codebooks {
    pub perplexity: f64,
    pub code_perplexity: f64,
    pub temperature: f64,
}

impl Progress {
    /// Seconds of audio trained on so far.
    pub fn audio_seconds(&self) -> f64 {
        self.samples as f64 / f64::from(SAMPLE_RATE)
    }

    /// Shows progress and, every few steps and at the last of `steps`, writes a point of the metric log. The window goes on after a last
    /// step that is not one of these, so that a stage of more steps has the same points.
    pub fn log(&mut self, rate: f64, epoch: u64, steps: u64, work: &mut Work) -> Result<(), StageError> {
        let window = &self.window;
        let note = format!("loss {:.3}, masked accuracy {:.1} %", window.mean_loss(), 100.0 * window.accuracy());
        work.report.progress(self.step, steps, "steps", &note);
        let due = self.step.is_multiple_of(LOG_EVERY);
        if due || self.step == steps {
            let mut points = window.points();
            points.push(("learning-rate", rate));
            points.push(("epoch", epoch as f64));
            points.push(("audio-seconds", self.audio_seconds()));
            for (name, value) in points {
                work.report.metric(name, self.step, value)?;
            }
        }
        if due {
            self.window = Window::default();
        }
        Ok(())
    }
}

impl Window {
    /// Nats a masked frame.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.masked.max(1) as f64
    }

    fn accuracy(&self) -> f64 {
        self.correct as f64 / self.masked.max(1) as f64
    }

    fn points(&self) -> Vec<(&'static str, f64)> {
        if self.steps == 0 {
            return Vec::new();
        }
        let count = self.steps as f64;
        let mut points = vec![
            ("loss", self.mean_loss()),
            ("masked-accuracy", self.accuracy()),
            ("mask-fraction", self.masked as f64 / self.frames.max(1) as f64),
            ("penalty", self.penalty / count),
            ("gradient-norm", self.gradient_norm / count),
        ];
        if let Some(codebooks) = &self.codebooks {
            points.push(("probability-perplexity", codebooks.perplexity / count));
            points.push(("code-perplexity", codebooks.code_perplexity / count));
            points.push(("temperature", codebooks.temperature));
        }
        points
    }
}
