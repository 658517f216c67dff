//! Go template syntax: simple substitutions are translated, everything else is an error with a
//! hint what to write instead.

/// A syntax error in a template, found before the engine parses it.
pub(super) struct TemplateSyntaxError {
    /// Line number, from 1.
    pub(super) line: usize,
    pub(super) problem: String,
    pub(super) hint: String,
}

/// Translates `{{ .CoreVersion }}` to `{{ core_version }}`. Line numbers stay the same.
pub(super) fn translate(template: &str) -> Result<String, TemplateSyntaxError> {
    let mut translated = String::with_capacity(template.len());
    let mut rest = template;
    let mut line = 1;
    while let Some(start) = rest.find('{') {
        let (before, tail) = rest.split_at(start);
        line += before.matches('\n').count();
        translated.push_str(before);
        rest = tail;
        let length = match tail.as_bytes().get(1) {
            Some(b'{') => {
                let Some(end) = tail.find("}}") else { break };
                let inside = &tail[2..end];
                translated.push_str(&expression(inside, line)?);
                end + 2
            }
            Some(b'%') => {
                let length = block_length(tail);
                translated.push_str(&tail[..length]);
                length
            }
            Some(b'#') if before.ends_with('$') => {
                return Err(TemplateSyntaxError {
                    line,
                    problem: "`${#` starts a template comment".to_owned(),
                    hint: "put it between {% raw %} and {% endraw %}".to_owned(),
                });
            }
            Some(b'#') => {
                let length = find_end(tail, "#}").map_or(tail.len(), |end| end + 2);
                translated.push_str(&tail[..length]);
                length
            }
            _ => {
                translated.push('{');
                1
            }
        };
        line += tail[..length].matches('\n').count();
        rest = &tail[length..];
    }
    translated.push_str(rest);
    Ok(translated)
}

/// Returns the position of `mark` in `tail`, after the two characters that open the tag. In `{%}`
/// the `%` cannot both open and close a tag.
pub(super) fn find_end(tail: &str, mark: &str) -> Option<usize> {
    tail.get(2..)?.find(mark).map(|end| end + 2)
}

/// Returns the length in bytes of the `{% … %}` at the start of `tail`; for `{% raw %}` up to the
/// end of `{% endraw %}`.
pub(super) fn block_length(tail: &str) -> usize {
    let Some(end) = find_end(tail, "%}") else {
        return tail.len();
    };
    if tail[2..end].trim_matches('-').trim() != "raw" {
        return end + 2;
    }
    let mut from = end + 2;
    while let Some(start) = tail[from..].find("{%") {
        let start = from + start;
        let Some(length) = find_end(&tail[start..], "%}") else {
            break;
        };
        if tail[start + 2..start + length].trim_matches('-').trim() == "endraw" {
            return start + length + 2;
        }
        from = start + 2;
    }
    tail.len()
}

/// Translates the expression between `{{` and `}}`.
fn expression(inside: &str, line: usize) -> Result<String, TemplateSyntaxError> {
    let body = inside.trim_matches('-').trim();
    let instead = |hint: String| {
        let shown = crate::model::text::excerpt(&format!("{{{{{inside}}}}}"), 80);
        Err(TemplateSyntaxError {
            line,
            problem: format!("`{shown}` is Go template syntax"),
            hint,
        })
    };
    if let Some(name) = body.strip_prefix('.').and_then(path) {
        return Ok(format!("{{{{{}}}}}", inside.replacen(body, &name, 1)));
    }
    let (word, after) = body
        .split_once(char::is_whitespace)
        .map_or((body, ""), |(word, after)| (word, after.trim()));
    let argument = after.strip_prefix('.').and_then(path);
    let condition = argument.clone().unwrap_or_else(|| "...".to_owned());
    match word {
        "if" => instead(format!("write `{{% if {condition} %}}` ... `{{% endif %}}`")),
        "else" => instead("write `{% else %}`".to_owned()),
        "end" => instead("write `{% endif %}` or `{% endfor %}`".to_owned()),
        "range" => instead(format!("write `{{% for item in {condition} %}}` ... `{{% endfor %}}`")),
        "with" | "define" | "template" | "block" | "break" | "continue" => {
            instead("templates are minijinja; write it with `{% set name = value %}`, `{% if ... %}` or `{% for ... %}`".to_owned())
        }
        "printf" | "print" | "eq" | "ne" | "and" | "or" | "not" | "len" | "index" if after.starts_with(['.', '"', '(']) => {
            instead("templates are minijinja; write `a == b`, `a and b`, `list[0]`, `text | length`".to_owned())
        }
        _ if body.starts_with("/*") => {
            let comment = body.trim_start_matches("/*").trim_end_matches("*/").trim();
            instead(format!("write `{{# {comment} #}}`"))
        }
        _ if body.starts_with('$') => match body[1..].split_once(":=").map(|(name, value)| (name.trim(), value.trim())) {
            Some((name, value)) => {
                let value = value.strip_prefix('.').and_then(path).unwrap_or_else(|| "...".to_owned());
                instead(format!("write `{{% set {name} = {value} %}}`"))
            }
            None => instead("write the name without `$`".to_owned()),
        },
        _ if body.starts_with('.') => instead("write the name without the dot, and filters as in `{{ version | upper }}`".to_owned()),
        _ => Ok(format!("{{{{{inside}}}}}")),
    }
}

/// Translates a Go path such as `CoreVersion` or `Args.FLAVOUR`: the first name becomes lower case
/// with underscores, keys stay as they are. Returns `None` if `text` is no path.
fn path(text: &str) -> Option<String> {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || character == '_')
    };
    let mut names = text.split('.');
    let first = names.next().filter(|name| is_name(name))?;
    let mut path = String::new();
    for (at, character) in first.char_indices() {
        if character.is_ascii_uppercase()
            && at > 0
            && first[..at]
                .ends_with(|before: char| before.is_ascii_lowercase() || before.is_ascii_digit())
        {
            path.push('_');
        }
        path.push(character.to_ascii_lowercase());
    }
    for name in names {
        if !is_name(name) {
            return None;
        }
        path.push('.');
        path.push_str(name);
    }
    Some(path)
}
