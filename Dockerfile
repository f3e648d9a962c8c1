# One file, one target a service: `docker build --target ingest|book|gateway|persist|tools .`
# The lock is checked by hash once (stage wheels); everything after installs from those files only, without a network.
# PYTHON_IMAGE and PYTHON_IMAGE@sha256:… are both fine: the release workflow passes the digest.
ARG PYTHON_IMAGE=python:3.11-slim
# Set by BuildKit and buildah to the platform that is built for.
ARG TARGETARCH

# ---- wheels: every locked file, verified, and the lists of what each image takes of them -------------------------------
FROM ${PYTHON_IMAGE} AS wheels
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.runtime.lock ./
RUN pip download --no-cache-dir --require-hashes --only-binary=:all: -r requirements.runtime.lock -d /wheels
COPY pyproject.toml ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; e = p['optional-dependencies']; lists = {'core': p['dependencies'], 'ingest': e['ingest'], 'gateway': e['gateway'] + e['parquet'], 'persist': e['persist']}; [open('/wheels/' + n + '.txt', 'w').write('\n'.join(d)) for n, d in lists.items()]"

# ---- core: what every service needs; this layer is shared by all images ------------------------------------------------
# (The base image's pip installs into the venv, which has none of its own.)
FROM ${PYTHON_IMAGE} AS core
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels \
    PIP_PYTHON=/opt/mbo/bin/python \
    PATH=/opt/mbo/bin:/opt/app/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    python -m venv --without-pip /opt/mbo \
    && pip install --no-cache-dir -r /wheels/core.txt \
    && find /opt/mbo -depth -type d \( -name tests -o -name test \) -path '*/site-packages/*' -exec rm -rf {} +

# The CPU that kernels are compiled for: the cache made here is good on every machine that has these instructions
# (x86-64-v3: Haswell, Zen and later). On an older one set NUMBA_CPU_NAME=generic: kernels are then compiled at start.
FROM core AS core-amd64
ENV NUMBA_CPU_NAME=x86-64-v3 NUMBA_CPU_FEATURES=""
FROM core AS core-arm64
ENV NUMBA_CPU_NAME=neoverse-n1 NUMBA_CPU_FEATURES=""

# hadolint ignore=DL3006
FROM core-${TARGETARCH:-amd64} AS runtime
ENV PYTHONUNBUFFERED=1 PYTHONPATH=/opt/app \
    NUMBA_CACHE_DIR=/tmp/numba NUMBA_CACHE_LOCATOR_CLASSES=shared.jit_cache.SeededLocator \
    MBO_ADMIN_HOST=0.0.0.0 MBO_ADMIN_PORT=9090
RUN groupadd --gid 10001 mbo && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mbo \
    && install -d -o 10001 -g 10001 -m 0750 /data /secrets/ingest /secrets/book /secrets/gateway /secrets/persist /secrets/operator \
    && install -d -o 10001 -g 10001 -m 0755 /secrets /secrets/acl

# ---- app: our wheel and the compiled kernels, in one folder -------------------------------------------------------------
FROM runtime AS app
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY services services
COPY shared shared
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels pip install --no-cache-dir --no-deps --target /opt/app .
WORKDIR /
RUN NUMBA_CACHE_DIR=/opt/app/jit NUMBA_CACHE_LOCATOR_CLASSES="" python -m services.warm

# ---- the dependencies of one service each -------------------------------------------------------------------------------
FROM runtime AS ingest-deps
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir -r /wheels/ingest.txt \
    && find /opt/mbo -depth -type d \( -name tests -o -path '*/pyarrow/include' \) -path '*/site-packages/*' -exec rm -rf {} +

FROM runtime AS gateway-deps
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir -r /wheels/gateway.txt \
    && find /opt/mbo -depth -type d \( -name tests -o -path '*/pyarrow/include' \) -path '*/site-packages/*' -exec rm -rf {} +

FROM runtime AS persist-deps
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels pip install --no-cache-dir -r /wheels/persist.txt

# ---- the images ---------------------------------------------------------------------------------------------------------
FROM ingest-deps AS ingest
ARG VERSION=dev REVISION=unknown
LABEL org.opencontainers.image.title="mbostream ingest" org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}"
COPY --from=app /opt/app /opt/app
ENV MBO_DATA=/data
USER 10001:10001
EXPOSE 9090
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["mbo-ingest", "--check"]
CMD ["mbo-ingest"]

FROM runtime AS book
ARG VERSION=dev REVISION=unknown
LABEL org.opencontainers.image.title="mbostream book" org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}"
COPY --from=app /opt/app /opt/app
USER 10001:10001
EXPOSE 9090
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["mbo-book", "--check"]
CMD ["mbo-book"]

FROM gateway-deps AS gateway
ARG VERSION=dev REVISION=unknown
LABEL org.opencontainers.image.title="mbostream gateway" org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}"
COPY --from=app /opt/app /opt/app
ENV MBO_HOST=0.0.0.0 MBO_PORT=8080
USER 10001:10001
EXPOSE 8080 9090
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["mbo-gateway", "--check"]
CMD ["mbo-gateway"]

FROM persist-deps AS persist
ARG VERSION=dev REVISION=unknown
LABEL org.opencontainers.image.title="mbostream persist" org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}"
COPY --from=app /opt/app /opt/app
ENV MBO_DATA=/data MBO_HISTORY_HOST=0.0.0.0 MBO_HISTORY_PORT=8082
USER 10001:10001
EXPOSE 8082 9090
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["mbo-persist", "--check"]
CMD ["mbo-persist"]
