#!/usr/bin/env bash
# stands_alone.sh ARCHIVE: fails unless the core in the archive needs nothing but memcpy, memmove, memset and memcmp,
# runs no code before its caller does, and defines names in namespace mmu only.
set -uo pipefail

[[ $# -eq 1 && -s $1 ]] || {
  echo "usage: stands_alone.sh ARCHIVE"
  exit 1
}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
whole=$work/core.o
ld -r --whole-archive "$1" -o "$whole" || exit 1

bad=0
# complain WHAT LINES: one finding, if there are lines.
complain() {
  [[ -z $2 ]] && return
  printf '%s:\n%s\n' "$1" "$2"
  bad=1
}

complain "undefined symbols" \
  "$(nm -u "$whole" | awk '{print $NF}' | grep -Evx 'memcpy|memmove|memset|memcmp')"
complain "code that runs before main" \
  "$(readelf -SW "$whole" | grep -E '\.(init_array|ctors|preinit_array|fini_array|dtors)')"
complain "globals outside namespace mmu" \
  "$(nm -C --defined-only --extern-only "$whole" | sed -E 's/^[0-9a-f]+ . //' |
    grep -Ev '^((vtable|typeinfo|typeinfo name|guard variable) for |non-virtual thunk to )?mmu::')"
defined=$(nm --defined-only --extern-only "$whole" | wc -l)
[[ $defined -gt 0 ]] || complain "no symbol at all" "$1"
exit $bad
