#!/usr/bin/env bash
# no_core_symbols.sh ARCHIVE...: fails if an archive of a reference or of what serves it has or wants a symbol of
# the core's namespace. A shared mistake needs a shared symbol.
set -uo pipefail

[[ $# -gt 0 ]] || {
  echo "no archive given"
  exit 1
}
bad=0
for archive in "$@"; do
  symbols=$(nm -C "$archive" 2>/dev/null) || {
    echo "$archive: nm cannot read it"
    exit 1
  }
  if grep -E '(^|[^A-Za-z0-9_:])mmu::' <<<"$symbols"; then
    echo "$archive: symbols of the core (above)"
    bad=1
  fi
done
exit $bad
