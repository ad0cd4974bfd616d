-- What alert rules ask for, as it was when the customer was judged. Signals of before have zeros there.

ALTER TABLE touchstone.loyalty_signals ADD COLUMN IF NOT EXISTS volatility Float64 COMMENT 'How haphazard the experience was, 0 to 1' AFTER log_offset;

ALTER TABLE touchstone.loyalty_signals ADD COLUMN IF NOT EXISTS complaint_hours Float64 COMMENT 'Age of the oldest open complaint, hours; 0: none is open' AFTER volatility;

ALTER TABLE touchstone.loyalty_signals ADD COLUMN IF NOT EXISTS feedback_hours Float64 COMMENT 'Hours that unhappy feedback had been unanswered; 0: none was' AFTER complaint_hours;

ALTER TABLE touchstone.loyalty_signals ADD COLUMN IF NOT EXISTS silence_days Float64 COMMENT 'Days since the customer last came; 0: never came' AFTER feedback_hours;

ALTER TABLE touchstone.loyalty_signals ADD COLUMN IF NOT EXISTS usual_gap_days Float64 COMMENT 'Mean days between comings; 0: not known yet' AFTER silence_days;

ALTER TABLE touchstone.loyalty_signals ADD COLUMN IF NOT EXISTS worst_touchpoint String COMMENT 'Where the worst recent moment happened' AFTER usual_gap_days;

ALTER TABLE touchstone.loyalty_signals MODIFY COLUMN customer_id String COMMENT 'Whose risk was judged';

ALTER TABLE touchstone.loyalty_signals MODIFY COLUMN from_band LowCardinality(String) COMMENT 'Band before; the same as after where a review found no crossing';

ALTER TABLE touchstone.loyalty_signals MODIFY COLUMN log_offset Int64 COMMENT 'Offset of the event that it was judged at';
