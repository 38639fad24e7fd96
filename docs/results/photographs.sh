#!/usr/bin/env bash
# The whole path by command line on a folder of photographs, for the three tasks; resumable.
#   docs/results/photographs.sh IMAGES RUNS
# Then: python docs/results/photographs.py RUNS docs/results
set -euo pipefail
images=$1 runs=$2

train() { # TASK NAME EPOCHS OPTIONS...
  local run=$runs/$1/$2
  [ -f "$run/scorer.json" ] || conformask train "$runs/$1/data" "$run" --resume --epochs "$3" "${@:4}"
}

task() { # TASK EPOCHS
  local run=$runs/$1
  mkdir -p "$run"
  [ -f "$run/predictor/predictor.json" ] ||
    conformask predictor "$images" "$run/predictor" --task "$1" --size 128 --epochs "$2" --resume
  [ -f "$run/data/manifest.csv" ] ||
    conformask triplets "$images" "$run/data" --task "$1" --predictor "$run/predictor" --size 128
  train "$1" error-per-channel "$2" --scorer error --per-channel
  train "$1" mask-per-channel "$2" --scorer mask --per-channel
  train "$1" error "$2" --scorer error
}

task super_resolution 25
task colorization 15
task completion 10
