-- Which model runs beside the active one, judging nobody, so that both can be seen in view shadow_scores.

CREATE TABLE IF NOT EXISTS touchstone.model_shadows
(
    chosen_at DateTime64(6, 'UTC') COMMENT 'When it was chosen; the latest choice counts',
    version String COMMENT 'The model that runs beside the active one; empty: none from then on'
)
ENGINE = ReplacingMergeTree
ORDER BY chosen_at
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'Models in the shadow, one row a choice';
