# Kafka from the jars and the Java that this repository's own node uses, to be configured as the official image is.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
COPY java /opt/java
COPY jars /opt/kafka/libs
COPY start_kafka.py /opt/start_kafka.py
RUN mkdir -p /var/lib/kafka/data && chown -R 1000:1000 /var/lib/kafka
USER 1000:1000
EXPOSE 9092
ENTRYPOINT ["python3", "/opt/start_kafka.py"]
