# What the compose file needs besides the two: the edge, the secrets, and who
# holds the network of a task. See ipfs-aws.Dockerfile.
FROM scratch
COPY rootfs/ /
COPY --chown=1000:1000 volumes/ /data/
ENV PATH=/usr/local/bin HOME=/data
USER 1000:1000
EXPOSE 8443/tcp 9443/tcp
STOPSIGNAL SIGTERM
ENTRYPOINT ["local-cluster"]
CMD ["--help"]
ARG VERSION
ARG COMMIT
ARG CREATED
LABEL org.opencontainers.image.title="local-cluster" \
      org.opencontainers.image.description="The edge and the helpers of the ipfs-aws compose file" \
      org.opencontainers.image.source="https://github.com/ipfs-aws/ipfs-aws" \
      org.opencontainers.image.documentation="https://github.com/ipfs-aws/ipfs-aws/blob/main/docs/images.md" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${CREATED}"
