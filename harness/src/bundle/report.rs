//! The report of a bundle, rendered from the bundle's own store.

use std::collections::BTreeMap;
use std::path::Path;

use reprise_spec::read::LoadError;

use super::{About, BundleError, STORE, text};
use crate::golden::Files;
use crate::report::checks::Checks;
use crate::report::render::{self, RenderError, Templates};
use crate::report::subject::Subject;
use crate::report::{Report, curves, write};
use crate::store::Store;

/// The files of `report/` by name, of the bundle that lies in a folder.
///
/// # Errors
/// When the experiment or the store can't be read.
pub fn render(root: &Path, about: &About) -> Result<BTreeMap<String, Vec<u8>>, BundleError> {
    let store = Store::at(root.join(STORE)).remembering();
    let mut load = |name: &str| {
        let inside = super::names::portable(name).map_err(LoadError::Other);
        let path = inside.map(|()| root.join("experiment").join(name))?;
        text(&path, name).map_err(|error| LoadError::Other(error.to_string()))
    };
    let file = &about.experiment.file;
    let own = load(file).map_err(|error| BundleError::refused(format!("{file:?}: {error}")))?;
    let resolved = reprise_spec::read::experiment(file, &own, &mut load);
    let experiment = resolved.map_err(|errors| BundleError::refused(format!("{file:?}: {errors}")))?.experiment;
    let name = experiment.name.clone();
    let subject = Subject::experiment(experiment, &format!("experiment/{file}"), &store)?;
    let mut checks = Checks::default();
    checks.claims(&subject);
    let goldens = Files::of(&root.join("golden"), name).golden();
    let goldens = goldens.map_err(|error| BundleError::refused(format!("its goldens can't be read: {error}")))?;
    checks.goldens(&subject, goldens.as_ref());
    // Reruns are not published, so whatever a bundle's store says of any is not shown.
    checks.published(&subject);
    let logs = curves::logs(&subject);
    let report = Report::of(&subject, &logs, checks);
    let failed = |error: RenderError| BundleError::refused(format!("its report can't be rendered: {error}"));
    let templates = Templates::with(None).map_err(failed)?;
    let rendered = render::render(&report, &templates).map_err(failed)?;
    Ok(write::files(&report, rendered, &templates, &subject, &logs).into_iter().collect())
}
