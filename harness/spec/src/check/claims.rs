//! Rules about claims: what they name must be there, and must be fit to be claimed about.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::claims::{Claim, Errors, MOST_CLAIMS, Mention, Quantity, Summary, Syntax, What, parse};
use crate::evaluation::{Point, Rate};
use crate::experiment::{Setting, Variant};
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
        for Mention { at, quantity } in parse(text).map_or(Vec::new(), |parsed| parsed.mentions) {
            if let Some((message, help)) = refusal(&quantity, variants) {
                problems.push(Problem::new(within(&node.at, text, &at), message).help(help));
            }
        }
    }
    problems
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
        (None, _) => Some(("which variant is meant isn't said".into(), format!("write `of VARIANT`; {}", names(variants)))),
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
    let named: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).filter(|name| !name.is_empty()).collect();
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
            (message, format!("the variant has {iterations} {}", if iterations == 1 { "iteration" } else { "iterations" }))
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
            (*layer > most).then(|| (format!("layer {layer} is above the {most} layers of the model"), format!("use 0 to {most}")))
        }),
        What::Curve { summary, metric, at } => of_layers(metric, *at, setting).or_else(|| {
            metric.starts_with("attention").then(|| {
                let help = "claim about one layer: `layer(attention-distance, 3)`";
                (format!("`{metric}` has no number of layer 0, so there is no `{}`", Summary::word(*summary)), help.into())
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
