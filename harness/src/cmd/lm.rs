use std::path::{Path, PathBuf};

use clap::Subcommand;
use reprise_spec::contract::{Device, Score, Tool};
use reprise_spec::language_model::{LmTool, SentencePerplexity};
use reprise_spec::values::{Log10, NgramOrder, Weight};
use serde_json::json;

use super::import::told;
use super::{model, print, progress};
use crate::exit::{Exit, Failure};
use crate::results::find;

/// Estimate, convert and ask n-gram language models
///
/// An output must not be there yet. Where something is refused, none is left behind.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Estimate an interpolated modified Kneser-Ney model from text, as an ARPA file
    Estimate {
        /// UTF-8 text: a sentence a line, words parted by white space
        #[arg(long, value_name = "FILE")]
        text: PathBuf,
        /// The length of the longest n-grams, 1 to 6
        #[arg(long, value_name = "N", value_parser = order)]
        order: NgramOrder,
        /// Discounts of counts 1, 2, and 3 and more, for orders with too few n-grams to estimate them [default where given without: 0.5,1,1.5]
        #[arg(long, value_name = "D1,D2,D3", num_args = 0..=1, default_missing_value = "0.5,1,1.5", value_parser = discounts)]
        discount_fallback: Option<Discounts>,
        /// The file to make; compressed where it ends in .gz
        #[arg(long, short, value_name = "ARPA")]
        out: PathBuf,
        /// Print what was made as JSON
        #[arg(long)]
        json: bool,
    },
    /// Convert an ARPA file, plain or gzip, into a table that is mapped instead of read
    Convert {
        /// The ARPA file
        arpa: PathBuf,
        /// The file to make
        #[arg(long, short, value_name = "TABLE")]
        out: PathBuf,
        #[command(flatten)]
        unknown: Unknown,
        /// Print what was made as JSON
        #[arg(long)]
        json: bool,
    },
    /// Score every sentence of a text, and all together
    ///
    /// Perplexities include the end of every sentence, and words that the model lacks as <unk>. Lines without words are passed over.
    Perplexity {
        /// A table or an ARPA file
        model: PathBuf,
        /// UTF-8 text: a sentence a line, words parted by white space
        #[arg(long, value_name = "FILE")]
        text: PathBuf,
        #[command(flatten)]
        unknown: Unknown,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
struct Unknown {
    /// The log10 probability of <unk> in a model without one; KenLM takes -100
    #[arg(long, value_name = "LOG10", allow_negative_numbers = true, value_parser = log10)]
    missing_unknown: Option<Log10>,
}

type Discounts = [Weight; 3];

fn order(text: &str) -> Result<NgramOrder, String> {
    text.parse::<u64>().map_err(|_| "use a whole number".to_owned())?.try_into()
}

fn discounts(text: &str) -> Result<Discounts, String> {
    let numbers =
        text.split(',').map(|number| number.trim().parse::<f64>().ok().and_then(|n| Weight::try_from(n).ok()));
    let numbers: Option<Vec<Weight>> = numbers.collect();
    let discounts: Option<Discounts> = numbers.and_then(|numbers| numbers.try_into().ok());
    let fits = |discounts: &Discounts| (1..).zip(discounts).all(|(count, discount)| discount.get() <= f64::from(count));
    discounts.filter(fits).ok_or_else(|| "use three numbers of at most 1, 2 and 3, such as 0.5,1,1.5".into())
}

fn log10(text: &str) -> Result<Log10, String> {
    text.parse::<f64>().map_err(|_| "use a number such as -100".to_owned())?.try_into()
}

pub fn run(args: Args) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Estimate { text, order, discount_fallback, out, json } => {
            let tool = LmTool::Estimate { text: told(&text)?, order, discount_fallback, out: told(&out)? };
            made(&out, &ask(tool)?, json);
        }
        Verb::Convert { arpa, out, unknown, json } => {
            let missing_unknown = unknown.missing_unknown;
            made(&out, &ask(LmTool::Convert { arpa: told(&arpa)?, missing_unknown, out: told(&out)? })?, json);
        }
        Verb::Perplexity { model, text, unknown, json } => {
            let fail = |error: std::io::Error| {
                Failure::user(format!("cannot write a temporary file: {error}"), "set TMPDIR to a folder with room")
            };
            let folder = tempfile::tempdir().map_err(fail)?;
            let out = folder.path().join("sentences.jsonl");
            let (model, text) = (told(&model)?, told(&text)?);
            let missing_unknown = unknown.missing_unknown;
            let scores = ask(LmTool::Perplexity { model, missing_unknown, text, out: out.clone() })?;
            let rows = std::fs::read_to_string(&out).map_err(fail)?;
            let rows: Vec<SentencePerplexity> = rows.lines().filter_map(|row| serde_json::from_str(row).ok()).collect();
            match json {
                true => print::json(&json!({ "sentences": rows, "summary": scores })),
                false => print::line(shown(&rows, &scores)),
            }
        }
    }
    Ok(Exit::Fine)
}

fn ask(tool: LmTool) -> Result<Vec<Score>, Failure> {
    model::use_tool("lm", Tool::Lm(tool), &model::machine(Device::Cpu, 1)?, None)
}

fn made(out: &Path, scores: &[Score], json: bool) {
    match json {
        true => print::json(&json!({ "file": out, "summary": scores })),
        false => print::line(format!("{}: {}", out.display(), progress::scores(scores))),
    }
}

/// A row for each sentence, and one for all.
fn shown(rows: &[SentencePerplexity], scores: &[Score]) -> String {
    let row = |name: String, words: u64, unknown: u64, log10: f64, perplexity: f64| {
        vec![name, words.to_string(), unknown.to_string(), format!("{log10:.4}"), format!("{perplexity:.2}")]
    };
    let each = |r: &SentencePerplexity| row(r.line.to_string(), r.words, r.unknown, r.log10, r.perplexity);
    let total = |name: &str| find(scores, name).map_or(0.0, |score| score.value);
    let (words, unknown) = (rows.iter().map(|row| row.words).sum(), rows.iter().map(|row| row.unknown).sum());
    let all = row("all".into(), words, unknown, total("log10"), total("perplexity"));
    let header = ["line", "words", "unknown", "log10", "perplexity"];
    print::table(&header, &[0, 1, 2, 3, 4], rows.iter().map(each).chain([all]).collect())
}
