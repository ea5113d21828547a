# One image for all services, the bootstrap step and the command: `docker build -t countersign .`
# Everything in it is pinned by hash in requirements-image.lock; it holds no server and no test.
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PATH=/opt/countersign/bin:$PATH
WORKDIR /src
RUN python -m venv /opt/countersign
COPY requirements-bootstrap.lock requirements-image.lock ./
RUN pip install --quiet --require-hashes --only-binary :all: -r requirements-bootstrap.lock \
 && pip install --quiet --require-hashes --no-build-isolation --only-binary :all: --no-binary nkeys \
        -r requirements-image.lock
COPY libs libs
COPY services services
COPY cli cli
COPY examples examples
RUN uv pip install --quiet --offline --no-sources --no-deps --no-build-isolation \
        $(find ./libs ./services ./cli ./examples -name pyproject.toml -exec dirname {} +) \
 && uv pip uninstall --quiet uv-build setuptools \
 && python -m compileall -q /opt/countersign \
 && pip uninstall --quiet --yes uv pip

FROM ${PYTHON}
RUN useradd --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin countersign
# Volumes that are new take their owner from here.
RUN install -d -o countersign -m 0700 /var/lib/countersign /var/lib/countersign/nats \
 && for part in gateway policy approvals executor audit registry slack postgres; do \
        install -d -o countersign -m 0700 /deploy/$part; done
COPY --from=build /opt/countersign /opt/countersign
COPY --from=build /src/examples/ticketing/countersign /usr/share/countersign/examples/ticketing
ENV PATH=/opt/countersign/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
ENTRYPOINT ["countersign"]
CMD ["--help"]
