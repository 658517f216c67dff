//! Arguments about output that several commands share.

use clap::ValueEnum;

use crate::app::{Mode, OutputForm};

/// Value of `--output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormArgument {
    #[default]
    Text,
    Json,
}

impl From<OutputFormArgument> for OutputForm {
    fn from(form: OutputFormArgument) -> OutputForm {
        match form {
            OutputFormArgument::Text => OutputForm::Text,
            OutputFormArgument::Json => OutputForm::Json,
        }
    }
}

/// Returns the mode for the flags `--list` and `--dry-run`.
pub(super) fn mode(list: bool, dry_run: bool) -> Mode {
    match (list, dry_run) {
        (true, _) => Mode::List,
        (false, true) => Mode::DryRun,
        (false, false) => Mode::Apply,
    }
}
