//! Templates of the configuration and of Dockerfiles: text with variables.
//!
//! Owns rendering, its limits, and the spelling that people know from Go templates. What the variables are is up to who renders.

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde::Serialize;
use thiserror::Error;

use crate::model::text::excerpt;

mod go;

/// The longest template, and the longest text that one may make, in bytes.
pub const LONGEST_TEXT: usize = 1024 * 1024;

/// Instructions that rendering may take: far more than any template needs, and over in well under a second.
const FUEL: u64 = 1_000_000;

/// Why a template has no text.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{name}{}: {problem}", .line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct TemplateError {
    /// What the template is called: a file, or a key of the configuration.
    pub name: String,
    /// From 1, where it is known.
    pub line: Option<usize>,
    pub problem: String,
    pub hint: Option<String>,
}

/// Returns the text that `template` makes of `variables`. Undefined variables are errors. `name` is what messages call the template.
pub fn render(name: &str, template: &str, variables: impl Serialize) -> Result<String, TemplateError> {
    let fail = |line, problem: String, hint| TemplateError { name: name.to_owned(), line, problem, hint };
    if template.len() > LONGEST_TEXT {
        return Err(fail(None, format!("the template is longer than {} KiB", LONGEST_TEXT / 1024), None));
    }
    let written = template;
    let template = go::translate(template).map_err(|found| fail(Some(found.line), found.problem, Some(found.hint)))?;
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    let known = minijinja::Value::from(Serde(&variables));
    let explain = |error: minijinja::Error| {
        let problem = match (error.kind(), error.detail()) {
            (ErrorKind::OutOfFuel, _) => "rendering it takes too long".to_owned(),
            (ErrorKind::WriteFailure, _) => format!("it makes more than {} KiB of text", LONGEST_TEXT / 1024),
            (ErrorKind::UndefinedError, _) => {
                let line = error.line().and_then(|line| written.lines().nth(line - 1)).unwrap_or_default();
                format!("undefined value in `{}`", excerpt(line, 120))
            }
            (kind, Some(detail)) => format!("{kind}: {}", excerpt(detail, 200)),
            (kind, None) => kind.to_string(),
        };
        let hint = match error.kind() {
            ErrorKind::UndefinedError => names(&known).map(|names| format!("there are {names}")),
            ErrorKind::SyntaxError => {
                Some("text that is no template, such as `{{` of another program, stands between {% raw %} and {% endraw %}".to_owned())
            }
            _ => None,
        };
        fail(error.line(), problem, hint)
    };
    let mut text = Bounded(Vec::new());
    environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build().map_err(explain)?);
    let parsed = environment.template_from_named_str(name, &template).map_err(explain)?;
    parsed.render_captured_to(&known, &mut text).map_err(explain)?;
    String::from_utf8(text.0).map_err(|_| fail(None, "it makes text that is not UTF-8".to_owned(), None))
}

/// Returns the text that a template of the program itself makes of `variables`: without limits, since a page has as many rows as there
/// are records. A line that holds only a block is none in the text.
pub fn page(name: &str, template: &str, variables: impl Serialize) -> Result<String, TemplateError> {
    let explain = |error: minijinja::Error| {
        let problem = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        TemplateError { name: name.to_owned(), line: error.line(), problem, hint: None }
    };
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build().map_err(explain)?;
    environment.set_syntax(syntax);
    let parsed = environment.template_from_named_str(name, template).map_err(explain)?;
    parsed.render(minijinja::Value::from(Serde(&variables))).map_err(explain)
}

/// Returns the names of the variables, in a sentence.
fn names(variables: &minijinja::Value) -> Option<String> {
    let names: Vec<String> = variables.try_iter().ok()?.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { None } else { Some(names.join(", ")) }
}

/// Text that may not grow without end.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST_TEXT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn rendered(template: &str) -> Result<String, String> {
        #[derive(Serialize)]
        struct Variables {
            version: &'static str,
            core_version: &'static str,
            platforms: Vec<&'static str>,
            args: BTreeMap<&'static str, &'static str>,
        }
        let variables = Variables {
            version: "3.21.3",
            core_version: "1.0.0",
            platforms: vec!["linux/amd64", "linux/arm64"],
            args: [("FLAVOUR", "slim")].into(),
        };
        render("images/alpine/Dockerfile.tmpl", template, &variables).map_err(|error| {
            let hint = error.hint.as_ref().map(|hint| format!(" [{hint}]")).unwrap_or_default();
            format!("{error}{hint}")
        })
    }

    #[test]
    fn variables_are_put_in() {
        assert_eq!(rendered("{{ version }}-core{{ core_version }}\n").as_deref(), Ok("3.21.3-core1.0.0\n"));
        assert_eq!(
            rendered("{% for p in platforms %}{{ p }} {% endfor %}{{ args.FLAVOUR | upper }}").as_deref(),
            Ok("linux/amd64 linux/arm64 SLIM")
        );
        assert_eq!(rendered("{% if version is startingwith '3.' %}yes{% endif %}").as_deref(), Ok("yes"));
        assert_eq!(rendered("{% raw %}{{ .Names }}{% endraw %} {# nothing #}$PATH ${PATH}").as_deref(), Ok("{{ .Names }} $PATH ${PATH}"));
    }

    #[test]
    fn the_spelling_of_go_is_understood_where_it_is_simple() {
        assert_eq!(rendered("{{ .Version }} {{.CoreVersion}} {{- .Args.FLAVOUR -}} !").as_deref(), Ok("3.21.3 1.0.0slim!"));
        assert_eq!(rendered("{{ .version }}").as_deref(), Ok("3.21.3"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let cases = [
            (
                "FROM x\nRUN {{ vrsion }}",
                "images/alpine/Dockerfile.tmpl:2: undefined value in `RUN {{ vrsion }}` [there are `version`, `core_version`, `platforms`, `args`]",
            ),
            ("a\n\n{{ args.NONE }}", "images/alpine/Dockerfile.tmpl:3: undefined value"),
            ("{{ version", "images/alpine/Dockerfile.tmpl:1: syntax error"),
            (
                "a\n{{ if .Version }}",
                "images/alpine/Dockerfile.tmpl:2: `{{ if .Version }}` is Go template syntax [write `{% if version %}`",
            ),
            ("{{ range .Platforms }}", "write `{% for item in platforms %}`"),
            ("{{ end }}", "write `{% endif %}` or `{% endfor %}`"),
            ("{{ else }}", "write `{% else %}`"),
            ("{{ .Version | printf \"%s\" }}", "is Go template syntax"),
            ("{{ $x := .Version }}", "write `{% set x = version %}`"),
            ("{{ with .Args }}", "is Go template syntax"),
            ("{{/* a remark */}}", "write `{# a remark #}`"),
            ("RUN echo ${#LIST}", "begins a comment of the template"),
            ("{% include 'x' %}", "images/alpine/Dockerfile.tmpl:1: "),
            ("{{ version.__class__ }}", "undefined value"),
            ("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}", "rendering it takes too long"),
            (
                "{% for a in range(9999) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}",
                "it makes more than 1024 KiB",
            ),
        ];
        for (template, expected) in cases {
            let found = rendered(template).expect_err(template);
            assert!(found.contains(expected), "{template}: {found}");
        }
        let long = rendered(&"x".repeat(LONGEST_TEXT + 1)).expect_err("too long");
        assert!(long.contains("longer than 1024 KiB"), "{long}");
    }
}
