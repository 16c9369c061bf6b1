#!/usr/bin/env bash
# Runs the benchmarks of PKGS at commit REF and in this working tree, alternately, and compares them: benchstat.sh REF COUNT PKGS..
# Needs git; touches nothing outside a temporary directory. Packages that REF does not have are left out there.
set -euo pipefail
ref=$1 count=$2
shift 2
go=${GO:-go}
# A fixed version, run from the module cache: it is no dependency of this module.
benchstat=golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
here=$(git rev-parse --show-toplevel)
work=$(mktemp -d)
trap 'git -C "$here" worktree remove --force "$work/ref" 2>/dev/null || true; rm -rf "$work"' EXIT
git -C "$here" worktree add --quiet --detach "$work/ref" "$ref"

# compile builds the test binary of every package first, so that what alternates below is only measuring.
compile() { # tree name
  local pkg
  for pkg in "${@:3}"; do
    [ -d "$1/$pkg" ] || continue
    (cd "$1" && "$go" test -c -o "$work/$2-${pkg//[^A-Za-z0-9]/_}.test" "$pkg")
  done
}
measure() { # tree name
  local pkg
  for pkg in "${@:3}"; do
    local binary="$work/$2-${pkg//[^A-Za-z0-9]/_}.test"
    [ -x "$binary" ] || continue
    { echo "pkg: $pkg"; (cd "$1/$pkg" && "$binary" -test.run '^$' -test.bench . -test.benchtime "${BENCHTIME:-300ms}"); } >>"$work/$2.txt"
  done
}
compile "$work/ref" ref "$@"
compile "$here" new "$@"
for _ in $(seq "$count"); do
  measure "$work/ref" ref "$@"
  measure "$here" new "$@"
done
cd "$work"
"$go" run "$benchstat" ref.txt new.txt
