-- Whether a queue has something ready, when the next one falls due, and what time it is.
SELECT
    EXISTS (SELECT 1 FROM messages WHERE queue = :queue AND state = 0),
    (SELECT MIN(due_at) FROM messages WHERE queue = :queue AND state IN (1, 2)),
    (SELECT now FROM clock)
