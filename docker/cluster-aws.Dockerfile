# The sidecar: an IPFS Cluster peer. See ipfs-aws.Dockerfile.
FROM scratch
COPY rootfs/ /
COPY --chown=1000:1000 volumes/ /data/
ENV PATH=/usr/local/bin IPFS_CLUSTER_PATH=/data/ipfs-cluster HOME=/data
USER 1000:1000
VOLUME ["/data/ipfs-cluster"]
# REST API, pinning service API, other peers. Where they listen is a setting; the
# health listener (9098) stays on loopback.
EXPOSE 9094/tcp 9097/tcp 9096/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["cluster-aws", "health"]
ENTRYPOINT ["cluster-aws"]
CMD ["container"]
ARG VERSION
ARG COMMIT
ARG CREATED
LABEL org.opencontainers.image.title="cluster-aws" \
      org.opencontainers.image.description="An IPFS Cluster peer that keeps every acknowledged pin" \
      org.opencontainers.image.source="https://github.com/ipfs-aws/ipfs-aws" \
      org.opencontainers.image.documentation="https://github.com/ipfs-aws/ipfs-aws/blob/main/docs/images.md" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${CREATED}"
