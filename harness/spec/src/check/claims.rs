//! Rules about claims: what they name must be there, and must be fit to be claimed about.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::claims::{Claim, Comparison, Errors, MOST_CLAIMS, Mention, Parsed, Quantity, Summary, Syntax, What, parse};
use crate::evaluation::{Point, Rate};
use crate::experiment::{Experiment, Setting, Variant};
use crate::finetuning::Top;
use crate::node::{Content, Node, Path, Segment};
use crate::problem::{Location, Problem};
use crate::schema::{nearest, quoted};
use crate::values::Name;

/// The word of the language.
const WORD: &str = "claims";
/// Most names that a help lists.
const MOST_NAMES: usize = 12;

/// Why a quantity can't be claimed about, and what to do.
type Refusal = (String, String);

/// Every rule that the claims of a file break.
pub(super) fn claims(claims: &BTreeMap<Name, Claim>, variants: &[Variant], tree: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    if claims.len() > MOST_CLAIMS {
        let at = tree.locate_key(&Path(vec![Segment::Key(WORD.into())]));
        let message = format!("there are {} claims; an experiment has at most {MOST_CLAIMS}", claims.len());
        problems.push(Problem::new(at, message).help("split the experiment"));
    }
    for name in claims.keys() {
        let path = Path([WORD, name.as_str(), "holds"].map(|word| Segment::Key(word.into())).into());
        let Some((node, text)) = written(tree, &path) else { continue };
        let Ok(Parsed { statement, mentions }) = parse(text) else { continue };
        let place = |at: &Range<usize>| within(&node.at, text, at);
        let before = problems.len();
        for Mention { at, quantity } in &mentions {
            if let Some((message, help)) = refusal(quantity, variants) {
                problems.push(Problem::new(place(at), message).help(help));
            }
        }
        if problems.len() > before {
            continue;
        }
        for comparison in &statement.0 {
            let Some((odd, message)) = unlike(comparison, variants) else { continue };
            let at = mentions.iter().find(|mention| mention.quantity == *odd).map_or(&(0..0), |mention| &mention.at);
            problems.push(Problem::new(place(at), message).help("compare units of as many clusters"));
        }
    }
    problems
}

/// Addresses in claims whose stage no run of the variant has; `stages` gives the names of a variant's stages.
pub(crate) fn unknown_stages(
    experiment: &Experiment,
    tree: &Node,
    stages: &dyn Fn(&Variant) -> BTreeSet<String>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for name in experiment.claims.keys() {
        let path = Path([WORD, name.as_str(), "holds"].map(|word| Segment::Key(word.into())).into());
        let Some((node, text)) = written(tree, &path) else { continue };
        for Mention { at, quantity } in parse(text).map_or(Vec::new(), |parsed| parsed.mentions) {
            let What::Metric { stage, .. } = &quantity.what else { continue };
            let Some(variant) = experiment.variant(quantity.of.as_deref()) else { continue };
            let known = stages(variant);
            if !known.contains(stage) {
                let message = format!("no run has a stage `{}`", stage.escape_debug());
                let help = match nearest(stage, known.iter().map(String::as_str)) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => "`reprise plan` names the stages".into(),
                };
                problems.push(Problem::new(within(&node.at, text, &at), message).help(help));
            }
        }
    }
    problems
}

/// A quantity whose units are of another number of clusters than those it is compared with: what units share with phones grows with it.
fn unlike<'a>(comparison: &'a Comparison, variants: &[Variant]) -> Option<(&'a Quantity, String)> {
    let quantities = comparison.sides().into_iter().flat_map(|side| side.quantities(true));
    let mut counted = quantities.filter_map(|quantity| Some((quantity, clusters(quantity, variants)?)));
    let (_, first) = counted.next()?;
    let (odd, other) = counted.find(|(_, other)| *other != first)?;
    Some((odd, format!("units of {first} and of {other} clusters don't compare")))
}

/// Clusters of the units that a quantity is about.
fn clusters(quantity: &Quantity, variants: &[Variant]) -> Option<u32> {
    match &quantity.what {
        What::Units { iteration, .. } => {
            let variant =
                variants.iter().find(|variant| quantity.of.as_ref().is_none_or(|name| variant.is_called(name)))?;
            let iteration = variant.setting.iterations.get(*iteration as usize - 1)?;
            iteration.targets.sets().first().map(|set| set.clusters().get())
        }
        What::Metric { stage, .. } if stage.starts_with("unit quality of ") => {
            let count = |part: &str| part.split_once(" clusters")?.0.parse().ok();
            stage.split(", ").find_map(count)
        }
        _ => None,
    }
}

