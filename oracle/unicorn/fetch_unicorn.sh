#!/usr/bin/env bash
# fetch_unicorn.sh DEST: unpacks a libunicorn whose data follows the translation (2.1 or newer) into DEST, as
# DEST/usr/include and DEST/usr/lib/..., for -DTWINWALK_UNICORN_ROOT=DEST.
#
# The user's packages, apt sources, lists and caches are neither used nor changed: apt runs on folders of its own. Only
# the address of the Debian mirror is read from the system's configuration. Needs no root.
#
# Exit 0: DEST holds it, or the system's own is new enough (then DEST is left alone, and the output says so).
# Exit 1: it cannot be had here; one line on standard error says why, and the caller uses the distribution's.
# Exit 2: bad usage.
set -euo pipefail

suite=${TWINWALK_UNICORN_SUITE:-trixie}
keyring=${TWINWALK_UNICORN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
wanted=2.1

fail() { echo "fetch_unicorn: $1" >&2; exit 1; }
at_least() { [ "$(printf '%s\n%s\n' "$wanted" "$1" | sort -V | head -n 1)" = "$wanted" ]; }
version_in() { { cat "$1"/usr/lib/*/pkgconfig/unicorn.pc 2>/dev/null || true; } | sed -n "s/^Version: *//p" | head -n 1; }

if [ $# -ne 1 ] || [ -z "$1" ] || [ "${1#-}" != "$1" ]; then
  echo "usage: fetch_unicorn.sh DEST" >&2
  exit 2
fi

system=$(version_in "")
if [ -n "$system" ] && at_least "$system"; then
  echo "fetch_unicorn: the system's libunicorn $system is new enough; nothing fetched"
  exit 0
fi
present=$(version_in "$1")
if [ -n "$present" ] && at_least "$present"; then
  echo "fetch_unicorn: $1 already holds libunicorn $present"
  exit 0
fi

if [ -e "$1" ] && [ -n "$(ls -A -- "$1" 2>/dev/null || echo file)" ] && [ -z "$present" ]; then
  fail "$1 exists and is no unpacked libunicorn; it is left alone"
fi

for tool in apt-get dpkg dpkg-deb; do
  command -v "$tool" >/dev/null || fail "no $tool here; using the distribution's libunicorn"
done
[ -r "$keyring" ] || fail "no Debian archive keyring ($keyring); using the distribution's libunicorn"

# The mirror of the system's own Debian release: the address whose release is neither security nor updates.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
  awk '$3 == "main" && $2 !~ /-(security|updates|backports)/ && $1 ~ /debian\/?$/ { print $1; exit }')
[ -n "$mirror" ] || fail "apt knows no Debian mirror; using the distribution's libunicorn"

# Everything is made beside DEST and moved there when it is whole, so that a killed run leaves no half of it.
mkdir -p "$(dirname -- "$1")"
dest=$(cd -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
work=$(mktemp -d -p "$(dirname -- "$dest")")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{etc/preferences.d,etc/apt.conf.d,state/lists/partial,cache/archives/partial,debs,root}
: >"$work/state/status"
printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nArchitectures: %s\nSigned-By: %s\n' \
  "$mirror" "$suite" "$(dpkg --print-architecture)" "$keyring" >"$work/etc/unicorn.sources"

private_apt() {
  apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/etc" \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts="$work/etc/preferences.d" \
    -o Dir::State="$work/state" -o Dir::State::Lists="$work/state/lists" -o Dir::State::Status="$work/state/status" \
    -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none \
    -o Acquire::Retries=2 -o APT::Update::Error-Mode=any "$@"
}

private_apt update >"$work/log" 2>&1 || fail "no signed index of $suite from the mirror: $(tail -n 1 "$work/log")"
# The library's package is whatever this suite's libunicorn-dev depends on (its name changed between releases).
library=$(apt-cache -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/etc" \
  -o Dir::State="$work/state" -o Dir::State::Lists="$work/state/lists" -o Dir::State::Status="$work/state/status" \
  -o Dir::Cache="$work/cache" depends libunicorn-dev 2>/dev/null | sed -n 's/.*Depends: \(libunicorn[0-9][^ ]*\).*/\1/p' | head -n 1)
[ -n "$library" ] || fail "the mirror's $suite has no libunicorn-dev"
(cd "$work/debs" && private_apt download libunicorn-dev "$library") >"$work/log" 2>&1 ||
  fail "download from $suite failed: $(tail -n 1 "$work/log")"
for deb in "$work"/debs/*.deb; do
  dpkg -x "$deb" "$work/root" || fail "cannot unpack $(basename "$deb")"
done
got=$(version_in "$work/root")
[ -n "$got" ] && at_least "$got" || fail "the mirror's $suite has libunicorn ${got:-of an unknown version}, older than $wanted"

rm -rf "$dest"
mv "$work/root" "$dest"
echo "fetch_unicorn: libunicorn $got from $suite unpacked into $1"
