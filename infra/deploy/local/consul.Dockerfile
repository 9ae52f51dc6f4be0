# Stands in for hashicorp/consul where no registry can be reached: takes the
# binary that CONSUL_BIN names (local-images.sh puts it into the build context).
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
COPY consul /usr/local/bin/
RUN useradd --system consul && install -d -o consul -g consul /consul/data
USER consul
VOLUME /consul/data
ENTRYPOINT ["consul"]
