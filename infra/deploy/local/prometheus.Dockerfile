# Stands in for prom/prometheus where no registry can be reached.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN apt-get update -q && apt-get install -qy --no-install-recommends prometheus \
 && rm -rf /var/lib/apt/lists/*
RUN install -d -o prometheus -g prometheus /prometheus
USER prometheus
WORKDIR /prometheus
VOLUME /prometheus
ENTRYPOINT ["prometheus"]
