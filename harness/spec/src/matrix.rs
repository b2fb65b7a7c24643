//! `matrix`: one file, many variants. Every variant is the file with some of its words laid over, as by a file that extends it.

use crate::node::{Content, Entry, Node};
use crate::problem::{Location, Problem};
use crate::schema::quoted;

/// The word of the language.
pub(crate) const WORD: &str = "matrix";

/// Most variants of one experiment.
pub const MOST_VARIANTS: usize = 1_000;

/// Words that say what an experiment is to people, or are one for all variants.
const OF_THE_WHOLE: [&str; 7] = ["version", "name", "question", "claims", "seeds", "extends", WORD];

/// A variant before it is laid over the file: what it is called, and the layers, lowest first.
pub(crate) struct Overlay {
    pub name: String,
    pub layers: Vec<Node>,
}

/// One way of an axis.
struct Choice {
    name: String,
    layer: Node,
}

struct Axis {
    name: String,
    at: Location,
    choices: Vec<Choice>,
}

/// Takes `matrix` out of a tree and gives the variants that it stands for: every combination of the axes without the excluded ones, then the
/// included ones. A file without a matrix has one variant without a name.
pub(crate) fn take(tree: &mut Node, problems: &mut Vec<Problem>) -> Vec<Overlay> {
    let Content::Map(entries) = &mut tree.content else { return Vec::new() };
    let Some(index) = entries.iter().position(|entry| entry.key == WORD) else {
        return vec![Overlay { name: String::new(), layers: Vec::new() }];
    };
    let matrix = entries.remove(index);
    let before = problems.len();
    for entry in map(&matrix.node, "`matrix`", problems) {
        if !["axes", "exclude", "include"].contains(&entry.key.as_str()) {
            let message = format!("`{}` isn't a word of `matrix`", entry.key.escape_debug());
            problems.push(Problem::new(entry.key_at.clone(), message).help("known here: `axes`, `exclude`, `include`"));
        }
    }
    let axes: Vec<Axis> = match matrix.node.get("axes") {
        Some(axes) => map(axes, "`matrix.axes`", problems).iter().map(|entry| axis(entry, problems)).collect(),
        None => Vec::new(),
    };
    let excluded = matrix.node.get("exclude").map_or(Vec::new(), |node| exclusions(node, &axes, problems));
    let included: Vec<Choice> = match matrix.node.get("include") {
        Some(included) => {
            map(included, "`matrix.include`", problems).iter().map(|entry| choice(entry, problems)).collect()
        }
        None => Vec::new(),
    };
    let combinations: usize = axes.iter().map(|axis| axis.choices.len()).fold(1, usize::saturating_mul);
    if combinations.saturating_add(included.len()) > MOST_VARIANTS {
        let message =
            format!("the matrix has {combinations} combinations; an experiment has at most {MOST_VARIANTS} variants");
        problems.push(Problem::new(matrix.key_at.clone(), message).help("split the experiment"));
    }
    if problems.len() > before {
        return Vec::new();
    }
    let mut variants = Vec::new();
    if !axes.is_empty() {
        for number in 0..combinations {
            let picked = pick(&axes, number);
            let fits = |exclusion: &Vec<(usize, usize)>| exclusion.iter().all(|&(axis, choice)| picked[axis] == choice);
            if !excluded.iter().any(fits) {
                let picked: Vec<&Choice> = axes.iter().zip(&picked).map(|(axis, &at)| &axis.choices[at]).collect();
                let names: Vec<&str> = picked.iter().map(|choice| choice.name.as_str()).collect();
                let layers = picked.iter().map(|choice| choice.layer.clone()).collect();
                variants.push(Overlay { name: names.join(" "), layers });
            }
        }
    }
    variants.extend(included.into_iter().map(|Choice { name, layer }| Overlay { name, layers: vec![layer] }));
    if variants.is_empty() {
        let problem = Problem::new(matrix.key_at.clone(), "the matrix leaves no variant");
        problems.push(problem.help("give it an axis or an `include`, and exclude less"));
    }
    for (index, variant) in variants.iter().enumerate() {
        if variants[..index].iter().any(|earlier| earlier.name == variant.name) {
            let message = format!("two variants are called `{}`", variant.name);
            problems.push(Problem::new(matrix.key_at.clone(), message).help("rename one of them"));
        }
    }
    variants
}

/// The choice of every axis in the combination of this number; the last axis turns fastest.
fn pick(axes: &[Axis], mut number: usize) -> Vec<usize> {
    let mut picked: Vec<usize> = axes
        .iter()
        .rev()
        .map(|axis| {
            let at = number % axis.choices.len();
            number /= axis.choices.len();
            at
        })
        .collect();
    picked.reverse();
    picked
}

