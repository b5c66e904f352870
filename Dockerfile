# The gateway with all of production's extras; the sandbox's video encoder stays out.

FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH
WORKDIR /src
# The dependencies change less often than the code, so they are a layer of their own.
COPY requirements/prod.txt requirements/
RUN pip install --require-hashes -r requirements/prod.txt
COPY pyproject.toml README.md LICENSE ./
COPY openapi/models openapi/models
COPY migrations migrations
COPY app app
# Nobody can write bytecode later: the user below owns none of these files.
RUN pip install --no-deps . && python -m compileall -q /opt/gateway/lib

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --user-group --create-home --home-dir /data gateway
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1
# A number, so that a cluster can see that it is not root.
USER 10001:10001
# Where the default settings put the SQLite file and what lies beside it.
WORKDIR /data
VOLUME /data
EXPOSE 8000
# `gateway worker` listens on nothing: run it with --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", "\
from http.client import HTTPConnection\n\
probe = HTTPConnection('127.0.0.1', 8000, timeout=2)\n\
probe.request('GET', '/healthz')\n\
raise SystemExit(probe.getresponse().status != 200)"]
ENTRYPOINT ["gateway"]
CMD ["serve", "--host", "0.0.0.0"]
