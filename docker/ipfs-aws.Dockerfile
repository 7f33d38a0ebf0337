# The node. `make images` stages what is copied here (rootfs/, volumes/) and
# builds it; the same file is read where images for other processors are made.
FROM scratch
COPY rootfs/ /
COPY --chown=1000:1000 volumes/ /data/
ENV PATH=/usr/local/bin IPFS_PATH=/data/ipfs HOME=/data
USER 1000:1000
# /data/cache: what was read, where a deployment keeps it on the disk of the task.
VOLUME ["/data/ipfs", "/data/cache"]
# Swarm and gateway. The RPC (5001) and the health listener (8099) stay on loopback.
EXPOSE 4001/tcp 4001/udp 8080/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["ipfs-aws", "health"]
ENTRYPOINT ["ipfs-aws"]
CMD ["container"]
ARG VERSION
ARG COMMIT
ARG CREATED
LABEL org.opencontainers.image.title="ipfs-aws" \
      org.opencontainers.image.description="An IPFS node (kubo) made for AWS: blocks in S3, on EFS or on a disk" \
      org.opencontainers.image.source="https://github.com/ipfs-aws/ipfs-aws" \
      org.opencontainers.image.documentation="https://github.com/ipfs-aws/ipfs-aws/blob/main/docs/images.md" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${CREATED}"
