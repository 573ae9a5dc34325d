# momok serving a bundle: the one mounted at /bundle, or the demo's. Targets: cpu, gpu (CUDA). Build arguments:
#   BASE_IMAGE       Debian-based image with Python 3.11 and pip
#   EXTRA_INDEX_URL  a further index of wheels. Both targets want the CPU build of torch from one: cpu serves with it,
#                    and the demo's bundle is trained with it
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
RUN mkdir bin && printf '#!/opt/momok/bin/python\nimport sys\n\nfrom momok.cli import main\n\nsys.exit(main())\n' > bin/momok \
 && chmod 755 bin/momok && chmod -R a+rX . && python3 -m compileall -q .

FROM packages-cpu AS demo
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
# Straight to the port, whatever proxy the environment names.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python3", "-c", \
  "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["momok"]
CMD ["serve", "/bundle", "--host", "0.0.0.0"]

FROM runtime AS cpu
COPY --from=packages-cpu /opt/momok /opt/momok
COPY --from=demo /demo/bundle /bundle
COPY --from=program /opt/program /opt/program

FROM ${BASE_IMAGE} AS packages-gpu
ARG EXTRA_INDEX_URL=""
COPY deploy/packages.sh deploy/locks/gpu.txt /build/
RUN /build/packages.sh /build/gpu.txt /opt/momok

FROM runtime AS gpu
COPY --from=packages-gpu /opt/momok /opt/momok
COPY --from=demo /demo/bundle /bundle
COPY --from=program /opt/program /opt/program

# Who names no target gets this one; last in the file, where old builders look for it.
FROM cpu
