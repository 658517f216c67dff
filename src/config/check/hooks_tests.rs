//! Tests of hooks.

use insta::assert_snapshot;

use super::tests::{entry, findings_of, indented, loaded};

#[test]
fn hooks_with_errors_are_reported() {
    let hooks = |hooks: &str| {
        entry(&format!(
            "tag: '3'\nhooks:\n  post_sync:\n{}",
            indented(hooks, 4)
        ))
    };
    loaded(
        &hooks(
            "- cmd: scan \"{{ image }}\" 'it''s' {{tag}}\n- cmd: [notify, '{{ target }}', 1.10]\n  timeout: 2m\n",
        ),
        &[],
    );
    assert_snapshot!(findings_of(&hooks("- cmd: notify '{{ tag }}' {{ tagg }} {{ .Names }} {{ image\n  timeout: 0\n- timeout: 5\n- cmd: []\n- cmd: ''\n- cmd: {a: b}\n- cmd: [x, [y]]\n")), @r#"
    imglife.yaml:8:18: sync.entries[0].hooks.post_sync[0].cmd: unknown placeholder `{{ tagg }}`
      did you mean `{{ tag }}`?
    imglife.yaml:8:18: sync.entries[0].hooks.post_sync[0].cmd: unknown placeholder `{{ .Names }}`
      use one of `image`, `digest`, `source`, `target` or `tag`
    imglife.yaml:8:18: sync.entries[0].hooks.post_sync[0].cmd: `{{` without a closing `}}`
      write a placeholder as `{{ image }}`
    imglife.yaml:8:18: sync.entries[0].hooks.post_sync[0].cmd: the placeholder `{{ tag }}` is in single quotes, in which the shell does not replace it
      use double quotes instead
    imglife.yaml:9:13: sync.entries[0].hooks.post_sync[0].timeout: the timeout must be greater than zero
      remove `timeout` for the default of 60 seconds
    imglife.yaml:10:13: sync.entries[0].hooks.post_sync[1]: `cmd` is missing
      add `cmd:` with a command line or a list
    imglife.yaml:10:22: sync.entries[0].hooks.post_sync[1].timeout: expected a duration, found `5`
      add a unit, for example `5s`, `5m`, `5h` or `5d`
    imglife.yaml:11:18: sync.entries[0].hooks.post_sync[2].cmd: the list contains no program
      write the name of the program as the first item
    imglife.yaml:12:18: sync.entries[0].hooks.post_sync[3].cmd: expected a command line, found an empty string
    imglife.yaml:13:19: sync.entries[0].hooks.post_sync[4].cmd: expected a command line or a list, found a mapping
    imglife.yaml:14:22: sync.entries[0].hooks.post_sync[5].cmd[1]: expected a string, found a list
    "#);
}
