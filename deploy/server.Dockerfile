# The server. Build from the root of the repository:
#
#     docker build -f deploy/server.Dockerfile -t ams-server .
#
# A plain Python base is enough for a GPU host: PyTorch's wheels bring their own CUDA libraries, and the driver comes from the
# host through the NVIDIA container runtime. That makes the image large (several GB); there is no smaller honest way.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY scripts/constraints.txt scripts/constraints.txt
COPY common common
COPY edge edge
COPY server server
COPY evaluation evaluation
RUN python -m venv /opt/ams \
    && /opt/ams/bin/pip install --no-cache-dir -c scripts/constraints.txt ".[server]"

FROM python:3.11-slim
COPY --from=build /opt/ams /opt/ams
COPY deploy/server.toml /etc/ams/server.toml
# A home that keeps the devices' sessions across restarts.
RUN useradd --system --create-home --home-dir /var/lib/ams-server ams
ENV PATH=/opt/ams/bin:$PATH PYTHONUNBUFFERED=1
# gRPC's own complaints, which the server's log says better; `docker run -e GRPC_VERBOSITY=error` brings them back.
ENV GRPC_VERBOSITY=none
USER ams
WORKDIR /var/lib/ams-server
EXPOSE 50051
ENTRYPOINT ["ams-server"]
CMD ["--config", "/etc/ams/server.toml"]
