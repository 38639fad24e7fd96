#!/usr/bin/env bash
# What a GPU changes, unattended, in less than 20 minutes: benchmarks/on_gpu.sh [--small] [--out FILE]
# An environment of its own gets onnxruntime-gpu; PYTHON=... names an interpreter that has everything.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv .venv-gpu
    .venv-gpu/bin/pip install --quiet --no-compile --editable '.[onnx]'
    if command -v nvidia-smi > /dev/null; then  # both packages write into the same folder
        .venv-gpu/bin/pip uninstall --quiet --yes onnxruntime
        .venv-gpu/bin/pip install --quiet --no-compile onnxruntime-gpu
    fi
    PYTHON=.venv-gpu/bin/python
fi
exec "$PYTHON" benchmarks/on_gpu.py "$@"
