# The edge. Build from the root of the repository:
#
#     docker build -f deploy/edge.Dockerfile -t ams-edge .
#
# No PyTorch. The libraries for video and pictures come inside their wheels, so nothing is installed beside Python packages.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY scripts/constraints.txt scripts/constraints.txt
COPY common common
COPY edge edge
COPY server server
COPY evaluation evaluation
RUN python -m venv /opt/ams \
    && /opt/ams/bin/pip install --no-cache-dir -c scripts/constraints.txt ".[edge]"

FROM python:3.11-slim
COPY --from=build /opt/ams /opt/ams
COPY deploy/edge.toml /etc/ams/edge.toml
# The group that may open cameras, and a home that keeps the last good model across restarts.
RUN useradd --system --create-home --home-dir /var/lib/ams-edge --groups video ams
ENV PATH=/opt/ams/bin:$PATH PYTHONUNBUFFERED=1
# gRPC's own complaints, which the edge's log says better; `docker run -e GRPC_VERBOSITY=error` brings them back.
ENV GRPC_VERBOSITY=none
USER ams
WORKDIR /var/lib/ams-edge
ENTRYPOINT ["ams-edge"]
CMD ["--config", "/etc/ams/edge.toml"]
