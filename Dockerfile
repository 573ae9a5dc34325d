# momok serving a bundle on the CPU. Build arguments:
#   BASE_IMAGE       Debian-based image with Python 3.11 or newer, its venv and pip
#   EXTRA_INDEX_URL  a further index of wheels, such as one with CPU builds of torch
#   FAISS            cpu, or gpu for FAISS on CUDA 12
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
ARG EXTRA_INDEX_URL=""
ARG FAISS=cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/momok
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE cli.py ./
COPY model model
COPY training training
COPY service service
RUN /opt/momok/bin/pip install ${EXTRA_INDEX_URL:+--extra-index-url "${EXTRA_INDEX_URL}"} \
      -c constraints.txt ".[${FAISS}]"

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="momok" \
      org.opencontainers.image.description="Link prediction on multi-modal knowledge graphs" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/momok /opt/momok
ENV PATH=/opt/momok/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin momok
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["momok"]
CMD ["serve", "/bundle", "--host", "0.0.0.0"]
