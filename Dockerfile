# The webhook's image. Dependencies come from the lock, hashes checked; wheels that lie in build/wheels are used instead of an index,
# so that it can be built where there is none:  make image
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
COPY requirements/runtime.txt build/wheel[s] /src/
RUN python3 -m venv /app/venv \
 && if ls /src/*.whl >/dev/null 2>&1; then source="--no-index --find-links /src"; else source=""; fi \
 && /app/venv/bin/python -m pip install --no-cache-dir --no-compile --disable-pip-version-check \
      --require-hashes --no-deps --only-binary :all: $source -r /src/runtime.txt \
 && /app/venv/bin/python -m pip uninstall --quiet --yes --disable-pip-version-check setuptools pip
COPY webhook /app/webhook
RUN /app/venv/bin/python -m compileall -q -j 0 /app

FROM ${BASE_IMAGE}
COPY --from=build /app /app
ENV PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8443 8080
ENTRYPOINT ["/app/venv/bin/python", "-m", "webhook"]
CMD ["operate"]
