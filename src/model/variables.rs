//! The environment variables a run was given, as a value.

use std::collections::BTreeMap;
use std::fmt;

use super::text::{Masker, names_a_secret};

/// Environment variables by name. `Debug` shows names only, since values can be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Returns the value of `name`, or `None` when it is not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns the value of `name` when it is set and not empty.
    pub fn get_filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Sets `name` to `value`.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Returns all names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns a masker for the values of all variables whose names are those of secrets.
    pub fn masker(&self) -> Masker {
        Masker::new(self.iter().filter(|(name, _)| names_a_secret(name)).map(|(_, value)| value.to_owned()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Variables {
        Variables(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_names_only() {
        let variables: Variables = [("GITLAB_TOKEN", "hunter2")].into_iter().collect();
        assert_eq!(format!("{variables:?}"), r#"{"GITLAB_TOKEN"}"#);
    }

    #[test]
    fn the_masker_hides_values_of_secret_variables_only() {
        let variables: Variables = [("GITLAB_TOKEN", "hunter2"), ("USER", "alice")].into_iter().collect();
        assert_eq!(variables.masker().mask("alice has hunter2"), "alice has ***");
    }
}
