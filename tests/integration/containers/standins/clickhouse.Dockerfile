# The embedded ClickHouse server, to be configured as the official image is.
ARG TOOLS_IMAGE
FROM ${TOOLS_IMAGE}
USER 0
COPY packages /opt/engine
COPY start_clickhouse.py /opt/start_clickhouse.py
RUN mkdir -p /var/lib/clickhouse && chown 10001:10001 /var/lib/clickhouse
USER 10001:10001
ENV PYTHONPATH=/opt/engine
EXPOSE 8123 9000
ENTRYPOINT ["python3", "/opt/start_clickhouse.py"]
