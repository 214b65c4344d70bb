# Two images from one file: the service (the default), and the stand-in rs-order of the demo.
#   docker build -t rs-delivery .
#   docker build -t rs-order-standin --target rs-order .
# The base may be named by its digest: --build-arg PYTHON=python:3.12-slim-bookworm@sha256:…

ARG PYTHON=python:3.12-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
# For sinks/_*.c alone.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && \
    rm -rf /var/lib/apt/lists/*
RUN python -m venv /venv
COPY requirements/runtime.txt requirements/
RUN /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: \
    -r requirements/runtime.txt || \
    /venv/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
# What builds the service's own package is locked, too, and stays out of the image.
COPY requirements/build.txt requirements/
RUN python -m venv /build && \
    /build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY app app
COPY streams streams
COPY sinks sinks
COPY web web
RUN /build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . && \
    /venv/bin/pip install --no-cache-dir --no-deps --no-index /dist/*.whl

FROM build AS build-rs-order
COPY requirements/dev.txt requirements/
# Only the stand-in's own library, at its locked version.
RUN awk '/^[a-z]/ { ours = /^(luqum|ply)==/ } ours' requirements/dev.txt > /tmp/standin.txt && \
    /venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r /tmp/standin.txt

FROM ${PYTHON} AS base
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin delivery
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# asyncssh asks for the name of the process's user, which another --user than this may not have.
ENV LOGNAME=delivery
USER delivery
STOPSIGNAL SIGTERM

FROM base AS rs-order
WORKDIR /srv
COPY --from=build-rs-order /venv /venv
COPY compose compose
EXPOSE 9050
ENTRYPOINT ["python", "-m", "compose.rs_order", "--host", "0.0.0.0"]

FROM base AS service
COPY --from=build /venv /venv
EXPOSE 9049
# Whether it lives, not whether it can work: a neighbour that is away is no reason to end transfers.
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s --retries=3 CMD ["delivery", "health"]
ENTRYPOINT ["delivery"]
CMD ["serve"]