/// What is wrong with the text of a statement, at its place, where `path` is that of one.
pub(crate) fn misread(tree: &Node, path: &Path) -> Option<Problem> {
    let [Segment::Key(word), Segment::Key(_), Segment::Key(holds)] = path.0.as_slice() else { return None };
    let (node, text) = written(tree, path).filter(|_| word == WORD && holds == "holds")?;
    let Syntax { at, message, help } = parse(text).err()?;
    let problem = Problem::new(within(&node.at, text, &at), message);
    Some(match help {
        Some(help) => problem.help(help),
        None => problem,
    })
}

fn written<'a>(tree: &'a Node, path: &Path) -> Option<(&'a Node, &'a str)> {
    match tree.find(path) {
        Some(node @ Node { content: Content::Scalar(serde_yaml::Value::String(text)), .. }) => Some((node, text)),
        _ => None,
    }
}

/// Where a stretch of a scalar's text stands in its file: white space may be spelt otherwise there. The whole scalar, where it has escapes.
fn within(scalar: &Location, text: &str, at: &Range<usize>) -> Location {
    let file = scalar.file.text.get(scalar.offset..).unwrap_or_default();
    let black = |text: &str| -> Vec<(usize, char)> {
        text.char_indices().filter(|(_, character)| !character.is_whitespace()).collect()
    };
    let (in_text, in_file) = (black(text), black(file));
    // What opens a scalar: a quote, or `>-` and the like.
    for opening in 0..4 {
        let stretch = in_file.get(opening..opening + in_text.len()).unwrap_or_default();
        if stretch.is_empty() || stretch.iter().zip(&in_text).any(|((_, one), (_, other))| one != other) {
            continue;
        }
        let place = |byte: usize| in_text.iter().position(|(index, _)| *index >= byte);
        let (Some((last, end)), Some(first)) = (stretch.last(), place(at.start).or(place(0))) else { continue };
        if place(at.start).is_none() {
            // Behind the last character.
            return Location { file: scalar.file.clone(), offset: scalar.offset + last + end.len_utf8(), length: 0 };
        }
        let start = stretch[first].0;
        let stop = place(at.end).map_or(last + end.len_utf8(), |next| match next.checked_sub(1) {
            Some(before) if before >= first => stretch[before].0 + stretch[before].1.len_utf8(),
            _ => start,
        });
        let line = file[start..stop].lines().next().map_or(0, |line| line.trim_end().len());
        return Location { file: scalar.file.clone(), offset: scalar.offset + start, length: line };
    }
    scalar.clone()
}

fn refusal(quantity: &Quantity, variants: &[Variant]) -> Option<Refusal> {
    match (&quantity.of, variants) {
        (None, [alone]) => of_setting(&quantity.what, &alone.setting),
        (None, _) => {
            Some(("which variant is meant isn't said".into(), format!("write `of VARIANT`; {}", names(variants))))
        }
        (Some(name), _) => match variants.iter().find(|variant| variant.is_called(name)) {
            Some(variant) => of_setting(&quantity.what, &variant.setting),
            None => {
                let known = variants.iter().map(|variant| variant.name.as_str()).filter(|name| !name.is_empty());
                let help = match nearest(name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => names(variants),
                };
                Some((format!("the experiment has no variant `{}`", name.escape_debug()), help))
            }
        },
    }
}

fn names(variants: &[Variant]) -> String {
    let named: Vec<&str> =
        variants.iter().map(|variant| variant.name.as_str()).filter(|name| !name.is_empty()).collect();
    match named.as_slice() {
        [] => "its only variant has no name: leave `of` out".into(),
        few => format!("its variants: {}", listed(few)),
    }
}

fn listed(names: &[&str]) -> String {
    let more = if names.len() > MOST_NAMES { ", …" } else { "" };
    quoted(names.iter().take(MOST_NAMES).copied()) + more
}