fn axis(entry: &Entry, problems: &mut Vec<Problem>) -> Axis {
    let choices = match &entry.node.content {
        Content::List(values) => {
            let mut words = entry.key.split('.');
            if words.clone().next().is_some_and(|first| OF_THE_WHOLE.contains(&first)) || words.any(str::is_empty) {
                let message = format!("`{}` isn't the path of a setting", entry.key.escape_debug());
                let help = "an axis with a list of values is called like a setting, such as `pretraining.masking.prob`";
                problems.push(Problem::new(entry.key_at.clone(), message).help(help));
            }
            values.iter().map(|value| swept(entry, value, problems)).collect()
        }
        _ => {
            let what = format!("the axis `{}`", entry.key);
            map(&entry.node, &what, problems).iter().map(|entry| choice(entry, problems)).collect()
        }
    };
    let axis = Axis { name: entry.key.clone(), at: entry.key_at.clone(), choices };
    if axis.choices.is_empty() {
        let problem = Problem::new(axis.at.clone(), format!("the axis `{}` has no values", axis.name));
        problems
            .push(problem.help("list the values of a setting, or name variants: `axes: { NAME: { VARIANT: { … } } }`"));
    }
    axis
}

/// A named variant of an axis or of `include`: its words are those of an experiment.
fn choice(entry: &Entry, problems: &mut Vec<Problem>) -> Choice {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
    if entry.key.is_empty() || entry.key.len() > 64 || !entry.key.chars().all(fine) {
        let message = format!("`{}` doesn't name a variant", entry.key.escape_debug());
        let help = "use at most 64 letters, digits, `-`, `_`, `.` and `=`";
        problems.push(Problem::new(entry.key_at.clone(), message).help(help));
    }
    for inner in map(&entry.node, &format!("the variant `{}`", entry.key.escape_debug()), problems) {
        if OF_THE_WHOLE.contains(&inner.key.as_str()) {
            let message = format!("`{}` is the whole experiment's and can't differ between variants", inner.key);
            problems.push(Problem::new(inner.key_at.clone(), message).help("write it beside `matrix`"));
        }
    }
    Choice { name: entry.key.clone(), layer: entry.node.clone() }
}

/// One value of an axis that is called like the path of a setting.
fn swept(entry: &Entry, value: &Node, problems: &mut Vec<Problem>) -> Choice {
    let mut words: Vec<&str> = entry.key.split('.').collect();
    let last = words.last().copied().unwrap_or_default().to_owned();
    let told = match &value.content {
        Content::Scalar(serde_yaml::Value::String(text)) => text.clone(),
        Content::Scalar(serde_yaml::Value::Bool(value)) => value.to_string(),
        Content::Scalar(serde_yaml::Value::Number(number)) => number.to_string(),
        _ => {
            let message = format!("a value of the axis `{}` has no name: it is {}", entry.key, value.describe());
            let help = "name such variants: `axes: { NAME: { VARIANT: { … } } }`";
            problems.push(Problem::new(value.at.clone(), message).help(help));
            String::new()
        }
    };
    let mut node = value.clone();
    while let Some(word) = words.pop() {
        let entry = Entry { key: word.to_owned(), key_at: entry.key_at.clone(), node };
        node = Node { at: entry.key_at.clone(), content: Content::Map(vec![entry]), pruned: false };
    }
    Choice { name: format!("{last}={told}"), layer: node }
}

/// Combinations to leave out: for some axes, the place of the axis and of its value.
fn exclusions(node: &Node, axes: &[Axis], problems: &mut Vec<Problem>) -> Vec<Vec<(usize, usize)>> {
    let Content::List(items) = &node.content else {
        let message = format!("`matrix.exclude` is a list of combinations, found {}", node.describe());
        problems.push(Problem::new(node.at.clone(), message).help("write `- { AXIS: VALUE, … }`"));
        return Vec::new();
    };
    let mut excluded = Vec::new();
    for item in items {
        let mut combination = Vec::new();
        for entry in map(item, "an excluded combination", problems) {
            let Some(axis) = axes.iter().position(|axis| axis.name == entry.key) else {
                let message = format!("the matrix has no axis `{}`", entry.key.escape_debug());
                let known = format!("its axes: {}", quoted(axes.iter().map(|axis| axis.name.as_str())));
                problems.push(Problem::new(entry.key_at.clone(), message).help(known));
                continue;
            };
            let told = match &entry.node.content {
                Content::Scalar(serde_yaml::Value::String(text)) => text.clone(),
                Content::Scalar(serde_yaml::Value::Number(number)) => number.to_string(),
                Content::Scalar(serde_yaml::Value::Bool(value)) => value.to_string(),
                _ => String::new(),
            };
            let called = |choice: &Choice| {
                choice.name == told || choice.name.split_once('=').is_some_and(|(_, value)| value == told)
            };
            match axes[axis].choices.iter().position(called) {
                Some(choice) => combination.push((axis, choice)),
                None => {
                    let message = format!("the axis `{}` has no value `{}`", axes[axis].name, told.escape_debug());
                    let known = quoted(axes[axis].choices.iter().map(|choice| choice.name.as_str()));
                    problems.push(Problem::new(entry.node.at.clone(), message).help(format!("its values: {known}")));
                }
            }
        }
        if matches!(&item.content, Content::Map(entries) if entries.is_empty()) {
            problems
                .push(Problem::new(item.at.clone(), "this combination would exclude everything").help("name an axis"));
        }
        excluded.push(combination);
    }
    excluded
}

fn map<'a>(node: &'a Node, what: &str, problems: &mut Vec<Problem>) -> &'a [Entry] {
    match &node.content {
        Content::Map(entries) => entries,
        _ => {
            problems.push(Problem::new(node.at.clone(), format!("{what} is a map, found {}", node.describe())));
            &[]
        }
    }
}
