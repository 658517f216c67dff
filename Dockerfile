# The image for CI jobs: imglife with git, CA certificates and the clients of the build engines. `.ci/release build` makes what it
# copies; `docker buildx build --platform linux/amd64,linux/arm64 .` or `buildah build .` makes the image.
#
# Any Debian will do as the base. PACKAGES leaves out what is not needed: `ca-certificates git` is enough where nothing is built, or by
# the native engine.
ARG BASE_IMAGE=docker.io/library/debian:13-slim
FROM ${BASE_IMAGE}

ARG PACKAGES="ca-certificates git openssh-client buildah uidmap docker-cli docker-buildx"
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ${PACKAGES} \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log \
    # Jobs run as root, since CI servers make the checkout as whom they like; who may not be root is this user.
    && useradd --uid 1000 --create-home --shell /bin/sh imglife

# Buildah works without privileges like this; a runner that can do more says so by variables of its own.
ENV BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs

ARG TARGETARCH
COPY --chmod=755 dist/imglife-linux-${TARGETARCH} /usr/local/bin/imglife

CMD ["imglife", "--help"]

# Last, since they differ with each version.
ARG VERSION=0.0.0
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="imglife" \
      org.opencontainers.image.description="Keeps an organisation's container images alive" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
