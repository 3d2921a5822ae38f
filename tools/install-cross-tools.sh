#!/usr/bin/env bash
# Installs the cross compilers and emulators for Cortex-M and aarch64 from Debian's packages, where they are missing and where it may.
# Where it may not, it says what to install: tests that need the tools are then skipped, or fail if PLANISH_REQUIRE_TOOLS=1.
set -euo pipefail

packages=()
command -v arm-none-eabi-gcc >/dev/null || packages+=(gcc-arm-none-eabi)
# The C library is a package of its own; a header of its own tells whether it is there.
echo '#include <string.h>' | arm-none-eabi-gcc -E - >/dev/null 2>&1 || packages+=(libnewlib-arm-none-eabi)
command -v qemu-system-arm >/dev/null || packages+=(qemu-system-arm)
command -v aarch64-linux-gnu-gcc >/dev/null || packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
command -v qemu-aarch64 >/dev/null || packages+=(qemu-user)
[ ${#packages[@]} -gt 0 ] || exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)

give_up() {
    echo "cross tools: $1; to test on the emulated machines: apt-get install ${packages[*]}" >&2
    [ "${PLANISH_REQUIRE_TOOLS:-}" != 1 ] || exit 1
    exit 0
}
command -v apt-get >/dev/null || give_up "no apt-get here"
[ ${#as_root[@]} -eq 0 ] || sudo -n true 2>/dev/null || give_up "neither root nor passwordless sudo"

echo "cross tools: installing ${packages[*]}"
"${as_root[@]}" apt-get update -qq </dev/null || give_up "apt-get update failed"
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" </dev/null >/dev/null ||
    give_up "apt-get install failed"
