# The gateway with all production extras, but without the sandbox's video encoder.

FROM python:3.12-slim-bookworm AS build
WORKDIR /src
# Dependencies change less often than the code, so they get a layer of their own.
COPY deploy/install.sh deploy/
COPY requirements/prod.txt requirements/build.txt requirements/
RUN deploy/install.sh /opt/gateway dependencies
COPY pyproject.toml README.md LICENSE ./
COPY openapi openapi
COPY migrations migrations
COPY app app
RUN deploy/install.sh /opt/gateway gateway

FROM python:3.12-slim-bookworm
# The image's Python modules come without bytecode, and nobody could write it later.
RUN python -m compileall -q -x '/tests?/' /usr/local/lib/python3.12 \
 && groupadd --gid 10001 gateway \
 && useradd --uid 10001 --gid gateway --no-create-home --home-dir /data gateway \
 && install -d -m 755 -o gateway -g gateway /data
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1
# A number, so that Kubernetes can verify that it is not root.
USER 10001:10001
# The default settings put the SQLite file and its companions here. Only this and /tmp are written,
# so the rest may be read-only.
WORKDIR /data
VOLUME /data
EXPOSE 8000
# A `gateway worker` listens on its own --port: give it its own check, or --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["gateway-healthcheck"]
ENTRYPOINT ["gateway"]
CMD ["serve", "--host", "0.0.0.0"]
