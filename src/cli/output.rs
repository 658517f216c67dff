//! The forms of a report, as `--output` names them.

use clap::ValueEnum;

use crate::app::Output;

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
