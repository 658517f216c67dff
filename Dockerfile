# Image for CI jobs: imglife with git, CA certificates and the clients of the build engines.
#
# To build it, run `.ci/release build`, then `buildah build .` or
# `docker buildx build --platform linux/amd64,linux/arm64 .`.
#
# BASE_IMAGE can be any Debian. PACKAGES can be shorter: `ca-certificates git` is enough for jobs
# that build nothing, or only with the native engine.
ARG BASE_IMAGE=docker.io/library/debian:13-slim
FROM ${BASE_IMAGE}

ARG PACKAGES="ca-certificates git openssh-client buildah uidmap docker-cli docker-buildx"
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ${PACKAGES} \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log \
    # Jobs run as root, since CI servers own the checkout as any user. Servers that forbid root can
    # use this user.
    && useradd --uid 1000 --create-home --shell /bin/sh imglife

# With these settings buildah needs no privileges. A runner that allows more can set others.
ENV BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs

ARG TARGETARCH
COPY --chmod=755 dist/imglife-linux-${TARGETARCH} /usr/local/bin/imglife

CMD ["imglife", "--help"]

# At the end, since each version changes them: the layers above stay in the cache.
ARG VERSION=0.0.0
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="imglife" \
      org.opencontainers.image.description="Keeps an organisation's container images alive" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
