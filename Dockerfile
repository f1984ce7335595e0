# One image for every service and for kitectl: the command picks which (`docker run kite gateway`). Built from the locks alone.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# Packages first: they change less often than the code, and are a layer of their own.
COPY requirements-bootstrap.txt requirements-build.lock requirements-image.lock ./
RUN python3 -m venv /build \
 && /build/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes -r requirements-bootstrap.txt \
 && python3 -m venv --without-pip /opt/kite \
 && VIRTUAL_ENV=/opt/kite /build/bin/uv pip sync --quiet --no-cache --require-hashes requirements-image.lock \
 # Several packages bring a folder of that name, whichever comes last wins.
 && rm -rf /opt/kite/lib/python3*/site-packages/docs \
 && VIRTUAL_ENV=/build /build/bin/uv pip install --quiet --no-cache --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY apps apps
COPY libs libs
COPY services services
# The same time in every build, and bytecode that knows none: two builds of one commit are the same files.
ENV SOURCE_DATE_EPOCH=1767225600
RUN VIRTUAL_ENV=/build /build/bin/uv build --quiet --wheel --no-build-isolation --python /build/bin/python --out-dir /wheel \
 && VIRTUAL_ENV=/opt/kite /build/bin/uv pip install --quiet --no-cache --no-deps --no-index /wheel/*.whl \
 && cd /opt/kite/lib/python3*/site-packages/kite_relay-*.dist-info \
 && rm -f direct_url.json uv_cache.json \
 && sed -i '/direct_url.json\|uv_cache.json/d' RECORD \
 && /opt/kite/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/kite/lib/python3*/site-packages/kite_*

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="kite" org.opencontainers.image.licenses="Apache-2.0"
# What installs packages has no place where none are installed.
RUN rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* \
 && echo "kite:x:10001:10001::/nonexistent:/usr/sbin/nologin" >> /etc/passwd
COPY --from=build /opt/kite /opt/kite
ENV PATH=/opt/kite/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["kitectl"]
CMD ["--help"]
