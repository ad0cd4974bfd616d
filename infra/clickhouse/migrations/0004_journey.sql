-- Schema version 2: what sort of journey a touchpoint belongs to. Only more room: rows of before have the empty name, and
-- workers of before, which name the columns they write, go on writing. docs/adr/0007-schema-versions.md tells why.

ALTER TABLE touchstone.touchpoints
    ADD COLUMN IF NOT EXISTS journey LowCardinality(String)
    COMMENT 'What sort of journey: onboarding, claim; empty when not told'
    AFTER journey_id;
