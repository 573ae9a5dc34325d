# momok serving a bundle mounted at /bundle. Build arguments:
#   BASE_IMAGE       Debian-based image with Python 3.11 and pip
#   EXTRA_INDEX_URL  a further index of wheels, such as one with CPU builds of torch (the usual ones bring CUDA along)
#   FAISS            cpu, or gpu for FAISS on CUDA 12
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
ARG EXTRA_INDEX_URL=""
ARG FAISS=cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# The dependencies are a layer of their own, which a change of the sources leaves in the build cache.
COPY pyproject.toml constraints.txt ./
RUN python3 -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['${FAISS}'], sep='\n')" > requirements.txt \
 && python3 -m venv --without-pip /opt/momok \
 && python3 -m pip --python /opt/momok/bin/python install -c constraints.txt -r requirements.txt \
      ${EXTRA_INDEX_URL:+--extra-index-url "${EXTRA_INDEX_URL}"}
COPY README.md LICENSE arguments.py cli.py ./
COPY model model
COPY service service
COPY training training
RUN python3 -m pip --python /opt/momok/bin/python install --no-deps .

FROM ${BASE_IMAGE} AS cpu
LABEL org.opencontainers.image.title="momok" \
      org.opencontainers.image.description="Link prediction on multi-modal knowledge graphs" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin momok
COPY --from=build /opt/momok /opt/momok
ENV PATH=/opt/momok/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Straight to the port, whatever proxy the environment names.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python3", "-c", \
  "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["momok"]
CMD ["serve", "/bundle", "--host", "0.0.0.0"]
