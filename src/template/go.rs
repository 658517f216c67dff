//! The spelling of Go templates: the simple substitution is understood, all else is an error that
//! says what to write instead.

/// Something that cannot be translated.
pub(super) struct Untranslatable {
    /// From 1.
    pub(super) line: usize,
    pub(super) problem: String,
    pub(super) hint: String,
}

/// Returns `template` with `{{ .CoreVersion }}` written as `{{ core_version }}`. Lines stay where
/// they are.
pub(super) fn translate(template: &str) -> Result<String, Untranslatable> {
    let mut translated = String::with_capacity(template.len());
    let mut rest = template;
    let mut line = 1;
    while let Some(start) = rest.find('{') {
        let (before, tail) = rest.split_at(start);
        line += before.matches('\n').count();
        translated.push_str(before);
        rest = tail;
        let taken = match tail.as_bytes().get(1) {
            Some(b'{') => {
                let Some(end) = tail.find("}}") else { break };
                let inside = &tail[2..end];
                translated.push_str(&expression(inside, line)?);
                end + 2
            }
            Some(b'%') => {
                let taken = block(tail);
                translated.push_str(&tail[..taken]);
                taken
            }
            Some(b'#') if before.ends_with('$') => {
                return Err(Untranslatable {
                    line,
                    problem: "`${#` begins a comment of the template".to_owned(),
                    hint: "put it between {% raw %} and {% endraw %}".to_owned(),
                });
            }
            Some(b'#') => {
                let taken = end_of(tail, "#}").map_or(tail.len(), |end| end + 2);
                translated.push_str(&tail[..taken]);
                taken
            }
            _ => {
                translated.push('{');
                1
            }
        };
        line += tail[..taken].matches('\n').count();
        rest = &tail[taken..];
    }
    translated.push_str(rest);
    Ok(translated)
}

/// Returns where what begins with two characters at the start of `tail` ends: in `{%}` the one sign
/// does not do both.
pub(super) fn end_of(tail: &str, mark: &str) -> Option<usize> {
    tail.get(2..)?.find(mark).map(|end| end + 2)
}

/// Returns how many bytes the block at the start of `tail` has; of `{% raw %}` all up to its end.
pub(super) fn block(tail: &str) -> usize {
    let Some(end) = end_of(tail, "%}") else {
        return tail.len();
    };
    if tail[2..end].trim_matches('-').trim() != "raw" {
        return end + 2;
    }
    let mut from = end + 2;
    while let Some(start) = tail[from..].find("{%") {
        let start = from + start;
        let Some(length) = end_of(&tail[start..], "%}") else {
            break;
        };
        if tail[start + 2..start + length].trim_matches('-').trim() == "endraw" {
            return start + length + 2;
        }
        from = start + 2;
    }
    tail.len()
}

/// Returns the expression with what is inside of the braces translated.
fn expression(inside: &str, line: usize) -> Result<String, Untranslatable> {
    let body = inside.trim_matches('-').trim();
    let instead = |hint: String| {
        let shown = crate::model::text::excerpt(&format!("{{{{{inside}}}}}"), 80);
        Err(Untranslatable {
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
            let remark = body.trim_start_matches("/*").trim_end_matches("*/").trim();
            instead(format!("write `{{# {remark} #}}`"))
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

/// Returns a path of names such as `CoreVersion` or `Args.FLAVOUR` as it is written here: the first
/// name in lower case with underscores, keys as they are. `None` when it is no such path.
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
