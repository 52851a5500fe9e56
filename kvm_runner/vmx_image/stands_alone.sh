#!/usr/bin/env bash
# stands_alone.sh IMAGE: fails unless the image needs nothing from outside: no undefined symbol, no thread-local storage,
# no function to run at the start that boot does not run, nothing of the C++ library that streams or unwinds.
set -uo pipefail

[[ $# -eq 1 && -s $1 ]] || {
  echo "usage: stands_alone.sh IMAGE"
  exit 1
}
bad=0
# complain WHAT LINES: one finding, if there are lines.
complain() {
  [[ -z $2 ]] && return
  printf '%s:\n%s\n' "$1" "$2"
  bad=1
}
address() { nm "$1" | awk -v name="$2" '$3 == name {print $1}'; }

complain "undefined symbols" "$(nm -u "$1")"
complain "something to be linked or made when it is loaded" "$(readelf -lW "$1" | grep -E 'TLS|DYNAMIC|INTERP')"
complain "the C++ library's streams or unwinder" "$(nm -C "$1" | grep -E '_Unwind|ios_base|std::locale')"
complain "code that runs before main in other ways" "$(readelf -SW "$1" | grep -E '\.(ctors|preinit_array|tdata|tbss)')"
# All of .init_array lies between the two addresses that main.cc goes by.
read -r first bytes < <(readelf -SW "$1" | sed -nE 's/.* \.init_array +INIT_ARRAY +([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+).*/\1 \2/p')
if [[ -n ${first:-} ]]; then
  begin=$(address "$1" twinwalk_init_begin) end=$(address "$1" twinwalk_init_end)
  ((0x$begin == 0x$first && 0x$end == 0x$first + 0x$bytes)) ||
    complain "functions of .init_array that nobody calls" "$first + $bytes, but run are $begin to $end"
fi
[[ -n $(address "$1" twinwalk_main) ]] || complain "no symbols" "$1"
exit $bad
