#!/usr/bin/env bash
# The whole path by command line on a folder of photographs, for the three tasks; resumable.
#   docs/results/photographs.sh IMAGES RUNS
# Then: python docs/results/photographs.py RUNS docs/results
set -euo pipefail
images=$1 runs=$2
train() { # TASK NAME OPTIONS...
  local run=$runs/$1/$2
  [ -f "$run/scorer.json" ] || conformask train "$runs/$1/data" "$run" --epochs 25 --resume "${@:3}"
}
for task in super_resolution completion colorization; do
  mkdir -p "$runs/$task"
  [ -f "$runs/$task/predictor/predictor.json" ] ||
    conformask predictor "$images" "$runs/$task/predictor" --task "$task" --size 128 --epochs 25 --resume
  [ -f "$runs/$task/data/manifest.csv" ] ||
    conformask triplets "$images" "$runs/$task/data" --task "$task" --predictor "$runs/$task/predictor" --size 128
  train "$task" error-per-channel --scorer error --per-channel
  train "$task" mask-per-channel --scorer mask --per-channel
  train "$task" error --scorer error
done
