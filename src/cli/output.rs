//! The forms of a report, as `--output` names them.

use clap::ValueEnum;

use crate::app::{Mode, Output};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputForm {
    #[default]
    Text,
    Json,
}

impl From<OutputForm> for Output {
    fn from(form: OutputForm) -> Output {
        match form {
            OutputForm::Text => Output::Text,
            OutputForm::Json => Output::Json,
        }
    }
}

/// Returns how far a run goes, by its flags.
pub(super) fn mode(list: bool, dry_run: bool) -> Mode {
    match (list, dry_run) {
        (true, _) => Mode::List,
        (false, true) => Mode::DryRun,
        (false, false) => Mode::Apply,
    }
}
