# The wheel and its locked dependencies, without a compiler, an installer or a secret.
# A digest pins the base further: docker build --build-arg PYTHON=python@sha256:...
ARG PYTHON=python:3.13.9-slim-trixie
FROM ${PYTHON} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY .ci/locked .ci/locked
COPY requirements.lock requirements-dev.lock ./
RUN python -m venv --without-pip /opt/keeper \
 && pip --python /opt/keeper/bin/python install --require-hashes -r requirements.lock \
 && .ci/locked hatchling packaging pathspec pluggy trove-classifiers > build.txt \
 && pip install --no-deps --require-hashes -r build.txt
COPY pyproject.toml README.md LICENSE ./
COPY keeper keeper
COPY strategies strategies
COPY grafana grafana
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && pip --python /opt/keeper/bin/python install --no-deps dist/*.whl \
 && /opt/keeper/bin/python -Im compileall -q /opt/keeper/lib

FROM ${PYTHON}
LABEL org.opencontainers.image.title="keeper" \
      org.opencontainers.image.description="A liquidation keeper for DeFi lending" \
      org.opencontainers.image.licenses="MIT"
COPY --from=builder /opt/keeper /opt/keeper
ENV PATH=/opt/keeper/bin:$PATH KEEPER_HOME=/data PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN keeper --help >/dev/null && keeper grafana check && install -d -o 65532 -g 65532 /data
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
  CMD ["python", "-Ic", "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/healthz', timeout=3)"]
ENTRYPOINT ["keeper"]
CMD ["run"]
