# Stands in for redis:7 where no registry can be reached.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN apt-get update -q && apt-get install -qy --no-install-recommends redis-server \
 && rm -rf /var/lib/apt/lists/*
RUN install -d -o redis -g redis /data
USER redis
WORKDIR /data
VOLUME /data
CMD ["redis-server"]
