# syntax=docker/dockerfile:1

# One image with every binary; the command chooses: waybill-user, waybill-product, waybill-order, waybill-gateway, or `waybill`.

# Builder and runtime are of the same Debian, and so of the same C library.
ARG RUST=1.95
ARG DEBIAN=bookworm

FROM rust:${RUST}-slim-${DEBIAN} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY cli cli
COPY console console
COPY docs/openapi docs/openapi
COPY events events
COPY examples examples
COPY fuzz fuzz
COPY migrations migrations
COPY saga saga
COPY services services
COPY stack stack
COPY tests tests
# The caches make the next build quick and are no part of the image, so the binaries are copied out of them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --workspace --exclude waybill-tests --profile dist --locked --bins \
    && mkdir /out \
    && cp target/dist/waybill target/dist/waybill-user target/dist/waybill-product \
          target/dist/waybill-order target/dist/waybill-gateway /out/

FROM debian:${DEBIAN}-slim
# For a broker or database behind TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /usr/local/bin/
# For `waybill certs /secrets`; the volume that is mounted there takes its owner over.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /secrets
# A number, so that Kubernetes can see that it is not root. Nothing is written to disk.
USER 10001:10001
CMD ["waybill", "--help"]
