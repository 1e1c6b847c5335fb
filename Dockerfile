# The two commands of the README, for a machine with nothing but a container engine:
#
#   docker build --tag xlscale .
#   docker run --rm xlscale                         both, one after the other
#   docker run --rm --interactive --tty xlscale bash
FROM python:3.11-slim AS system
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --shell /bin/bash xlscale
USER xlscale

FROM system
WORKDIR /home/xlscale/checkout
# First what the environment is made of, so that it is made again only when one of these changes.
COPY --chown=xlscale:xlscale Makefile pyproject.toml requirements.lock ./
COPY --chown=xlscale:xlscale src src
RUN make .venv/.ready
COPY --chown=xlscale:xlscale . .
CMD ["bash", "-c", "make reproduce && make test"]
