//! The experiment language from outside: fixtures of files, laws of identity and of the metric log, and vectors of canonical bytes.

mod canonical;
mod expansion;
mod experiments;
mod identity;
mod metric_log;
mod reading;
