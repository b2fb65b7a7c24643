//! The numbers in the data of a report, against the store: of a report that another build wrote, whose bytes say nothing.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::numbers::same;
use super::{Area, Read, Verification};
use crate::bundle::{BundleError, derived};
use crate::measures::Address;
use crate::report::write::DATA;
use crate::store::RunId;

/// A cell that shows a number.
#[derive(Deserialize)]
struct Cell {
    value: f64,
    from: Vec<Source>,
}

#[derive(Deserialize)]
struct Source {
    run: RunId,
    number: Address,
}

/// Checks every cell that is one number of a run; of one that is made of several it says that it is not checked.
pub fn check(read: &Read<'_>, verification: &mut Verification) -> Result<(), BundleError> {
    let name = format!("report/{DATA}");
    if !read.bundle.files().contains_key(&name) {
        return Ok(());
    }
    let data = match serde_json::from_str(&read.bundle.text(&name)?) {
        Ok(data) => data,
        Err(error) => {
            verification.failed(Area::Report, name, error.to_string());
            return Ok(());
        }
    };
    let stored = derived::metrics(read.runs, read.store);
    let of_run =
        |run: derived::RunMetrics| run.metrics.into_iter().map(move |m| ((run.run.clone(), m.address), m.value));
    let stored: BTreeMap<(RunId, Address), Option<f64>> = stored.into_iter().flat_map(of_run).collect();
    let mut made_of_several = 0;
    for Cell { value, from } in cells(&data) {
        let [Source { run, number }] = from.as_slice() else {
            made_of_several += 1;
            continue;
        };
        let wrong = match stored.get(&(run.clone(), number.clone())) {
            Some(Some(found)) if same(value, *found) => None,
            Some(_) => Some(format!("the report says {value}, the store another number")),
            None => Some("the store doesn't have it".into()),
        };
        verification.check(Area::Report, &format!("{name}: {number} of run {run}"), wrong);
    }
    if made_of_several > 0 {
        let what = format!("{name}: {made_of_several} numbers");
        verification.not_checked(Area::Report, what, "they are made of several, by another build");
    }
    Ok(())
}

/// Every object that is a cell with a number, wherever it stands.
fn cells(data: &Value) -> Vec<Cell> {
    let (mut open, mut found) = (vec![data], Vec::new());
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => {
                found.extend(Cell::deserialize(value).ok().filter(|cell| !cell.from.is_empty()));
                open.extend(fields.values());
            }
            _ => {}
        }
    }
    found
}
