#!/bin/sh
# Sets up what `make report` and `make test` need: Debian's packages where it may, and the virtual environment from the lock.
# Usage: scripts/set-up.sh report|test|bench    (PYTHON, VENV and SYSTEM come from the Makefile)
set -eu

purpose=${1:?usage: scripts/set-up.sh report|test|bench}
python=${PYTHON:-python3}
venv=${VENV:-.venv}
system=${SYSTEM:-yes}
here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here"

say() { printf '%s\n' "$*" >&2; }

wanted() { # the packages of this purpose; tests and benchmarks need those of the report too
    while read -r package who _; do
        case $package in '' | '#'*) continue ;; esac
        case ,$who, in *,report,* | *",$purpose,"*) printf '%s\n' "$package" ;; esac
    done < system-packages.txt
}

missing() {
    for package in $(wanted); do
        status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) || status=
        [ "$status" = 'install ok installed' ] || printf '%s ' "$package"
    done
}

packages() {
    command -v dpkg-query >/dev/null 2>&1 || { say "This is no Debian: of what system-packages.txt names, the toolkit uses what is there."; return; }
    lacking=$(missing)
    lacking=${lacking% }
    [ -n "$lacking" ] || return 0
    if [ "$system" = no ]; then
        say "SYSTEM=no: going on without these Debian packages: $lacking"
    elif [ "$(id -u)" = 0 ]; then
        say "Installing these Debian packages (SYSTEM=no leaves the system alone): $lacking"
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086
        { apt-get -o DPkg::Lock::Timeout=300 -qq update && apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends $lacking >/dev/null; } >&2 ||
            say "Debian's packages could not be installed; going on with what is there. To try again: apt-get install $lacking"
    else
        say "Going on without these Debian packages. To have all that can be measured, run:  sudo apt-get install $lacking"
    fi
}

environment() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        { say "error: $python is missing or older than 3.11. Name a newer one:  make PYTHON=python3.12 …"; exit 1; }
    stamp=$venv/.set-up
    now=$(cat requirements.lock pyproject.toml toolkit/_version.py | cksum)
    [ "$(cat "$stamp" 2>/dev/null)" = "$now" ] && "$venv/bin/python" -c '' 2>/dev/null && return
    say "Setting up the Python environment in $venv (once; a minute or two) …"
    if "$venv/bin/python" -c '' 2>/dev/null; then
        : # there, and works: brought up to the lock below, in place
    elif ! "$python" -m venv --clear "$venv" >/dev/null 2>&1; then
        rm -rf "$venv"
        say "error: $python cannot make a virtual environment. On Debian run:  sudo apt-get install python3-venv"
        exit 1
    fi
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --require-hashes --requirement requirements.lock
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
    printf '%s\n' "$now" > "$stamp"
}

peers() { # what only the benchmarks measure against
    stamp=$venv/.set-up-bench
    now=$(cat requirements-bench.lock "$venv/.set-up" | cksum)
    [ "$(cat "$stamp" 2>/dev/null)" = "$now" ] && return
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --require-hashes --requirement requirements-bench.lock
    printf '%s\n' "$now" > "$stamp"
}

libvirt_binding() { # to people's own domains; built here, against libvirt's development files
    case $(command -v pkg-config >/dev/null 2>&1 && pkg-config --exists libvirt && echo there) in
        there) ;;
        *)
            [ "$purpose" != test ] || say "Going on without libvirt-python: it is built against libvirt's development files, and pkg-config finds none. To have it, run as root:  apt-get install libvirt-dev pkg-config gcc libc6-dev python3-dev"
            return 0
            ;;
    esac
    stamp=$venv/.set-up-libvirt
    now=$({ cat requirements-libvirt.lock "$venv/.set-up"; pkg-config --modversion libvirt; } | cksum)
    [ "$(cat "$stamp" 2>/dev/null)" = "$now" ] && return
    if said=$("$venv/bin/python" -m pip --disable-pip-version-check install --quiet --require-hashes --no-build-isolation --requirement requirements-libvirt.lock 2>&1); then
        printf '%s\n' "$now" > "$stamp"
    else
        say "Going on without libvirt-python, which could not be built: $(printf '%s\n' "$said" | grep -i 'error' | head -n 1)"
        say "To have it, run as root:  apt-get install libvirt-dev pkg-config gcc libc6-dev python3-dev   (python3-dev is of Debian's own Python; another Python needs its own headers)"
    fi
}

packages
environment
libvirt_binding
[ "$purpose" != bench ] || peers
