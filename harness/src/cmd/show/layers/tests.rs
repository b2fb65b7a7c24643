use reprise_spec::evaluation::Point;
use reprise_spec::layers::{Correlation, Labels};
use reprise_spec::probing::Analysis;

use super::*;

fn score(layer: u32, mean: f64) -> LayerScore {
    LayerScore {
        layer,
        other: None,
        samples: 900,
        sizes: vec![32, 40],
        values: 9,
        mean: Some(mean),
        deviation: Some(0.012),
        null: Some(0.034),
        null_deviation: Some(0.01),
        refused: None,
    }
}

fn curve(metric: &str, analysis: Analysis, means: [f64; 3]) -> Curve {
    let layers = (0..).zip(means).map(|(layer, mean)| score(layer, mean)).collect();
    Curve { metric: metric.into(), analysis, layers }
}

fn findings(curves: Vec<Curve>) -> Findings {
    let dropped = BTreeMap::from([("ink".to_owned(), 1), ("type".to_owned(), 4)]);
    let labels = Labels { analysed: vec!["of".into(), "the".into()], segments: 30, dropped };
    let split = |name: &str| name.to_owned().try_into().unwrap();
    Findings {
        splits: vec![split("train"), split("dev")],
        seen_in_pretraining: vec![split("train")],
        depth: 2,
        too_shallow: true,
        utterances: 40,
        unaligned: vec!["train/a-1".into()],
        labels: BTreeMap::from([("words".to_owned(), labels)]),
        curves,
    }
}

fn analysed(cumulative: u64, rate: Rate, curves: Vec<Curve>) -> Analysed {
    let point = Point { cumulative, iteration: 1, step: cumulative, ends_iteration: rate == Rate::Annealed, rate };
    let summaries = curves.iter().filter_map(|curve| Some((curve.metric.clone(), curve.summary()?))).collect();
    Analysed { point, findings: findings(curves), summaries }
}

fn two_points() -> Layers {
    let word = |means| curve("cca-word", Analysis::CcaWord, means);
    let pnmi = |means, few: bool| {
        let mut curve = curve("pnmi-500", Analysis::Pnmi, means);
        curve.layers[2].refused = few.then(|| "900 frames are too few for 500 clusters and 40 phones".into());
        curve
    };
    let mut alike = curve("cka", Analysis::Cka, [1., 0.8, 0.3]);
    let beside_another = LayerScore { other: Some(1), ..score(2, 0.9) };
    alike.layers.iter_mut().for_each(|score| score.other = Some(0));
    alike.layers.push(beside_another);
    let correlation = Correlation { pairs: 3, pearson: -0.7, spearman: -0.5 };
    let with_errors = WithErrors { metric: "cca-word".into(), layer: 1, split: "test".into(), correlation };
    Layers {
        control: Some(findings(vec![word([0.2, 0.15, 0.1])])),
        points: vec![
            analysed(100, Rate::Running, vec![word([0.2, 0.3, 0.25]), pnmi([0.1, 0.2, 0.15], false)]),
            analysed(200, Rate::Annealed, vec![word([0.2, 0.4, 0.3]), pnmi([0.1, 0.3, 0.2], true), alike]),
        ],
        with_errors: vec![with_errors],
    }
}

#[test]
fn layers_and_steps_stand_with_null_and_control_and_what_restricts_them() {
    insta::assert_snapshot!(tables(&two_points()).join("\n\n"));
}

#[test]
fn without_analyses_nothing_is_said() {
    assert!(tables(&Layers::default()).is_empty());
}
