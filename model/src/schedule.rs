//! Learning rates as functions of the step.

use reprise_spec::finetuning::TriStage;
use reprise_spec::stage::Span;
use reprise_spec::training::LinearSchedule;

/// The rate of `step`, counted from 1, of a stage of `steps` that covers `span` of its schedule: [`linear`] over the span, and from where a
/// cool-down begins a line from there to zero at the last step.
pub fn spanned(settings: &LinearSchedule, span: &Span, step: u64, steps: u64) -> f64 {
    let scheduled = |step: u64| linear(settings, span.before + step, span.total);
    match span.cool_down_after {
        Some(last) if step > last => {
            scheduled(last) * steps.saturating_sub(step) as f64 / steps.saturating_sub(last).max(1) as f64
        }
        _ => scheduled(step),
    }
}

/// Steps out of `steps` that warm up.
pub fn warm_up(settings: &LinearSchedule, steps: u64) -> u64 {
    (settings.warm_up.get() * steps as f64).round() as u64
}

/// The rate of `step`, counted from 1, out of `steps`: linear to the peak at the last warm-up step, then linear to zero at the last step
/// (fairseq `polynomial_decay` with power 1).
///
/// Warm-up is `⌊warm_up · steps⌉` steps, none when that is 0.
pub fn linear(settings: &LinearSchedule, step: u64, steps: u64) -> f64 {
    let warm_up = warm_up(settings, steps);
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

    fn span(before: u64, total: u64, cool_down_after: Option<u64>) -> Span {
        Span { before, total, cool_down_after }
    }

    #[test]
    fn an_iteration_takes_its_stretch_of_a_global_schedule() {
        let settings = LinearSchedule::default();
        let iterations = [(0, 30), (30, 70)];
        let rates = iterations.iter().flat_map(|&(before, steps)| {
            let span = span(before, 100, None);
            (1..=steps).map(move |step| spanned(&LinearSchedule::default(), &span, step, steps))
        });
        let whole: Vec<f64> = (1..=100).map(|step| linear(&settings, step, 100)).collect();
        assert_eq!(rates.collect::<Vec<_>>(), whole);
    }

    #[test]
    fn a_cool_down_leaves_the_schedule_where_it_begins_and_ends_at_zero() {
        let settings = LinearSchedule::default();
        let (main, cooled) = (span(100, 1_000, None), span(100, 1_000, Some(50)));
        let rate = |span: &Span, step: u64| spanned(&settings, span, step, 60);
        for step in 1..=50 {
            assert_eq!(rate(&cooled, step), rate(&main, step));
        }
        let start = rate(&main, 50);
        close(rate(&cooled, 51), 0.9 * start);
        close(rate(&cooled, 55), 0.5 * start);
        assert_eq!(rate(&cooled, 60), 0.0);
        assert!(rate(&main, 60) > 0.9 * start);
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
