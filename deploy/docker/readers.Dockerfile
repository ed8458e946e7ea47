# The image of what reads the tables: the APIs, the reports, the support desk and the schema command. It has neither Flink nor
# Java. Build it from the root of the repository:
#
#   docker build -f deploy/docker/readers.Dockerfile -t learner-aggregates-readers .
#
# The command decides what it runs: python -m services, python -m reports ..., python -m desk, python -m schema apply.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
COPY requirements/services.txt requirements/reports.txt requirements/desk.txt /tmp/
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
      -r /tmp/services.txt -r /tmp/reports.txt -r /tmp/desk.txt \
 && /opt/venv/bin/pip uninstall --yes --quiet pip setuptools

FROM ${PYTHON_IMAGE}
RUN groupadd --system --gid 9999 aggregates \
 && useradd --system --uid 9999 --gid aggregates --home-dir /nonexistent aggregates
COPY --from=packages /opt/venv /opt/venv
COPY common /opt/aggregates/common
COPY desk /opt/aggregates/desk
# The desk explains with the jobs' rules, which know no Flink.
COPY jobs /opt/aggregates/jobs
COPY services /opt/aggregates/services
COPY reports /opt/aggregates/reports
COPY schema /opt/aggregates/schema
# The root file system is read-only: without bytecode, each start would compile everything.
RUN /opt/venv/bin/python -m compileall -q /opt/aggregates
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/aggregates \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 9999
EXPOSE 19185 19186 19187
CMD ["python", "-m", "services"]
