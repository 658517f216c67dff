#!/bin/sh
# Sets the default image of the templates to that of VERSION. Run it before the version is tagged:
# GitLab reads a component as it is at its tag. Before GitLab 18.7 a template cannot determine its
# own version; from 18.7 on it can, but only if that version is released.
#
# usage: set-version.sh VERSION [PROJECT]
#        set-version.sh --check VERSION [PROJECT]   change nothing; fail if something would change
#
# PROJECT is the path of the components' project in the container registry. The default is
# platform/imglife-components.
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
    echo "set-version: \`$version\` is not a version" >&2
    exit 2
    ;;
esac
case $project in
'' | *[!0-9a-z_./-]*)
    echo "set-version: \`$project\` is not a path in a container registry" >&2
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
