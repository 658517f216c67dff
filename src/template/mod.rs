//! Templates of the configuration and of Dockerfiles: text with variables.
//!
//! Owns rendering, its limits, and the translation of simple Go template syntax. The caller
//! supplies the variables.

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde::Serialize;
use thiserror::Error;

use crate::model::text::excerpt;

mod go;
mod limits;

/// Maximum length of a line of a template, in bytes.
const MAX_LINE_LENGTH: usize = 16 * 1024;

/// Maximum size of a template and of the rendered text, in bytes.
pub const MAX_TEXT_SIZE: usize = 1024 * 1024;

/// Maximum number of instructions for rendering, far more than a real template needs.
const MAX_INSTRUCTIONS: u64 = 100_000;

/// Stack size of the thread that renders, in bytes.
const STACK_SIZE: usize = 16 * 1024 * 1024;

/// Failure to parse or render a template.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{name}{}: {problem}", .line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct TemplateError {
    /// Name of the template: a file, or a key of the configuration.
    pub name: String,
    /// Line number from 1; `None` if the error has no line.
    pub line: Option<usize>,
    pub problem: String,
    pub hint: Option<String>,
}

/// Renders `template` with `variables`. `name` identifies the template in messages.
///
/// Undefined variables are errors. The template may be untrusted: memory, stack and time are
/// limited.
pub fn render(
    name: &str,
    template: &str,
    variables: impl Serialize,
) -> Result<String, TemplateError> {
    let source = TemplateSource {
        name,
        text: template,
    };
    let known = minijinja::Value::from(Serde(&variables));
    source.in_thread(|| source.render(&known))
}

/// Checks that `template` parses and uses no other variables than `variables`.
///
/// Finds the errors that do not depend on the values of the variables.
pub fn check(name: &str, template: &str, variables: &[&str]) -> Result<(), TemplateError> {
    let source = TemplateSource {
        name,
        text: template,
    };
    source.in_thread(|| source.check(variables))
}

/// A template before translation.
struct TemplateSource<'a> {
    name: &'a str,
    text: &'a str,
}

impl TemplateSource<'_> {
    fn fail(&self, line: Option<usize>, problem: String, hint: Option<String>) -> TemplateError {
        TemplateError {
            name: self.name.to_owned(),
            line,
            problem,
            hint,
        }
    }

    fn in_thread<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, TemplateError> + Send,
    ) -> Result<T, TemplateError> {
        let result = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("template".to_owned())
                .stack_size(STACK_SIZE);
            thread
                .spawn_scoped(scope, work)
                .map(std::thread::ScopedJoinHandle::join)
        });
        match result {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.fail(None, "rendering failed unexpectedly".to_owned(), None)),
            Err(error) => Err(self.fail(
                None,
                format!("cannot start a thread for rendering: {error}"),
                None,
            )),
        }
    }

    /// Translates the template for the engine and applies the limits.
    fn translated(&self) -> Result<String, TemplateError> {
        if self.text.len() > MAX_TEXT_SIZE {
            return Err(self.fail(
                None,
                format!("the template is longer than {} KiB", MAX_TEXT_SIZE / 1024),
                None,
            ));
        }
        // The engine counts columns in 16 bits, including what `limits::restrict` adds to a line.
        if let Some((line, _)) = (1..)
            .zip(self.text.lines())
            .find(|(_, line)| line.len() > MAX_LINE_LENGTH)
        {
            return Err(self.fail(
                Some(line),
                format!("the line is longer than {} KiB", MAX_LINE_LENGTH / 1024),
                None,
            ));
        }
        let template =
            go::translate(self.text).and_then(|translated| limits::restrict(&translated));
        template.map_err(|found| self.fail(Some(found.line), found.problem, Some(found.hint)))
    }

    fn check(&self, variables: &[&str]) -> Result<(), TemplateError> {
        let template = self.translated()?;
        let environment = limits::environment();
        let known = minijinja::Value::from(Serde(&variables));
        let parsed = environment
            .template_from_named_str(self.name, &template)
            .map_err(|error| self.explain(&error, &known))?;
        let globals: Vec<&str> = environment.globals().map(|(name, _)| name).collect();
        let mut unknown: Vec<String> = parsed.undeclared_variables(false).into_iter().collect();
        unknown.retain(|name| {
            !variables.contains(&name.as_str()) && !globals.contains(&name.as_str())
        });
        unknown.sort();
        match unknown.first() {
            None => Ok(()),
            Some(name) => {
                let hint = names(&known).map(|names| format!("use one of {names}"));
                Err(self.fail(
                    None,
                    format!("there is no variable `{}`", excerpt(name, 60)),
                    hint,
                ))
            }
        }
    }

    fn render(&self, known: &minijinja::Value) -> Result<String, TemplateError> {
        let template = self.translated()?;
        let mut environment = limits::environment();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(MAX_INSTRUCTIONS));
        let explain = |error| self.explain(&error, known);
        let mut text = LimitedOutput(Vec::new());
        environment.set_syntax(
            SyntaxConfig::builder()
                .keep_trailing_newline(true)
                .build()
                .map_err(explain)?,
        );
        let parsed = environment
            .template_from_named_str(self.name, &template)
            .map_err(explain)?;
        parsed
            .render_captured_to(known, &mut text)
            .map_err(explain)?;
        String::from_utf8(text.0)
            .map_err(|_| self.fail(None, "the rendered text is not UTF-8".to_owned(), None))
    }

    fn explain(&self, error: &minijinja::Error, known: &minijinja::Value) -> TemplateError {
        let problem = match (error.kind(), error.detail()) {
            (ErrorKind::OutOfFuel, _) => "rendering takes too long".to_owned(),
            (ErrorKind::WriteFailure, _) => {
                format!(
                    "the rendered text is longer than {} KiB",
                    MAX_TEXT_SIZE / 1024
                )
            }
            (ErrorKind::UndefinedError, _) => {
                let line = error
                    .line()
                    .and_then(|line| self.text.lines().nth(line - 1))
                    .unwrap_or_default();
                format!("undefined value in `{}`", excerpt(line, 120))
            }
            (kind, Some(detail)) => format!("{kind}: {}", excerpt(detail, 200)),
            (kind, None) => kind.to_string(),
        };
        let hint = match error.kind() {
            ErrorKind::UndefinedError => names(known).map(|names| format!("use one of {names}")),
            ErrorKind::SyntaxError => {
                Some("put text that is not part of the template, such as `{{` of another program, between {% raw %} and {% endraw %}".to_owned())
            }
            _ => None,
        };
        self.fail(error.line(), problem, hint)
    }
}

