//! Learning rates as functions of the step.

use reprise_spec::training::{LinearSchedule, TriStage};

/// The rate of `step`, counted from 1, out of `steps`: linear to the peak at the last warm-up step, then linear to zero at the last step
/// (fairseq `polynomial_decay` with power 1).
///
/// Warm-up is `⌊warm_up · steps⌉` steps, none when that is 0.
pub fn linear(settings: &LinearSchedule, step: u64, steps: u64) -> f64 {
    let warm_up = (settings.warm_up.get() * steps as f64).round() as u64;
    let peak = settings.peak.get();
    if step < warm_up {
        peak * step as f64 / warm_up as f64
    } else {
        peak * steps.saturating_sub(step) as f64 / (steps - warm_up).max(1) as f64
    }
}

/// The rate of `step`, counted from 1, out of `steps`: linear from `start · peak` to the peak, a plateau, then exponential decay to
/// `end · peak` at the last step (wav2vec 2.0 section 4.3, fairseq `tri_stage`).
pub fn tri_stage(settings: &TriStage, step: u64, steps: u64) -> f64 {
    let (peak, start, end) = (settings.peak.get(), settings.start.get(), settings.end.get());
    let warm_up = (settings.warm_up.get() * steps as f64).round();
    let hold = (settings.hold.get() * steps as f64).round();
    let (step, decay) = (step as f64, steps as f64 - warm_up - hold);
    if step < warm_up {
        peak * (start + (1.0 - start) * step / warm_up)
    } else if step <= warm_up + hold || decay <= 0.0 {
        peak
    } else {
        peak * end.powf(((step - warm_up - hold) / decay).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} against {b}");
    }

    #[test]
    fn linear_meets_its_corners() {
        let settings = LinearSchedule::default(); // peak 5e-4, warm-up 8 %
        close(linear(&settings, 1, 400_000), 5e-4 / 32_000.0);
        close(linear(&settings, 32_000, 400_000), 5e-4);
        close(linear(&settings, 216_000, 400_000), 2.5e-4);
        close(linear(&settings, 400_000, 400_000), 0.0);
    }

    #[test]
    fn tri_stage_meets_its_corners() {
        let settings = TriStage::default(); // peak 5e-5, 0.1 / 0.4 / rest, from 0.01 to 0.05
        close(tri_stage(&settings, 1_000, 20_000), 5e-5 * 0.505);
        close(tri_stage(&settings, 2_000, 20_000), 5e-5);
        close(tri_stage(&settings, 10_000, 20_000), 5e-5);
        close(tri_stage(&settings, 15_000, 20_000), 5e-5 * 0.05f64.sqrt());
        close(tri_stage(&settings, 20_000, 20_000), 2.5e-6);
    }

    #[test]
    fn a_schedule_of_one_step_is_finite() {
        assert!(linear(&LinearSchedule::default(), 1, 1).is_finite());
        assert!(tri_stage(&TriStage::default(), 1, 1) > 0.0);
    }
}
