use std::path::Path;

use super::{Places, load, print};
use crate::exit::{Exit, Failure};
use crate::explain::subject::Subject;
use crate::explain::{self, Explanation, Field};
use crate::inert;
use crate::store::Store;

/// Name the fields that make two identities differ
///
/// Each of the two is an experiment file, the start of a run's id, or the start of the hash of a stage, a variant or an experiment that
/// the store knows; `stage:`, `variant:` or `spec:` before the digits says which. Of two stages it also says which inputs have other
/// keys, and what makes these differ first.
///
/// Exits 1 when the two differ.
#[derive(clap::Args)]
pub struct Args {
    /// The one
    a: String,
    /// The other
    b: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let store = load::store(places, None)?;
    let (a, b) = (subject(&args.a, &store)?, subject(&args.b, &store)?);
    let explanation = explain::explain(&a, &b, &store)?;
    if args.json {
        print::json(&explanation);
    } else {
        print::line(shown(&explanation, [&args.a, &args.b]));
    }
    Ok(if explanation.equal { Exit::Fine } else { Exit::No })
}

fn subject(name: &str, store: &Store) -> Result<Subject, Failure> {
    match Path::new(name).is_file() {
        true => Ok(Subject::from(&load::read(Path::new(name))?.experiment)),
        false => Ok(Subject::named(name, store)?),
    }
}

fn shown(explanation: &Explanation, names: [&str; 2]) -> String {
    let Explanation { equal, a, b, fields, inputs, causes } = explanation;
    let heads = [("A", names[0], a), ("B", names[1], b)];
    let heads = heads.map(|(mark, name, identity)| vec![mark.into(), name.into(), identity.clone()]);
    let mut parts = vec![print::table(&["", "given", "is"], &[], heads.into())];
    if *equal {
        parts.push("equal: nothing that decides a result differs".into());
    }
    if !fields.is_empty() {
        parts.push(fields_table(fields));
    }
    if !inputs.is_empty() {
        let key = |key: &Option<reprise_spec::identity::StageKey>| key.map_or("-".into(), |key| key.short());
        let rows = inputs.iter().map(|input| vec![input.role.clone(), key(&input.a), key(&input.b)]).collect();
        parts.push(print::table(&["input", "a", "b"], &[], rows));
    }
    for cause in causes {
        let route = cause.route.iter().rev().cloned().collect::<Vec<_>>().join(" of ");
        let route = inert::terminal(&route);
        let (a, b) = (cause.a.short(), cause.b.short());
        parts.push(match cause.fields.as_slice() {
            [] => format!(
                "{route} differs (stage:{a}, stage:{b}); why is not known, because one of the two is not stored"
            ),
            fields => format!("{route} differs (stage:{a}, stage:{b}):\n{}", fields_table(fields)),
        });
    }
    parts.join("\n\n")
}

fn fields_table(fields: &[Field]) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    let rows = fields.iter().map(|field| vec![field.path.clone(), value(&field.a), value(&field.b)]).collect();
    print::table(&["field", "a", "b"], &[], rows)
}
