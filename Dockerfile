# The gateway with all of production's extras; the sandbox's video encoder stays out.

FROM python:3.12-slim-bookworm AS build
WORKDIR /src
# The dependencies change less often than the code, so they are a layer of their own.
COPY deploy/install.sh deploy/
COPY requirements/prod.txt requirements/build.txt requirements/
RUN deploy/install.sh /opt/gateway dependencies
COPY pyproject.toml README.md LICENSE ./
COPY openapi openapi
COPY migrations migrations
COPY app app
RUN deploy/install.sh /opt/gateway gateway

FROM python:3.12-slim-bookworm
# Python's own modules come without bytecode, and nobody can write it later.
RUN python -m compileall -q -x '/tests?/' /usr/local/lib/python3.12 \
 && groupadd --gid 10001 gateway \
 && useradd --uid 10001 --gid gateway --no-create-home --home-dir /data gateway \
 && install -d -m 755 -o gateway -g gateway /data
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1
# A number, so that a cluster can see that it is not root.
USER 10001:10001
# Where the default settings put the SQLite file and what lies beside it. Nothing else is written
# but /tmp, so the rest may be read-only.
WORKDIR /data
VOLUME /data
EXPOSE 8000
# A `gateway worker` listens where its --port says: give it a check of its own, or --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["gateway-healthcheck"]
ENTRYPOINT ["gateway"]
CMD ["serve", "--host", "0.0.0.0"]
