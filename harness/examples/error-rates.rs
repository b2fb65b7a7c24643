//! Prints how often the statistical check errs, as `golden/error-rates.md` has it.

fn main() {
    print!("{}", reprise::statistics::error_rates::markdown(2_000, 1));
}
