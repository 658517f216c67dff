#!/bin/sh
# Makes the templates' default image that of a version, before the version is tagged: GitLab reads a component as it is at its tag, and
# before GitLab 18.7 a template cannot know its own version. From 18.7 on it could, but not for what is no released version.
#
# set-version.sh VERSION [PROJECT]          PROJECT is the path of the components' project in the container registry,
# set-version.sh --check VERSION [PROJECT]  platform/imglife-components unless given. --check changes nothing.
set -eu
cd "$(dirname "$0")"

check=
if [ "${1:-}" = --check ]; then
    check=yes
    shift
fi
version=${1:-} project=${2:-platform/imglife-components}
case $version in
'' | *[!0-9A-Za-z.-]*)
    echo "set-version: \`$version\` is no version" >&2
    exit 2
    ;;
esac
case $project in
'' | *[!0-9a-z_./-]*)
    echo "set-version: \`$project\` is no path in a container registry" >&2
    exit 2
    ;;
esac

wrong=
for template in templates/*/template.yml; do
    # shellcheck disable=SC2016 # a variable of the jobs, not of this script
    line='      default: '\''$CI_REGISTRY/'$project:$version\'
    if grep -qxF "$line" "$template"; then continue; fi
    if [ -n "$check" ]; then
        echo "set-version: the default image of $template is not $project:$version" >&2
        wrong=yes
    else
        sed "s|^      default: '\$CI_REGISTRY/[^']*'\$|$line|" "$template" > "$template.new"
        mv "$template.new" "$template"
    fi
done
if [ -z "$check" ]; then
    sed "s|\$IMGLIFE_RELEASE_IMAGE:[^']*'|\$IMGLIFE_RELEASE_IMAGE:$version'|" .gitlab-ci.yml > .gitlab-ci.yml.new
    mv .gitlab-ci.yml.new .gitlab-ci.yml
fi
[ -z "$wrong" ]
