# shellcheck shell=bash
# Packages of the distribution; sourced by the setup scripts.

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Installs packages with apt. What needs them is named first, for where there is no apt.
install_packages() {
    local purpose=$1
    shift
    if ! command -v apt-get >/dev/null; then
        echo "$purpose: install what your distribution calls $*" >&2
        return 1
    fi
    update_package_lists
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "$@"
}

update_package_lists() {
    if [ -z "${package_lists_updated:-}" ]; then
        as_root apt-get update --quiet
        package_lists_updated=yes
    fi
}
