//! Hooks.

use insta::assert_snapshot;

use super::tests::{entry, indented, loaded, told};

#[test]
fn hooks_are_checked() {
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
    assert_snapshot!(told(&hooks("- cmd: notify '{{ tag }}' {{ tagg }} {{ .Names }} {{ image\n  timeout: 0\n- timeout: 5\n- cmd: []\n- cmd: ''\n- cmd: {a: b}\n- cmd: [x, [y]]\n")), @r#"
    imglife.yaml:8:18: sync.entries[0].hooks.post_sync[0].cmd: unknown placeholder `{{ tagg }}`
      did you mean `{{ tag }}`?
    imglife.yaml:8:18: sync.entries[0].hooks.post_sync[0].cmd: unknown placeholder `{{ .Names }}`
      there are `image`, `digest`, `source`, `target` and `tag`
    imglife.yaml:8:18: sync.entries[0].hooks.post_sync[0].cmd: `{{` without `}}`
      write a placeholder as `{{ image }}`
    imglife.yaml:8:18: sync.entries[0].hooks.post_sync[0].cmd: the placeholder `{{ tag }}` stands in single quotes, where the shell would not replace it
      use double quotes around it
    imglife.yaml:9:13: sync.entries[0].hooks.post_sync[0].timeout: a hook needs time to run
      leave `timeout` out for 60 seconds
    imglife.yaml:10:13: sync.entries[0].hooks.post_sync[1]: `cmd` is missing
      add `cmd:` with a shell line or a list
    imglife.yaml:10:22: sync.entries[0].hooks.post_sync[1].timeout: expected a duration, found `5`
      add a unit, for example `5s`, `5m`, `5h` or `5d`
    imglife.yaml:11:18: sync.entries[0].hooks.post_sync[2].cmd: the list names no program
      put the program's name first
    imglife.yaml:12:18: sync.entries[0].hooks.post_sync[3].cmd: expected a shell line, found an empty text
    imglife.yaml:13:19: sync.entries[0].hooks.post_sync[4].cmd: expected a shell line or a list, found a mapping
    imglife.yaml:14:22: sync.entries[0].hooks.post_sync[5].cmd[1]: expected text, found a list
    "#);
}
