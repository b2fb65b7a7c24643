//! The program `reprise`: parse, do, print, exit.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use reprise::cmd::{self, Cli, print};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A terminal wraps lines at words; elsewhere they stay whole, for search and for logs.
    let terminal = std::io::stderr().is_terminal();
    let color = cli.color.on(terminal);
    // Setting the hook fails only when it was set before, and nothing else here sets it.
    let _ = miette::set_hook(Box::new(move |_| {
        Box::new(miette::MietteHandlerOpts::new().color(color).unicode(true).width(100).wrap_lines(terminal).build())
    }));
    match cmd::run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            print::failure(&failure);
            failure.exit.into()
        }
    }
}
