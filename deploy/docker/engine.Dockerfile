# An engine's image: the vendor's own, with Lorry beside the engine in an environment of its own. Arguments, all needed:
#   ENGINE_IMAGE   the vendor's image by digest; deploy/README.md has the ones that Lorry's drivers are written against
#   ENGINE_KIND    vllm, sglang or lmdeploy
#   ENGINE_PYTHON  the Python of that image which has the engine
#   LORRY_IMAGE    lorry-gateway for the pods of a cluster, lorry-trainer for `lorry up` on one machine
# lorry.toml names the engine's Python: interpreter = "/opt/engine/python".
ARG ENGINE_IMAGE
ARG LORRY_IMAGE

FROM ${LORRY_IMAGE} AS lorry
USER 0:0
# A Python that needs no library of Debian's, since vendors build on other systems. uv has its hash.
ARG PYTHON_VERSION=3.11.18
COPY constraints.txt deploy/docker/sbom.txt /src/
COPY engines/environments/installer.py /src/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    uv python install --no-bin --install-dir /opt/pythons "${PYTHON_VERSION}" \
    && mv /opt/pythons/cpython-"${PYTHON_VERSION}"-* /opt/python \
    && python -P /src/installer.py --quiet --no-deps --target /opt/sbom --requirement /src/sbom.txt \
    && ln -sf /opt/python/bin/python3.11 /opt/lorry/bin/python3 \
    && sed -i 's|^home = .*|home = /opt/python/bin|' /opt/lorry/pyvenv.cfg
USER 10001:10001

FROM ${ENGINE_IMAGE}
ARG ENGINE_KIND
ARG ENGINE_PYTHON
USER 0:0
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap ca-certificates tini wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/lorry --shell /bin/bash lorry
COPY --from=lorry /opt/python /opt/python
COPY --from=lorry /opt/lorry /opt/lorry
# A wrapper and not a link: a Python of a virtual environment finds its packages by the path that it is started with.
RUN --mount=type=bind,from=lorry,source=/opt/sbom,target=/opt/sbom \
    mkdir /opt/engine \
    && printf '#!/bin/sh\nexec %s "$@"\n' "${ENGINE_PYTHON:?}" > /opt/engine/python \
    && chmod 755 /opt/engine/python \
    && /opt/engine/python -c "import importlib.metadata, sys; print(*sys.argv[1:], importlib.metadata.version(sys.argv[1]))" "${ENGINE_KIND:?}" \
    && /opt/lorry/bin/python -c "import gateway.cli, ray" \
    && PYTHONPATH=/opt/sbom /opt/lorry/bin/python -m cyclonedx_py environment --output-reproducible \
        --output-file /opt/engine/sbom.cdx.json /opt/engine/python
ENV PATH=/opt/lorry/bin:${PATH} \
    LORRY_HOME=/var/lib/lorry \
    RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor \
    RAY_USAGE_STATS_ENABLED=0
WORKDIR /var/lib/lorry
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m \
    CMD ["wget", "--quiet", "--output-document=/dev/null", "http://127.0.0.1:8080/healthz"]
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["lorry", "up", "--host", "0.0.0.0"]
