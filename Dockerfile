# conformask on the CPU: docker build --tag conformask . && docker run --rm --volume "$PWD:/work" conformask --help
# TORCH_INDEX is an index of CPU builds of PyTorch, which are a tenth of the size: --build-arg TORCH_INDEX=URL
FROM python:3.12-slim
ARG TORCH_INDEX=""
ARG EXTRAS="skimage,train,view,plot,onnx,perceptual,nifti,dicom,zarr"
COPY pyproject.toml README.md LICENSE /conformask/
COPY src /conformask/src
# the versions are those that pyproject.toml allows
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --no-compile ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.9" "torchvision>=0.24" \
    && pip install --no-cache-dir --no-compile "/conformask[$EXTRAS]" \
    && useradd --create-home --uid 1000 user
USER 1000
WORKDIR /work
ENTRYPOINT ["conformask"]
