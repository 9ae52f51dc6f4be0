#!/usr/bin/env bash
# Takes the guards of the live move away one by one (infra/mutants: seeded bugs, in
# SQL and Go); the test that each names must fail. Minutes: each is compiled and
# tested by itself. An argument names one of them.
set -euo pipefail
cd "$(dirname "$0")/.."
make deps
MUTANTS=${1:-1} exec go test -count=1 -timeout 60m -parallel 2 -v -run TestMutants ./infra/mutants
