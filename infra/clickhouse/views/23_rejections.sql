-- What was refused, each once; the payload as text as far as it is text.

CREATE OR REPLACE VIEW touchstone.rejections
(
    rejected_at DateTime64(6, 'UTC') COMMENT 'When it was received',
    stage LowCardinality(String) COMMENT 'ingest: refused at the edge; log: a record that could not be taken',
    reason LowCardinality(String) COMMENT 'Closed vocabulary, see docs',
    field String COMMENT 'The field at fault, if one is',
    detail String COMMENT 'What is wrong and what to do',
    source String COMMENT 'Sending system, if it could be read',
    customer_id String COMMENT 'Customer, if it could be read',
    payload String COMMENT 'The bytes as text; what is no UTF-8 is replaced, the table has it untouched',
    payload_bytes UInt64 COMMENT 'Length of what is kept of it',
    log_partition UInt16 COMMENT 'Where it stands: in topic rejected (stage ingest) or touchpoints (stage log)',
    log_offset Int64 COMMENT 'Offset in that partition'
)
AS SELECT
    rejected_at,
    stage,
    reason,
    field,
    detail,
    source,
    customer_id,
    toValidUTF8(rejected.payload) AS payload,
    length(rejected.payload) AS payload_bytes,
    log_partition,
    log_offset
FROM touchstone.rejected_events AS rejected FINAL
COMMENT 'Refused events, readable';
