//! The program `reprise`: parse, do, print, exit.

use std::process::ExitCode;

use clap::Parser;
use reprise::cmd::{self, Cli, Color, print};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let color = match cli.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none(),
    };
    // A terminal wraps lines at words; elsewhere they stay whole, for search and for logs.
    let wrap = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // Setting the hook fails only when it was set before, and nothing else here sets it.
    let _ = miette::set_hook(Box::new(move |_| {
        Box::new(miette::MietteHandlerOpts::new().color(color).unicode(true).width(100).wrap_lines(wrap).build())
    }));
    match cmd::run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            print::failure(&failure);
            failure.exit.into()
        }
    }
}
