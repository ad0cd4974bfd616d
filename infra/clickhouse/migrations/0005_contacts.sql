-- Two more numbers of a state: how often and when the customer last had to do with us without coming back. They stand at
-- the end of the packed columns, so nothing that is there moves. States of before read as if there had been no contact,
-- until `touchstone rebuild --swap` makes them anew from the log.

ALTER TABLE touchstone.customer_state
    MODIFY COLUMN float_bytes FixedString(200) COMMENT 'The numbers that are no integers, as the worker keeps them';

ALTER TABLE touchstone.customer_state
    MODIFY COLUMN int_bytes FixedString(256) COMMENT 'The integers and times, as the worker keeps them';

ALTER TABLE touchstone.customer_state
    ADD COLUMN IF NOT EXISTS contact_load Float64 ALIAS packed_floats[25]
    COMMENT 'Events that are no coming back, slow half-life, as of last_event_at'
    AFTER ids_horizon_s;

ALTER TABLE touchstone.customer_state
    ADD COLUMN IF NOT EXISTS last_contact_at DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[32], 'UTC')
    COMMENT 'Latest event that is no coming back'
    AFTER contact_load;
