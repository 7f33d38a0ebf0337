# The S3 server of the compose file, versitygw as its makers publish it in
# source. See ipfs-aws.Dockerfile.
FROM scratch
COPY rootfs/ /
COPY --chown=1000:1000 volumes/ /data/
ENV PATH=/usr/local/bin HOME=/data
USER 1000:1000
VOLUME ["/data/s3"]
EXPOSE 7070/tcp
STOPSIGNAL SIGTERM
ENTRYPOINT ["versitygw"]
CMD ["--port", ":7070", "--region", "us-east-1", "--keep-alive", "--quiet", "posix", "/data/s3"]
ARG VERSION
ARG COMMIT
ARG CREATED
LABEL org.opencontainers.image.title="versitygw" \
      org.opencontainers.image.description="versitygw, the S3 server of the ipfs-aws compose file" \
      org.opencontainers.image.source="https://github.com/ipfs-aws/ipfs-aws" \
      org.opencontainers.image.documentation="https://github.com/ipfs-aws/ipfs-aws/blob/main/docs/images.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${CREATED}"
