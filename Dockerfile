# Two stages: the first fills a virtual environment, the second runs it. Build with
# BuildKit: docker build -t otpseal .
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv /opt/otpseal/venv
COPY requirements.txt ./
# The optional secret `ca` is a CA bundle for builders behind a proxy that ends TLS; a
# secret mount leaves nothing in the layer. Wheels only: no build script of a dependency
# runs here, and no compiler is needed.
RUN --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    /opt/otpseal/venv/bin/pip install --require-hashes --only-binary=:all: \
        -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
# Installers have no work at run time, and a thief of the process would have.
RUN /opt/otpseal/venv/bin/pip install --no-deps --no-build-isolation . \
    && /opt/otpseal/venv/bin/python -m compileall -q /opt/otpseal/venv/lib \
    && /opt/otpseal/venv/bin/pip uninstall -y flit_core setuptools pip


FROM ${BASE_IMAGE} AS runtime
RUN apt-get update \
    && apt-get install -y --no-install-recommends cron s6 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb \
# Debian's own jobs would run as root, and a second place for a job is how a line gets
# written twice: /etc/cron.d/2fa-cron is the only table.
    && : >/etc/crontab \
    && rm -rf /etc/cron.d/* /etc/cron.hourly /etc/cron.daily /etc/cron.weekly \
        /etc/cron.monthly /etc/cron.yearly \
    && groupadd --gid 10001 otpseal \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /app \
        --shell /usr/sbin/nologin otpseal \
# The root of the file system is read-only at run time: without this, every job and
# every health check would compile the standard library again.
    && python3 -m compileall -q -x '/(test|tests|lib2to3|idlelib)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /opt/otpseal/venv /opt/otpseal/venv
COPY --chmod=0755 scripts /app/scripts
COPY --chmod=0755 container/bin /usr/local/bin
COPY --chmod=0755 container/scan /opt/otpseal/scan
COPY --chmod=0644 container/pam-cron /etc/pam.d/cron
COPY --chmod=0644 cron/2fa-cron /etc/cron.d/2fa-cron
# cron drops a table with a carriage return or without a last newline in silence.
RUN if grep -q "$(printf '\r')" /etc/cron.d/2fa-cron \
        || [ -n "$(tail -c 1 /etc/cron.d/2fa-cron)" ]; then \
        echo "cron/2fa-cron must have LF line ends and a last newline" >&2; exit 1; \
    fi; \
    install -d -o otpseal -g otpseal -m 0700 /data /keys /tls \
# Only a certificate, which another container reads.
    && install -d -o otpseal -g otpseal -m 0755 /ca \
# Group root, handed on to the files: `docker exec ... cat /cron/last_code.txt` comes as a
# root that has lost its power over other people's files.
    && install -d -o otpseal -g root -m 2750 /cron
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TZ=UTC \
    OTPSEAL_DATA_DIR=/data \
    OTPSEAL_KEY_FILE=/keys/student_private.pem \
    OTPSEAL_CODE_LOG=/cron/last_code.txt \
    OTPSEAL_HOST=0.0.0.0 \
    OTPSEAL_PORT=8080
WORKDIR /app
VOLUME ["/data", "/cron", "/keys"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["as-otpseal", "/usr/local/bin/healthcheck"]
# No USER: the supervisor and cron need root to become otpseal (uid 10001); nothing else
# runs as root, and with `cap_drop: ALL` that root can do nothing but this.
ENTRYPOINT ["/usr/local/bin/otpseal-init"]
