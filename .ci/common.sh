# shellcheck shell=bash disable=SC2016,SC2154 # backquotes are Markdown; what is used and not set here: see below
# Sourced by the jobs: words, clocks of their parts, the folder of results, and fuzzing with a corpus that is kept.
# Uses $source, the root of the tree. Progress goes to standard error, what came of it to standard output.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
  say "$*"
  exit 2
}

# An option's value, or the end: value_of OPTION [VALUE...]
value_of() {
  [[ $# -ge 2 ]] || die "$1 wants a value"
  printf '%s' "$2"
}

# seconds_of MINUTES: whole seconds, at least one. Minutes may have a fraction.
seconds_of() {
  [[ $1 =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "--minutes: found '$1'; allowed: a number"
  awk -v m="$1" 'BEGIN { s = int(m * 60 + 0.5); print s < 1 ? 1 : s }'
}

# part NAME: what follows is NAME's time. parts_taken prints the list as rows of a table.
part_names=() part_begins=()
part() {
  part_names+=("$1")
  part_begins+=("$SECONDS")
}
parts_taken() {
  local i end
  for i in "${!part_names[@]}"; do
    end=${part_begins[i + 1]:-$SECONDS}
    printf '| %s | %d s |\n' "${part_names[i]}" "$((end - part_begins[i]))"
  done
  printf '| all | %d s |\n' "$SECONDS"
}

# make_out FOLDER: makes it, and refuses one that holds something: findings of another run would count as this one's.
# Sets $out to its absolute path.
make_out() {
  mkdir -p -- "$1" || die "cannot make $1"
  out=$(cd -- "$1" && pwd)
  [[ -z $(ls -A -- "$out") ]] || die "--out: $1 is not empty"
}

# folder_beside NAME: a folder for results that is not there yet, where the user is.
folder_beside() { printf 'twinwalk-out/%s-%(%Y%m%d-%H%M%S)T' "$1" -1; }

# The launcher in this tree. What it builds it tells on standard error.
twinwalk() { "$source/twinwalk" "$@"; }

# fuzz_for SECONDS CORPUS CONFIGURATION...: fuzzes each for its share of the time; results in $out/fuzz/CONFIGURATION.
# CORPUS/CONFIGURATION is begun from the tree's own traces, which also come in when they are new, and grows. A share is
# what is left by the number that is left, so that the whole holds the time whatever one of them needed.
fuzz_for() {
  local end=$((SECONDS + $1)) corpus=$2 config left=$(($# - 2)) share code
  shift 2
  mkdir -p "$corpus" "$out/fuzz"
  for config; do
    share=$(((end - SECONDS) / left))
    left=$((left - 1))
    twinwalk corpus merge "$corpus/$config" "$source/corpus/seed" "$source/corpus/regress" --config "$config" >&2 ||
      die "the corpus of $config cannot be begun"
    say "$config: $share s"
    code=0
    twinwalk fuzz --config "$config" --seconds "$((share > 0 ? share : 1))" --corpus "$corpus/$config" \
      --out "$out/fuzz/$config" >"$out/fuzz/$config.log" || code=$?
    sed 's/^/    /' "$out/fuzz/$config.log" >&2
    [[ $code -le 1 ]] || die "fuzzing $config failed (exit $code)"
  done
}

# Paths of the findings' traces, below $out, sorted.
list_findings() { (cd "$out" && find fuzz -path '*/findings/*.walk' | sort); }

# of_line KEY FILE: the value of a word in the first result line of FILE. Text within values has its quotes escaped, so
# that "KEY":" stands nowhere else.
of_line() { sed -nE '1s/.*"'"$1"'":"([^"\\]*)".*/\1/p' "$2"; }

# Whether the corpus of accepted deviations knows the finding: what `fuzz` said of it.
is_accepted() {
  local config=${1#fuzz/}
  grep -qF "known: $out/$1 " "$out/fuzz/${config%%/*}.log"
}

# write_results CONFIGURATION...: $out/results.jsonl, a line for each configuration and each finding. Uses the arrays
# findings and states ("new", "unchanged"), which belong together.
write_results() {
  local config i new
  for config; do
    new=0
    for i in "${!findings[@]}"; do
      if [[ ${findings[i]} == "fuzz/$config/"* && ${states[i]} == new ]]; then new=$((new + 1)); fi
    done
    sed -E 's/"new_divergences":[0-9]+/"new_divergences":'"$new/" "$out/fuzz/$config/summary.json"
  done >"$out/results.jsonl"
  for i in "${!findings[@]}"; do
    sed -E 's|^\{"trace":"[^"]*"|{"trace":"'"${findings[i]}"'"|; s|\}$|,"baseline":"'"${states[i]}"'"}|' \
      "$out/${findings[i]%.walk}.json"
  done >>"$out/results.jsonl"
}

# list_waiting: how many candidates the time did not suffice to look at; mostly the same again, but nobody knows.
list_waiting() {
  local waiting
  waiting=$(find "$out/fuzz" -path '*/candidates/*' -type f | wc -l)
  [[ $waiting == 0 ]] || printf -- '- %d candidates were not triaged: `fuzz/*/candidates`\n' "$waiting"
}

# list_states: the findings as Markdown, those that are new with their traces. Uses findings, states and, where there
# is more to say, notes.
list_states() {
  local i line word
  [[ ${#findings[@]} -gt 0 ]] || return 0
  printf '\n| | class | at | trace | why |\n|---|---|---|---|---|\n'
  for i in "${!findings[@]}"; do
    line=$out/${findings[i]%.walk}.json word=known
    [[ ${states[i]} != new ]] || word="**new**"
    printf '| %s | %s | %s, %s | `%s` | %s |\n' "$word" "$(of_line class "$line")" "$(of_line verb "$line")" \
      "$(of_line field "$line")" "${findings[i]}" "${notes[i]-}"
  done
  for i in "${!findings[@]}"; do
    [[ ${states[i]} == new ]] || continue
    printf '\n`./twinwalk explain %s`\n\n```\n%s\n```\n' "${findings[i]##*/}" "$(cat "$out/${findings[i]}")"
  done
}

# write_reports [KIND...]: from $out/results.jsonl the same in the forms that people and servers read.
write_reports() {
  local kind
  [[ $# -gt 0 ]] || set -- html xml sarif md
  for kind; do
    twinwalk report "$out/results.jsonl" -o "$out/report.$kind" || die "report.$kind cannot be written"
  done
}

# help_of FILE: the comment that it begins with.
help_of() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$1"; }

# publish FILE: prints it, and adds it to the summary of a hosted job.
publish() {
  cat -- "$1"
  [[ -z ${GITHUB_STEP_SUMMARY-} ]] || cat -- "$1" >>"$GITHUB_STEP_SUMMARY"
}
