//! What the strategies of an experiment expand to, as people read it.

use reprise_spec::evaluation::Point;
use reprise_spec::experiment::{Experiment, Setting, Variant};
use reprise_spec::strategy::{
    CarriedHead, CarriedOptimiser, CarriedWeights, Carry, Horizon, Iteration, Origin, Targets, UnitTargets,
};

use super::print;

/// What was assumed, the iterations of every variant, and where it is judged and analysed. What all variants assume is said once.
pub fn shown(experiment: &Experiment) -> String {
    let variants = &experiment.variants;
    let by_all = |assumed: &&String| variants.iter().all(|variant| variant.reconstruction.contains(assumed));
    let first = variants.first().filter(|_| variants.len() > 1);
    let common: Vec<&String> = first.map_or(Vec::new(), |first| first.reconstruction.iter().filter(by_all).collect());
    let told = common.iter().map(|assumed| format!("reconstruction: {assumed}")).collect::<Vec<_>>().join("\n");
    let parts = [told].into_iter().filter(|told| !told.is_empty());
    parts.chain(variants.iter().map(|variant| shown_variant(variant, &common))).collect::<Vec<_>>().join("\n\n")
}

fn shown_variant(variant: &Variant, common: &[&String]) -> String {
    let Variant { name, aliases, strategy, reconstruction, setting } = variant;
    let names: Vec<&str> =
        [name].into_iter().chain(aliases).map(String::as_str).filter(|name| !name.is_empty()).collect();
    let named = if names.is_empty() { String::new() } else { format!("{}: ", names.join(" = ")) };
    let mut parts = vec![format!("{named}{strategy}  variant:{}", setting.hash().short())];
    let own = reconstruction.iter().filter(|assumed| !common.contains(assumed));
    parts.extend(own.map(|assumed| format!("reconstruction: {assumed}")));
    match setting.iterations.is_empty() {
        true => parts.push("no pretraining".into()),
        false => parts.push(iterations(setting)),
    }
    let steps =
        |points: Vec<Point>| -> Vec<String> { points.iter().map(|point| point.cumulative.to_string()).collect() };
    let steps_judged = steps(setting.evaluation.points(&setting.iterations));
    if steps_judged.len() > 1 {
        let branch = setting.evaluation.cool_down.map_or(String::new(), |steps| {
            format!(", after {} steps of cool-down where the learning rate is on its way", steps.get())
        });
        parts.push(format!("judged at {} steps{branch}", steps_judged.join(", ")));
    }
    let steps_analysed = steps(setting.probing.points(&setting.iterations));
    if !steps_analysed.is_empty() {
        parts.push(format!("layers analysed with random weights and at {} steps", steps_analysed.join(", ")));
    }
    parts.join("\n")
}

fn iterations(setting: &Setting) -> String {
    let mut cumulative = 0;
    let rows = setting
        .iterations
        .iter()
        .enumerate()
        .map(|(index, iteration)| {
            cumulative += u64::from(iteration.steps.get());
            vec![
                (index + 1).to_string(),
                iteration.steps.get().to_string(),
                cumulative.to_string(),
                targets(&iteration.targets),
                start(&iteration.carry),
                rate(setting, iteration),
            ]
        })
        .collect();
    print::table(&["iteration", "steps", "to step", "predicts", "starts from", "learning rate"], &[0, 1, 2], rows)
}

fn targets(targets: &Targets) -> String {
    match targets {
        Targets::Quantiser(quantiser) => {
            format!("quantiser {} × {}", quantiser.groups.get(), quantiser.entries.get())
        }
        _ => targets.sets().iter().map(units).collect::<Vec<_>>().join(" + "),
    }
}

fn units(units: &UnitTargets) -> String {
    let fit = units.fit().get();
    let fitted = if fit == 1.0 { String::new() } else { format!(" on {:.0} %", 100.0 * fit) };
    let of = match units {
        UnitTargets::Layer(layer) => match &layer.of {
            Origin::Previous => format!("layer {}", layer.height.get()),
            Origin::Iteration(number) => format!("layer {} of iteration {}", layer.height.get(), number.get()),
            Origin::Checkpoint(name) => format!("layer {} of {name}", layer.height.get()),
        },
        UnitTargets::MfccSubspace(of) => format!("mfcc order {}", of.order.get()),
        UnitTargets::Mfcc(_) | UnitTargets::LogMel(_) => units.word().to_owned(),
    };
    format!("{} units of {of}{fitted}", units.clusters().get())
}

fn start(carry: &Carry) -> String {
    let mut parts = vec![match &carry.weights {
        CarriedWeights::None => return "random weights".into(),
        CarriedWeights::All => "all weights".to_owned(),
        CarriedWeights::Layers(layers) => {
            let layers: Vec<String> = layers.iter().map(|layer| layer.get().to_string()).collect();
            format!("layers {}", layers.join(", "))
        }
    }];
    parts.extend((carry.optimiser == CarriedOptimiser::Keep).then(|| "optimiser".to_owned()));
    parts.extend((carry.head == CarriedHead::Keep).then(|| "head".to_owned()));
    parts.join(" + ")
}

fn rate(setting: &Setting, iteration: &Iteration) -> String {
    let own = &iteration.schedule;
    let peak = own.peak.unwrap_or(setting.pretraining.schedule.peak).get();
    let warm_up = 100.0 * own.warm_up.unwrap_or(setting.pretraining.schedule.warm_up).get();
    let over = match own.horizon {
        Horizon::Iteration => "the iteration",
        Horizon::Whole => "all iterations",
    };
    format!("{peak} over {over}, {warm_up:.0} % warm-up")
}
