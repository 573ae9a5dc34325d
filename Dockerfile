# momok serving the bundle mounted at /bundle. Targets: cpu, gpu (CUDA), and demo: cpu with the demo's bundle, open to
# everybody. Without keys (MOMOK_API_KEYS, --api-keys-file) cpu and gpu refuse to start. Build arguments:
#   BASE_IMAGE       Debian-based image with Python 3.11 and pip; name it by digest (NAME@sha256:…) to get the same again
#   EXTRA_INDEX_URL  a further index of wheels. cpu and demo want the CPU build of torch from one. It stays in build
#                    records, so it must hold no password
#   REVISION         what the sources are, for the label
# Packages are those of deploy/locks/, by hash. Layers go from what changes least to what changes most.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS packages-cpu
ARG EXTRA_INDEX_URL=""
COPY deploy/packages.sh deploy/locks/cpu.txt /build/
RUN /build/packages.sh /build/cpu.txt /opt/momok

# The program: its sources beside the environment, and a command.
FROM ${BASE_IMAGE} AS program
WORKDIR /opt/program
COPY LICENSE ./
COPY momok momok
COPY commands commands
COPY configs configs
COPY model model
COPY service service
COPY training training
COPY deploy/health.py deploy/
RUN mkdir bin && printf '#!/opt/momok/bin/python\nimport sys\n\nfrom momok.cli import main\n\nsys.exit(main())\n' > bin/momok \
 && chmod 755 bin/momok && chmod -R a+rX . && python3 -m compileall -q .

FROM packages-cpu AS demo-bundle
COPY deploy/locks/demo.txt /build/
RUN /build/packages.sh /build/demo.txt /opt/momok
COPY --from=program /opt/program /opt/program
RUN TQDM_DISABLE=1 PYTHONPATH=/opt/program /opt/momok/bin/python -c 'from pathlib import Path; \
from momok.training.world.demo import build_demo; \
assert build_demo(Path("/demo"), stop=lambda: False, show=print)' \
 && chmod -R a+rX /demo/bundle

FROM ${BASE_IMAGE} AS runtime
ARG REVISION=""
LABEL org.opencontainers.image.title="momok" \
      org.opencontainers.image.description="Link prediction on multi-modal knowledge graphs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
# What a volume at /bundles or /runs begins with is this user's.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin momok \
 && install -d -o 10001 -g 10001 /bundles /runs
ENV PATH=/opt/program/bin:/opt/momok/bin:$PATH PYTHONPATH=/opt/program PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Alive, not ready: a large bundle takes minutes to load.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD ["python3", "/opt/program/deploy/health.py"]
ENTRYPOINT ["momok"]
CMD ["serve", "/bundle", "--host", "0.0.0.0", "--linger-s", "5"]

FROM runtime AS cpu
COPY --from=packages-cpu /opt/momok /opt/momok
COPY --from=program /opt/program /opt/program

FROM ${BASE_IMAGE} AS packages-gpu
ARG EXTRA_INDEX_URL=""
COPY deploy/packages.sh deploy/locks/gpu.txt /build/
RUN /build/packages.sh /build/gpu.txt /opt/momok

FROM runtime AS gpu
COPY --from=packages-gpu /opt/momok /opt/momok
COPY --from=program /opt/program /opt/program

FROM cpu AS demo
COPY --from=demo-bundle /demo/bundle /bundle
CMD ["serve", "/bundle", "--host", "0.0.0.0", "--allow-anonymous", "--linger-s", "5"]

# A build that names no target gets this one; last in the file, where old builders look for it.
FROM cpu