/// Renders a template of imglife itself with `variables`, without limits: a page has as many rows
/// as there are records. A line that consists of a block only leaves no line in the text.
pub fn page(
    name: &str,
    template: &str,
    variables: impl Serialize,
) -> Result<String, TemplateError> {
    let explain = |error: minijinja::Error| {
        let problem = error
            .detail()
            .map_or_else(|| error.kind().to_string(), str::to_owned);
        TemplateError {
            name: name.to_owned(),
            line: error.line(),
            problem,
            hint: None,
        }
    };
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()
        .map_err(explain)?;
    environment.set_syntax(syntax);
    let parsed = environment
        .template_from_named_str(name, template)
        .map_err(explain)?;
    parsed
        .render(minijinja::Value::from(Serde(&variables)))
        .map_err(explain)
}

/// Returns the names of the variables as a list for a message; `None` if there are none.
fn names(variables: &minijinja::Value) -> Option<String> {
    let names: Vec<String> = variables
        .try_iter()
        .ok()?
        .map(|name| format!("`{name}`"))
        .collect();
    if names.is_empty() {
        None
    } else {
        Some(names.join(", "))
    }
}

/// Text of at most [`MAX_TEXT_SIZE`] bytes.
struct LimitedOutput(Vec<u8>);

impl Write for LimitedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_TEXT_SIZE {
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
        struct ImageVariables {
            version: &'static str,
            core_version: &'static str,
            platforms: Vec<&'static str>,
            args: BTreeMap<&'static str, &'static str>,
        }
        let variables = ImageVariables {
            version: "3.21.3",
            core_version: "1.0.0",
            platforms: vec!["linux/amd64", "linux/arm64"],
            args: [("FLAVOUR", "slim")].into(),
        };
        render("images/alpine/Dockerfile.tmpl", template, &variables).map_err(|error| {
            let hint = error
                .hint
                .as_ref()
                .map(|hint| format!(" [{hint}]"))
                .unwrap_or_default();
            format!("{error}{hint}")
        })
    }

    #[test]
    fn render_replaces_variables() {
        assert_eq!(
            rendered("{{ version }}-core{{ core_version }}\n").as_deref(),
            Ok("3.21.3-core1.0.0\n")
        );
        assert_eq!(
            rendered("{% for p in platforms %}{{ p }} {% endfor %}{{ args.FLAVOUR | upper }}")
                .as_deref(),
            Ok("linux/amd64 linux/arm64 SLIM")
        );
        assert_eq!(
            rendered("{% if version is startingwith '3.' %}yes{% endif %}").as_deref(),
            Ok("yes")
        );
        assert_eq!(
            rendered("{% raw %}{{ .Names }}{% endraw %} {# nothing #}$PATH ${PATH}").as_deref(),
            Ok("{{ .Names }} $PATH ${PATH}")
        );
    }

    #[test]
    fn render_accepts_simple_go_syntax() {
        assert_eq!(
            rendered("{{ .Version }} {{.CoreVersion}} {{- .Args.FLAVOUR -}} !").as_deref(),
            Ok("3.21.3 1.0.0slim!")
        );
        assert_eq!(rendered("{{ .version }}").as_deref(), Ok("3.21.3"));
    }

    #[test]
    fn errors_name_the_problem_and_its_line() {
        let repeated = format!(
            "{{% for a in range(999) %}}{}{{% endfor %}}",
            "x".repeat(2_000)
        );
        let cases = [
            (
                "FROM x\nRUN {{ vrsion }}",
                "images/alpine/Dockerfile.tmpl:2: undefined value in `RUN {{ vrsion }}` [use one of `version`, `core_version`, `platforms`, `args`]",
            ),
            (
                "a\n\n{{ args.NONE }}",
                "images/alpine/Dockerfile.tmpl:3: undefined value",
            ),
            (
                "{{ version",
                "images/alpine/Dockerfile.tmpl:1: syntax error",
            ),
            (
                "a\n{{ if .Version }}",
                "images/alpine/Dockerfile.tmpl:2: `{{ if .Version }}` is Go template syntax [write `{% if version %}`",
            ),
            (
                "{{ range .Platforms }}",
                "write `{% for item in platforms %}`",
            ),
            ("{{ end }}", "write `{% endif %}` or `{% endfor %}`"),
            ("{{ else }}", "write `{% else %}`"),
            ("{{ .Version | printf \"%s\" }}", "is Go template syntax"),
            ("{{ $x := .Version }}", "write `{% set x = version %}`"),
            ("{{ with .Args }}", "is Go template syntax"),
            ("{{/* a remark */}}", "write `{# a remark #}`"),
            ("RUN echo ${#LIST}", "starts a template comment"),
            (
                "{% include 'x' %}",
                "images/alpine/Dockerfile.tmpl:1: `{% include %}` is not supported in templates",
            ),
            ("{{ version.__class__ }}", "undefined value"),
            (
                "{% for a in range(999) %}{% for b in range(999) %}x{% endfor %}{% endfor %}",
                "rendering takes too long",
            ),
            (
                repeated.as_str(),
                "the rendered text is longer than 1024 KiB",
            ),
        ];
        for (template, expected) in cases {
            let found = rendered(template).expect_err(template);
            assert!(found.contains(expected), "{template}: {found}");
        }
        let long = rendered(&"x".repeat(MAX_TEXT_SIZE + 1)).expect_err("too long");
        assert!(long.contains("longer than 1024 KiB"), "{long}");
    }

    #[test]
    fn set_and_for_keep_values() {
        for (template, expected) in [
            (
                "{% set name = 'a' ~ version -%} {{ name | replace('.', '-') }}",
                "a3-21-3",
            ),
            (
                "{%- set a, b = 1, [2, 3] %}{{ a }}{% for x in b if false else [4] %}{{ x }}{% endfor %}",
                "14",
            ),
            (
                "{% for name, value in args | items %}{{ name }}={{ value }}{% endfor %}",
                "FLAVOUR=slim",
            ),
            (
                "{% for p in platforms -%} {{ p | split('/') | last }}{% if not loop.last %},{% endif %} {%- endfor %}",
                "amd64,arm64",
            ),
            (
                "{{ platforms | join(' ') }} {{ none is defined }} {{ {'a': {'b': 1}}.a.b }} {{ '}}' }}",
                "linux/amd64 linux/arm64 True 1 }}",
            ),
            (
                "{{ range(2, 4) | join }}{% raw %}{% set * %}{{ 1 * 1 }}{% endraw %}{# * #}*",
                "23{% set * %}{{ 1 * 1 }}*",
            ),
        ] {
            assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn small_templates_cannot_fill_memory() {
        let doubling =
            |operation: &str| format!("{{% set a = 'xxxxxxxxxxxxxxxx' %}}{}", operation.repeat(40));
        for (template, expected) in [
            (
                doubling("{% set a = a ~ a %}"),
                "a value is larger than 8 KiB",
            ),
            (
                doubling("{% set a = a + a %}"),
                "a value is larger than 8 KiB",
            ),
            (
                doubling("{% set a = [a, a] %}"),
                "a value is larger than 8 KiB",
            ),
            (
                doubling("{% set a = [a, a] | join %}"),
                "a value is larger than 8 KiB",
            ),
            (
                doubling("{% set a = {'a': a, 'b': a} %}"),
                "a value is larger than 8 KiB",
            ),
            (
                doubling("{% set a = a | replace('x', 'xx') %}"),
                "a value is larger than 8 KiB",
            ),
            (
                doubling("{% for b in [a ~ a] %}{% set a = b ~ b %}") + &"{% endfor %}".repeat(40),
                "a value is larger than 8 KiB",
            ),
            (
                "{% set a = 'x' * 100000 %}".to_owned(),
                "`*` is not supported",
            ),
            (
                "{{ ('x' * 100000) | replace('x', 'y') }}".to_owned(),
                "`*` is not supported",
            ),
            ("{{ [(2 ** 9)] }}".to_owned(), "`*` is not supported"),
            (
                "{% set a %}{{ version }}{% endset %}".to_owned(),
                "`set` has no value",
            ),
            (
                "{% macro m() %}{% endmacro %}".to_owned(),
                "`{% macro %}` is not supported",
            ),
            (
                "{%+ raw %}{% macro m() %}{% endmacro %}{% endraw %}".to_owned(),
                "`{% raw %}` is not supported",
            ),
            (
                "{% for x in platforms recursive %}{% endfor %}".to_owned(),
                "`for` with `if` or `recursive` is not supported",
            ),
            (
                "{{ range(100000) | join }}".to_owned(),
                "more than 1000 numbers",
            ),
            (
                "{{ range(-9223372036854775807, 9223372036854775807) }}".to_owned(),
                "more than 1000 numbers",
            ),
            (
                "{{ 'x y ' ~ '%s' | format('z') }}".to_owned(),
                "unknown filter",
            ),
            (
                format!(
                    "{{% for a in range(900) %}}{{% set b = '{}' %}}{{% set c = b ~ b ~ b ~ b %}}{{% endfor %}}",
                    "x".repeat(900)
                ),
                "the values of all variables take more than 2048 KiB",
            ),
        ] {
            let found = rendered(&template).expect_err(&template);
            assert!(found.contains(expected), "{template}: {found}");
        }
    }

    #[test]
    fn long_and_deep_templates_do_not_overflow_the_stack() {
        for (template, expected) in [
            (
                format!("{{{{ 1{} }}}}", "\n+1".repeat(100_000)),
                "longer than 1024 bytes",
            ),
            (
                format!("{{{{ x{} }}}}", "\n.a".repeat(100_000)),
                "longer than 1024 bytes",
            ),
            (
                format!("{{{{ 1{} }}}}", "\n|abs".repeat(100_000)),
                "longer than 1024 bytes",
            ),
            (
                format!(
                    "{{% if 1 %}}{}{{% endif %}}",
                    "{% elif 1 %}\n".repeat(80_000)
                ),
                "more than 100 `elif`",
            ),
            ("{% if 1 %}\n".repeat(9_000), "recursion"),
            ("{{ 1 }}\n".repeat(10_001), "more than 10000 expressions"),
            (
                format!("{{{{ {}", "(\n".repeat(1_000_000)),
                "images/alpine/Dockerfile.tmpl:",
            ),
        ] {
            assert!(template.lines().all(|line| line.len() < MAX_LINE_LENGTH));
            let found = rendered(&template).expect_err("too long");
            assert!(found.contains(expected), "{found}");
        }
        for template in [
            format!("{{{{ 1{} }}}}", "+1".repeat(500)),
            format!("{{{{ {}1 }}}}", "not ".repeat(200)),
            format!("{{{{ 1{} }}}}", "|abs".repeat(250)),
        ] {
            rendered(&template).expect("a rendered text");
        }
    }
}

#[cfg(test)]
mod fuzz_tests {
    use super::*;
    use crate::model::fuzz_tests::{fuzz, text};

    #[test]
    fn fuzzing_templates() {
        let seeds = [
            "FROM {{ base }}\n{% for one in names %}RUN {{ one|upper }} {{ loop.index }}\n{% endfor %}{# note #}{% if a is defined %}x{% else %}y{% endif %}",
            "{{ .Base }} {{- range .Names }}{{ . }}{{ end }} {% set a = [1, 2] %}{% macro m(b) %}{{ b * 3 }}{% endmacro %}{{ m('c') ~ a|join(',') }}",
            "{% raw %}{{ }}{% endraw %}{{ (((1 + 2) * 3) ** 2)|string }}",
        ];
        let variables = serde_json::json!({ "base": "r.example/a:1", "names": ["b", "c"], "a": 7 });
        fuzz("templates", &seeds, |input| {
            match render("a template", &text(input), &variables) {
                Ok(text) => assert!(text.len() <= MAX_TEXT_SIZE),
                // The message after a panic of the rendering thread.
                Err(error) => assert!(
                    !error.problem.is_empty() && error.problem != "rendering failed unexpectedly",
                    "{error}"
                ),
            }
        });
    }
}