fn of_setting(what: &What, setting: &Setting) -> Option<Refusal> {
    let iterations = setting.iterations.len();
    let no_iteration = |iteration: &u32| {
        (*iteration as usize > iterations).then(|| {
            let message = format!("there is no iteration {iteration}");
            (
                message,
                format!("the variant has {iterations} {}", if iterations == 1 { "iteration" } else { "iterations" }),
            )
        })
    };
    match what {
        What::Errors { of, at } => errors(of, setting).or_else(|| match at {
            Some(steps) => point(*steps, judged(setting), of.top, setting.evaluation.cool_down.is_some()),
            None => None,
        }),
        What::Reach { of, .. } => errors(of, setting).or_else(|| {
            let cooled = setting.evaluation.cool_down.is_some();
            let fit = |point: &Point| fits(point, of.top) && (cooled || point.rate != Rate::Running);
            (!judged(setting).iter().any(fit)).then(|| {
                ("no model on the way is fine-tuned to be compared".into(), "add points to `evaluation`".into())
            })
        }),
        What::Units { iteration, .. } => no_iteration(iteration).or_else(|| {
            let sets = setting.iterations[*iteration as usize - 1].targets.sets().len();
            if setting.probing.unit_quality.is_none() {
                let help = "write `probing.unit-quality` with the aligned splits to measure on";
                return Some(("the quality of units isn't measured".into(), help.into()));
            }
            (sets != 1).then(|| {
                let help = "name one of them with `metric('unit quality iteration 1.2/pnmi')`";
                (format!("iteration {iteration} predicts {sets} sets of units"), help.into())
            })
        }),
        What::MaskedAccuracy { iteration } => no_iteration(iteration),
        What::Layer { metric, layer, at } => of_layers(metric, *at, setting).or_else(|| {
            let most = setting.model.encoder.layers.get();
            (*layer > most)
                .then(|| (format!("layer {layer} is above the {most} layers of the model"), format!("use 0 to {most}")))
        }),
        What::Curve { summary, metric, at } => of_layers(metric, *at, setting).or_else(|| {
            metric.starts_with("attention").then(|| {
                let help = "claim about one layer: `layer(attention-distance, 3)`";
                (
                    format!("`{metric}` has no number of layer 0, so there is no `{}`", Summary::word(*summary)),
                    help.into(),
                )
            })
        }),
        What::Metric { stage, metric } => {
            let validates = stage.starts_with("finetune") && metric.starts_with("validation-");
            (validates || stage.starts_with("tune on ")).then(|| {
                let message = "numbers that training is watched by or tuned for support no claim";
                (message.into(), "claim about a split of `corpus.test`".into())
            })
        }
        What::Total(_) => None,
    }
}

fn errors(of: &Errors, setting: &Setting) -> Option<Refusal> {
    let (corpus, split) = (&setting.corpus, &of.split);
    let tested = corpus.test.iter().map(|split| split.as_str()).collect::<Vec<_>>();
    let help = match tested.as_slice() {
        [] => "nothing is tested on: name a split in `corpus.test`".to_owned(),
        some => format!("tested are {}", listed(some)),
    };
    if !corpus.test.contains(split) {
        let tuned = setting.decoding.tune.iter().flat_map(|tuning| &tuning.on).any(|on| on == split);
        let why = match () {
            () if corpus.validate.contains(split) => "is watched while training, so it supports no claim",
            () if tuned => "is tuned on, so it supports no claim",
            () => "isn't tested on",
        };
        return Some((format!("`{split}` {why}"), help));
    }
    if !setting.finetuning.tops().contains(&of.top) {
        let message = format!("there is no fine-tuning with {}", of.top);
        return Some((message, "list the number of layers in `finetuning.reset-top` or `remove-top`".into()));
    }
    None
}

/// The points at which models are fine-tuned.
fn judged(setting: &Setting) -> Vec<Point> {
    setting.evaluation.points(&setting.iterations)
}

/// Whether the model of a point is fine-tuned with its top layers so.
fn fits(point: &Point, top: Top) -> bool {
    top == Top::Kept || point.ends_iteration
}

fn of_layers(metric: &str, at: Option<u64>, setting: &Setting) -> Option<Refusal> {
    let probing = &setting.probing;
    let known = probing.curves();
    if !known.iter().any(|name| name == metric) {
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let help = match nearest(metric, names.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None if names.is_empty() => "list it in `probing.analyses`".into(),
            None => format!("measured are {}", listed(&names)),
        };
        return Some((format!("`{}` isn't measured on layers", metric.escape_debug()), help));
    }
    at.and_then(|steps| point(steps, probing.points(&setting.iterations), Top::Kept, false))
}

/// Why nothing can be claimed about the model at so many steps, if so.
fn point(steps: u64, points: Vec<Point>, top: Top, cooled_down: bool) -> Option<Refusal> {
    let fit = |point: &&Point| fits(point, top);
    let Some(found) = points.iter().filter(fit).find(|point| point.cumulative == steps) else {
        let known: Vec<String> = points.iter().filter(fit).map(|point| point.cumulative.to_string()).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let help = if known.is_empty() { "there is none".into() } else { format!("there are {}", listed(&known)) };
        return Some((format!("no model is looked at after {steps} steps"), help));
    };
    (found.rate == Rate::Running && !cooled_down).then(|| {
        let message = format!("the model at {steps} steps is in mid-schedule, so its numbers support no claim");
        (message, "claim about the end of an iteration; error rates also with `evaluation.cool-down`".into())
    })
}
